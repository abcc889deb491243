"""Find a data set, or draw a stand-in, and read it: `load` is the one way in; `readers` describes its samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from course_lib import paths
from course_lib.errors import DataError, InputError, box
from course_lib.settings import CHOICES

if TYPE_CHECKING:
    from course_lib.data.readers import CourseDataset

STAND_INS = {"nuclei": "cells", "cifar10": "shapes"}  # real set -> the family of drawn scenes that stands in for it
STAND_INS |= dict.fromkeys(("camvid", "voc", "cityscapes", "pennfudan", "coco"), "streets")
NAMES = (*STAND_INS, "cells", "streets", "shapes", "folder")


def load(
    name: str,
    split: str = "train",
    *,
    task: str = "semantic",
    mode: str = "auto",
    count: int | None = None,
    seed: int = 0,
    size: tuple[int, int] | int | None = None,
    path: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> "CourseDataset":
    """Load one split. DataError: the set cannot be had, or a file is wrong; InputError: unknown name, split or task.

    `name`: `"nuclei"`, `"pennfudan"`, `"camvid"`, `"voc"`, `"coco"`, `"cityscapes"` or `"cifar10"`; `"cells"`,
    `"streets"` or `"shapes"` (always drawn); `"folder"` (your own: `path` holds `images` and `masks`, `classes` are the
    names of the classes, background first). `split`: `"train"`, `"val"` or `"all"`; for CIFAR-10 and CamVid `"test"`
    too. `task`: `"semantic"` or `"instance"`; decides what a sample holds, except where a picture has one class.
    `mode`: `"real"`: the real set or an error. `"synthetic"`: its drawn stand-in. `"auto"`: the real set if a mirror,
    the cache or a download has it, else the stand-in, announced in a box. `count`: at most so many pictures, spread
    over the split; of drawn ones, how many (100 scenes, 4,000 shapes). `seed`: which scenes are drawn. `size`: (height,
    width) in pixels, or a square's side, to which real pictures are resized (default: not) and scenes drawn (128, 128).
    """
    from course_lib.data import readers, store  # they import torch, which `course data list` can do without

    for word, value, known in (("name", name, NAMES), ("mode", mode, CHOICES["data"]), ("task", task, readers.TASKS)):
        if value not in known:
            raise InputError(f"{word} = {value!r} is not known", f"choose one of {', '.join(known)}")
    size = (size, size) if isinstance(size, int) else size
    if name == "folder":
        if path is None:
            raise InputError('load("folder") needs a path', 'call load("folder", path="my_pictures")')
        own = readers.image_folder(Path(path).expanduser().absolute(), split, task, classes or readers.CELL_CLASSES)
        return replace(own, size=size).spread(count)
    if name in STAND_INS and mode != "synthetic":
        try:
            folder = store.folder(name)
        except DataError as error:
            if mode == "real":
                raise
            how = store.source(name).by_hand or f"course data fetch {name}   (or name a folder in COURSE_DATA_DIR)"
            here = f"The data set {name!r} is not here, so this run uses its drawn stand-in ({STAND_INS[name]})."
            simpler = "Drawn pictures are simpler than real ones: the lesson works the same, its numbers differ."
            print(box([here, simpler, f"To get the real set: {how}", "Why not:", *error.message.splitlines()]))
        else:  # a fault in a set that is here stays an error, or a run might train on real and test on drawn pictures
            if name == "cifar10":
                return readers.cifar10(folder, split, paths.cache_dir() / f"{folder.name}-tensors").spread(count)
            more = [paths.cache_dir() / f"{folder.name}-labels"] if name == "nuclei" else []
            return replace(getattr(readers, name)(folder, split, task, *more), size=size).spread(count)
    return readers.drawn(STAND_INS.get(name, name), split, task, name, count, size or readers.SIZE, seed)
