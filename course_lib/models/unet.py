"""Encoder-decoder networks with and without skip connections; lesson 05 builds them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import InputError
from course_lib.models.classifier import convolution
from course_lib.models.fcn import pad_to_multiple

SKIPS = ("none", "add", "concatenate")


class UNet(nn.Module):
    """Pictures `[B, inputs, H, W]` in 0..1, of any size -> logits `[B, classes, H, W]`.

    The encoder halves the map at each stage, the decoder doubles it again and takes up the encoder's map of that size
    (Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation, 2015). Unlike theirs,
    it pads, normalises batches, enlarges bilinearly, and works at half the picture's resolution: its first layer moves
    in steps of two pixels, its last gives each pixel of a 2x2 block a score of its own (Shi et al.: sub-pixel
    convolution, 2016). `benchmarks/semantic.py` measures what that gains in equal time.

    `normalise` brings each channel of each picture to mean 0 and deviation 1, whatever the light or the stain. A tile
    has other means than its picture: who predicts tiles replaces it by a `v2.Normalize` with those of the whole.

    `channels`: of each stage's maps, finest first. `skips`: `"concatenate"`, `"add"`, or `"none"`; else InputError.
    `stride`: of the first layer; 1 works at the picture's own resolution.
    """

    def __init__(
        self,
        classes: int = 2,
        inputs: int = 3,
        channels: Sequence[int] = (16, 48, 96, 128, 128),
        skips: str = "concatenate",
        stride: int = 2,
    ) -> None:
        super().__init__()
        if skips not in SKIPS:
            raise InputError(f"skips = {skips!r} is not known", f"choose one of {', '.join(SKIPS)}")
        self.skips, self.stride, self.depth = skips, stride, len(channels) - 1
        self.normalise: nn.Module = nn.InstanceNorm2d(inputs)
        first = nn.Conv2d(inputs, channels[0], stride + 2, stride, padding=1, bias=False)
        self.encoder = nn.ModuleList([nn.Sequential(first, nn.BatchNorm2d(channels[0]), nn.GELU())])
        self.decoder = nn.ModuleList()
        for fine, coarse in pairwise(channels):
            self.encoder.append(nn.Sequential(nn.MaxPool2d(2), convolution(fine, coarse)))
            self.decoder.append(convolution(coarse + fine if skips == "concatenate" else coarse, fine))
        self.head = nn.Conv2d(channels[0], classes * stride**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits for each pixel."""
        height, width = images.shape[-2:]
        maps = [self.normalise(pad_to_multiple(images, self.stride * 2**self.depth))]
        for stage in self.encoder:
            maps.append(stage(maps[-1]))
        x = maps.pop()
        for stage in reversed([*self.decoder]):
            skip, x = maps.pop(), F.interpolate(x, scale_factor=2, mode="bilinear")
            x = stage(torch.cat([x, skip], 1) if self.skips == "concatenate" else x)
            x = x + skip if self.skips == "add" else x
        return F.pixel_shuffle(self.head(x), self.stride)[..., :height, :width]
