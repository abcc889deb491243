"""Layouts on disk -> data sets whose samples have torchvision's own shapes; see `SegmentationDataset`.

Each reader raises DataError: another layout, no picture of the split, a damaged file; InputError: unknown split.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
import torchvision
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as runs
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage import measure
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from tqdm.auto import tqdm

from course_lib import paths
from course_lib.data import synthetic
from course_lib.data.synthetic import CELL_CLASSES, STREET_CLASSES, Scene, Size
from course_lib.errors import DataError, InputError
from course_lib.metrics import IGNORE, to_masks

SPLITS = ("train", "val", "all")
TASKS = ("semantic", "instance")
SIZE = (128, 128)  # height and width of drawn scenes, in pixels
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
VOC_CLASSES = ("background", *torchvision.models.get_model_weights("fcn_resnet50").DEFAULT.meta["categories"][1:])
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
Files = Mapping[str, tuple[Path, ...]]  # name -> a picture, its labels and, where there are any, its instances


@dataclass(repr=False, eq=False)
class CourseDataset(Dataset, Sized):
    """What every data set of the course says of itself; the scoreboard quotes it."""

    name: str  # such as "nuclei"
    source: str  # "real" or "synthetic"
    split: str  # "train", "val", "test" or "all"
    classes: Sequence[str]  # names; the index is the id

    def __repr__(self) -> str:
        return f"{self.name} ({self.source}), {self.split}: {len(self)} pictures, {len(self.classes)} classes"

    def _keep(self, indices: list[int]) -> None:
        raise NotImplementedError

    def spread(self, count: int | None) -> Self:
        """This data set with at most `count` pictures, at even distances: a short run sees every kind of picture."""
        if count is not None and count < len(self):
            self._keep([i * len(self) // count for i in range(count)])
        return self


@dataclass(repr=False, eq=False)
class ClassificationDataset(CourseDataset):
    """Small pictures, in memory; `dataset[i]` is `(image, label)`: `tv_tensors.Image` uint8 `[3, H, W]`, class id."""

    images: Tensor  # uint8 [N, 3, H, W]: all of one size
    labels: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    def _keep(self, indices: list[int]) -> None:
        self.images, self.labels = self.images[indices], self.labels[indices]

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, int]:
        return tv_tensors.Image(self.images[index]), int(self.labels[index])


@dataclass(repr=False, eq=False)
class SegmentationDataset(CourseDataset):
    """Pictures with a label for every pixel.

    `dataset[i]` is, for `task="semantic"`, `(image, mask)`: `tv_tensors.Image` uint8 `[3, H, W]` and
    `tv_tensors.Mask` int64 `[H, W]` (class ids, 255 = void); for `task="instance"`, `(image, target)` with
    torchvision's detection dict: `boxes` float32 `[N, 4]` xyxy, `labels` int64 `[N]`, `masks` uint8 `[N, H, W]`; COCO
    marks a mask over a crowd with 1 in `iscrowd` int64 `[N]`.
    """

    ids: tuple[str, ...]  # a name for each picture
    read: Callable[[str], Scene]  # the picture of an id
    task: str = "semantic"  # or "instance"
    size: Size | None = None  # height and width of all samples; None: each picture's own

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"task = {self.task!r} is not known", f"choose one of {', '.join(TASKS)}")

    def __len__(self) -> int:
        return len(self.ids)

    def _keep(self, indices: list[int]) -> None:
        self.ids = tuple(self.ids[i] for i in indices)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Any]:
        scene = self.read(self.ids[index])  # past the end, the IndexError of the ids ends a for loop
        scene = _resized(scene, self.size) if self.size else scene
        image = tv_tensors.Image(torch.from_numpy(scene.image).permute(2, 0, 1).contiguous())
        if self.task == "semantic":
            return image, tv_tensors.Mask(torch.from_numpy(scene.semantic.astype(np.int64)))
        if scene.objects is not None:
            masks, labels, crowds = scene.objects
            return image, detection_target(masks, labels, iscrowd=crowds)
        if scene.instances is None:
            raise DataError("this data set has no instances", 'load it with task="semantic"')
        masks = to_masks(scene.instances)
        return image, detection_target(masks, [np.bincount(scene.semantic[mask > 0]).argmax() for mask in masks])


def detection_target(masks: Any, labels: Any, min_area: int = 1, **more: Any) -> dict[str, Tensor]:
    """Torchvision's dict of masks `[N, H, W]`, 0 or 1, labels `[N]`, and what else there is of each object, `[N]`.

    Objects with fewer than `min_area` pixels are left out. The boxes' far edges are exclusive, so that a width is
    x2 - x1 and one pixel is no box of zero area, which torchvision's detectors refuse.
    """
    masks = torch.as_tensor(masks, dtype=torch.uint8)
    keep = masks.flatten(1).sum(1) >= min_area
    masks, more = masks[keep], {"labels": labels} | more
    corners = torchvision.ops.masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1], device=masks.device)
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=tuple(masks.shape[1:]), dtype=torch.float32)
    numbers = {name: torch.as_tensor(x, dtype=torch.int64, device=masks.device)[keep] for name, x in more.items()}
    return {"boxes": boxes, "masks": tv_tensors.Mask(masks), **numbers}


def _resized(scene: Scene, size: Size) -> Scene:
    """The same at another height and width: the picture smoothed, labels taken from the nearest pixel."""
    image = np.array(Image.fromarray(scene.image).resize(size[::-1], Image.Resampling.BILINEAR))
    lengths = zip(scene.semantic.shape, size, strict=True)
    nearest = np.ix_(*((2 * np.arange(new) + 1) * old // (2 * new) for old, new in lengths))  # where the centres lie
    instances = scene.instances if scene.instances is None else scene.instances[nearest]
    objects = scene.objects and (scene.objects[0][:, *nearest], *scene.objects[1:])
    return Scene(image, scene.semantic[nearest], instances, objects=objects)


def _parts(split: str, *more: str) -> tuple[str, ...]:
    """The parts that make up a split; InputError if it is neither in `SPLITS` nor one `more` that the data set has."""
    if split not in (*SPLITS, *more):
        raise InputError(f"split = {split!r} is not known", f"choose one of {', '.join((*SPLITS, *more))}")
    return ("train", "val", *more) if split == "all" else (split,)


def choose(names: Sequence[str], split: str) -> list[str]:
    """The sorted `names` that belong to `split`; a fifth, by their SHA-256, validates. InputError: unknown split."""
    parts = _parts(split)  # by the name alone: a subset never trains on what the whole set validates on
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in sorted(names)}
    return [name for name, digest in digests.items() if ("train" if int(digest, 16) % 5 else "val") in parts]


def nuclei(folder: Path, split: str, task: str, cache: Path) -> SegmentationDataset:
    """Nuclei of the 2018 Data Science Bowl (BBBC038v1): `<id>/images/<id>.png`, `<id>/masks/*.png`, one a nucleus."""
    ids = [path.name for path in folder.iterdir() if (path / "images").is_dir()]
    if not ids:
        raise DataError(f"no folders <id>/images in {folder}", "fetch it: course data fetch nuclei")

    def read(name: str) -> Scene:
        image, merged = read_image(folder / name / "images" / f"{name}.png"), cache / f"{name}.png"
        if not merged.is_file():  # reading many files is slow: they are merged once, into one 16-bit label PNG
            joined = np.zeros(image.shape[:2], np.uint16)
            for number, file in enumerate(sorted((folder / name / "masks").glob("*.png")), start=1):
                joined[read_labels(file, joined.shape) > 0] = number
            paths.write_atomically(merged, Image.fromarray(joined).save)
        labels = read_labels(merged, image.shape[:2])
        return Scene(image, (labels > 0).astype(np.uint8), labels)

    return SegmentationDataset("nuclei", "real", split, CELL_CLASSES, tuple(choose(ids, split)), read, task)


def cifar10(folder: Path, split: str, cache: Path) -> ClassificationDataset:
    """CIFAR-10 (Krizhevsky, 2009): the publisher's binary or Python archive, or a folder of images for each class.

    Every tenth training picture is for validation: `"train"` 45,000, `"val"` 5,000, `"all"` both, `"test"` 10,000. The
    pictures are decoded once, into uint8 tensors in `cache`.
    """
    part = "test" if _parts(split, "test") == ("test",) else "train"
    file = cache / f"{part}.safetensors"
    if not file.is_file():
        tensors = dict(zip(("images", "labels"), _decode_cifar10(folder, part), strict=True))
        paths.write_atomically(file, lambda fresh: safetensors.torch.save_file(tensors, fresh))
    stored = safetensors.torch.load_file(file)
    tenth = torch.arange(len(stored["labels"])) % 10 == 0
    keep = {"train": ~tenth, "val": tenth}.get(split, slice(None))
    images, labels = stored["images"][keep], stored["labels"][keep]
    return ClassificationDataset("cifar10", "real", split, CIFAR_CLASSES, images, labels)


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


def image_folder(folder: Path, split: str, task: str, classes: Sequence[str] = CELL_CLASSES) -> SegmentationDataset:
    """Your own pictures: `images/NAME.png` (or .jpg, .tif, ...) with `masks/NAME.png`, optionally `instances/NAME.png`.

    Masks hold class ids, as grey levels or as palette indices; 255 is void. With two classes, masks that all hold 0 and
    255 alone are background and foreground. The folder may instead hold `train/images`, `val/images` and so on; else a
    fifth of the pictures validates. DataError names the file: no mask, another size, in colour, a label with no class.
    """
    roots = [folder / part for part in _parts(split, "test") if (folder / part / "images").is_dir()] or [folder]
    files: dict[str, tuple[Path, ...]] = {}
    for root in roots:
        if not (root / "images").is_dir() or not (root / "masks").is_dir():
            raise DataError(f"{root} has no folders images and masks", "put pictures and masks of the same names there")
        for path in (root / "images").glob("[!.]*"):
            if path.suffix.lower() in PICTURES:
                mask, instances = (root / kind / f"{path.stem}.png" for kind in ("masks", "instances"))
                if not mask.is_file():
                    raise DataError(f"{path} has no mask", f"expected {mask}")
                name = path.stem if len(roots) == 1 else f"{root.name}/{path.stem}"
                files[name] = (path, mask, instances) if instances.is_file() else (path, mask)
    if not files:
        raise DataError(f"no pictures in {roots[0] / 'images'}", f"the course reads {', '.join(PICTURES)}")
    names = list(files) if roots != [folder] else choose(list(files), split)
    if not names:  # of a few pictures, chance may keep none
        message = f"none of the {len(files)} pictures in {folder / 'images'} falls to split {split!r}"
        raise DataError(message, "choose yourself: put them into train/images and val/images, with masks beside")
    ids = {IGNORE: IGNORE} | {i: i for i in range(len(classes))}
    levels = (np.unique(np.asarray(_open(file[1]))) for file in files.values())
    if len(classes) == 2 and all(set(found) <= {0, 255} for found in levels):
        ids = {0: 0, 255: 1}  # black and white; where one mask has a 1, 255 is void
    hint = f"labels are 0..{len(classes) - 1}, and {IGNORE} for void; or name all classes with classes=[...]"
    return _labelled({name: files[name] for name in names}, ids, folder.name, split, task, classes, hint)


def camvid(folder: Path, split: str, task: str) -> SegmentationDataset:
    """CamVid in the version of the SegNet tutorial: `train/*.png`, `trainannot/*.png`, likewise `val` and `test`."""
    root = next((found.parent for found in folder.glob("**/trainannot")), folder)
    files = [file for part in _parts(split, "test") for file in root.glob(f"{part}/*.png")]
    if not files:
        hint = "a mirror may hold a part of the set; else fetch it again: course data fetch camvid"
        raise DataError(f"{root} has no pictures for split {split!r}", hint)
    pairs = {file.stem: (file, root / f"{file.parent.name}annot" / file.name) for file in files}
    return _labelled(pairs, {11: IGNORE} | {i: i for i in range(11)}, "camvid", split, task, STREET_CLASSES)


def voc(folder: Path, split: str, task: str) -> SegmentationDataset:
    """Pascal VOC 2012 (Everingham et al., 2015), as torchvision reads it: `VOCdevkit/VOC2012`. 255 is its void."""
    try:
        part = torchvision.datasets.VOCSegmentation(folder, image_set="".join(_parts(split)))  # all: "trainval"
    except (RuntimeError, OSError) as error:
        raise DataError(f"{folder} holds no Pascal VOC 2012: {error}", "fetch it: course data fetch voc") from error
    pairs = {Path(image).stem: (Path(image), Path(mask)) for image, mask in zip(part.images, part.masks, strict=True)}
    return _labelled(pairs, {IGNORE: IGNORE} | {i: i for i in range(21)}, "voc", split, task, VOC_CLASSES)


def cityscapes(folder: Path, split: str, task: str) -> SegmentationDataset:
    """Cityscapes (Cordts et al., 2016), as torchvision reads it: `leftImg8bit` beside `gtFine`, both unpacked."""
    try:
        sets = [torchvision.datasets.Cityscapes(folder, part, target_type="semantic") for part in _parts(split)]
    except (RuntimeError, OSError) as error:
        hint = "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip into one folder"
        raise DataError(f"{folder} holds no Cityscapes: {error}", hint) from error
    pairs = {Path(i).stem: (Path(i), Path(m)) for s in sets for i, (m,) in zip(s.images, s.targets, strict=True)}
    # 34 labels become the benchmark's 19 classes; others, such as parked trailers, are void; those of tests are secret
    evaluated = [label for label in sets[0].classes if 0 <= label.train_id < IGNORE]
    ids = dict.fromkeys(range(34), IGNORE) | {label.id: label.train_id for label in evaluated}
    return _labelled(pairs, ids, "cityscapes", split, task, [label.name for label in evaluated])


def pennfudan(folder: Path, split: str, task: str) -> SegmentationDataset:
    """Penn-Fudan pedestrians (Wang et al., 2007): `PNGImages/NAME.png`; `PedMasks/NAME_mask.png` counts people."""
    files = {file.stem: file for file in folder.glob("**/PNGImages/*.png")}
    if not files:
        raise DataError(f"no folder PNGImages in {folder}", "fetch it: course data fetch pennfudan")
    masks = {name: files[name].parents[1] / "PedMasks" / f"{name}_mask.png" for name in choose(list(files), split)}
    ids = {0: 0} | dict.fromkeys(range(1, 255), 1)
    groups = {name: (files[name], mask, mask) for name, mask in masks.items()}
    return _labelled(groups, ids, "pennfudan", split, task, ("background", "pedestrian"))


def coco(folder: Path, split: str, task: str) -> SegmentationDataset:
    """COCO (Lin et al., 2014): `annotations/instances_train2017.json` beside `train2017/`, and likewise `val2017`.

    Outlines are polygons or runs of pixels. Objects may overlap: as instances each has its own mask; of semantic masks
    the smaller object takes the pixel. A crowd, one mask over many objects, is void there.
    """
    pictures: dict[str, tuple[COCO, dict]] = {}
    for part in _parts(split):
        file = folder / "annotations" / f"instances_{part}2017.json"
        try:
            index = COCO(file)
            pictures |= {f"{part}2017/{image['file_name']}": (index, image) for image in index.dataset["images"]}
        except (OSError, ValueError, KeyError) as error:
            hint = "unpack train2017.zip, val2017.zip and annotations_trainval2017.zip into one folder"
            raise DataError(f"{file} holds no annotations of COCO: {error!r}", hint) from error
    names = {0: "background"} | {key: category["name"] for key, category in sorted(index.cats.items())}
    ids = {key: number for number, key in enumerate(names)}  # 80, where COCO's go up to 90

    def read(name: str) -> Scene:
        index, image = pictures[name]
        found = sorted(index.imgToAnns[image["id"]], key=lambda annotation: -annotation["area"])
        labels = [ids[annotation["category_id"]] for annotation in found]
        crowds = [annotation.get("iscrowd", 0) for annotation in found]
        semantic = np.zeros((image["height"], image["width"]), np.uint8)
        masks = np.array([index.annToMask(annotation) for annotation in found], np.uint8).reshape(-1, *semantic.shape)
        for mask, label, crowd in zip(masks, labels, crowds, strict=True):
            semantic[mask > 0] = IGNORE if crowd else label
        return Scene(read_image(folder / name), semantic, objects=(masks, labels, crowds))

    return SegmentationDataset("coco", "real", split, tuple(names.values()), tuple(sorted(pictures)), read, task)


def _labelled(
    files: Files, ids: dict[int, int], name: str, split: str, task: str, classes: Sequence[str], hint: str = ""
) -> SegmentationDataset:
    """Pictures with label PNGs; `ids` has the class id of each label, `hint` what to do about another label."""
    table = np.array([ids.get(label, IGNORE) for label in range(max(ids) + 1)], np.uint8)

    def read(key: str) -> Scene:
        picture, *maps = files[key]
        image = read_image(picture)
        labels, *instances = (read_labels(file, image.shape[:2]) for file in maps)
        if stray := sorted(set(np.unique(labels).tolist()) - set(ids)):
            what = f"{maps[0]}: labels {stray}, but the labels known are {', '.join(map(str, sorted(ids)))}"
            raise DataError(what, hint or f"fetch {name} again: course data verify {name}")
        return Scene(image, table[labels], instances[0] if instances else None)

    return SegmentationDataset(name, "real", split, tuple(classes), tuple(sorted(files)), read, task)


def drawn(family: str, split: str, task: str, name: str, count: int | None, size: Size, seed: int) -> CourseDataset:
    """Drawn pictures of a family, `"cells"`, `"streets"` or `"shapes"`; each split and each `seed` has its own.

    `name`: what they stand in for; `count`: by default 100 scenes or 4,000 shapes; `size`: height, width of scenes.
    """
    _parts(split, "test")  # is it known?
    seeds = np.random.SeedSequence([seed, (*SPLITS, "test").index(split)])
    if family == "shapes":
        images, labels = map(torch.from_numpy, synthetic.draw_shapes(int(seeds.generate_state(1)[0]), count or 4000))
        return ClassificationDataset(name, "synthetic", split, synthetic.SHAPE_CLASSES, images, labels)
    styles = {"cells": (synthetic.draw_cells, CELL_CLASSES), "streets": (synthetic.draw_streets, STREET_CLASSES)}
    draw, classes = styles[family]
    ids = tuple(f"{family}-{number}" for number in seeds.generate_state(count or 100))
    return SegmentationDataset(name, "synthetic", split, classes, ids, lambda i: draw(int(i.split("-")[1]), size), task)


def read_image(file: Path) -> NDArray[np.uint8]:
    """A picture as uint8 `[H, W, 3]`: grey in three equal channels, transparency dropped, a photograph turned upright.

    Grey levels of 16 bits are stretched to 0..255, darkest to brightest. Raises DataError: damaged.
    """
    picture = ImageOps.exif_transpose(_open(file))
    if picture.mode.startswith(("I", "F")):  # microscopes; Pillow would clip at 255
        levels = np.asarray(picture, np.float32)
        levels = (levels - levels.min()) / max(float(np.ptp(levels)), 1e-12)
        picture = Image.fromarray((255 * levels).round().astype(np.uint8))
    return np.array(picture.convert("RGB"))


def read_labels(file: Path, size: tuple[int, ...]) -> NDArray[Any]:
    """Levels or palette indices `[H, W]` of a PNG. DataError: missing, damaged, in colour, or not of `size`."""
    picture = _open(file)
    if picture.mode in ("LA", "RGB", "RGBA") and len({band.tobytes() for band in picture.convert("RGB").split()}) == 1:
        picture = picture.convert("L")  # grey that was saved as a colour picture
    if picture.mode not in ("1", "L", "P", "I", "I;16"):
        hint = "save class ids as a grey or palette PNG: 0 for the first class, 1 for the second, ..."
        raise DataError(f"{file}: a colour picture ({picture.mode}), not labels", hint)
    labels = np.array(picture, np.uint8 if picture.mode == "1" else None)
    if labels.shape != size:
        raise DataError(f"{file}: {labels.shape}, but its picture is {size}", "save it at that size, or fetch it again")
    return labels


def to_coco(mask: Any) -> dict[str, Any]:
    """One object's mask `[H, W]`, not 0 inside, as COCO stores it: `segmentation`, `area`, `bbox` xywh, `iscrowd`.

    As polygons where these give the mask back to the pixel. Polygons have no holes: an object with one is stored as
    lengths of runs, down the columns. InputError: an empty mask.
    """
    inside = np.asfortranarray(mask, bool).astype(np.uint8)
    if not inside.any():
        raise InputError("the mask of an object is empty", "leave the object out")
    contours = measure.find_contours(np.pad(inside, 1), 0.5)  # padding adds 1; COCO's origin is a corner, not a centre
    found: dict[str, Any] = {"segmentation": [(c[:, ::-1] - 0.5).ravel().tolist() for c in contours]}
    if (from_coco(found, inside.shape) != inside).any():
        changes = np.flatnonzero(np.diff(inside.ravel(order="F"), prepend=0, append=2))  # the last run ends at the end
        found["segmentation"] = {"counts": np.diff(changes, prepend=0).tolist(), "size": list(inside.shape)}
    x, y, right, bottom = detection_target(inside[None], [1])["boxes"][0].tolist()
    return found | {"area": int(inside.sum()), "bbox": [x, y, right - x, bottom - y], "iscrowd": 0}


def from_coco(annotation: Mapping[str, Any], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask uint8 `[H, W]` of an annotation of COCO, polygons or runs, in a picture of height and width `size`."""
    return runs.decode(runs.segmToRle(annotation["segmentation"], size[1], size[0]))


def _open(file: Path) -> Image.Image:
    try:
        picture = Image.open(file)
        picture.load()
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG
        raise DataError(f"{file} cannot be read: {error}", "replace the file, or fetch the data set again") from error
    return picture
