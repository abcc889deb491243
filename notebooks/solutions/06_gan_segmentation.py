"""The exercises of lesson 06: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import numpy as np
import torch
from scipy.stats import norm, t
from skimage import measure
from torch.nn import functional as F

from course_lib.cli.exercises import Draw, Exercise


def discriminator_loss(draw: Draw) -> Exercise:
    """Mean of the cross-entropies of true and of made samples, from their logits."""
    generator = torch.Generator().manual_seed(draw.seed(0))
    cases = [tuple(3 * torch.randn(2, 6, generator=generator)) for _ in range(3)]
    wrong, sure, made = -150.0, 50.0, 155.0  # large logits, and not as many of both
    if draw.cases:
        sizes = torch.rand(3, generator=generator).round(decimals=2)
        wrong, sure, made = (torch.tensor([-190.0, 20.0, 110.0]) + 70 * sizes).tolist()
    cases.append((torch.tensor([wrong, sure]), torch.tensor([made])))
    mistakes = [
        (
            "Both signs swapped",
            lambda r, f: (F.softplus(r).mean() + F.softplus(-f).mean()) / 2,
            "upside down: that rewards being wrong.",
        ),
        (
            "The sum of both",
            lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(),
            "the mean of the two, not their sum.",
        ),
        ("True samples only", lambda r, f: F.softplus(-r).mean(), "made samples count too."),
        ("Made samples only", lambda r, f: F.softplus(f).mean(), "true samples count too."),
        (
            "The sign of made samples swapped",
            lambda r, f: (F.softplus(-r).mean() + F.softplus(-f).mean()) / 2,
            "made samples are to get a low score.",
        ),
        (
            "The sign of true samples swapped",
            lambda r, f: (F.softplus(r).mean() + F.softplus(f).mean()) / 2,
            "true samples are to get a high score.",
        ),
        (
            "`sigmoid` before `softplus`",
            lambda r, f: (F.softplus(-r.sigmoid()).mean() + F.softplus(f.sigmoid()).mean()) / 2,
            "softplus takes logits: no sigmoid before it.",
        ),
        (
            "`log(sigmoid)`",
            lambda r, f: -(r.sigmoid().log().mean() + (1 - f.sigmoid()).log().mean()) / 2,
            "right in theory, but a sure score makes log(0): softplus does not round it away.",
        ),
        (
            "One mean of all samples",
            lambda r, f: F.softplus(torch.cat([-r, f])).mean(),
            "half and half, however many there are of each: the mean of two means.",
        ),
        (
            "Binary cross-entropy of probabilities",
            lambda r, f: (
                (
                    F.binary_cross_entropy(r.sigmoid(), torch.ones_like(r))
                    + F.binary_cross_entropy(f.sigmoid(), torch.zeros_like(f))
                )
                / 2
            ),
            "PyTorch cuts log(0) off at -100; softplus takes the logit as it is.",
        ),
        (
            "No `softplus`, only means of scores",
            lambda r, f: (f.mean() - r.mean()) / 2,
            "without softplus the scores would run off to infinity.",
        ),
    ]
    return Exercise(1, lambda r, f: (F.softplus(-r).mean() + F.softplus(f).mean()) / 2, mistakes, cases)


def pieces_and_holes(draw: Draw) -> Exercise:
    """Number of pieces and of holes of a mask `[H, W]`, pieces joined at corners."""

    def count(mask: Any, connectivity: int = 2) -> tuple[int, int]:
        pieces = measure.label(mask, connectivity=connectivity).max()
        return pieces, pieces - measure.euler_number(mask, connectivity=connectivity)

    ring = np.zeros((9, 9), bool)
    ring[1:6, 1:6], ring[3, 3], ring[6:8, 6:8] = True, False, True  # touches at a corner
    rng = np.random.default_rng(draw.seed(0))
    empty = np.zeros((4, 4), bool)
    if draw.cases:  # the ring elsewhere and turned, with two pieces more
        ring = np.rot90(np.pad(ring, rng.integers(2, 5, (2, 2))), rng.integers(4))
        ring[0, 0] = ring[-1, -1] = True
        empty = np.zeros(rng.integers(5, 16, 2), bool)
    cases = [(ring,), (empty,), (rng.random((12, 12)) < 0.55,), (rng.random((15, 9)) < 0.7,)]
    mistakes = [
        ("`connectivity=1`", lambda m: count(m, 1), "pieces joined at a corner are one: connectivity=2."),
        (
            "The Euler number as holes",
            lambda m: (count(m)[0], measure.euler_number(m, connectivity=2)),
            "the Euler number is pieces minus holes: solve for the holes.",
        ),
        (
            "Euler number minus pieces",
            lambda m: (count(m)[0], -count(m)[1]),
            "the sign: holes are pieces minus the Euler number.",
        ),
        (
            "The Euler number as pieces",
            lambda m: (measure.euler_number(m, connectivity=2), count(m)[1]),
            "the Euler number is not the number of pieces.",
        ),
        ("Holes first", lambda m: count(m)[::-1], "pieces first, then holes."),
        (
            "`len(np.unique(...))`",
            lambda m: (len(np.unique(measure.label(m, connectivity=2))), count(m)[1]),
            "the background is no piece.",
        ),
        (
            "`label(~mask).max()` as holes",
            lambda m: (count(m)[0], measure.label(~m, connectivity=1).max()),
            "what lies around the pieces is no hole.",
        ),
        (
            "`connectivity=1` in `euler_number` only",
            lambda m: (count(m)[0], count(m)[0] - measure.euler_number(m, connectivity=1)),
            "the same connectivity for both: a hole that opens at a corner is closed if corners join.",
        ),
    ]
    return Exercise(2, count, mistakes, cases)


def paired_interval(draw: Draw) -> Exercise:
    """Ends of the interval of the mean of `after - before`, of 95 % in the course."""
    level = draw.constant(95, 90, 99, 80)
    end, z = (100 + level) / 200, norm.ppf((100 + level) / 200).round(2)

    def interval(before: Any, after: Any, ddof: int = 1, share: float = end, root: float = 0.5) -> tuple:
        d = after - before
        half = t.ppf(share, len(d) - 1) * d.std(ddof=ddof) / len(d) ** root
        return d.mean() - half, d.mean() + half

    def with_quantile(before: Any, after: Any, quantile: float) -> tuple:
        d = after - before
        half = quantile * d.std(ddof=1) / len(d) ** 0.5
        return d.mean() - half, d.mean() + half

    def unpaired(before: Any, after: Any, groups: int = 1) -> tuple:
        d, n = after.mean() - before.mean(), len(before)
        half = t.ppf(end, groups * (n - 1)) * ((before.var(ddof=1) + after.var(ddof=1)) / n) ** 0.5
        return d - half, d + half

    rng = np.random.default_rng(draw.seed(0))
    cases = [(before := rng.normal(0.8, 0.05, n), before + rng.normal(0.01, 0.01, n)) for n in (5, 3, 8)]
    mistakes = [
        (
            "Variances of both added, with $n - 1$ degrees of freedom",
            unpaired,
            "take the difference of each pair first: what a seed does to both then cancels.",
        ),
        (
            "Variances of both added, with $2n - 2$ degrees of freedom",
            lambda b, a: unpaired(b, a, 2),
            "take the difference of each pair first: they are no two groups.",
        ),
        (
            "`before - after`",
            lambda b, a: interval(a, b),
            "after minus before: that is the other way round.",
        ),
        ("`ddof=0`", lambda b, a: interval(b, a, 0), "so few values: the deviation with ddof=1."),
        (
            f"`ppf({level / 100:g})`",
            lambda b, a: interval(b, a, share=level / 100),
            f"{100 * (1 - end):g} % are left out at each end: t.ppf({end:g}, ...).",
        ),
        (
            f"{z:g} for any number of seeds",
            lambda b, a: with_quantile(b, a, z),
            f"{z:g} is for many values; with n of them, t.ppf({end:g}, n - 1).",
        ),
        (
            "$n$ degrees of freedom",
            lambda b, a: with_quantile(b, a, t.ppf(end, len(a))),
            "n - 1 degrees of freedom: the mean was estimated from the same values.",
        ),
        (
            "No root of $n$",
            lambda b, a: interval(b, a, root=0),
            "that is where single seeds lie; the mean is surer, by the root of n.",
        ),
        ("Divided by $n$", lambda b, a: interval(b, a, root=1), "divide by the root of n, not by n."),
        ("The upper end first", lambda b, a: interval(b, a)[::-1], "the lower end first."),
    ]
    constants = {"level": level, "quantile": f"`stats.t.ppf({end:g}, n - 1)`"}
    return Exercise(3, interval, mistakes, cases, atol=1e-6, constants=constants)
