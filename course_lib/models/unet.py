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

    Args:
        classes: number of classes.
        inputs: channels of the pictures.
        channels: of each stage's maps, finest first.
        skips: `"concatenate"`, `"add"`, or `"none"`.
        stride: of the first layer; 1 works at the picture's own resolution.

    Raises:
        InputError: `skips` is unknown.
    """

    def __init__(
        self,
        classes: int = 2,
        inputs: int = 3,
        channels: Sequence[int] = (24, 32, 48, 64, 96),
        skips: str = "concatenate",
        stride: int = 2,
    ) -> None:
        super().__init__()
        if skips not in SKIPS:
            raise InputError(f"skips = {skips!r} is not known", f"choose one of {', '.join(SKIPS)}")
        self.skips, self.stride, self.depth = skips, stride, len(channels) - 1
        first = nn.Conv2d(inputs, channels[0], stride + 2, stride, padding=1, bias=False)
        self.encoder = nn.ModuleList([nn.Sequential(first, nn.BatchNorm2d(channels[0]), nn.GELU())])
        self.decoder = nn.ModuleList()
        for fine, coarse in pairwise(channels):
            self.encoder.append(nn.Sequential(convolution(fine, coarse, pool=True), convolution(coarse, coarse)))
            joined = coarse + fine if skips == "concatenate" else coarse
            self.decoder.append(nn.ModuleList([convolution(joined, fine), convolution(fine, fine)]))
        self.head = nn.Conv2d(channels[0], classes * stride**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits for each pixel."""
        height, width = images.shape[-2:]
        maps = [pad_to_multiple(images, self.stride * 2**self.depth)]
        for stage in self.encoder:
            maps.append(stage(maps[-1]))
        x = maps.pop()
        for first, second in reversed([*self.decoder]):
            skip, x = maps.pop(), F.interpolate(x, scale_factor=2, mode="bilinear")
            x = first(torch.cat([x, skip], 1) if self.skips == "concatenate" else x)
            x = second(x + skip if self.skips == "add" else x)
        return F.pixel_shuffle(self.head(x), self.stride)[..., :height, :width]
