"""What the benchmarks share: the machine's name, and the form of `results/NAME.json`."""

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torchvision

from course_lib import plots

RESULTS = Path(__file__).parent / "results"


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
    info = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the name
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def draw(file: Path, entries: Iterable[Mapping], metric: str, title: str, scale: float = 1.0, **axes: object) -> None:
    """The curves of the first seed: score times `scale` over seconds of training; the legend has all seeds' range."""
    lines = {}
    for entry in entries:
        scores = [scale * value for value in entry["metrics"][metric]]
        seconds, values = zip(*entry["curve"], strict=True)
        digits = 1 if scale > 1 else 3
        name = f"{entry['name']}: {min(scores):.{digits}f} to {max(scores):.{digits}f} ({len(scores)} seeds)"
        lines[name] = (seconds, [scale * value for value in values])
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    plots.curves(lines, title, axis, xlabel="seconds of training", **axes)
    figure.savefig(file, dpi=100)
    plt.close(figure)
