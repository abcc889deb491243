"""Does an adversary help? One U-Net, finished without and with one, from the same weights and in as many steps.

    make bench BENCH=adversarial

Each seed trains a U-Net through the first part of its schedule and then goes on several times: alone, and against a
patch discriminator, which has learned the U-Net's masks by then, and whose loss counts with each of the weights. Nuclei
and streets, all labels and every tenth picture, others for each seed. What counts is the difference within a seed: its
mean over the seeds, with two intervals (95 %), Student's and the bootstrap's, which is too narrow for so few seeds; of
so many intervals, one in twenty may miss 0 by chance. Topology is how many pieces and holes a class has too many or too
few, averaged over pictures.
"""

import argparse
import copy
import dataclasses
from pathlib import Path
from time import perf_counter
from typing import Any

import common
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import bootstrap, ttest_rel
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision.transforms import v2

from course_lib import data, losses, metrics, training
from course_lib.data.batches import Batches
from course_lib.models.gan import PatchDiscriminator, alternating, judged_masks
from course_lib.models.unet import UNet


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, and how long the U-Net is trained on all of its labels."""

    name: str
    classes: int
    metric: str  # the headline
    crop: int | tuple[int, int]
    passes: tuple[int, int]  # before and after the runs part
    size: tuple[int, int] | None = None
    transform: v2.Transform | None = None


TASKS = (
    Task("nuclei", 2, "image_iou", 128, (6, 4), None, v2.Compose([v2.RandomVerticalFlip(), v2.RandomInvert(0.1)])),
    Task("camvid", 11, "mean_iou", (128, 160), (10, 6), (180, 240)),
)
WEIGHTS = (0.0, 0.01, 0.1)
SHARES = {"all labels": 1, "every tenth picture": 10}


def both(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and Dice, as lesson 05 trains it."""
    return losses.cross_entropy(logits, target) + losses.dice(logits, target)


def train_part(
    net: nn.Module,
    batches: Batches,
    weight: float,
    judge: nn.Module | None,
    stretch: tuple[float, float],
    passes: int,
    precision: torch.dtype | None,
) -> float:
    """Train through a stretch of the schedule, which runs from 0 to 1; returns the seconds."""
    start, end = stretch
    adam = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01)
    options: dict[str, Any] = {"epochs": passes}
    options["schedule"] = lambda share: training.warm_up_then_linear(start + (end - start) * share)
    begin = perf_counter()
    if judge is None:
        training.fit(net, batches, both, optimiser=adam, precision=precision, **options)
    else:
        game = nn.ModuleDict({"generator": net, "discriminator": judge})
        adams = (adam, torch.optim.Adam(judge.parameters(), 2e-3, betas=(0.5, 0.999)))
        step = alternating(adams, judged_masks(both), weight, precision=precision)
        training.fit(game, batches, optimiser=adams, step=step, **options)
    return perf_counter() - begin


def judge_of(net: nn.Module, batches: Batches, classes: int, steps: int) -> tuple[nn.Module, float]:
    """A discriminator that knows the masks of `net`, which stays as it is, and the seconds that this took."""
    begin = perf_counter()
    judge = PatchDiscriminator(3 + classes).to(next(net.parameters()).device)
    frozen = torch.optim.SGD(net.parameters(), 0.0)
    adam = torch.optim.Adam(judge.parameters(), 2e-3, betas=(0.5, 0.999))
    step = alternating((frozen, adam), judged_masks(both), 0.0)
    game, done = nn.ModuleDict({"generator": net.eval(), "discriminator": judge}), 0
    while done < steps:
        for batch in batches:
            step(game, batch)
            done += 1
    return judge, perf_counter() - begin


def scores(net: nn.Module, task: Task, pictures: list) -> tuple[dict[str, float], dict[str, float]]:
    """Region and rim scores, 0 to 1, and what topology is off; of the nuclei, the foreground's."""
    matrix, rims, each, off = metrics.ConfusionMatrix(task.classes), metrics.BoundaryIoU(task.classes), [], []
    device, named = next(net.parameters()).device, range(1 if task.classes == 2 else 0, task.classes)
    for image, mask in pictures:
        with torch.inference_mode():
            ids = net(image[None].to(device) / 255).argmax(1)[0].cpu()
        matrix.update(ids, mask)
        rims.update(ids, mask)
        each.append(metrics.image_iou(ids, mask))
        counts = [
            [metrics.pieces_and_holes(torch.where(mask == metrics.IGNORE, 0, labels == number)) for number in named]
            for labels in (ids, mask)
        ]
        off.append(np.abs(np.subtract(*counts)).mean(0))
    found = {"mean_iou": matrix.summary()["mean_iou"], "boundary_iou": float(rims.iou()[named].nanmean())}
    pieces, holes = np.mean(off, 0).tolist()
    return found | ({"image_iou": float(np.mean(each))} if task.classes == 2 else {}), {
        "pieces": pieces,
        "holes": holes,
    }


def compare(alone: list[float], against: list[float]) -> dict[str, float]:
    """Mean over the seeds of the paired differences, with its 95 % intervals: Student's, and the bootstrap's."""
    difference = np.subtract(against, alone)
    drawn = bootstrap((difference,), np.mean, method="percentile", rng=0).confidence_interval
    ends = dict(zip(("low", "high"), ttest_rel(against, alone).confidence_interval(), strict=True))
    ends |= {"bootstrap_low": drawn.low, "bootstrap_high": drawn.high}
    return {"difference": float(difference.mean())} | {name: float(end) for name, end in ends.items()}


def measure_task(task: Task, options: argparse.Namespace) -> list[dict]:
    """All weights and shares of labels on one data set, seed by seed."""
    device = torch.device(options.device)
    given = {"mode": options.data, "count": options.count, "size": task.size}
    train, val = (data.load(task.name, split, **given) for split in ("train", "val"))
    pictures, entries = list(val), []
    precision = None
    for share, every in SHARES.items():
        mine = [common.entry(f"{share}, weight {weight:g}", repr(val), []) for weight in WEIGHTS]
        for seed in range(options.seeds):
            labelled = Subset(train, range(seed % every, len(train), every))
            given = {"crop": task.crop, "transform": task.transform, "device": device, "seed": seed}
            batches = Batches(labelled, 8, **given)
            steps = -(-len(train) // 8)  # of a pass over all labels: with fewer labels, as many steps in more passes
            before, after = (max(round(options.share * each * steps / len(batches)), 1) for each in task.passes)
            fork = before / (before + after)
            torch.manual_seed(seed)
            start = UNet(task.classes).to(device)
            precision = precision or training.fastest_precision(start, next(iter(batches)), both)
            spent = train_part(start, batches, 0, None, (0, fork), before, precision)
            judge, learning = judge_of(start, batches, task.classes, max(round(60 * options.share), 1))
            for weight, entry in zip(WEIGHTS, mine, strict=True):
                torch.manual_seed(seed)
                batches.seed, net = 1000 + seed, copy.deepcopy(start)
                own = copy.deepcopy(judge) if weight else None
                seconds = train_part(net, batches, weight, own, (fork, 1), after, precision)
                seconds = round(spent + seconds + (learning if weight else 0), 2)
                found, off = scores(net, task, pictures)
                common.add(entry, None, seconds, found)
                for name, value in off.items():
                    entry.setdefault("topology", {}).setdefault(name, []).append(value)
                entry["curve"] = entry["curve"] or [[seconds, found[task.metric]]]
                shown = ", ".join(f"{name} {value:.3f}" for name, value in (found | off).items())
                print(f"{task.name}, {entry['name']}, seed {seed}: {shown}", flush=True)
        for entry in mine[1:]:
            alone, against = (each["metrics"] | each["topology"] for each in (mine[0], entry))
            entry["against_alone"] = {name: compare(alone[name], values) for name, values in against.items()}
        entries += mine
    return entries


def draw(file: Path, entries: list[dict]) -> None:
    """Differences to the U-Net alone, with their intervals."""
    compared = [entry for entry in entries if "against_alone" in entry]
    names = ("mean_iou", "boundary_iou")
    figure, axes = plt.subplots(1, len(names), figsize=(12, 4.2), sharey=True, layout="constrained")
    for name, axis in zip(names, axes, strict=True):
        rows = [entry["against_alone"][name] for entry in compared]
        middle = np.array([row["difference"] for row in rows])
        reach = np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - middle)
        axis.errorbar(middle, range(len(rows)), xerr=reach, fmt="o", capsize=4)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(title=f"{name}: with adversary minus alone", xlabel="mean and 95 % interval")
    labels = [f"{entry['dataset'].split()[0]}, {entry['name']}" for entry in compared]
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].invert_yaxis()
    figure.savefig(file, dpi=100)
    plt.close(figure)


def main() -> None:
    """Measure, write the results, draw the differences."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default="real", choices=["real", "synthetic"])
    parser.add_argument("--count", type=int, help="pictures of each split; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the passes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    entries = [entry for task in TASKS for entry in measure_task(task, options)]
    how = f"{options.seeds} seeds, {options.data}, {options.share:g} of the passes"
    common.write(options.out, "adversarial", entries, torch.device(options.device), how)
    draw(options.out / "adversarial.png", entries)


if __name__ == "__main__":
    main()
