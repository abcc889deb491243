"""The slim Mask R-CNN: what goes in and comes out, and how detections become one label map."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_lib import data, weights
from course_lib.data.batches import Batches
from course_lib.models.mask_rcnn import OwnSize, Pyramid, label_map, mask_rcnn


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return mask_rcnn()


def test_it_is_slim_and_learns_from_pictures_with_and_without_objects(net):
    assert sum(p.numel() for p in net.parameters()) < 1_000_000
    [(images, targets)] = Batches(data.load("cells", task="instance", count=2), 2, crop=96)
    empty = {name: value[:0] for name, value in targets[0].items()}
    losses = net.train()([*images], [empty, targets[1]])
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    sum(losses.values()).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None or not weight.requires_grad, name
        assert weight.grad is None or torch.isfinite(weight.grad).all(), name


@pytest.mark.parametrize("size", [(64, 64), (50, 83)])
def test_detections_have_the_pictures_own_size(net, size):
    with torch.inference_mode():
        [found] = net.eval()([torch.rand(3, *size)])
    count = len(found["scores"])
    assert found["boxes"].shape == (count, 4)
    assert found["masks"].shape == (count, 1, *size)
    assert (found["labels"] == 1).all(), "the background is never reported"
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)


def test_more_classes_and_other_anchors():
    net = mask_rcnn(5, sizes=(8, 16, 32), channels=32)
    anchors = net.rpn.anchor_generator.cell_anchors
    assert [int(each[0, 2] - each[0, 0]) for each in anchors] == [8, 16, 32]
    assert net.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 5
    assert net.roi_heads.mask_head[0][0].out_channels == 32


def test_the_pyramid_takes_over_two_stages_of_a_trained_classifier():
    body = weights.load("cifar_cnn")
    picture = torch.rand(1, 3, 64, 96)
    before = body.features(picture)
    maps = Pyramid(body)(picture)
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        "0": (1, 64, 16, 24),
        "1": (1, 64, 8, 12),
        "pool": (1, 64, 4, 6),
    }
    after = body.features(picture)
    assert len(after) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=False))


def test_normalising_twice_changes_nothing():
    transform = OwnSize(1, 1, [0.0] * 3, [1.0] * 3)
    once = transform.normalize(torch.rand(3, 40, 50) * 0.5 + 0.5)
    assert torch.allclose(once.mean((1, 2)), torch.full((3,), 0.47), atol=1e-4)
    assert torch.allclose(transform.normalize(once), once, atol=0.01)
    assert torch.isfinite(transform.normalize(torch.zeros(3, 8, 8))).all(), "a black picture has no deviation"


def test_a_pixel_goes_to_the_best_and_covered_objects_are_dropped():
    masks = torch.zeros(5, 1, 6, 30)
    masks[0, 0, :, :10] = 0.9
    masks[1, 0, :, 6:16] = 0.9  # 4 of its 10 columns are taken: it keeps 6
    masks[2, 0, :, 4:12] = 0.9  # all taken
    masks[3, 0, 0, 20:28] = 0.9  # 8 pixels
    masks[4, 0, :, 20:30] = 0.9
    scores = torch.tensor([0.99, 0.95, 0.9, 0.85, 0.4])
    labels = label_map({"masks": masks, "scores": scores})
    assert labels.shape == (6, 30)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[:, :10] == 1).all()
    assert (labels[:, 10:16] == 2).all()
    assert np.unique(label_map({"masks": masks, "scores": scores}, min_area=8)).tolist() == [0, 1, 2, 4]
    assert label_map({"masks": masks, "scores": scores}, score=0.3)[0, 25] == 5
    assert not label_map({"masks": masks[:0], "scores": scores[:0]}).any()


def test_masks_are_read_between_their_places():
    masks = torch.rand(3, 1, 28, 28)
    boxes = torch.tensor([[10.3, 5.6, 40.2, 21.9], [0, 0, 3.5, 4.5], [30.1, 2, 60, 30]])
    transform = OwnSize(1, 1, [0.0] * 3, [1.0] * 3)
    [found] = transform.postprocess([{"boxes": boxes, "masks": masks}], None, [(24, 50)])
    x0, y0, x1, y1 = boxes.T[:, :, None]
    x, y = 2 * (torch.arange(50) - x0) / (x1 - x0) - 1, 2 * (torch.arange(24) - y0) / (y1 - y0) - 1
    grid = torch.stack([x[:, None].expand(-1, 24, -1), y[:, :, None].expand(-1, -1, 50)], 3)
    assert found["masks"].shape == (3, 1, 24, 50)
    assert torch.allclose(found["masks"], F.grid_sample(masks, grid, align_corners=False), atol=1e-5)
    [none] = transform.postprocess([{"boxes": boxes[:0], "masks": masks[:0]}], None, [(24, 50)])
    assert none["masks"].shape == (0, 1, 24, 50)
