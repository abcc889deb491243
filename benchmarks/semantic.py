"""Semantic segmentation by the clock: a threshold, the course's FCN and U-Net, and two networks as most use them.

    make bench BENCH=semantic

All see the same pictures and are scored on the same validation pictures at the end of the same seconds of training:
nothing is chosen by its score. The clock holds everything, decoding too; it stands still while the curve is measured,
which is done for the first seed. The two references are trained as usual: Adam at 0.001, cross-entropy, float32,
batches of 8 mirrored crops, of 256x256 pixels or whole frames. Nuclei are also scored as instances, after the same
watershed. `--task` measures one data set and keeps the other's results.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import common
import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from course_lib import classical, data, losses, metrics, training, weights
from course_lib.data.batches import Batches
from course_lib.data.readers import SegmentationDataset
from course_lib.models.fcn import FCN, pad_to_multiple
from course_lib.models.unet import UNet

Picture = tuple[Tensor, Tensor, np.ndarray | None]  # image, mask, label map of its instances


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, and how everyone is trained and scored on it."""

    name: str
    classes: int
    metric: str  # whose curve is drawn
    seconds: float
    crop: int | tuple[int, int]  # of the course's recipes
    usual_crop: int | tuple[int, int]  # of the references
    size: tuple[int, int] | None = None
    transform: v2.Transform | None = None  # of the course's recipes


STREET = (180, 240)
TASKS = (
    Task("nuclei", 2, "image_iou", 150, 160, 256, None, v2.Compose([v2.RandomVerticalFlip(), v2.RandomInvert(0.1)])),
    Task("camvid", 11, "mean_iou", 300, STREET, STREET, STREET),
)


@dataclasses.dataclass(frozen=True)
class Method:
    """A network, and how it is trained."""

    name: str
    build: Callable[[int], nn.Module]  # number of classes -> network
    usual: bool = False  # Adam at 0.001, cross-entropy, float32; else the course's recipe


class TextbookUNet(nn.Module):
    """The U-Net of countless repositories: 64 to 1,024 channels, 31 million weights (Ronneberger et al., 2015)."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (64, 128, 256, 512, 1024)) -> None:
        super().__init__()
        self.down = nn.ModuleList(double(i, o) for i, o in pairwise((3, *widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in pairwise(widths))
        self.join = nn.ModuleList(double(2 * i, i) for i in widths[:-1])
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 3, H, W]` -> `[B, classes, H, W]`; sides must be multiples of 16."""
        maps = [self.down[0](x)]
        for stage in self.down[1:]:
            maps.append(stage(F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for up, join in zip(reversed(self.up), reversed(self.join), strict=True):
            x = join(torch.cat([maps.pop(), up(x)], 1))
        return self.head(x)


def double(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each normalised."""
    layers: list[nn.Module] = []
    for i in (inputs, outputs):
        layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


METHODS = (
    Method("FCN-4s (lesson 04)", lambda classes: FCN(weights.load("cifar_cnn"), classes, 4)),
    Method("U-Net (lesson 05)", UNet),
    Method("textbook U-Net, 31 M", TextbookUNet, usual=True),
    Method("SMP U-Net, ResNet-18", lambda n: smp.Unet("resnet18", encoder_weights=None, classes=n), usual=True),
)


def forward(net: nn.Module, images: Tensor) -> Tensor:
    """Logits of pictures of any size: the references want multiples of 32."""
    height, width = images.shape[-2:]
    padded = pad_to_multiple(images, 32).contiguous(memory_format=torch.channels_last)
    return net(padded)[..., :height, :width].float()


def both(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of the course's recipe."""
    return losses.cross_entropy(logits, target) + losses.dice(logits, target)


def train(
    method: Method,
    net: nn.Module,
    task: Task,
    dataset: SegmentationDataset,
    clock: common.Clock,
    seed: int,
    score: Callable[[], float],
) -> float:
    """Train until the task's seconds are over, and with the first seed measure at each quarter; returns the seconds."""
    ours = not method.usual
    options = {"crop": task.crop, "transform": task.transform} if ours else {"crop": task.usual_crop}
    batches = Batches(dataset, 8, device=clock.device, seed=seed, **options)
    learned = [p for p in net.parameters() if p.requires_grad]
    rate, loss = (3e-3, both) if ours else (1e-3, losses.cross_entropy)
    optimiser = torch.optim.AdamW(learned, rate, weight_decay=0.01) if ours else torch.optim.Adam(learned, rate)
    precision = training.fastest_precision(net, next(iter(batches)), loss) if ours else None
    while True:
        for images, target in batches:
            share = clock.seconds() / task.seconds
            if seed == 0 and share >= (len(clock.curve) + 1) / 4:
                net.eval()
                clock.measure(score)
                net.train()
            if share >= 1:
                return round(clock.curve[-1][0] if clock.curve else clock.seconds(), 2)
            optimiser.param_groups[0]["lr"] = rate * (training.warm_up_then_linear(share) if ours else 1)
            with torch.autocast(clock.device.type, dtype=precision, enabled=precision is not None):
                logits = forward(net, images)
            loss(logits, target).backward()
            optimiser.step()
            optimiser.zero_grad()


def answer(net: nn.Module, image: Tensor) -> Tensor:
    """Class ids `[H, W]` of a picture uint8 `[3, H, W]`."""
    device = next(net.parameters()).device
    with torch.inference_mode():
        return forward(net, image.to(device)[None] / 255).argmax(1)[0].cpu()


def scores(ids_of: Callable[[Tensor], Tensor], task: Task, pictures: list[Picture]) -> dict[str, float]:
    """Region scores of the class ids that `ids_of` gives each image; of nuclei also the instance score."""
    matrix, rims = metrics.ConfusionMatrix(task.classes), metrics.BoundaryIoU(task.classes)
    each, bowl = [], []
    for image, mask, instances in pictures:
        ids = ids_of(image)
        matrix.update(ids, mask)
        rims.update(ids, mask)
        if instances is not None:
            each.append(metrics.image_iou(ids, mask))
            bowl.append(metrics.dsb_score(classical.split_touching(ids), instances))
    found = {"image_iou": float(np.mean(each)), "dsb": float(np.mean(bowl))} if each else {}
    return found | {"mean_iou": matrix.summary()["mean_iou"], "boundary_iou": float(rims.iou().nanmean())}


def main() -> None:
    """Measure, write the results, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--task", choices=[task.name for task in TASKS], help="all by default")
    parser.add_argument("--data", default="real", choices=["real", "synthetic"])
    parser.add_argument("--count", type=int, help="pictures of each split; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the seconds of training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    device, file = torch.device(options.device), options.out / "semantic.json"
    entries = json.loads(file.read_text(encoding="utf-8"))["entries"] if options.task and file.is_file() else []
    for task in (task for task in TASKS if options.task in (None, task.name)):
        task = dataclasses.replace(task, seconds=options.share * task.seconds)
        entries = [old for old in entries if not old["dataset"].startswith(task.name)] + measure(task, options, device)
    how = f"{options.seeds} seeds, {options.data}, {options.share:g} of the seconds"
    common.write(options.out, "semantic", entries, device, how)
    panels = {}
    for task in TASKS:
        if found := [entry for entry in entries if entry["dataset"].startswith(task.name)]:
            panels[f"{task.name}, {found[0]['budget_seconds'][0]:.0f} seconds"] = (found, task.metric)
    common.draw(file.with_suffix(".png"), panels)


def measure(task: Task, options: argparse.Namespace, device: torch.device) -> list[dict]:
    """All methods on one data set, seed by seed."""
    given = {"mode": options.data, "count": options.count, "size": task.size}
    dataset, val = (data.load(task.name, split, **given) for split in ("train", "val"))
    maps = [None] * len(val)
    if task.name == "nuclei":
        targets = data.load(task.name, "val", task="instance", **given)
        maps = [metrics.to_label_map(target["masks"]) for _, target in targets]
    pictures = [(*pair, instances) for pair, instances in zip(val, maps, strict=True)]
    mine = [common.entry(method.name, repr(val), []) for method in METHODS]
    for seed in range(options.seeds):
        for method, entry in zip(METHODS, mine, strict=True):
            torch.manual_seed(seed)
            net = method.build(task.classes).to(device, memory_format=torch.channels_last).train()
            found, clock = dict[str, float](), common.Clock(device)

            def judge(net: nn.Module = net, found: dict[str, float] = found) -> float:
                found.update(scores(partial(answer, net), task, pictures))
                return found[task.metric]

            seconds = train(method, net, task, dataset, clock, seed, judge)
            if not found:
                net.eval()
                judge()
            common.add(entry, task.seconds, seconds, found, parameters=sum(p.numel() for p in net.parameters()))
            entry["curve"] = entry["curve"] or clock.curve
            shown = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            print(f"{task.name}, {method.name}, seed {seed}: {shown}", flush=True)
    if task.name == "nuclei":
        found = scores(lambda image: torch.from_numpy(classical.otsu_mask(image)).long(), task, pictures)
        otsu = common.entry("Otsu's threshold", repr(val), [[0.0, found[task.metric]]])
        for _ in range(options.seeds):  # it draws nothing at random
            common.add(otsu, task.seconds, 0.0, found)
        mine.append(otsu)
    return mine


if __name__ == "__main__":
    main()
