"""The exercises of lesson 04: the right answers, and the wrong ones that get advice of their own."""

import random
from itertools import product

import torch

from course_lib.cli.exercises import Draw, Exercise


def dense_to_convolution(draw: Draw) -> Exercise:
    """The weights of a dense layer as those of a convolution."""
    generator = torch.Generator().manual_seed(draw.seed(0))
    sizes = ((5, 2, 3), (4, 3, 2), (2, 1, 4), (3, 2, 2))
    cases = [(torch.randn(o, c * side**2, generator=generator), c, side) for o, c, side in sizes]
    mistakes = [
        (
            "Channels last, then `permute`",
            lambda w, c, k: w.reshape(len(w), k, k, c).permute(0, 3, 1, 2),
            "flatten lays out channels first: [outputs, channels, side, side] needs no permute.",
        ),
        (
            "Channels last",
            lambda w, c, k: w.reshape(len(w), k, k, c),
            "channels come before rows and columns.",
        ),
        (
            "Rows and columns swapped",
            lambda w, c, k: w.reshape(len(w), c, k, k).transpose(2, 3),
            "rows and columns are swapped.",
        ),
        (
            "`[channels, outputs, side, side]`",
            lambda w, c, k: w.reshape(c, len(w), k, k),
            "outputs first, then input channels, as in nn.Conv2d.",
        ),
        (
            "`[outputs, channels, side * side]`",
            lambda w, c, k: w.reshape(len(w), c, k * k),
            "split the last dimension too: side x side.",
        ),
        (
            "A 1 x 1 convolution",
            lambda w, c, k: w.reshape(len(w), c * k * k, 1, 1),
            "that is a 1 x 1 convolution: it must see side x side.",
        ),
        (
            "Five dimensions",
            lambda w, c, k: w.reshape(1, len(w), c, k, k),
            "four dimensions: outputs, channels, rows, columns.",
        ),
    ]
    return Exercise(1, lambda w, c, k: w.reshape(len(w), c, k, k), mistakes, cases)


def bilinear_kernel(draw: Draw) -> Exercise:
    """The weights of linear interpolation in one dimension."""

    def kernel(stride: int, centre: float = -0.5, scale: float = 1.0) -> torch.Tensor:
        return 1 - (torch.arange(2 * stride) - (stride + centre)).abs() / (scale * stride)

    mistakes = [
        ("Centre $s$", lambda s: kernel(s, 0), "the centre lies between two pixels: s - 1/2."),
        ("Centre $s + 1/2$", lambda s: kernel(s, 0.5), "the centre is s - 1/2, not s + 1/2."),
        (
            "Divided by $s$",
            lambda s: kernel(s) / s,
            "do not divide by the sum: each output gets two stamps, whose weights add up to 1.",
        ),
        (
            "Distance over $2s$",
            lambda s: kernel(s, scale=2),
            "divide the distance by s, not by the kernel's length.",
        ),
        ("The distance itself", lambda s: 1 - kernel(s), "that is the distance; the weight is 1 minus it."),
        (
            "A product of two",
            lambda s: kernel(s)[:, None] * kernel(s),
            "one dimension is asked for; the product of two comes later.",
        ),
        (
            "All 1/2",
            lambda s: torch.ones(2 * s) / 2,
            "that averages the two nearest scores, wherever between them the pixel lies.",
        ),
    ]
    cases = [(2,), (3,), (8,)]
    if draw.cases:
        strides = {*range(4, 26)} - {stride for (stride,) in cases}
        cases = [(stride,) for stride in random.Random(draw.seed(0)).sample(sorted(strides), 4)]
    return Exercise(2, kernel, mistakes, cases)


def transposed_size(draw: Draw) -> Exercise:
    """Rows that a transposed convolution makes."""
    cases = [(8, 4, 2, 1), (5, 3, 2, 0), (7, 8, 4, 2), (1, 2, 2, 0), (6, 3, 1, 1)]
    if draw.cases:
        rng = random.Random(draw.seed(0))
        drawn = [
            case for case in product(range(1, 30), range(3, 9), range(1, 5), (0, 1)) if case not in cases
        ]
        grown = [(n, k, s, p) for n, k, s, p in drawn if p and k > s + 2 * p]  # more than n * s rows
        cases = [*rng.sample(grown, 2), *rng.sample(drawn, 4)]
    mistakes = [
        ("`n * s`", lambda n, k, s, p: n * s, "that holds only if kernel - stride = 2 * padding."),
        (
            "`n * s + k - 2 * p`",
            lambda n, k, s, p: n * s + k - 2 * p,
            "n stamps have n - 1 steps between them.",
        ),
        (
            "`+ 2 * p`",
            lambda n, k, s, p: (n - 1) * s + k + 2 * p,
            "here padding cuts rows off: subtract it.",
        ),
        ("`- p`", lambda n, k, s, p: (n - 1) * s + k - p, "padding cuts on both sides: 2 * padding."),
        (
            "No `p`",
            lambda n, k, s, p: (n - 1) * s + k,
            "the padding is missing: it cuts rows off each side.",
        ),
        (
            "`(n + 2 * p - k) // s + 1`",
            lambda n, k, s, p: (n + 2 * p - k) // s + 1,
            "that is the ordinary convolution; this one goes the other way.",
        ),
    ]
    return Exercise(3, lambda n, k, s, p: (n - 1) * s + k - 2 * p, mistakes, cases)


def valid_mean(draw: Draw) -> Exercise:
    """The mean of the pixels' losses without the void."""
    generator = torch.Generator().manual_seed(draw.seed(0))
    cases = []
    for share in (0.3, 0.6, 0.0):
        void: list[int] = []
        while len(set(void)) < 1 + bool(share):  # as many in both pictures would hide how they are averaged
            labels = torch.randint(0, 11, (2, 5, 6), generator=generator)
            labels[torch.rand(2, 5, 6, generator=generator) < share] = 255
            void = (labels == 255).sum((1, 2)).tolist()
        losses = torch.rand(2, 5, 6, generator=generator) + 0.5
        losses[1] += bool(draw.cases)  # so that the pictures' means are far apart
        cases.append((losses, labels))
    mistakes = [
        (
            "`losses.mean()`",
            lambda x, y: x.mean(),
            "void pixels are still in it: keep those with labels != 255.",
        ),
        (
            "`(losses * valid).mean()`",
            lambda x, y: (x * (y != 255)).mean(),
            "divide by the number of pixels that are not void, not by all.",
        ),
        (
            "The sum of the chosen losses",
            lambda x, y: x[y != 255].sum(),
            "that is the sum; the mean is asked for.",
        ),
        (
            "The mean of the void alone",
            lambda x, y: x[y == 255].mean(),
            "those are the void pixels: keep the others.",
        ),
        (
            "The chosen losses themselves",
            lambda x, y: x[y != 255],
            "those are the right pixels; take their mean.",
        ),
        (
            "The mean of the pictures' means",
            lambda x, y: torch.stack([a[b != 255].mean() for a, b in zip(x, y, strict=True)]).mean(),
            "one mean over all pixels of the batch: a picture with much void shall count less.",
        ),
    ]
    return Exercise(4, lambda x, y: x[y != 255].mean(), mistakes, cases)
