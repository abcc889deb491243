"""The exercises of lesson 02: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np

from course_lib.cli.exercises import Exercise


def nearest_mean() -> Exercise:
    """The class of the nearest mean of each point."""

    def apart(points: Any, means: Any) -> Any:
        return points[:, None] - means

    rng = np.random.default_rng(0)
    cases = [
        (rng.normal(0, 2, (40, 3)), rng.normal(0, 2, (4, 3))),
        (rng.random((30, 2)), rng.random((3, 2))),
    ]
    mistakes = [
        (lambda x, m: (apart(x, m) ** 2).sum(-1).argmax(1), "that is the farthest mean: take argmin."),
        (
            lambda x, m: apart(x, m).sum(-1).argmin(1),
            "differences of both signs cancel: square them before you sum.",
        ),
        (
            lambda x, m: np.abs(apart(x, m).sum(-1)).argmin(1),
            "differences of both signs cancel: square each one before you sum.",
        ),
        (lambda x, m: (x @ m.T).argmax(1), "a scalar product is no distance: long means win."),
        (
            lambda x, m: np.sqrt((apart(x, m) ** 2).sum(-1)).min(1),
            "that is the smallest distance: return the index of its mean, with argmin.",
        ),
        (
            lambda x, m: (apart(x, m) ** 2).sum(-1).argmin(0),
            "that is the nearest point of each mean: argmin over the means, axis 1.",
        ),
        (
            lambda x, m: np.abs(apart(x, m)).sum(-1).argmin(1),
            "sums of absolute differences are another distance: square the differences.",
        ),
    ]
    return Exercise(1, lambda x, m: (apart(x, m) ** 2).sum(-1).argmin(1), mistakes, cases)


def from_runs() -> Exercise:
    """A mask from the lengths of its runs."""

    def column(counts: Any, first: int = 0) -> Any:
        return np.repeat((np.arange(len(counts)) + first) % 2, counts)

    def right(counts: Any, height: int, width: int) -> Any:
        return column(counts).reshape(height, width, order="F")

    cases = [([1, 4, 1], 2, 3), ([0, 3, 6, 1, 2], 3, 4), ([7, 2, 1, 5], 5, 3)]
    mistakes = [
        (
            lambda c, h, w: column(c).reshape(h, w),
            'runs go down the columns: reshape with order="F".',
        ),
        (
            lambda c, h, w: column(c, 1).reshape(h, w, order="F"),
            "the first run lies outside: it counts zeros.",
        ),
        (
            lambda c, h, w: column(c, 1).reshape(h, w),
            'the first run counts zeros, and runs go down: order="F".',
        ),
        (
            lambda c, h, w: column(c).reshape(w, h),
            "that is the mask on its side: [height, width] is asked for.",
        ),
        (lambda c, h, w: column(c), "that is one long column: give it the picture's shape."),
    ]
    return Exercise(2, right, mistakes, cases)


def corrected() -> Exercise:
    """Probabilities under the true share of a class."""

    def weighted(p: Any, painted: float, true: float) -> Any:
        return p * true / painted, (1 - p) * (1 - true) / (1 - painted)

    def right(p: Any, painted: float, true: float) -> Any:
        nucleus, background = weighted(p, painted, true)
        return nucleus / (nucleus + background)

    def turned(p: Any, painted: float, true: float) -> Any:
        return right(p, true, painted)

    p = np.linspace(0.05, 0.95, 10)
    cases = [(p, 0.5, 0.15), (p, 0.4, 0.1), (p, 0.2, 0.3)]
    mistakes = [
        (
            lambda p, a, b: weighted(p, a, b)[0],
            "that no longer adds up to 1: divide by the sum of both classes.",
        ),
        (turned, "the other way round: times the true share, divided by the painted one."),
        (
            lambda p, a, b: p * b / (p * b + (1 - p) * (1 - b)),
            "divide by the painted share of each class as well.",
        ),
        (
            lambda p, a, b: weighted(p, a, b)[0] / (weighted(p, a, b)[0] + 1 - p),
            "the background's share changes, too.",
        ),
        (lambda p, a, b: p + b - a, "shares multiply odds; they do not add to probabilities."),
        (
            lambda p, a, b: weighted(p, a, b)[1] / sum(weighted(p, a, b)),
            "that is the probability of the background.",
        ),
    ]
    return Exercise(3, right, mistakes, cases)


def points_or_masks() -> Exercise:
    """How many pictures can be labelled with points in the time of 100 full masks."""
    mistakes = [
        (1000, "round only at the end: 100 * 240 / 22, not 100 * 10."),
        (1091, "round down: the last picture would not be finished."),
        (24000 / 22, "round down: a picture counts when it is finished."),
        (10, "that is how many for one full mask: there are 100."),
        (9, "that is the other way round: points are the faster ones."),
        (100 * 22 / 240, "that is the other way round: points are the faster ones."),
        (24000, "those are the seconds of 100 masks: divide them by 22."),
    ]
    return Exercise(4, 1090, mistakes)
