"""Mask R-CNN with a small backbone; lesson 07 takes it apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, feature_pyramid_network

from course_lib.models.classifier import Classifier


class Pyramid(nn.Module):
    """A classifier's stem and first two stages, and their maps at one width (Lin et al.: Feature pyramids, 2017)."""

    def __init__(self, body: Classifier, channels: int = 64) -> None:
        super().__init__()
        self.body, self.out_channels = body, channels
        body.stages = body.stages[:2]
        del body.head
        self.join = FeaturePyramidNetwork(list(body.widths[1:3]), channels, feature_pyramid_network.LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`[B, 3, H, W]` -> `"0"`, `"1"`, `"pool"`: `[B, channels, H / s, W / s]`, s = 4, 8 and 16 pixels."""
        fine, coarse = self.body.features(images.contiguous(memory_format=torch.channels_last))[1:]
        return self.join({"0": fine, "1": coarse})


class OwnSize(detection.transform.GeneralizedRCNNTransform):
    """Pictures keep their size; each channel is brought to the same mean and deviation, whatever the light or stain."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """As they are."""
        return image, target

    def normalize(self, image: Tensor) -> Tensor:
        """To mean 0.47 and deviation 0.25, as CIFAR-10 has it, from which a body may have learned."""
        deviation, mean = torch.std_mean(image, (1, 2), keepdim=True)
        return (image - mean) / (deviation + 1e-3) * 0.25 + 0.47

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Masks `[N, 1, H, W]`, read between their places; torchvision rounds boxes down before it fills them."""
        for found, size in zip(result, original_image_sizes, strict=False):  # in training nothing was found
            x0, y0, x1, y1 = found["boxes"].T[..., None]
            cells = torch.arange(found["masks"].shape[-1], device=x0.device)
            pixels = (torch.arange(length, device=x0.device) for length in size)  # like RoIAlign, from 0, not 0.5
            places = [(p - a) / (b - a) * len(cells) - 0.5 for p, a, b in zip(pixels, (y0, x0), (y1, x1), strict=True)]
            rows, columns = ((1 - (place[..., None] - cells).abs()).clip(min=0) for place in places)
            found["masks"] = (rows @ found["masks"][:, 0] @ columns.mT)[:, None]
        return result


def mask_rcnn(
    classes: int = 2, body: Classifier | None = None, sizes: Sequence[float] = (12, 24, 48), channels: int = 64
) -> detection.MaskRCNN:
    """Torchvision's Mask R-CNN (He, Gkioxari, Dollár, Girshick: Mask R-CNN, 2017), slim enough for a laptop's CPU.

    In training it takes pictures float `[3, H, W]` in 0..1 and detection dicts, and returns five losses; in evaluation
    a dict for each picture: `boxes`, `labels`, `scores`, best first, and `masks`, probabilities `[N, 1, H, W]`.

    `classes`: with the background, which is 0. `body`: such as lesson 03's, trained; see `Pyramid`; by default a new
    one. `sizes`: sides of the square anchors on the three maps, in pixels, finest first. `channels`: of the maps, and
    of the mask head.
    """
    net = detection.MaskRCNN(
        Pyramid(body or Classifier(), channels),
        rpn_anchor_generator=detection.anchor_utils.AnchorGenerator(tuple((s,) for s in sizes), ((1.0,),) * len(sizes)),
        rpn_head=detection.rpn.RPNHead(channels, 1),
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=300,
        rpn_batch_size_per_image=128,
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 7, 2, canonical_scale=24, canonical_level=3),
        box_head=detection.faster_rcnn.TwoMLPHead(channels * 7 * 7, 96),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(96, classes),
        box_batch_size_per_image=64,  # from which the heads learn; torchvision's default is 512
        box_nms_thresh=0.3,  # objects of one class hardly overlap
        box_detections_per_img=400,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 14, 2, canonical_scale=96, canonical_level=3),  # outlines: finer
        mask_head=detection.mask_rcnn.MaskRCNNHeads(channels, (channels, channels), 1),
        mask_predictor=detection.mask_rcnn.MaskRCNNPredictor(channels, channels, classes),
    )
    net.transform = OwnSize(1, 1, [0.0] * 3, [1.0] * 3, size_divisible=16)
    return net


def label_map(detections: dict[str, Tensor], score: float = 0.7, min_area: int = 15) -> NDArray[np.int32]:
    """What a detector found in one picture -> one label map `[H, W]`: a pixel goes to the best scored of its objects.

    Left out are objects below `score` or with fewer than `min_area` pixels, and those that better ones cover by half.
    """
    masks = (detections["masks"][detections["scores"] > score, 0] > 0.5).cpu().numpy()
    labels = np.zeros(masks.shape[1:], np.int32)
    for number, mask in enumerate(masks, start=1):  # best first
        own = mask & (labels == 0)
        if own.sum() >= max(min_area, mask.sum() / 2):
            labels[own] = number
    return labels
