"""The exercises of lesson 01: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from course_lib import metrics
from course_lib.cli.exercises import Exercise


def dice() -> Exercise:
    """The Dice coefficient of two boolean masks, 1 where both are empty."""

    def score(p: Any, t: Any, empty: float = 1.0) -> float:
        return 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else empty

    def iou(p: Any, t: Any) -> float:
        return (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0

    rng = np.random.default_rng(0)
    shares = ((0.5, 0.5), (0.2, 0.7), (0.9, 0.1), (0, 0))
    cases = [(rng.random((8, 9)) < a, rng.random((8, 9)) < b) for a, b in shares]
    mistakes = [
        (iou, "that is the IoU: Dice divides by the sum of both areas, not by their union."),
        (
            lambda p, t: score(p, t, 2) / 2,
            "the intersection counts twice, once for each mask: equal masks score 1.",
        ),
        (
            lambda p, t: 2 * iou(p, t) if (p | t).any() else 1.0,
            "+ of two masks means *or*: sum each mask first.",
        ),
        (
            lambda p, t: score(p, t, np.nan),
            "two empty masks agree: return 1 there instead of dividing 0 by 0.",
        ),
        (lambda p, t: score(p, t, 0.0), "two empty masks agree: that deserves 1, not 0."),
        (lambda p, t: (p == t).mean(), "that is pixel accuracy, which rewards every background pixel."),
    ]
    return Exercise(1, score, mistakes, cases)


def background_at_border() -> Exercise:
    """The mask, or its inverse if more than half of its border pixels are foreground."""

    def share(mask: Any) -> float:
        inner = mask[1:-1, 1:-1]
        return (mask.sum() - inner.sum()) / (mask.size - inner.size)

    def edges(mask: Any) -> float:
        return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()

    rng = np.random.default_rng(0)
    masks = [rng.random((9, 13)) < density for density in (0.1, 0.9)]
    masks += [
        np.pad(rng.random((10, 12)) < inside, 1, constant_values=1 - round(inside)) for inside in (0.8, 0.2)
    ]
    cornered, half, topped, corners = np.zeros((4, 6, 6), bool)
    cornered[5, :4] = cornered[:5, 0] = cornered[5, 5] = (
        True  # 10 of 20 pixels; 13 of 24 when corners count twice
    )
    half[0, 1:5] = half[1:5, 0] = half[5, 1:3] = True  # 10 of 20, none of them a corner
    topped[0] = True
    corners[::5, ::5] = True
    beside = np.zeros((6, 14), bool)
    beside[:, ::13] = True
    masks += [cornered, half, topped, corners, beside, beside.T]
    mistakes = [
        (
            lambda m: ~m if m.mean() > 0.5 else m,
            "that looks at the whole picture; only the border is to decide.",
        ),
        (lambda m: ~m, "you always invert: a mask whose border is mostly background is to stay."),
        (lambda m: m, "you never invert: turn the mask round when most of its border is foreground."),
        (
            lambda m: m if share(m) > 0.5 else ~m,
            "the other way round: the border is to end up as background.",
        ),
        (
            lambda m: ~m if m[0].mean() > 0.5 else m,
            "that is the first row only: the border has four sides.",
        ),
        (
            lambda m: ~m if m[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.5 else m,
            "those are only the corners.",
        ),
        (lambda m: ~m if m[[0, -1]].mean() > 0.5 else m, "two sides only: the border has four."),
        (lambda m: ~m if m[:, [0, -1]].mean() > 0.5 else m, "two sides only: the border has four."),
        (
            lambda m: ~m if share(m) >= 0.5 else m,
            "a mask with exactly half of its border set is to stay: compare with >.",
        ),
        (lambda m: ~m if edges(m) > 0.5 else m, "the corners counted twice, once for each of their sides."),
    ]
    cases = [(mask,) for mask in masks]
    return Exercise(2, lambda m: ~m if share(m) > 0.5 else m, mistakes, cases)


def iou_from_dice() -> Exercise:
    """The IoU that belongs to a Dice coefficient of 0.8."""
    mistakes = [
        (0.8, "IoU and Dice agree only at 0 and 1."),
        (8 / 9, "that is the way from IoU to Dice; solve D = 2 J / (1 + J) for J."),
        (0.4, "halving is not it: solve D = 2 J / (1 + J) for J."),
        (4 / 9, "check your algebra: J (2 - D) = D."),
        (2 / 7, "check your algebra: J (2 - D) = D."),
    ]
    return Exercise(3, 2 / 3, mistakes)


def remove_small() -> Exercise:
    """A label map without the instances of fewer than `min_area` pixels."""

    def area(labels: Any) -> Any:
        return np.bincount(labels.ravel())[labels]

    rng = np.random.default_rng(3)
    cases = [(label(rng.random((12, 12)) < density), 4) for density in (0.3, 0.4, 0.5)]
    mistakes = [
        (
            lambda m, a: np.where(area(m) > a, m, 0),
            "an instance of exactly min_area pixels stays: compare with >=.",
        ),
        (lambda m, a: np.where(area(m) < a, m, 0), "you kept the small ones and removed the rest."),
        (lambda m, a: (area(m) >= a) & (m > 0), "that is a mask: keep each instance's own number."),
        (
            lambda m, a: np.where(m >= a, m, 0),
            "that compares the numbers of the instances, not their areas.",
        ),
        (
            lambda m, a: relabel_sequential(np.where(area(m) >= a, m, 0))[0],
            "you numbered them anew: keep the old numbers.",
        ),
        (lambda m, a: area(m) >= a, "that is a mask, and the background became foreground with it."),
    ]
    return Exercise(4, lambda m, a: np.where(area(m) >= a, m, 0), mistakes, cases)


def score_at() -> Exercise:
    """TP / (TP + FP + FN) at one threshold, from the IoU of every prediction with every truth."""

    def hits(overlaps: Any, limit: float) -> int:
        return int((overlaps > limit).sum())

    def score(o: Any, t: float) -> float:
        return hits(o, t) / (sum(o.shape) - hits(o, t))

    rng = np.random.default_rng(5)
    first, second, truth = (label(rng.random((12, 12)) < 0.35) for _ in range(3))
    cases = [(metrics.instance_iou(p, truth), 0.3) for p in (first, second, np.roll(truth, 1, axis=1))]
    cases.append(
        (np.array([[0.5, 0.0], [0.0, 0.9], [0.0, 0.2]]), 0.5)
    )  # the first pair lies exactly on the limit
    mistakes = [
        (
            lambda o, t: hits(o, t) / o.shape[0],
            "that is precision: missed nuclei must count against you too.",
        ),
        (lambda o, t: hits(o, t) / o.shape[1], "that is recall: false alarms must count against you too."),
        (
            lambda o, t: hits(o, t) / sum(o.shape),
            "each hit is counted twice below: TP + FP + FN = N + M - TP.",
        ),
        (
            lambda o, t: 2 * hits(o, t) / sum(o.shape),
            "that is F1; this score has TP + FP + FN below the line.",
        ),
        (lambda o, t: score(o, t - 1e-9), "an IoU equal to the threshold is not a hit: compare with >."),
    ]
    return Exercise(5, score, mistakes, cases)
