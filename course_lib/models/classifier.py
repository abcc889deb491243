"""The classifier of small pictures that lesson 03 builds, and lesson 04 turns into a segmentation network."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import InputError


class Residual(nn.Sequential):
    """`x + body(x)`: the body learns what to change (He et al.: Deep residual learning, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape that the body keeps."""
        return x + super().forward(x)


def convolution(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, batch normalisation, GELU: `[B, inputs, H, W]` -> `[B, outputs, H, W]`, or half the size.

    Normalisation subtracts any bias again, so the convolution has none (Ioffe and Szegedy: Batch normalization, 2015).
    Pooling comes right after the convolution, which leaves a quarter of the values to normalise.
    """
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()]
    return nn.Sequential(layers[0], *[nn.MaxPool2d(2)] * pool, *layers[1:])


class Classifier(nn.Module):
    """Pictures `[B, 3, H, W]` in 0..1 -> logits `[B, classes]`; made for 32x32, any size from 16 up will do.

    The stem is frozen; each stage halves the sides of its map. Call `whiten` before the first training. `channels`: of
    the stages' outputs. `filters`: of the stem; it has their negatives too, since an activation keeps only one sign.
    `patch`: side of the stem's windows; its stride is half of that. 4 halves the picture's sides; 2, with at most 12
    filters, keeps them but for a row and a column: four times the work, and better answers.
    """

    def __init__(
        self, classes: int = 10, channels: Sequence[int] = (64, 160, 320), filters: int = 24, patch: int = 4
    ) -> None:
        super().__init__()
        stride = patch // 2
        # of the maps that `features` returns: pixels of the picture for each step on them, and their channels
        self.strides = tuple(stride * 2**i for i in range(len(channels) + 1))
        self.widths = (2 * filters, *channels)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.stem = nn.Conv2d(3, 2 * filters, patch, stride, padding=stride // 2, bias=False).requires_grad_(False)
        self.stages = nn.Sequential()
        for inputs, outputs in pairwise(self.widths):
            stage = convolution(inputs, outputs, pool=True)
            if self.strides[len(self.stages) + 1] <= 8:  # maps of 2x2 values leave a convolution nothing to look at
                stage = nn.Sequential(stage, Residual(*convolution(outputs, outputs)))
            self.stages.append(stage)
        self.head = nn.Linear(channels[-1], classes, bias=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of the stem and of each stage, finest first: `[B, channels, H / stride, W / stride]` (patch 4)."""
        maps = [F.gelu(self.stem(images - self.mean))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B, classes]`. The factor keeps them small at first, so that early steps do not overshoot."""
        return 0.125 * self.head(self.features(images)[-1].amax((2, 3)))

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Set the stem to the principal components of patches, each scaled to variance 1, and their negatives.

        Neighbouring pixels say nearly the same; after whitening, every map says something else (as in Jordan: 94% on
        CIFAR-10 in 3.29 seconds on a single GPU, 2024). `images`: some thousand training pictures of all classes (a set
        may be stored class by class), `[N, 3, H, W]`, uint8, or float in 0..1. InputError: too few to tell them apart.
        """
        pictures = images.float() / (1 if images.is_floating_point() else 255)
        self.mean.copy_(pictures.mean((0, 2, 3)).view(3, 1, 1))
        side = self.stem.kernel_size[0]
        centred = pictures - pictures.mean((0, 2, 3), keepdim=True)
        patches = F.unfold(centred, side, stride=side).transpose(1, 2).flatten(0, 1)
        if len(patches) < patches.shape[1]:
            few = f"{len(patches)} patches of {side}x{side} are too few to whiten"
            raise InputError(few, "give at least 50 pictures")
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))  # in ascending order
        filters = (components / (variances + 6e-4).sqrt()).T.flip(0)[: self.stem.out_channels // 2]
        self.stem.weight.copy_(torch.cat([filters, -filters]).view_as(self.stem.weight))
