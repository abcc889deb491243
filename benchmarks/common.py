"""What the benchmarks share: the machine's name, and the form of `results/NAME.json`."""

import datetime
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib.pyplot as plt
import torch
import torchvision

from course_lib import plots
from course_lib.cli import doctor

RESULTS = Path(__file__).parent / "results"


class Clock:
    """Seconds of training, and the score at some of them."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.curve, self.begin = device, list[list[float]](), perf_counter()

    def seconds(self) -> float:
        """Since the start, less the time that `measure` took."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - self.begin

    def measure(self, score: Callable[[], float]) -> float:
        """What `score()` returns, added to the curve; meanwhile the clock stands still."""
        now = self.seconds()
        value = score()
        self.curve.append([round(now, 2), value])
        self.begin = perf_counter() - now
        return value


def entry(name: str, dataset: str, curve: list) -> dict[str, Any]:
    """A method on a data set, without results yet; `curve` is that of the first seed."""
    lists: dict[str, list] = {"budget_seconds": [], "train_seconds": []}
    return {"name": name, "dataset": dataset, **lists, "metrics": {}, "curve": curve}


def add(entry: dict[str, Any], budget: float | None, seconds: float, scores: Mapping[str, float], **more: Any) -> None:
    """Add the result of one more seed to an entry."""
    entry["budget_seconds"].append(budget and round(budget, 1))
    entry["train_seconds"].append(seconds)
    for place, values in ((entry["metrics"], scores), (entry, more)):
        for key, value in values.items():
            place.setdefault(key, []).append(value)


def write(folder: Path, name: str, entries: Iterable[dict], device: torch.device, how: str) -> None:
    """Write `NAME.json`: date, machine, versions, the command with what it was given, and the entries."""
    result = {
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "machine": f"{describe(device)}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "command": f"make bench BENCH={name} ({how})",
        "entries": list(entries),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {folder / name}.json")


def describe(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return doctor.processor()


def draw(file: Path, panels: Mapping[str, tuple[Iterable[Mapping], str]], scale: float = 1.0, **axes: object) -> None:
    """Curves of the first seed: score times `scale` over seconds of training; legends have all seeds' range.

    `panels`: title -> the entries, and which of their metrics.
    """
    figure, axis = plt.subplots(1, len(panels), figsize=(1 + 6 * len(panels), 5.4), squeeze=False, layout="constrained")
    for (title, (entries, metric)), place in zip(panels.items(), axis.flat, strict=True):
        lines = {}
        for entry in entries:
            scores = [scale * value for value in entry["metrics"][metric]]
            seconds, values = zip(*entry["curve"], strict=True)
            digits = 1 if scale > 1 else 3
            name = f"{entry['name']}: {min(scores):.{digits}f} to {max(scores):.{digits}f} ({len(scores)} seeds)"
            lines[name] = (seconds, [scale * value for value in values])
        plots.curves(lines, title, place, **{"xlabel": "seconds of training", "ylabel": metric, **axes})
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15))
    figure.savefig(file, dpi=100)
    plt.close(figure)
