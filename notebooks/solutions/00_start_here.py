"""The exercises of lesson 00: the right answers, and the wrong ones that get advice of their own."""

import numpy as np
import torch

from course_lib.cli.exercises import Exercise


def batch_shape() -> Exercise:
    """The shape of a batch of 8 colour pictures, 96 pixels high and 128 wide."""
    mistakes = [
        (
            (8, 96, 128, 3),
            "that is channels-last, as NumPy and matplotlib keep pictures; PyTorch puts channels first.",
        ),
        ((8, 3, 128, 96), "height comes before width: rows first, then columns."),
        ((8, 96, 128), "the three channels are missing."),
        ((3, 96, 128), "that is one picture: a batch has one more dimension, in front."),
        ((3, 8, 96, 128), "the batch dimension comes first, then the channels."),
        ((8, 1, 96, 128), "a colour picture has three channels."),
    ]
    return Exercise(1, (8, 3, 96, 128), mistakes)


def normalise() -> Exercise:
    """From uint8 `[3, H, W]` to float with mean 0 and standard deviation 1 in each channel."""

    def scaled(image: torch.Tensor, dim: tuple[int, ...] = (1, 2), power: float = 1) -> torch.Tensor:
        pixels = image.double()
        return (pixels - pixels.mean(dim, keepdim=True)) / pixels.std(dim, keepdim=True) ** power

    generator, spread = torch.Generator().manual_seed(0), torch.tensor([1, 2, 3])[:, None, None]
    image = (torch.randint(0, 80, (3, 12, 15), generator=generator) * spread).to(torch.uint8)
    mistakes = [
        (
            lambda x: scaled(x, (0, 1, 2)),
            "one mean for all channels: take it per channel, over dim=(1, 2).",
        ),
        (
            lambda x: x.double() / 255,
            "that scales to 0..1; also subtract the mean and divide by the deviation.",
        ),
        (lambda x: scaled(x, power=0), "now divide by the standard deviation too."),
        (
            lambda x: scaled(x, power=0) / x.double().std(),
            "one deviation for all channels: take it per channel too.",
        ),
        (
            lambda x: x - x.double().mean((1, 2), True) / x.double().std((1, 2), keepdim=True),
            "subtract first: (x - mean) / std.",
        ),
        (
            lambda x: scaled(x, power=2),
            "you divided by the variance; the standard deviation is its square root.",
        ),
    ]
    # The tolerance admits both ways to count: dividing by n or by n - 1.
    return Exercise(2, scaled, mistakes, [(image,)], atol=1e-2)


def panoptic() -> Exercise:
    """Class ids and instance ids into one id, class * 1000 + instance."""
    rng = np.random.default_rng(0)
    cases = [(rng.integers(0, 11, (6, 7)), rng.integers(0, 30, (6, 7))) for _ in range(3)]
    mistakes = [
        (lambda s, i: s + i, "car 2 and pole 8 would share the id 10: shift the class by 1000 first."),
        (lambda s, i: i * 1000 + s, "that is instance * 1000 + class: the class belongs in front."),
        (lambda s, i: 1000 * (s + i), "only the class is shifted by 1000; the instance is added as it is."),
        (lambda s, i: s * 1000, "the instance is missing: two cars would be one."),
        (lambda s, i: s * i, "a product loses both: background times anything is 0."),
    ]
    return Exercise(3, lambda s, i: s * 1000 + i, mistakes, cases)
