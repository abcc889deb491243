"""The exercises of lesson 00: the right answers, and the wrong ones that get advice of their own."""

import numpy as np
import torch

from course_lib.cli.exercises import Draw, Exercise


def batch_shape(draw: Draw) -> Exercise:
    """The shape of a batch of colour pictures."""
    b = draw.constant(8, 16, 4, 32, 12, 6)
    h = draw.constant(96, 64, 120, 72, 144)
    w = draw.constant(128, 160, 100, 200, 90, 112, 80, 150)  # never as wide as high
    mistakes = [
        (
            f"Channels last, `({b}, {h}, {w}, 3)`",
            (b, h, w, 3),
            "that is channels-last, as NumPy and matplotlib keep pictures; PyTorch puts channels first.",
        ),
        (
            f"Width before height, `({b}, 3, {w}, {h})`",
            (b, 3, w, h),
            "height comes before width: rows first, then columns.",
        ),
        (f"No channels, `({b}, {h}, {w})`", (b, h, w), "the three channels are missing."),
        (
            f"A single picture, `(3, {h}, {w})`",
            (3, h, w),
            "that is one picture: a batch has one more dimension, in front.",
        ),
        (
            f"The batch not in front, `(3, {b}, {h}, {w})`",
            (3, b, h, w),
            "the batch dimension comes first, then the channels.",
        ),
        (
            f"One channel, as of grey pictures, `({b}, 1, {h}, {w})`",
            (b, 1, h, w),
            "a colour picture has three channels.",
        ),
    ]
    return Exercise(1, (b, 3, h, w), mistakes, constants={"pictures": b, "height": h, "width": w})


def normalise(draw: Draw) -> Exercise:
    """From uint8 `[3, H, W]` to float with mean 0 and standard deviation 1 in each channel."""

    def scaled(image: torch.Tensor, dim: tuple[int, ...] = (1, 2), power: float = 1) -> torch.Tensor:
        pixels = image.double()
        return (pixels - pixels.mean(dim, keepdim=True)) / pixels.std(dim, keepdim=True) ** power

    generator, spread = torch.Generator().manual_seed(draw.seed(0)), torch.tensor([1, 2, 3])[:, None, None]
    image = (torch.randint(0, 80, (3, 12, 15), generator=generator) * spread).to(torch.uint8)
    mistakes = [
        (
            "One mean and one deviation for all channels",
            lambda x: scaled(x, (0, 1, 2)),
            "one mean for all channels: take it per channel, over dim=(1, 2).",
        ),
        (
            "Division by 255",
            lambda x: x.double() / 255,
            "that scales to 0..1; also subtract the mean and divide by the deviation.",
        ),
        (
            "Only the mean subtracted",
            lambda x: scaled(x, power=0),
            "now divide by the standard deviation too.",
        ),
        (
            "The mean of each channel, but one deviation for all",
            lambda x: scaled(x, power=0) / x.double().std(),
            "one deviation for all channels: take it per channel too.",
        ),
        (
            "`x - mean / std`",
            lambda x: x - x.double().mean((1, 2), True) / x.double().std((1, 2), keepdim=True),
            "subtract first: (x - mean) / std.",
        ),
        (
            "Division by the variance",
            lambda x: scaled(x, power=2),
            "you divided by the variance; the standard deviation is its square root.",
        ),
    ]
    # The tolerance admits both ways to count: dividing by n or by n - 1.
    return Exercise(2, scaled, mistakes, [(image,)], atol=1e-2)


def panoptic(draw: Draw) -> Exercise:
    """Class ids and instance ids into one id, class * 1000 + instance."""
    rng = np.random.default_rng(draw.seed(0))
    cases = [(rng.integers(0, 11, (6, 7)), rng.integers(0, 30, (6, 7))) for _ in range(3)]
    mistakes = [
        (
            "`semantic + instances`",
            lambda s, i: s + i,
            "car 2 and pole 8 would share the id 10: shift the class by 1000 first.",
        ),
        (
            "`1000 * instances + semantic`",
            lambda s, i: i * 1000 + s,
            "that is instance * 1000 + class: the class belongs in front.",
        ),
        (
            "`1000 * (semantic + instances)`",
            lambda s, i: 1000 * (s + i),
            "only the class is shifted by 1000; the instance is added as it is.",
        ),
        ("`1000 * semantic`", lambda s, i: s * 1000, "the instance is missing: two cars would be one."),
        (
            "`semantic * instances`",
            lambda s, i: s * i,
            "a product loses both: background times anything is 0.",
        ),
    ]
    return Exercise(3, lambda s, i: s * 1000 + i, mistakes, cases)
