"""CIFAR-10 by the clock: the classic CNN as everyone trains it, and the course's recipe in the same seconds.

    make bench BENCH=cifar

Both see the same 50,000 pictures and are scored on the test set of 10,000, at the end of training: no epoch is chosen
by its score. The clock holds everything from pictures in memory to trained weights: batches, workers, whitening and
the choice of precision; it stands still while the curve is measured. The recipe gets a third, all and three times the
seconds that the classic network took with the same seed. It times a few steps to see how many epochs will fit.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import common
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from course_lib import data, training
from course_lib.data.batches import ClassificationBatches
from course_lib.data.readers import ClassificationDataset
from course_lib.models.classifier import Classifier

FINE = {"filters": 12, "patch": 2}  # a stem that keeps the pictures' own resolution
SHARES = {  # each with the network that suits it
    "a third of the time": (1 / 3, {"channels": (48, 128, 256)}),
    "the same time": (1.0, {"channels": (24, 64, 128), **FINE}),
    "three times the time": (3.0, {"channels": (32, 96, 192), **FINE}),
}
SIDE, SMALL = 32, 24  # of the pictures; and in the first 60 % of the epochs
BATCH = 256


def accuracy(forward: Callable[[Tensor], Tensor], test: ClassificationDataset, device: torch.device) -> float:
    """Share of the pictures whose largest logit is that of their class."""
    hits = 0
    with torch.inference_mode():
        for images, labels in zip(test.images.split(500), test.labels.split(500), strict=True):
            answers = forward(images.to(device, memory_format=torch.channels_last) / 255)
            hits += int((answers.argmax(1).cpu() == labels).sum())
    return hits / len(test)


class Pictures(Dataset):
    """What `torchvision.datasets.CIFAR10` gives: one picture after the other, through Pillow and a transform."""

    def __init__(self, dataset: ClassificationDataset) -> None:
        self.arrays, self.labels = dataset.images.permute(0, 2, 3, 1).contiguous().numpy(), dataset.labels.tolist()
        half = (0.5, 0.5, 0.5)
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(half, half)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def classic(
    train: ClassificationDataset, test: ClassificationDataset, clock: common.Clock, epochs: int = 2
) -> dict[str, float]:
    """Two convolutions, three dense layers, batches of 4 from two workers, SGD at 0.001 (LeNet; LeCun et al., 1998)."""
    pictures = DataLoader(Pictures(train), batch_size=4, shuffle=True, num_workers=2)
    net = nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).to(clock.device)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
    quarters = {len(pictures) * k // 4 for k in (1, 2, 3, 4)}
    for _ in range(epochs):
        for number, (images, labels) in enumerate(pictures, 1):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(images.to(clock.device)), labels.to(clock.device))
            loss.backward()
            optimiser.step()
            if number in quarters:
                clock.measure(lambda: accuracy(lambda x: net(2 * x - 1), test, clock.device))
    return {"epochs": epochs}


def recipe(
    train: ClassificationDataset,
    test: ClassificationDataset,
    clock: common.Clock,
    budget: float,
    shape: dict,
    seed: int,
) -> dict[str, float]:
    """What lesson 03 ends with, for as many epochs as fit into `budget` seconds; also scored with mirror images."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    net = Classifier(**shape)
    net.whiten(train.images[::10])  # from all over the set: it may be stored class by class
    net.to(clock.device, memory_format=torch.channels_last)
    batch = (train.images[:BATCH].to(clock.device) / 255, train.labels[:BATCH].to(clock.device))
    precision = training.fastest_precision(net, batch, loss)
    epoch = [-(-len(train) // BATCH) * time_of_step(net, batch, side, loss, precision) for side in (SMALL, SIDE)]
    left = 0.94 * budget - clock.seconds()  # making the batches takes time too
    epochs = max((n for n in range(2, 200) if sum(epoch[k] for k in stages(n)) <= left), default=2)
    # mirrored and shifted pictures pay only where each picture is seen a few times
    sides = [(SMALL, SIDE)[k] for k in stages(epochs)]
    batches = ClassificationBatches(train, BATCH, augment=epochs > 3, sides=sides, device=clock.device, seed=seed)
    weights = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 5e-4},
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0},
    ]
    sgd = torch.optim.SGD(groups, lr=0.7, momentum=0.9, nesterov=True)

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.autocast(clock.device.type, dtype=precision, enabled=precision is not None):
            return {"accuracy": clock.measure(lambda: accuracy(model, test, clock.device))}

    run = {"epochs": epochs, "optimiser": sgd, "precision": precision}
    training.fit(net, batches, loss, evaluate=evaluate, metric="epoch", **run)  # the best epoch is the last
    with torch.autocast(clock.device.type, dtype=precision, enabled=precision is not None):
        both = accuracy(lambda x: net(x).softmax(1) + net(x.flip(3)).softmax(1), test, clock.device)
    return {"epochs": epochs, "mirrored": both}


def stages(epochs: int) -> list[int]:
    """For each epoch 0 where the pictures are small, in the first 60 % of them, else 1."""
    return [int(epoch >= round(0.6 * epochs)) for epoch in range(epochs)]


def time_of_step(
    net: nn.Module, batch: tuple[Tensor, Tensor], side: int, loss: Callable, precision: torch.dtype | None
) -> float:
    """Seconds that a training step takes, of a copy, with pictures of `side` pixels."""
    trial, laps = copy.deepcopy(net), []
    sgd = torch.optim.SGD([p for p in trial.parameters() if p.requires_grad], lr=0.01, momentum=0.9, nesterov=True)
    for _ in range(6):
        start = perf_counter()
        images = F.interpolate(batch[0], size=(side, side), mode="bilinear")
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, dtype=precision, enabled=precision is not None):
            logits = trial(images)
        loss(logits.float(), batch[1]).backward()
        sgd.step()
        sgd.zero_grad()
        laps.append(float(logits.detach().sum() * 0) + perf_counter() - start)  # reading a number waits for a GPU
    return sorted(laps)[2]


def main() -> None:
    """Measure, write the results, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="real", choices=["real", "synthetic"])
    parser.add_argument("--count", type=int, help="pictures to train on; all by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=common.RESULTS)
    options = parser.parse_args()
    device = torch.device(options.device)
    train = data.load("cifar10", "all", mode=options.data, count=options.count)
    test = data.load("cifar10", "test", mode=options.data, count=options.count)
    entries: dict[str, dict] = {}

    def run(name: str, seed: int, budget: float | None, method: Callable[..., dict[str, float]]) -> float:
        torch.manual_seed(seed)
        clock = common.Clock(device)
        told = method(train, test, clock)
        seconds, score = clock.curve[-1]
        entry = entries.setdefault(name, common.entry(name, repr(train), clock.curve))
        scores = {"accuracy": score} | ({"accuracy_mirrored": told["mirrored"]} if "mirrored" in told else {})
        common.add(entry, budget, seconds, scores, epochs=told["epochs"])
        print(f"seed {seed}, {name}: {score:.1%} in {seconds:.0f} s, {told['epochs']} epochs", flush=True)
        return seconds

    for seed in range(options.seeds):
        seconds = run("classic CNN, batch 4", seed, None, classic)
        for name, (share, shape) in SHARES.items():
            budget = share * seconds
            run(f"recipe, {name}", seed, budget, partial(recipe, budget=budget, shape=shape, seed=seed))
    how = f"{options.seeds} seeds, {len(train):,} pictures, {options.data}"
    common.write(options.out, "cifar", entries.values(), device, how)
    title = "CIFAR-10 (JPEG-coded) by the clock, first seed"
    panels = {title: (entries.values(), "accuracy")}
    common.draw(options.out / "cifar.png", panels, 100, ylabel="test accuracy, %")


if __name__ == "__main__":
    main()
