"""The exercises of lesson 01: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from course_lib import metrics
from course_lib.cli.exercises import Draw, Exercise


def dice(draw: Draw) -> Exercise:
    """The Dice coefficient of two boolean masks, 1 where both are empty."""

    def score(p: Any, t: Any, empty: float = 1.0) -> float:
        return 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else empty

    def iou(p: Any, t: Any) -> float:
        return (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0

    rng = np.random.default_rng(draw.seed(0))
    shares = [(0.5, 0.5), (0.2, 0.7), (0.9, 0.1), (0, 0)]
    if draw.cases:  # much background
        shares.insert(0, (0.1, 0.2))
    cases = [(rng.random((8, 9)) < a, rng.random((8, 9)) < b) for a, b in shares]
    if draw.cases:  # two empty masks differ in their shape alone
        cases[-1] = (np.zeros(shape := rng.integers(10, 20, 2), bool), np.zeros(shape, bool))
    mistakes = [
        (
            "Overlap over union",
            iou,
            "that is the IoU: Dice divides by the sum of both areas, not by their union.",
        ),
        (
            "`(p & t).sum() / (p.sum() + t.sum())`",
            lambda p, t: score(p, t, 2) / 2,
            "the intersection counts twice, once for each mask: equal masks score 1.",
        ),
        (
            "`2 * (p & t).sum() / (p + t).sum()`",
            lambda p, t: 2 * iou(p, t) if (p | t).any() else 1.0,
            "+ of two masks means *or*: sum each mask first.",
        ),
        (
            "`nan` for two empty masks",
            lambda p, t: score(p, t, np.nan),
            "two empty masks agree: return 1 there instead of dividing 0 by 0.",
        ),
        (
            "0 for two empty masks",
            lambda p, t: score(p, t, 0.0),
            "two empty masks agree: that deserves 1, not 0.",
        ),
        (
            "`(p == t).mean()`",
            lambda p, t: (p == t).mean(),
            "that is pixel accuracy, which rewards every background pixel.",
        ),
    ]
    return Exercise(1, score, mistakes, cases)


def background_at_border(draw: Draw) -> Exercise:
    """The mask, or its inverse if more than half of its border pixels are foreground."""

    def share(mask: Any) -> float:
        inner = mask[1:-1, 1:-1]
        return (mask.sum() - inner.sum()) / (mask.size - inner.size)

    def edges(mask: Any) -> float:
        return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()

    rng = np.random.default_rng(draw.seed(0))
    masks = [rng.random((9, 13)) < density for density in (0.1, 0.9)]
    masks += [
        np.pad(rng.random((10, 12)) < inside, 1, constant_values=1 - round(inside))
        for inside in ((0.95, 0.05) if draw.cases else (0.8, 0.2))
    ]
    side = rng.integers(7, 12) if draw.cases else 6
    cornered, half, topped, corners = np.zeros((4, side, side), bool)
    # half of the border: 10 of 20 pixels; 13 of 24 when corners count twice
    cornered[-1, : side - 2] = cornered[:-1, 0] = cornered[-1, -1] = True
    half[0, 1:-1] = half[1:-1, 0] = half[-1, 1:3] = True  # half of it, too, but none of the corners
    topped[0] = True
    corners[:: side - 1, :: side - 1] = True
    beside = np.zeros((side, side + 8), bool)
    beside[:, :: side + 7] = True
    special = [cornered, half, topped, corners, beside, beside.T]
    if draw.cases:  # what lies inside does not matter
        for mask in special[:-1]:
            mask[1:-1, 1:-1] = rng.random((side - 2, mask.shape[1] - 2)) < 0.4
    masks += special
    mistakes = [
        (
            "The mean of the whole mask, the lesson's first rule",
            lambda m: ~m if m.mean() > 0.5 else m,
            "that looks at the whole picture; only the border is to decide.",
        ),
        (
            "Always turned round",
            lambda m: ~m,
            "you always invert: a mask whose border is mostly background is to stay.",
        ),
        (
            "Never turned round",
            lambda m: m,
            "you never invert: turn the mask round when most of its border is foreground.",
        ),
        (
            "Turned the other way",
            lambda m: m if share(m) > 0.5 else ~m,
            "the other way round: the border is to end up as background.",
        ),
        (
            "The first row only",
            lambda m: ~m if m[0].mean() > 0.5 else m,
            "that is the first row only: the border has four sides.",
        ),
        (
            "The four corners only",
            lambda m: ~m if m[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.5 else m,
            "those are only the corners.",
        ),
        (
            "Top and bottom only",
            lambda m: ~m if m[[0, -1]].mean() > 0.5 else m,
            "two sides only: the border has four.",
        ),
        (
            "Left and right only",
            lambda m: ~m if m[:, [0, -1]].mean() > 0.5 else m,
            "two sides only: the border has four.",
        ),
        (
            "`>=` instead of `>`",
            lambda m: ~m if share(m) >= 0.5 else m,
            "a mask with exactly half of its border set is to stay: compare with >.",
        ),
        (
            "Four edges joined",
            lambda m: ~m if edges(m) > 0.5 else m,
            "the corners counted twice, once for each of their sides.",
        ),
    ]
    cases = [(mask,) for mask in masks]
    return Exercise(2, lambda m: ~m if share(m) > 0.5 else m, mistakes, cases)


def iou_from_dice(draw: Draw) -> Exercise:
    """The IoU that belongs to a Dice coefficient."""
    d = draw.constant(0.8, 0.6, 0.9, 0.7, 0.85, 0.65, 0.75)  # not 0.5, where D / (1 + D) is right
    up, half, slip, other = 2 * d / (1 + d), d / 2, d / (1 + d), d / (2 + d)
    mistakes = [
        (f"{d}, both taken for one score", d, "IoU and Dice agree only at 0 and 1."),
        (
            f"{up:.3f}, or $2D / (1 + D)$",
            up,
            "that is the way from IoU to Dice; solve D = 2 J / (1 + J) for J.",
        ),
        (f"{half}, or $D / 2$", half, "halving is not it: solve D = 2 J / (1 + J) for J."),
        (f"{slip:.3f}, or $D / (1 + D)$", slip, "check your algebra: J (2 - D) = D."),
        (f"{other:.3f}, or $D / (2 + D)$", other, "check your algebra: J (2 - D) = D."),
    ]
    return Exercise(3, d / (2 - d), mistakes, constants={"dice": d})


def remove_small(draw: Draw) -> Exercise:
    """A label map without the instances of fewer than `min_area` pixels."""

    def area(labels: Any) -> Any:
        return np.bincount(labels.ravel())[labels]

    rng, cases = np.random.default_rng(draw.seed(3)), []
    for density in (0.3, 0.4, 0.5):
        labels, least = label(rng.random((12, 12)) < density), 4
        if draw.cases:  # an instance lies exactly on the limit
            least = int(rng.choice(np.bincount(labels.ravel())[1:]))
        cases.append((labels, least))
    if draw.cases:  # the small one first
        cases.append((np.repeat([[1, 0, 2, 2, 0, 3, 3]], rng.integers(3, 5), axis=0), 5))
    mistakes = [
        (
            "`>` instead of `>=`",
            lambda m, a: np.where(area(m) > a, m, 0),
            "an instance of exactly min_area pixels stays: compare with >=.",
        ),
        (
            "The small ones kept",
            lambda m, a: np.where(area(m) < a, m, 0),
            "you kept the small ones and removed the rest.",
        ),
        (
            "A boolean result",
            lambda m, a: (area(m) >= a) & (m > 0),
            "that is a mask: keep each instance's own number.",
        ),
        (
            "`labels >= min_area`",
            lambda m, a: np.where(m >= a, m, 0),
            "that compares the numbers of the instances, not their areas.",
        ),
        (
            "Renumbered",
            lambda m, a: relabel_sequential(np.where(area(m) >= a, m, 0))[0],
            "you numbered them anew: keep the old numbers.",
        ),
        (
            "A boolean result with the background in it",
            lambda m, a: area(m) >= a,
            "that is a mask, and the background became foreground with it.",
        ),
    ]
    return Exercise(4, lambda m, a: np.where(area(m) >= a, m, 0), mistakes, cases)


def score_at(draw: Draw) -> Exercise:
    """TP / (TP + FP + FN) at one threshold, from the IoU of every prediction with every truth."""

    def hits(overlaps: Any, limit: float) -> int:
        return int((overlaps > limit).sum())

    def score(o: Any, t: float) -> float:
        return hits(o, t) / (sum(o.shape) - hits(o, t))

    def three() -> list[tuple]:
        first, second, truth = (label(rng.random((12, 12)) < 0.35) for _ in range(3))
        return [(metrics.instance_iou(p, truth), 0.3) for p in (first, second, np.roll(truth, 1, axis=1))]

    def clear(overlaps: Any, limit: float) -> bool:
        known = not draw.cases  # some of the course's own have no hit, where most mistakes are right
        return (known or hits(overlaps, limit) > 0) and not np.isclose(overlaps, limit).any()

    rng = np.random.default_rng(draw.seed(5))
    cases = next(drawn for drawn in (three() for _ in range(1000)) if all(clear(*case) for case in drawn))
    edge, limit = np.array([[0.5, 0.0], [0.0, 0.9], [0.0, 0.2]]), 0.5
    if draw.cases:
        edge, limit = np.zeros((rng.integers(4, 8), 3)), int(rng.integers(3, 7)) / 8
        edge[range(3), range(3)] = limit, rng.uniform(limit + 0.05, 1), rng.uniform(0.05, limit - 0.05)
    cases.append((edge, limit))  # the first pair lies exactly on the limit
    mistakes = [
        (
            "Hits over $N$",
            lambda o, t: hits(o, t) / o.shape[0],
            "that is precision: missed nuclei must count against you too.",
        ),
        (
            "Hits over $M$",
            lambda o, t: hits(o, t) / o.shape[1],
            "that is recall: false alarms must count against you too.",
        ),
        (
            "Hits over $N + M$",
            lambda o, t: hits(o, t) / sum(o.shape),
            "each hit is counted twice below: TP + FP + FN = N + M - TP.",
        ),
        (
            "Twice the hits over $N + M$",
            lambda o, t: 2 * hits(o, t) / sum(o.shape),
            "that is F1; this score has TP + FP + FN below the line.",
        ),
        (
            "`>=` instead of `>`",
            lambda o, t: score(o, t - 1e-9),
            "an IoU equal to the threshold is not a hit: compare with >.",
        ),
    ]
    return Exercise(5, score, mistakes, cases)
