"""Fully convolutional networks for semantic segmentation (Long, Shelhamer, Darrell, 2015); lesson 04 makes them."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import InputError


class FCN(nn.Module):
    """Pictures `[B, 3, H, W]` in 0..1, of any size -> logits `[B, classes, H, W]`.

    A 1x1 convolution scores the coarsest map; the scores are doubled in size, those of the next finer map are added,
    and so on; the last are enlarged to the picture. On VGG-16, strides of 32, 16 and 8 are FCN-32s, FCN-16s and FCN-8s,
    without the two wide layers that the authors kept from its dense head.

    `backbone` gives the maps, as `Classifier` does: `features(images)` returns them, finest first, and `strides` and
    `widths` hold, for each, the picture's pixels between two of its values and its channels. `stride`: of the finest
    map that takes part (else InputError); the backbone's coarsest means no skip connection.
    """

    def __init__(self, backbone: Any, classes: int, stride: int = 4) -> None:
        super().__init__()
        if stride not in backbone.strides:
            raise InputError(f"no map has stride {stride}", f"choose one of {', '.join(map(str, backbone.strides))}")
        self.backbone, self.stride = backbone, stride
        widths = list(backbone.widths)[list(backbone.strides).index(stride) :]
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)
        for weights in self.scores.parameters():  # as the authors do: at first every class is as likely everywhere
            nn.init.zeros_(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Logits for each pixel. InputError: the backbone's maps are not as large as their strides say."""
        height, width = images.shape[-2:]
        images = pad_to_multiple(images, self.backbone.strides[-1])
        maps = self.backbone.features(images)
        for stride, each in zip(self.backbone.strides, maps, strict=True):
            if each.shape[2] * stride != images.shape[2]:
                rows = f"the map of stride {stride} has {each.shape[2]} rows for a picture of {images.shape[2]}"
                raise InputError(rows, "take a backbone that pads its convolutions, such as Classifier(patch=4)")
        *finer, total = [score(each) for score, each in zip(self.scores, maps[-len(self.scores) :], strict=True)]
        for scores in reversed(finer):
            total = F.interpolate(total, scale_factor=2, mode="bilinear") + scores
        return F.interpolate(total, scale_factor=self.stride, mode="bilinear")[..., :height, :width]


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """`images` `[B, C, H, W]` with their last row and column repeated until both sides are multiples of `multiple`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
