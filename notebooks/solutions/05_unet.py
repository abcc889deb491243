"""The exercises of lesson 05: the right answers, and the wrong ones that get advice of their own."""

import random
from itertools import product
from typing import Any

import torch

from course_lib.cli.exercises import Draw, Exercise


def padding(draw: Draw) -> Exercise:
    """Rows to add until the size is a multiple of the step."""
    cases = [(250, 32), (256, 32), (1, 8), (33, 16), (31, 16)]
    if draw.cases:
        rng, steps = random.Random(draw.seed(0)), (12, 20, 24, 48, 64)  # none of those above
        cases = [(step * rng.randint(1, 9), step) for step in rng.sample(steps, 2)]
        cases += [(rng.randint(1, step // 2 - 1), step) for step in rng.sample(steps, 2)]
        cases += rng.sample([*product(range(1, 400), steps)], 4)
    mistakes = [
        (
            "`step - size % step`",
            lambda n, s: s - n % s,
            "a size that is a multiple already needs no padding: s - n % s gives s there.",
        ),
        (
            "`size % step`",
            lambda n, s: n % s,
            "that is what is left over; add what is missing to the next multiple.",
        ),
        (
            "The padded size",
            lambda n, s: -(-n // s) * s,
            "that is the padded size; return only what is added.",
        ),
        (
            "0 for a size below the step",
            lambda n, s: (s - n) % s if n > s else 0,
            "a size smaller than the step needs padding too.",
        ),
        (
            "`size - size // step * step`",
            lambda n, s: n - n // s * s,
            "that is what is left over; add what is missing to the next multiple.",
        ),
    ]
    return Exercise(1, lambda n, s: -n % s, mistakes, cases)


def dice_loss(draw: Draw) -> Exercise:
    """1 - the Dice coefficient of probabilities `[...]` and a mask of 0 and 1."""

    def loss(p: Any, t: Any, factor: float = 2, power: int = 1) -> Any:
        return 1 - factor * (p * t).sum() / ((p**power).sum() + (t**power).sum())

    generator = torch.Generator().manual_seed(draw.seed(0))
    cases = [
        (
            torch.rand(2, 4, 5, generator=generator),
            (torch.rand(2, 4, 5, generator=generator) < share).float(),
        )
        for share in (0.2, 0.5, 0.8)
    ]
    if draw.cases:  # the class fills one picture, and the other lacks it
        full = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 4, 5)
        cases.append((torch.rand(2, 4, 5, generator=generator), full))
    mistakes = [
        (
            "Without `1 -`",
            lambda p, t: 1 - loss(p, t),
            "that is the coefficient, which grows as the mask gets better: 1 minus it.",
        ),
        (
            "Without the 2",
            lambda p, t: loss(p, t, 1),
            "the intersection counts twice: a perfect mask has a loss of 0, not 1/2.",
        ),
        (
            "Sum minus overlap below the line",
            lambda p, t: 1 - (p * t).sum() / (p + t - p * t).sum(),
            "that is 1 - IoU: below the line stands the sum.",
        ),
        (
            "Squares below the line",
            lambda p, t: loss(p, t, 2, 2),
            "sum the probabilities, not their squares (that is V-Net's variant).",
        ),
        (
            "A threshold",
            lambda p, t: loss((p > 0.5).float(), t),
            "a threshold has no gradient: use the probabilities as they are.",
        ),
        (
            "A mean above the line, sums below",
            lambda p, t: 1 - 2 * (p * t).mean() / (p.sum() + t.sum()),
            "a mean above and sums below do not fit together.",
        ),
        (
            "One loss a picture",
            lambda p, t: torch.stack([loss(a, b) for a, b in zip(p, t, strict=True)]).mean(),
            "one sum over the whole batch: a picture without the class would be 0 / 0.",
        ),
    ]
    return Exercise(2, loss, mistakes, cases)


def median_frequency(draw: Draw) -> Exercise:
    """Class weights `[C]` from pixel counts `[C]`, all positive."""
    cases = [
        (torch.tensor(counts),)
        for counts in ([80.0, 15.0, 5.0], [10.0, 40.0, 30.0, 20.0, 500.0], [4.0, 4.0, 8.0])
    ]
    if draw.cases:
        rng = random.Random(draw.seed(0))
        drawn = [rng.sample(range(2, 1000), classes) for classes in (3, 5, 7)]
        cases = [(torch.tensor(counts).float(),) for counts in (*drawn, drawn[0][:1] + drawn[0][:2])]
    mistakes = [
        (
            "`counts / median`",
            lambda n: n / n.median(),
            "upside down: the rarer a class, the larger its weight.",
        ),
        (
            "`counts.sum() / counts`",
            lambda n: n.sum() / n,
            "that is 1 / frequency; multiply it by the median of the frequencies.",
        ),
        (
            "The mean instead of the median",
            lambda n: n.mean() / n,
            "the median of the counts, not their mean.",
        ),
        (
            "`1 / counts`",
            lambda n: 1 / n,
            "that makes the loss tiny; the middle class is to have the weight 1.",
        ),
        (
            "Made to add up to 1",
            lambda n: n.median() / n / (n.median() / n).sum(),
            "no need to make the weights add up to 1.",
        ),
        (
            "`counts.max() / counts`",
            lambda n: n.max() / n,
            "that gives the most frequent class the weight 1; the middle one is to have it.",
        ),
        (
            "The root of the weights",
            lambda n: (n.median() / n).sqrt(),
            "no root: that is a milder variant.",
        ),
    ]
    return Exercise(3, lambda n: n.median() / n, mistakes, cases)


def mirror(draw: Draw) -> Exercise:
    """Image `[3, H, W]` and mask `[H, W]`, both mirrored left to right."""

    generator = torch.Generator().manual_seed(draw.seed(0))
    cases = [
        (
            torch.rand(3, side, side, generator=generator),
            torch.randint(0, 3, (side, side), generator=generator),
        )
        for side in (4, 5)
    ]
    mistakes = [
        (
            "Only the image mirrored",
            lambda x, y: (x.flip(2), y),
            "the mask stayed as it was: now each label names another pixel.",
        ),
        ("Only the mask mirrored", lambda x, y: (x, y.flip(1)), "the image stayed as it was."),
        (
            "`mask.flip(0)`",
            lambda x, y: (x.flip(2), y.flip(0)),
            "the mask has no channels: its columns are dimension 1.",
        ),
        (
            "`image.flip(1)`",
            lambda x, y: (x.flip(1), y.flip(1)),
            "the image has channels in front: its columns are dimension 2.",
        ),
        (
            "`image.flip(1), mask.flip(0)`",
            lambda x, y: (x.flip(1), y.flip(0)),
            "that turns both upside down; left and right are asked for.",
        ),
        (
            "`image.flip(0)`",
            lambda x, y: (x.flip(0), y.flip(1)),
            "dimension 0 of the image holds its colours.",
        ),
        (
            "`image.flip(0), mask.flip(0)`",
            lambda x, y: (x.flip(0), y.flip(0)),
            "dimension 0 of the image holds its colours.",
        ),
    ]
    return Exercise(4, lambda x, y: (x.flip(2), y.flip(1)), mistakes, cases)
