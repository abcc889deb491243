"""Scores: hand-computed cases, and equality with torchmetrics on random input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from course_lib import metrics
from course_lib.errors import InputError
from course_lib.metrics import ConfusionMatrix

VOID = 255


def test_confusion_matrix_by_hand():
    matrix = ConfusionMatrix(3)
    truth = np.array([[0, 0, 1], [1, 1, VOID]])
    prediction = np.array([[0, 1, 1], [1, 0, 2]])
    matrix.update(prediction, truth)
    assert matrix.counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    iou = matrix.iou()
    assert iou[:2].tolist() == pytest.approx([1 / 3, 2 / 4])
    assert torch.isnan(iou[2]), "class 2 occurs only under void: it is absent"
    assert matrix.summary()["dice"] == pytest.approx((2 / 4 + 4 / 6) / 2)
    assert matrix.summary() == pytest.approx({"pixel_accuracy": 3 / 5, "mean_iou": 5 / 12, "dice": 7 / 12})


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
    pictures=st.integers(1, 3),
    void=st.floats(0, 0.9),
    used=st.integers(1, 6),
)
def test_confusion_matrix_equals_torchmetrics(classes, seed, pictures, void, used):
    rng = np.random.default_rng(seed)
    matrix = ConfusionMatrix(classes)
    batches = []
    for _ in range(pictures):
        prediction, truth = rng.integers(0, min(used, classes), (2, 7, 9))
        truth[rng.random(truth.shape) < void] = VOID
        matrix.update(prediction, torch.from_numpy(truth))
        batches.append((prediction.ravel(), truth.ravel()))
    prediction, truth = (torch.from_numpy(np.concatenate(part)) for part in zip(*batches, strict=True))
    if (truth == VOID).all():
        with pytest.raises(InputError, match="no pixel was counted"):
            matrix.summary()
        return
    valid = truth != VOID
    present = torch.isin(torch.arange(classes), torch.cat([prediction[valid], truth[valid]]))
    options = {"num_classes": classes, "ignore_index": VOID, "average": "none"}
    theirs = multiclass_jaccard_index(prediction, truth, **options)[present]
    assert matrix.iou()[present].tolist() == pytest.approx(theirs.tolist(), abs=1e-6)
    assert torch.isnan(matrix.iou()[~present]).all()
    f1 = multiclass_f1_score(prediction, truth, **options)[present]
    assert matrix.summary()["dice"] == pytest.approx(f1.mean().item(), abs=1e-6)
    accuracy = multiclass_accuracy(prediction, truth, num_classes=classes, ignore_index=VOID, average="micro")
    summary = matrix.summary()
    assert summary["pixel_accuracy"] == pytest.approx(accuracy.item(), abs=1e-6)
    assert summary["mean_iou"] == pytest.approx(theirs.mean().item(), abs=1e-6)


def test_counting_differs_from_averaging_batches():
    small, large = ConfusionMatrix(2), ConfusionMatrix(2)
    both = ConfusionMatrix(2)
    pairs = [(np.array([1, 0]), np.array([1, 1])), (np.ones(98, int), np.ones(98, int))]
    for matrix, pair in zip((small, large), pairs, strict=True):
        matrix.update(*pair)
        both.update(*pair)
    averaged = (small.iou()[1] + large.iou()[1]) / 2
    assert averaged == pytest.approx(0.75)
    assert both.iou()[1] == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "differ in shape"),
        (np.array([0, 255]), np.array([0, 1]), "prediction holds ids from 0 to 255"),
        (np.array([0, 1]), np.array([0, 7]), "truth holds ids from 0 to 7"),
        (np.array([0, -1]), np.array([0, 1]), "prediction holds ids from -1"),
        (np.array([0.2, 0.8]), np.array([0, 1]), "must be whole numbers"),
    ],
)
def test_confusion_matrix_refuses(prediction, truth, message):
    with pytest.raises(InputError, match=message):
        ConfusionMatrix(2).update(prediction, truth)


def test_boundary_iou_by_hand():
    truth = np.zeros((10, 12), np.int64)
    truth[2:8, 2:8] = 1  # 6 x 6: a rim of 1 pixel has 20
    shifted = np.roll(truth, 1, axis=1)
    metric = metrics.BoundaryIoU(2, width=1)
    metric.update(shifted, truth)
    # the rims share the upper and the lower row, less a column at the side each lacks: 2 x 5; 20 + 20 - 10 in either
    assert float(metric.iou()[1]) == pytest.approx(10 / 30)
    assert float(metric.iou()[1]) < float(counted(shifted, truth).iou()[1])
    metric = metrics.BoundaryIoU(3, width=3)
    metric.update(shifted, truth)
    assert metric.iou().isnan().tolist() == [False, False, True], "a class that nowhere occurs"
    assert float(metric.iou()[1]) == pytest.approx(30 / 42), "so wide a rim is the whole region"


def counted(prediction, truth):
    matrix = ConfusionMatrix(2)
    matrix.update(prediction, truth)
    return matrix


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.0, 0.3]))
def test_boundary_iou_equals_erosion(seed, width, void):
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    blobs = [ndimage.gaussian_filter(rng.random((3, 2, 30, 26)), (0, 0, 3, 3)).argmax(0) for _ in range(2)]
    prediction, truth = blobs
    truth = np.where(rng.random(truth.shape) < void, 255, truth)
    metric = metrics.BoundaryIoU(3, width)
    metric.update(prediction, truth)
    for number in range(3):
        both = either = 0
        for one, other in zip(prediction, truth, strict=True):
            square = np.ones((2 * width + 1,) * 2)
            rims = [(ids == number) & (other != 255) for ids in (one, other)]
            rims = [mask & ~ndimage.binary_erosion(mask, square) & (other != 255) for mask in rims]
            both, either = both + (rims[0] & rims[1]).sum(), either + (rims[0] | rims[1]).sum()
        assert float(metric.iou()[number]) == pytest.approx(both / either if either else np.nan, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_void_makes_no_boundary(seed, width):
    rng = np.random.default_rng(seed)
    ids, void = rng.integers(0, 3, (2, 20, 24)).repeat(4, 1), rng.random((2, 80, 24)) < 0.2
    metric = metrics.BoundaryIoU(3, width)
    metric.update(ids, np.where(void, 255, ids))
    assert metric.iou()[metric.counts[1] > 0].tolist() == [1.0] * int((metric.counts[1] > 0).sum())


def test_boundary_iou_refuses_a_mask_of_255():
    with pytest.raises(InputError, match="0 and 255 must become 0 and 1"):
        metrics.BoundaryIoU(2).update(np.array([[0, 255]]), np.array([[0, 1]]))


def test_image_iou():
    truth = np.array([1, 1, 0, VOID])
    assert metrics.image_iou(np.array([1, 0, 0, 1]), truth) == 0.5
    assert metrics.image_iou(np.zeros(4, int), np.zeros(4, int)) == 1.0
    assert metrics.image_iou(np.ones(4, bool), np.zeros(4, bool)) == 0.0
    with pytest.raises(InputError, match="differ in shape"):
        metrics.image_iou(np.zeros(3, int), np.zeros(4, int))


def brute_force_iou(prediction, truth):
    rows = [prediction == i for i in np.unique(prediction) if i]
    columns = [truth == i for i in np.unique(truth) if i]
    return np.array([[(p & t).sum() / (p | t).sum() for t in columns] for p in rows]).reshape(len(rows), len(columns))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 0.8))
def test_instance_iou_equals_brute_force(seed, density):
    rng = np.random.default_rng(seed)
    prediction, truth = (label(rng.random((15, 17)) < density) for _ in range(2))
    prediction[prediction == 2] = 0  # numbers may have gaps
    ours = metrics.instance_iou(prediction.astype(np.uint16), truth)
    assert ours.shape == (len(np.unique(prediction[prediction > 0])), truth.max())
    np.testing.assert_allclose(ours, brute_force_iou(prediction, truth))


def strips(*widths):
    """A label map of one row: each width is an instance, separated by one pixel of background."""
    row = []
    for number, width in enumerate(widths, start=1):
        row += [number] * width + [0]
    return np.array([row])


def test_dsb_score_by_hand():
    truth = strips(10, 10)
    assert metrics.dsb_score(truth, truth) == 1.0
    one_of_two = np.where(truth == 1, 1, 0)
    assert metrics.dsb_score(one_of_two, truth) == pytest.approx(0.5)
    shrunk = truth.copy()
    shrunk[0, 7:10] = 0  # IoU 0.7 with the first nucleus: a hit at 0.5, 0.55, 0.6, 0.65, not at 0.7 itself
    limits = [1.0] * 4 + [1 / 3] * 6
    assert metrics.dsb_score(shrunk, truth) == pytest.approx(np.mean(limits))


def test_dsb_score_at_exactly_one_half_is_a_miss():
    truth, prediction = np.ones((1, 10), int), np.zeros((1, 10), int)
    prediction[0, :5] = 1
    assert metrics.instance_iou(prediction, truth) == 0.5
    assert metrics.dsb_score(prediction, truth) == 0.0


def test_dsb_score_of_empty_pictures():
    empty, one = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert metrics.dsb_score(empty, empty) == 1.0
    assert metrics.dsb_score(one, empty) == 0.0
    assert metrics.dsb_score(empty, one) == 0.0


def target(masks, scores=None):
    masks = torch.as_tensor(np.asarray(masks), dtype=torch.uint8)
    found = {"masks": masks, "labels": torch.ones(len(masks), dtype=torch.int64)}
    return found | ({} if scores is None else {"scores": torch.tensor(scores)})


def blocks(count, side=4):
    """`count` separate squares, as masks [count, H, W]."""
    labels = np.kron(np.arange(1, count + 1).reshape(1, -1), np.pad(np.ones((side, side), int), 1))
    return metrics.to_masks(labels)


def test_average_precision_by_hand():
    truth = blocks(2)
    wrong = np.zeros_like(truth[:1])
    wrong[0, 0, 0] = 1
    # Ranked by score: hit, false alarm, hit. Precision is 1 up to recall 1/2, then 2/3: 51 and 50 of COCO's 101 steps.
    ranked = target([truth[0], wrong[0], truth[1]], [0.9, 0.8, 0.7])
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert metrics.average_precision([(ranked, target(truth))])["ap50"] == pytest.approx(expected, abs=1e-4)
    perfect = metrics.average_precision([(target(truth, [0.5, 0.5]), target(truth))])
    assert perfect == pytest.approx({"ap50": 1.0, "ap": 1.0})


def test_average_precision_sees_more_than_100_objects():
    truth = blocks(150, side=3)
    assert metrics.average_precision([(target(truth, [0.5] * 150), target(truth))])["ap50"] == pytest.approx(1.0)


def test_average_precision_of_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]])
    labels = torch.ones(2, dtype=torch.int64)
    pair = ({"boxes": boxes, "labels": labels, "scores": torch.tensor([0.9, 0.8])}, {"boxes": boxes, "labels": labels})
    assert metrics.average_precision([pair], "bbox") == pytest.approx({"ap50": 1.0, "ap": 1.0})


def test_label_maps_and_masks_are_inverse():
    labels = np.array([[0, 1, 1], [3, 0, 2]])
    masks = metrics.to_masks(labels)
    assert masks.shape == (3, 2, 3)
    np.testing.assert_array_equal(metrics.to_label_map(masks), labels)
    np.testing.assert_array_equal(metrics.to_label_map(np.ones((2, 2, 2))), np.full((2, 2), 2))
