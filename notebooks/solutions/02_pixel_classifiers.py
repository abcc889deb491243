"""The exercises of lesson 02: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np

from course_lib.cli.exercises import Draw, Exercise


def nearest_mean(draw: Draw) -> Exercise:
    """The class of the nearest mean of each point."""

    def apart(points: Any, means: Any) -> Any:
        return points[:, None] - means

    def right(points: Any, means: Any) -> Any:
        return (apart(points, means) ** 2).sum(-1).argmin(1)

    def absolute(points: Any, means: Any) -> Any:
        return np.abs(apart(points, means)).sum(-1).argmin(1)

    def scattered() -> list[tuple]:
        wide = rng.normal(0, 2, (40, 3)), rng.normal(0, 2, (4, 3))
        return [wide, (rng.random((30, 2)), rng.random((3, 2)))]

    rng = np.random.default_rng(draw.seed(0))  # until both distances tell some points apart
    tries = (scattered() for _ in range(100))
    cases = next(some for some in tries if all((right(*case) != absolute(*case)).any() for case in some))
    mistakes = [
        (
            "`argmax`",
            lambda x, m: (apart(x, m) ** 2).sum(-1).argmax(1),
            "that is the farthest mean: take argmin.",
        ),
        (
            "Differences summed as they are",
            lambda x, m: apart(x, m).sum(-1).argmin(1),
            "differences of both signs cancel: square them before you sum.",
        ),
        (
            "Differences summed, and only then made positive",
            lambda x, m: np.abs(apart(x, m).sum(-1)).argmin(1),
            "differences of both signs cancel: square each one before you sum.",
        ),
        (
            "`(points @ means.T).argmax(1)`",
            lambda x, m: (x @ m.T).argmax(1),
            "a scalar product is no distance: long means win.",
        ),
        (
            "`.min(1)`",
            lambda x, m: np.sqrt((apart(x, m) ** 2).sum(-1)).min(1),
            "that is the smallest distance: return the index of its mean, with argmin.",
        ),
        (
            "`argmin(0)`",
            lambda x, m: (apart(x, m) ** 2).sum(-1).argmin(0),
            "that is the nearest point of each mean: argmin over the means, axis 1.",
        ),
        (
            "Absolute differences summed",
            absolute,
            "sums of absolute differences are another distance: square the differences.",
        ),
    ]
    return Exercise(1, right, mistakes, cases)


def from_runs(draw: Draw) -> Exercise:
    """A mask from the lengths of its runs."""

    def column(counts: Any, first: int = 0) -> Any:
        return np.repeat((np.arange(len(counts)) + first) % 2, counts)

    def right(counts: Any, height: int, width: int) -> Any:
        return column(counts).reshape(height, width, order="F")

    cases = [([1, 4, 1], 2, 3), ([0, 3, 6, 1, 2], 3, 4), ([7, 2, 1, 5], 5, 3)]
    if draw.cases:
        rng, cases = np.random.default_rng(draw.seed(0)), []
        for height, width in ((5, 7), (8, 6), (9, 4)):
            ends = np.sort(rng.choice(np.arange(1, height * width), 5, replace=False))
            cases.append((np.diff(ends, prepend=0, append=height * width).tolist(), height, width))
        cases.append(([0, *cases[0][0]], 5, 7))  # the first pixel lies inside
    mistakes = [
        (
            'Without `order="F"`',
            lambda c, h, w: column(c).reshape(h, w),
            'runs go down the columns: reshape with order="F".',
        ),
        (
            "Ones first",
            lambda c, h, w: column(c, 1).reshape(h, w, order="F"),
            "the first run lies outside: it counts zeros.",
        ),
        (
            'Ones first, and without `order="F"`',
            lambda c, h, w: column(c, 1).reshape(h, w),
            'the first run counts zeros, and runs go down: order="F".',
        ),
        (
            "`reshape(width, height)`",
            lambda c, h, w: column(c).reshape(w, h),
            "that is the mask on its side: [height, width] is asked for.",
        ),
        (
            "No `reshape`",
            lambda c, h, w: column(c),
            "that is one long column: give it the picture's shape.",
        ),
    ]
    return Exercise(2, right, mistakes, cases)


def corrected(draw: Draw) -> Exercise:
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
    if draw.cases:
        rng = np.random.default_rng(draw.seed(0))
        shares = [(rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.25)) for _ in range(4)]
        shares[-1] = shares[-1][::-1]  # painted too rarely
        cases = [(rng.uniform(0.05, 0.95, 8), painted, true) for painted, true in shares]
    mistakes = [
        (
            "Only the nucleus's product",
            lambda p, a, b: weighted(p, a, b)[0],
            "that no longer adds up to 1: divide by the sum of both classes.",
        ),
        (
            "True and painted share swapped",
            turned,
            "the other way round: times the true share, divided by the painted one.",
        ),
        (
            "Not divided by the painted shares",
            lambda p, a, b: p * b / (p * b + (1 - p) * (1 - b)),
            "divide by the painted share of each class as well.",
        ),
        (
            "The background's factor forgotten",
            lambda p, a, b: weighted(p, a, b)[0] / (weighted(p, a, b)[0] + 1 - p),
            "the background's share changes, too.",
        ),
        (
            "`p + true_share - painted_share`",
            lambda p, a, b: p + b - a,
            "shares multiply odds; they do not add to probabilities.",
        ),
        (
            "One minus the answer",
            lambda p, a, b: weighted(p, a, b)[1] / sum(weighted(p, a, b)),
            "that is the probability of the background.",
        ),
    ]
    return Exercise(3, right, mistakes, cases)


def points_or_masks(draw: Draw) -> Exercise:
    """How many pictures can be labelled with points in the time of some full masks."""
    triples = (200, 13, 60), (180, 17, 50), (300, 26, 80), (150, 14, 40), (210, 16, 90), (270, 23, 70)
    full, points, masks = draw.constant((240, 22, 100), *triples)  # none comes out even
    time, each, turned = full * masks, full // points, masks * points / full
    right = time // points
    mistakes = [
        (
            f"{masks * each:,}, rounded too early",
            masks * each,
            f"round only at the end: {masks} * {full} / {points}, not {masks} * {each}.",
        ),
        (f"{right + 1:,}, rounded up", right + 1, "round down: the last picture would not be finished."),
        (
            f"{time / points:,.1f}, not rounded",
            time / points,
            "round down: a picture counts when it is finished.",
        ),
        (
            f"{each}, the pictures for one full mask",
            each,
            f"that is how many for one full mask: there are {masks}.",
        ),
        (
            f"{int(turned)}, the other way round",
            int(turned),
            "that is the other way round: points are the faster ones.",
        ),
        (
            f"{turned:.2f}, the other way round and not rounded",
            turned,
            "that is the other way round: points are the faster ones.",
        ),
        (
            f"{time:,}, the seconds",
            time,
            f"those are the seconds of {masks} masks: divide them by {points}.",
        ),
    ]
    return Exercise(4, right, mistakes, constants={"full": full, "points": points, "masks": masks})
