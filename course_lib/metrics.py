"""Scores of masks and of instances. Lesson 01 builds IoU, Dice, average precision's matching and the DSB score."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skimage import measure
from torch import Tensor
from torch.nn import functional as F

from course_lib.errors import InputError

IGNORE = 255
ADVICE = f"a mask saved as 0 and 255 must become 0 and 1; void is {IGNORE}"
Array = ArrayLike | Tensor  # what NumPy or PyTorch can hold


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs over a whole data set; every region score is read off it.

    Averaging the IoU of batches is a common mistake: it weighs a batch with three car pixels as much as one with three
    thousand. Counts add up, ratios do not. Void pixels, labelled 255, are left out; `num_classes` is the C below.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)  # row = truth, column = prediction

    def update(self, prediction: Array, truth: Array) -> None:
        """Add pictures: ids of one shape, `truth` 255 where void. InputError: shapes differ, or ids not in 0..C-1."""
        predicted, true, valid = _pair(prediction, truth, len(self.counts))
        pairs = torch.bincount((true * len(self.counts) + predicted)[valid], minlength=self.counts.numel())
        self.counts += pairs.reshape(self.counts.shape).cpu()

    def iou(self) -> Tensor:
        """Intersection over union of each class, float64 `[C]`; NaN for a class in neither truth nor prediction."""
        hit = self.counts.diagonal().double()
        return hit / (self.counts.sum(0) + self.counts.sum(1) - hit)

    def summary(self) -> dict[str, float]:
        """`pixel_accuracy`, and averages of the classes that occur: `mean_iou`, `dice`. InputError: nothing counted."""
        total, iou = int(self.counts.sum()), self.iou()
        if not total:
            raise InputError("no pixel was counted", "call update() with at least one picture that is not all void")
        means = {"mean_iou": float(iou.nanmean()), "dice": float((2 * iou / (1 + iou)).nanmean())}
        return {"pixel_accuracy": int(self.counts.diagonal().sum()) / total, **means}


class BoundaryIoU:
    """IoU of the classes' rims over a data set: it sees what region IoU hardly does, ragged or shifted outlines.

    The rim of a class is what an erosion by `width` pixels takes off its regions; beyond the picture's edge there is
    none of it (Cheng et al.: Boundary IoU, 2021). Void pixels are left out. `num_classes` is the number of classes C.
    """

    def __init__(self, num_classes: int, width: int = 2) -> None:
        self.width = width
        self.counts = torch.zeros(2, num_classes, dtype=torch.int64)  # pixels in both rims, pixels in either

    def update(self, prediction: Array, truth: Array) -> None:
        """Add one or more pictures: class ids `[H, W]` or `[B, H, W]`. InputError: as for a confusion matrix."""
        predicted, true, valid = _pair(prediction, truth, self.counts.shape[1])
        # void on both sides: it must not make a rim in the truth that the prediction cannot have
        ids = torch.where(valid, torch.stack([predicted, true]), IGNORE).unsqueeze(-3)
        outside = (ids != torch.arange(self.counts.shape[1], device=ids.device).view(-1, 1, 1)).float()
        padded = F.pad(outside.flatten(0, -3), (self.width,) * 4, value=1)
        near = F.max_pool2d(padded, 2 * self.width + 1, stride=1).view_as(outside)
        one, other = near > outside  # inside, with some outside within reach
        self.counts += torch.stack([rims.movedim(-3, 0).flatten(1).sum(1).cpu() for rims in (one & other, one | other)])

    def iou(self) -> Tensor:
        """Of each class, float64 `[C]`; NaN for a class in neither truth nor prediction."""
        return self.counts[0].double() / self.counts[1]


def image_iou(prediction: Array, truth: Array) -> float:
    """IoU of one picture's foreground (every id but 0), 0..1; 1 where neither has any. InputError: shapes differ."""
    predicted, true, valid = _pair(prediction, truth)
    foreground, wanted = (predicted > 0) & valid, (true > 0) & valid
    union = int((foreground | wanted).sum())
    return int((foreground & wanted).sum()) / union if union else 1.0


def instance_iou(prediction: Array, truth: Array) -> NDArray[np.float64]:
    """IoU of every predicted with every true instance of one picture: `[N, M]`, values in [0, 1].

    Both are label maps `[H, W]`: 0 = background, 1, 2, ... = instances. Ids without a pixel are left out.
    """
    predicted, true = (ids.cpu().numpy() for ids in _pair(prediction, truth)[:2])
    rows, columns = int(predicted.max(initial=0)) + 1, int(true.max(initial=0)) + 1
    overlap = np.bincount((predicted * columns + true).ravel(), minlength=rows * columns).reshape(rows, columns)
    area, true_area = overlap.sum(1), overlap.sum(0)
    iou = overlap / np.maximum(area[:, None] + true_area - overlap, 1)
    return iou[1:, 1:][area[1:] > 0][:, true_area[1:] > 0]


def dsb_score(prediction: Array, truth: Array) -> float:
    """Score of one picture in the 2018 Data Science Bowl (Caicedo et al., Nature Methods 2019), in [0, 1].

    TP / (TP + FP + FN), averaged over the IoU thresholds 0.5, 0.55, ... 0.95; a pair counts as found when its IoU
    is *greater* than the threshold, which makes the match unique. 1 where neither label map `[H, W]` has an instance.
    """
    overlaps = instance_iou(prediction, truth)
    found = (overlaps[..., None] > np.arange(0.5, 1.0, 0.05)).sum((0, 1))
    objects = sum(overlaps.shape)
    return float(np.mean(found / (objects - found))) if objects else 1.0


def average_precision(pairs: Iterable[tuple[dict, dict]], kind: Literal["segm", "bbox"] = "segm") -> dict[str, float]:
    """COCO average precision over a data set, by torchmetrics: `ap50` (IoU 0.5) and `ap` (0.5:0.05:0.95).

    `pairs`: (prediction, truth) of each picture, detection dicts: `masks` `[N, H, W]` (compared by `"segm"`) or `boxes`
    `[N, 4]` xyxy (by `"bbox"`), and `labels` `[N]`; predictions have `scores` `[N]`, too. At most 1,000 objects count.
    """
    from torchmetrics.detection import MeanAveragePrecision  # slow to import, and only needed here

    geometry, dtype = {"segm": ("masks", torch.bool), "bbox": ("boxes", torch.float32)}[kind]
    metric = MeanAveragePrecision(iou_type=kind, max_detection_thresholds=[1, 100, 1000], backend="faster_coco_eval")
    metric.warn_on_many_detections = False
    for pair in pairs:  # one picture at a time: torchmetrics packs its masks before the next one comes
        prediction, truth = ({**target, geometry: target[geometry].as_subclass(Tensor).to(dtype)} for target in pair)
        metric.update([prediction], [truth])
    result = metric.compute()
    return {"ap50": max(float(result["map_50"]), 0.0), "ap": max(float(result["map"]), 0.0)}


def pieces_and_holes(mask: Array) -> tuple[int, int]:
    """Connected pieces of a mask `[H, W]`, joined at corners too, and the holes in them; lesson 06 counts them."""
    foreground = np.asarray(mask) > 0
    pieces = int(measure.label(foreground, connectivity=2).max())
    return pieces, pieces - int(measure.euler_number(foreground, connectivity=2))


def to_label_map(masks: Array) -> NDArray[np.int32]:
    """One mask an instance, `[N, H, W]` -> one label map int32 `[H, W]`; where masks overlap, the later one wins."""
    stack = np.asarray(masks)
    labels = np.zeros(stack.shape[1:], np.int32)
    for number, mask in enumerate(stack, start=1):
        labels[mask > 0] = number
    return labels


def to_masks(labels: Array) -> NDArray[np.uint8]:
    """Label map `[H, W]` -> one mask an instance, uint8 `[N, H, W]`, in the order of their ids."""
    array = np.asarray(labels)
    ids = np.unique(array)
    return (array == ids[ids > 0, None, None]).astype(np.uint8)


def _pair(prediction: Array, truth: Array, classes: float = np.inf) -> tuple[Tensor, ...]:
    """Both as int64, and where the truth is not void; InputError: shapes differ, or an id is outside 0..classes-1."""
    given = [torch.as_tensor(ids if isinstance(ids, Tensor) else np.asarray(ids)) for ids in (prediction, truth)]
    if floats := [ids.dtype for ids in given if ids.is_floating_point()]:
        raise InputError(f"class ids must be whole numbers, not {floats[0]}", "argmax or threshold the scores first")
    predicted, true = (ids.as_subclass(Tensor).to(torch.int64) for ids in given)
    if predicted.shape != true.shape:
        shapes = f"prediction {tuple(predicted.shape)} and truth {tuple(true.shape)}"
        raise InputError(f"{shapes} differ in shape", "give ids per pixel: argmax logits over the classes first")
    valid = true != IGNORE
    for name, ids in (("prediction", predicted[valid]), ("truth", true[valid])):
        if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < classes):
            found = f"ids from {int(ids.min())} to {int(ids.max())}"
            raise InputError(f"{name} holds {found}, outside 0..{classes - 1}", ADVICE)
    return predicted, true, valid
