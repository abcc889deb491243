"""Fully convolutional networks; lesson 04 makes them from a classifier.

Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation, 2015.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import paths
from course_lib.errors import InputError


class Backbone(Protocol):
    """A network that gives feature maps at several scales, such as `models.classifier.Classifier`."""

    strides: Sequence[int]
    """Pixels of the picture for each step on a map; finest first, each twice the one before."""
    widths: Sequence[int]
    """Channels of each map."""

    def features(self, images: Tensor) -> list[Tensor]:
        """Pictures `[B, 3, H, W]` in 0..1 -> maps `[B, width, H / stride, W / stride]`, finest first."""


class FCN(nn.Module):
    """Pictures `[B, 3, H, W]` in 0..1, of any size -> logits `[B, classes, H, W]`.

    A 1x1 convolution scores the coarsest map; the scores are doubled in size, those of the next finer map are added,
    and so on; the last are enlarged to the picture. On VGG-16, strides of 32, 16 and 8 are FCN-32s, FCN-16s and FCN-8s,
    without the two wide layers that the authors kept from its dense head.

    Args:
        backbone: gives the maps.
        classes: number of classes.
        stride: of the finest map that takes part; the backbone's coarsest means no skip connection.

    Raises:
        InputError: the backbone has no map of that stride.
    """

    def __init__(self, backbone: Backbone, classes: int, stride: int = 4) -> None:
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


class VGG16(nn.Module):
    """The five pooled maps of torchvision's VGG-16 (Simonyan and Zisserman, 2015), strides 2 to 32: a `Backbone`.

    Args:
        pretrained: weights from ImageNet, a download of 528 MB; where it fails, that is said, and they are random.
    """

    strides = (2, 4, 8, 16, 32)
    widths = (64, 128, 256, 512, 512)

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.layers: nn.Sequential = torchvision_model("vgg16", pretrained).features
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """As `Backbone.features` says."""
        x, maps = (images - self.mean) / self.deviation, []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        return maps


def torchvision_model(name: str, pretrained: bool = True) -> Any:
    """A network of torchvision, such as `"vgg16"` or `"fcn_resnet50"`; says so where its weights are random."""
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    here = Path(torch.hub.get_dir(), "checkpoints", file).is_file()
    reason = (
        "no trained weights were asked for"
        if not pretrained
        else "its trained weights are not here, and downloads are off"
    )
    if pretrained and (here or not paths.offline()):
        try:
            return torchvision.models.get_model(name, weights="DEFAULT")
        except (OSError, RuntimeError) as error:  # no network; or what came is not what was published
            reason = f"its trained weights cannot be had ({error})"
    print(f"{name}: {reason}; its weights are random, and so are its answers")
    parts = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    return torchvision.models.get_model(
        name, weights=None, **{"weights_backbone": None} if "weights_backbone" in parts else {}
    )


def convolutionalise(dense: nn.Linear, side: int = 1) -> nn.Conv2d:
    """The convolution that computes `dense` on every `side` x `side` window of its input `[B, C, H, W]`.

    Raises InputError: the dense layer's inputs are no C x `side` x `side` values.
    """
    if dense.in_features % side**2:
        raise InputError(f"{dense.in_features} inputs are no maps of {side} x {side}", "name the side of the last map")
    channels = dense.in_features // side**2
    layer = nn.Conv2d(channels, dense.out_features, side, bias=dense.bias is not None).to(dense.weight)
    layer.load_state_dict({name: value.view_as(layer.get_parameter(name)) for name, value in dense.named_parameters()})
    return layer


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """`images` `[B, C, H, W]` with their last row and column repeated until both sides are multiples of `multiple`."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
