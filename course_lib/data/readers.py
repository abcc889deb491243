"""Layouts on disk -> data sets whose samples have torchvision's own shapes.

A semantic sample is `(image, mask)`, an instance sample `(image, target)`; see `SegmentationDataset`.
"""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from tqdm.auto import tqdm

from course_lib.data import synthetic
from course_lib.data.synthetic import CELL_CLASSES, Size
from course_lib.errors import DataError, InputError
from course_lib.metrics import IGNORE, to_masks

SPLITS = ("train", "val", "all")
TASKS = ("semantic", "instance")
SIZE = (128, 128)  # height and width of drawn scenes, in pixels
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Example:
    """One picture as arrays, before it becomes a sample."""

    image: NDArray[np.uint8]  # [H, W, 3]
    mask: NDArray[Any] | None = None  # class ids [H, W], 255 = void; None where only instances are known (class 1)
    instances: NDArray[Any] | None = None  # label map [H, W], 0 = no instance; None where the data set has no instances


@dataclass(repr=False, eq=False)
class CourseDataset(Dataset):
    """What every data set of the course says of itself; the scoreboard quotes it."""

    name: str  # such as "nuclei"
    source: str  # "real" or "synthetic"
    split: str  # "train", "val", "test" or "all"
    classes: Sequence[str]  # names; the index is the id

    def __len__(self) -> int:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.name} ({self.source}), {self.split}: {len(self)} pictures, {len(self.classes)} classes"

    def keep(self, indices: Sequence[int]) -> None:
        """Leave out all pictures but these."""
        raise NotImplementedError

    def spread(self, count: int | None) -> Self:
        """This data set with at most `count` pictures, at even distances: a short run sees every kind of picture."""
        if count is not None and count < len(self):
            self.keep([i * len(self) // count for i in range(count)])
        return self


class ClassificationDataset(CourseDataset):
    """Small pictures of one size with a class each, all in memory.

    `dataset[i]` is `(image, label)`: `tv_tensors.Image` uint8 `[3, H, W]` and a class id. `dataset.images`, uint8
    `[N, 3, H, W]`, and `dataset.labels`, int64 `[N]`, hold all of them.
    """

    def __init__(self, images: Tensor, labels: Tensor, *description: Any) -> None:
        super().__init__(*description)
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def keep(self, indices: Sequence[int]) -> None:
        """Leave out all pictures but these."""
        self.images, self.labels = self.images[list(indices)], self.labels[list(indices)]

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, int]:
        return tv_tensors.Image(self.images[index]), int(self.labels[index])


@dataclass(repr=False, eq=False)
class SegmentationDataset(CourseDataset):
    """Pictures with a label for every pixel.

    `dataset[i]` is, for `task="semantic"`, `(image, mask)`: `tv_tensors.Image` uint8 `[3, H, W]` and
    `tv_tensors.Mask` int64 `[H, W]` (class ids, 255 = void); for `task="instance"`, `(image, target)` with
    torchvision's detection dict: `boxes` float32 `[N, 4]` xyxy, `labels` int64 `[N]`, `masks` uint8 `[N, H, W]`.
    """

    ids: Sequence[str]  # a name for each picture
    read: Callable[[str], Example]  # the picture of an id
    task: str = "semantic"  # or "instance"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"task = {self.task!r} is not known", f"choose one of {', '.join(TASKS)}")
        self.ids = tuple(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, indices: Sequence[int]) -> None:
        """Leave out all pictures but these."""
        self.ids = tuple(self.ids[i] for i in indices)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")  # ends a for loop over the data set
        example = self.read(self.ids[index])
        image = tv_tensors.Image(torch.from_numpy(example.image).permute(2, 0, 1).contiguous())
        if self.task == "semantic":
            mask = example.mask if example.mask is not None else np.asarray(example.instances) > 0
            return image, tv_tensors.Mask(torch.from_numpy(mask.astype(np.int64)))
        if example.instances is None:
            raise DataError("this data set has no instances", 'load it with task="semantic"')
        masks = to_masks(example.instances)
        labels = [1 if example.mask is None else np.bincount(example.mask[mask > 0]).argmax() for mask in masks]
        # The far edges are exclusive, so that width = x2 - x1 and one pixel is no box of zero area.
        boxes = masks_to_boxes(torch.from_numpy(masks)) + torch.tensor([0, 0, 1, 1])
        size = example.instances.shape
        return image, {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size, dtype=torch.float32),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": tv_tensors.Mask(torch.from_numpy(masks)),
        }


def in_validation(name: str) -> bool:
    """Whether a picture belongs to the validation split: a fifth of all names, by their SHA-256.

    Decided by the name alone, so a subset of a data set never trains on what the whole set validates on.
    """
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0


def choose(names: Sequence[str], split: str) -> list[str]:
    """The sorted `names` that belong to `split`; InputError if that is unknown."""
    if split not in SPLITS:
        raise InputError(f"split = {split!r} is not known", f"choose one of {', '.join(SPLITS)}")
    return [name for name in sorted(names) if split == "all" or in_validation(name) == (split == "val")]


def nuclei(folder: Path, split: str, task: str, labels_cache: Path | None = None) -> SegmentationDataset:
    """Nuclei of the 2018 Data Science Bowl (BBBC038v1): `<id>/images/<id>.png`, `<id>/masks/*.png`.

    A picture's masks, one file a nucleus, are merged once into one 16-bit label PNG in `labels_cache`.
    Raises DataError: the folder has another layout, or a file is damaged.
    """
    ids = [path.name for path in folder.iterdir() if (path / "images").is_dir()]
    if not ids:
        hint = "unpack stage1_train.zip there, or run: course data fetch nuclei"
        raise DataError(f"no folders <id>/images in {folder}", hint)

    def read(name: str) -> Example:
        image = read_image(folder / name / "images" / f"{name}.png")
        merged = labels_cache / f"{name}.png" if labels_cache else None
        if merged and merged.is_file():
            return Example(image, instances=np.asarray(_open(merged)))
        labels = np.zeros(image.shape[:2], np.uint16)
        for number, file in enumerate(sorted((folder / name / "masks").glob("*.png")), start=1):
            mask = np.asarray(_open(file).convert("L"))
            if mask.shape != labels.shape:
                raise DataError(f"{file}: {mask.shape}, but its picture is {labels.shape}", "fetch the data set again")
            labels[mask > 0] = number
        if merged:
            _write_atomically(merged, Image.fromarray(labels).save)
        return Example(image, instances=labels)

    return SegmentationDataset("nuclei", "real", split, CELL_CLASSES, choose(ids, split), read, task)


CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(folder: Path, split: str, cache: Path) -> ClassificationDataset:
    """CIFAR-10 (Krizhevsky, 2009): the publisher's binary or Python archive, or a folder of images for each class.

    Every tenth training picture is for validation: `"train"` 45,000, `"val"` 5,000, `"all"` both, `"test"` 10,000. The
    pictures are decoded once, into uint8 tensors in `cache`.
    Raises DataError: the folder has another layout; InputError: unknown split.
    """
    if split not in (*SPLITS, "test"):
        raise InputError(f"split = {split!r} is not known", f"choose one of {', '.join(SPLITS)}, test")
    part = "test" if split == "test" else "train"
    file = cache / f"{part}.safetensors"
    if not file.is_file():
        images, labels = _decode_cifar10(folder, part)
        _write_atomically(file, partial(safetensors.torch.save_file, {"images": images, "labels": labels}))
    stored = safetensors.torch.load_file(file)
    tenth = torch.arange(len(stored["labels"])) % 10 == 0
    keep = {"train": ~tenth, "val": tenth}.get(split, slice(None))
    images, labels = stored["images"][keep], stored["labels"][keep]
    return ClassificationDataset(images, labels, "cifar10", "real", split, CIFAR_CLASSES)


def _decode_cifar10(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images uint8 `[N, 3, 32, 32]` and labels int64 `[N]` of `"train"` or `"test"`, in the publisher's layouts."""
    batches = "data_batch_*.bin" if part == "train" else "test_batch.bin"
    if binaries := sorted(folder.glob(f"cifar-10-batches-bin/{batches}")):
        rows = torch.from_numpy(np.concatenate([np.fromfile(file, np.uint8) for file in binaries])).reshape(-1, 3073)
        return rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), rows[:, 0].long()
    if (folder / "cifar-10-batches-py").is_dir():  # torchvision compares each file's MD5 before it opens it
        try:
            python = torchvision.datasets.CIFAR10(folder, train=part == "train")
        except RuntimeError as error:
            raise DataError(f"{folder} is damaged: {error}", "delete it; the next use unpacks it again") from error
        return torch.from_numpy(python.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(python.targets)
    if found := next(folder.glob(f"**/{part}/{CIFAR_CLASSES[0]}"), None):
        listed = torchvision.datasets.ImageFolder(found.parent)  # its classes are sorted, as CIFAR-10's are
        arrays = [read_image(Path(file)) for file, _ in tqdm(listed.samples, f"decoding {part}", disable=None)]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous(), torch.tensor(listed.targets)
    raise DataError(f"{folder} holds no CIFAR-10 that the course can read", "fetch it: course data fetch cifar10")


def drawn_shapes(split: str, count: int, seed: int, name: str) -> ClassificationDataset:
    """Drawn shapes and patterns of ten classes; each split draws its own."""
    if split not in (*SPLITS, "test"):
        raise InputError(f"split = {split!r} is not known", f"choose one of {', '.join(SPLITS)}, test")
    number = int(np.random.SeedSequence([seed, (*SPLITS, "test").index(split)]).generate_state(1)[0])
    images, labels = (torch.from_numpy(array) for array in synthetic.draw_shapes(number, count))
    return ClassificationDataset(images, labels, name, "synthetic", split, synthetic.SHAPE_CLASSES)


def image_folder(folder: Path, split: str, task: str, classes: Sequence[str] = CELL_CLASSES) -> SegmentationDataset:
    """Your own pictures: `images/NAME.png` (or .jpg, .tif, ...) with `masks/NAME.png`, optionally `instances/NAME.png`.

    Masks hold class ids, as grey levels or as palette indices; 255 is void. With two classes, a mask of 0 and 255 is
    read as background and foreground. The folder may instead hold `train/images`, `val/images` and so on; otherwise
    a fifth of the pictures is kept for validation.
    Raises DataError, naming the file: a missing mask, another size, a colour mask, a label with no class.
    """
    own_split = split != "all" and (folder / split / "images").is_dir()
    root = folder / split if own_split else folder
    images, masks = root / "images", root / "masks"
    if not images.is_dir() or not masks.is_dir():
        hint = "put pictures into images/, masks of the same name into masks/"
        raise DataError(f"{root} has no folders images and masks", hint)
    files = {path.stem: path for path in images.iterdir() if path.suffix.lower() in PICTURES}
    if not files:
        raise DataError(f"no pictures in {images}", f"the course reads {', '.join(PICTURES)}")
    for name in sorted(files):
        if not (masks / f"{name}.png").is_file():
            raise DataError(f"{files[name]} has no mask", f"expected {masks / f'{name}.png'}")

    def read(name: str) -> Example:
        image = read_image(files[name])
        mask = read_labels(masks / f"{name}.png", image.shape[:2])
        if len(classes) == 2 and set(np.unique(mask)) <= {0, 255}:
            mask = (mask > 0).astype(np.uint8)
        stray = set(np.unique(mask).tolist()) - {*range(len(classes)), IGNORE}
        if stray:
            raise DataError(
                f"{masks / f'{name}.png'}: labels {sorted(stray)}, but there are only {len(classes)} classes",
                f"labels are 0..{len(classes) - 1}, and {IGNORE} for void; or name all classes with classes=[...]",
            )
        instances = root / "instances" / f"{name}.png"
        return Example(image, mask, read_labels(instances, image.shape[:2]) if instances.is_file() else None)

    ids = sorted(files) if own_split else choose(list(files), split)
    return SegmentationDataset(folder.name, "real", split, tuple(classes), ids, read, task)


def drawn(
    family: str, split: str, task: str, *, name: str | None = None, count: int = 100, size: Size = SIZE, seed: int = 0
) -> SegmentationDataset:
    """Drawn scenes of a family, `"cells"` or `"streets"`; each split and each `seed` has its own.

    `name`: what they stand in for, by default the family; `size`: height, width. Raises InputError: unknown split.
    """
    draw = {"cells": synthetic.draw_cells, "streets": synthetic.draw_streets}[family]
    classes = {"cells": CELL_CLASSES, "streets": synthetic.STREET_CLASSES}[family]
    if split not in SPLITS:
        raise InputError(f"split = {split!r} is not known", f"choose one of {', '.join(SPLITS)}")

    def read(scene_id: str) -> Example:
        scene = draw(int(scene_id.rpartition("-")[2]), size)
        return Example(scene.image, scene.semantic, scene.instances)

    numbers = np.random.SeedSequence([seed, SPLITS.index(split)]).generate_state(count)
    ids = [f"{family}-{number}" for number in numbers]
    return SegmentationDataset(name or family, "synthetic", split, classes, ids, read, task)


def read_image(file: Path) -> NDArray[np.uint8]:
    """A picture as uint8 `[H, W, 3]`: grey in three equal channels, transparency dropped. DataError if damaged."""
    return np.array(_open(file).convert("RGB"))


def read_labels(file: Path, size: tuple[int, ...]) -> NDArray[Any]:
    """Levels or palette indices `[H, W]` of a grey (8 or 16 bit) or palette PNG.

    Raises DataError: missing, damaged, in colour, or not of `size`.
    """
    picture = _open(file)
    if picture.mode not in ("1", "L", "P", "I", "I;16"):
        hint = "save class ids as a grey or palette PNG: 0 for the first class, 1 for the second, ..."
        raise DataError(f"{file}: a colour picture ({picture.mode}), not labels", hint)
    labels = np.array(picture)
    if labels.shape != tuple(size):
        raise DataError(f"{file}: {labels.shape}, but its picture is {tuple(size)}", "save it at its picture's size")
    return labels


def _open(file: Path) -> Image.Image:
    try:
        picture = Image.open(file)
        picture.load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG
        raise DataError(f"{file} cannot be read: {error}", "replace the file, or fetch the data set again") from error
    return picture


def _write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{uuid.uuid4().hex}{file.suffix}")
    write(fresh)
    fresh.replace(file)
