"""How a lesson starts, chooses its sizes and records what it measured."""

import json
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
import psutil
import torch

from course_lib import data, paths, settings
from course_lib.data.readers import CourseDataset
from course_lib.errors import DataError, InputError, SettingsError, box

T = TypeVar("T")

REGIONS = ("accuracy", "pixel_accuracy", "mean_iou", "image_iou", "dice", "boundary_iou")
METRICS = (*REGIONS, "ap50", "ap", "dsb", "pq", "ece")


def peak_memory_mb() -> int:
    """The most memory that this process has held so far, in MiB."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset >> 20
    if sys.platform == "linux":  # where `resource` also counts what the parent held when it started this process
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
    import resource  # does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


@dataclass(frozen=True)
class Lesson:
    """One run of one lesson: its settings, and what depends on them. Made by `start`."""

    number: str
    profile: str
    data: str
    device: torch.device
    seed: int

    def pick(self, *, smoke: T, lesson: T, full: T) -> T:
        """The value for this run's profile, as in `steps = lesson.pick(smoke=20, lesson=600, full=5000)`."""
        return {"smoke": smoke, "lesson": lesson, "full": full}[self.profile]

    def load(self, name: str, split: str = "train", **options: Any) -> CourseDataset:
        """`course_lib.data.load` with this run's data mode and seed."""
        return data.load(name, split, mode=self.data, **{"seed": self.seed, **options})

    def record(
        self,
        method: str,
        dataset: CourseDataset,
        metrics: Mapping[str, float],
        *,
        seconds: float,
        train_seconds: float = 0.0,
        parameters: int = 0,
    ) -> dict[str, Any]:
        """Write one result to the scoreboard and return it. A newer result of the same kind replaces the older.

        `method`: short name, such as `"otsu"`; `metrics`: those of `METRICS` -> 0 to 1, else InputError; `seconds`,
        `train_seconds`: to predict all pictures of `dataset`, and to train; `parameters`: how many were trained.
        """
        if unknown := set(metrics) - set(METRICS):
            raise InputError(f"unknown metrics: {', '.join(sorted(unknown))}", f"known: {', '.join(METRICS)}")
        if outside := {k: v for k, v in metrics.items() if not 0 <= v <= 1}:
            raise InputError(f"metrics outside 0 to 1: {outside}", "give fractions, not per cent, and no NaN")
        kind: dict[str, Any] = {"lesson": self.number, "method": method, "dataset": dataset.name, "seed": self.seed}
        kind |= {"data": dataset.source, "split": dataset.split, "profile": self.profile, "device": self.device.type}
        costs = {"seconds": round(seconds, 4), "train_seconds": round(train_seconds, 2), "peak_mb": peak_memory_mb()}
        scores = {name: round(float(value), 4) for name, value in metrics.items()}
        result = {**kind, **costs, "parameters": parameters, "metrics": scores}
        update_scoreboard(lambda old: not kind.items() <= old.items(), result)
        return result


def scoreboard() -> list[dict[str, Any]]:
    """The records of all lessons; an empty list where there is none yet. DataError: the file is damaged."""
    file = paths.scoreboard_file()
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise DataError(f"{file} is no scoreboard: {error}", "delete it; running a lesson writes it anew") from error


def update_scoreboard(keep: Callable[[dict[str, Any]], bool], *added: dict[str, Any]) -> None:
    """Drop all records but those to `keep`, and add others, in one step. Safe when several lessons run at once."""
    with filelock.FileLock(paths.scoreboard_file().with_suffix(".lock")):  # makes the folder, too
        text = json.dumps([*filter(keep, scoreboard()), *added], indent=1) + "\n"
        paths.write_atomically(paths.scoreboard_file(), lambda fresh: fresh.write_text(text, encoding="utf-8"))


def start(
    name: str,
    *,
    profile: str | None = None,
    data: str | None = None,
    device: str | None = None,
    seed: int | None = None,
    minutes: Mapping[str, float] | None = None,
) -> Lesson:
    """Start a lesson: resolve its settings, seed every generator, print its card.

    `name`: the notebook's, such as `"01_thresholding"`; `profile`, `data`, `device`: of `settings.CHOICES`; `seed`: 0
    or more; `minutes`: expected in each profile, for the card. SettingsError: another value, or no such device here.
    """
    settings.check_environment()
    number, _, title = name.replace("_", " ").partition(" ")
    profile, data = settings.setting("profile", profile), settings.setting("data", data)
    wanted, seed = settings.setting("device", device), settings.seed(seed)
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, here in there.items() if here]  # the one to prefer first
    if wanted not in ("auto", *present):
        raise SettingsError(f"device = {wanted!r} is not present here", f"choose auto, or one of {', '.join(present)}")
    place = torch.device(present[0] if wanted == "auto" else wanted)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that we call still draw from the global generator
    torch.manual_seed(seed)
    lines = [f"Lesson {number}: {title}", f"profile {profile} | data {data} | device {place.type} | seed {seed}"]
    if minutes and profile in minutes:
        lines.append(f"expected time: about {minutes[profile]:g} minutes in this profile")
    print(box(lines))
    return Lesson(number, profile, data, place, seed)
