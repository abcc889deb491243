"""Finding nuclei, one by one, in equal seconds of training: two watersheds, our Mask R-CNN, and torchvision's default.

Every method runs in a process of its own, so that its peak memory is its own. The clock counts augmentation, forward
and backward passes and updates; not decoding, nor predicting the validation pictures. Those who learn begin with
random weights, but for our Mask R-CNN's body, which lesson 03 has trained on CIFAR-10 (`data/weights`). torchvision's
`maskrcnn_resnet50_fpn` is trained as its own reference does: SGD, momentum 0.9, whole pictures, two at a time; with a
learning rate of 0.005 that warms up, float32, and pictures of the size that it chooses.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import common
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from course_lib import classical, data, losses, metrics, plots, training, weights
from course_lib.data.batches import Batches
from course_lib.data.readers import CourseDataset, detection_target
from course_lib.lesson import peak_memory_mb
from course_lib.models.mask_rcnn import label_map, mask_rcnn
from course_lib.models.unet import UNet

TURNS = v2.Compose([v2.RandomVerticalFlip(), v2.RandomInvert(0.1)])
Found = tuple[dict[str, Tensor], np.ndarray]  # detections, and one label map
Predict = Callable[[Tensor], Found]  # of a picture uint8 `[3, H, W]`


def train(
    net: nn.Module,
    batches: Iterator[Any],
    cost: Callable[[Any], Tensor],
    optimiser: torch.optim.Optimizer,
    clock: common.Clock,
    seconds: float,
    schedule: Callable[[float], float] = training.warm_up_then_linear,
) -> None:
    """Train until `seconds` are over; the learning rate is its base times `schedule` of the share that has passed."""
    net.train()
    base, clock.begin = optimiser.param_groups[0]["lr"], perf_counter()
    for batch in batches:
        share = clock.seconds() / seconds
        if share >= 1:
            net.eval()
            return
        optimiser.param_groups[0]["lr"] = base * schedule(share)
        cost(batch).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5)
        optimiser.step()
        optimiser.zero_grad()


def endless(batches: Batches) -> Iterator[Any]:
    """Pass after pass."""
    while True:
        yield from batches


def fastest(net: nn.Module, batch: Any, cost: Callable) -> Callable[[], Any]:
    """Mixed precision where it is faster."""
    precision = training.fastest_precision(net, batch, cost)
    return partial(torch.autocast, batch[0].device.type, dtype=precision, enabled=precision is not None)


def objects(labels: np.ndarray) -> Found:
    """A label map's objects, each with a score of 1."""
    masks = metrics.to_masks(labels)
    return detection_target(masks, [1] * len(masks)) | {"scores": torch.ones(len(masks))}, labels


def watershed(dataset: CourseDataset, clock: common.Clock, seconds: float, seed: int) -> tuple[None, Predict]:
    """Lesson 01: nothing to train."""
    return None, lambda image: objects(classical.split_touching(classical.otsu_mask(image.cpu())))


def unet(dataset: CourseDataset, clock: common.Clock, seconds: float, seed: int) -> tuple[nn.Module, Predict]:
    """Lesson 05."""
    net = UNet().to(clock.device, memory_format=torch.channels_last)
    pairs = [(image, Mask(metrics.to_label_map(target["masks"]) > 0)) for image, target in dataset]
    batches = Batches(pairs, 8, crop=160, transform=TURNS, device=clock.device, seed=seed)  # type: ignore[arg-type]

    def both(logits: Tensor, target: Tensor) -> Tensor:
        return losses.cross_entropy(logits, target) + losses.dice(logits, target)

    mixed = fastest(net, next(iter(batches)), both)

    def logits_of(images: Tensor) -> Tensor:
        with mixed():
            return net(images.contiguous(memory_format=torch.channels_last)).float()

    adam = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    train(net, endless(batches), lambda batch: both(logits_of(batch[0]), batch[1]), adam, clock, seconds)
    return net, lambda image: objects(classical.split_touching(logits_of(image[None] / 255)[0].argmax(0).cpu()))


def detections(net: nn.Module, image: Tensor) -> Found:
    """A detector's, their masks as 0 and 1; and as one label map. In float32: bfloat16 would round the boxes."""
    found = {name: value.cpu() for name, value in net([image / 255])[0].items()}
    return found | {"masks": found["masks"][:, 0] > 0.5}, label_map(found)


def ours(dataset: CourseDataset, clock: common.Clock, seconds: float, seed: int) -> tuple[nn.Module, Predict]:
    """Lesson 07."""
    body, net = (each.to(clock.device) for each in (weights.load("cifar_cnn"), mask_rcnn(2, weights.load("cifar_cnn"))))
    batches = Batches(dataset, 4, crop=160, transform=TURNS, device=clock.device, seed=seed)
    images = next(iter(batches))[0]
    labels = torch.zeros(len(images), dtype=torch.int64, device=clock.device)
    mixed = fastest(body, (images, labels), nn.functional.cross_entropy)

    def cost(batch: Any) -> Tensor:
        with mixed():
            return torch.stack([*net([*batch[0]], batch[1]).values()]).sum()

    adam = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.01)
    train(net, endless(batches), cost, adam, clock, seconds)
    return net, partial(detections, net)


def default(dataset: CourseDataset, clock: common.Clock, seconds: float, seed: int) -> tuple[nn.Module, Predict]:
    """As torchvision has it."""
    net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2).to(clock.device)
    generator, mirror = torch.Generator().manual_seed(seed), v2.RandomHorizontalFlip()
    samples = [dataset[i] for i in range(len(dataset))]

    def batches() -> Iterator[Any]:
        while True:
            for chosen in torch.randperm(len(samples), generator=generator).split(2):
                yield [mirror(*samples[i]) for i in chosen.tolist()]

    def cost(batch: Any) -> Tensor:
        images = [image.to(clock.device) / 255 for image, _ in batch]
        targets = [{name: value.to(clock.device) for name, value in target.items()} for _, target in batch]
        return torch.stack([*net(images, targets).values()]).sum()

    sgd = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9, weight_decay=5e-4)
    train(net, batches(), cost, sgd, clock, seconds, lambda share: min(1.0, 0.01 + 20 * share))
    return net, partial(detections, net)


OWN = ("one", "out", "seeds")  # options of the parent process
METHODS = {
    "Otsu + watershed": watershed,
    "U-Net + watershed": unet,
    "Mask R-CNN (lesson 07)": ours,
    "torchvision's default": default,
}


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One method, one seed: seconds, scores, pictures a second, the process's peak memory."""
    device = torch.device(options.device)
    given = {"mode": options.data, "count": options.count, "task": "instance"}
    dataset, val = (data.load("nuclei", split, **given) for split in ("train", "val"))
    pictures, clock = list(val), common.Clock(device)
    torch.manual_seed(seed)
    net, predict = METHODS[name](dataset, clock, options.seconds, seed)
    trained = clock.seconds() if net else 0.0
    clock.begin = perf_counter()
    with torch.inference_mode():
        found = [predict(image.to(device)) for image, _ in pictures]
    speed = len(pictures) / clock.seconds()
    scores = {"dsb": float(np.mean([score(each, target) for each, (_, target) in zip(found, pictures, strict=True)]))}
    for kind, prefix in (("segm", ""), ("bbox", "box_")):
        both = ((each, target) for (each, _), (_, target) in zip(found, pictures, strict=True))
        scores |= {prefix + key: value for key, value in metrics.average_precision(both, kind).items()}
    more = {"images_per_second": speed, "peak_mb": peak_memory_mb()}
    more["parameters"] = sum(p.numel() for p in net.parameters()) if net else 0
    return {"dataset": repr(val), "seconds": round(trained, 2), "scores": scores, "more": more}


def score(found: Found, target: dict[str, Tensor]) -> float:
    """Of the Data Science Bowl."""
    return metrics.dsb_score(found[1], metrics.to_label_map(target["masks"]))


def main() -> None:
    """Measure each method and seed in a process of its own, and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=360, help="of training, each")
    parser.add_argument("--data", default="real", choices=["real", "synthetic"])
    parser.add_argument("--count", type=int, help="pictures of each split; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "SEED", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, seed, file = options.one
        Path(file).write_text(json.dumps(measure(name, int(seed), options)), encoding="utf-8")
        return
    entries = dict[str, dict]()
    how = f"{options.seeds} seeds, {options.data}, {options.seconds:g} seconds"
    for seed in range(options.seeds):
        for name in METHODS:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "result.json"
                given = [f"--{key}={value}" for key, value in vars(options).items() if value and key not in OWN]
                subprocess.run([sys.executable, __file__, *given, "--one", name, str(seed), str(file)], check=True)
                result = json.loads(file.read_text(encoding="utf-8"))
            entry = entries.setdefault(name, common.entry(name, result["dataset"], []))
            common.add(entry, options.seconds, result["seconds"], result["scores"], **result["more"])
            shown = ", ".join(f"{key} {value:.3f}" for key, value in (result["scores"] | result["more"]).items())
            print(f"{name}, seed {seed}: {shown}", flush=True)
            common.write(options.out, "instances", entries.values(), torch.device(options.device), how)
    draw(entries, options.out / "instances.png", f"{options.seconds:g} seconds of training")


def draw(entries: dict[str, dict], file: Path, title: str) -> None:
    """Each score of each method: the mean of the seeds, and their range."""
    shown = ("ap50", "ap", "dsb")
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for number, (entry, colour) in enumerate(zip(entries.values(), plots.LINES, strict=False)):
        table = np.array([entry["metrics"][name] for name in shown])
        means = table.mean(1)
        reach = [means - table.min(1), table.max(1) - means]
        place = np.arange(len(shown)) + 0.2 * number
        axis.bar(place, means, 0.18, yerr=reach, color=colour, capsize=3, label=entry["name"])
    axis.set_xticks(np.arange(len(shown)) + 0.3, ("AP50", "AP", "Bowl score"))
    axis.set(ylim=(0, 1), ylabel="score on the validation pictures", title=title)
    axis.legend()
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
