"""What the lessons build by hand equals the package's and the libraries' versions, on random input."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.filters import threshold_otsu
from skimage.measure import label
from torch.nn import functional as F

from course_lib import metrics
from course_lib.models.classifier import Classifier

SOLVED = Path(__file__).parents[2] / "notebooks" / "solutions"
quick = settings(max_examples=100, deadline=None)
levels = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12))
masks = st.integers(1, 12).flatmap(lambda side: st.tuples(*[arrays(np.bool_, (side, 5))] * 2))


def from_lesson(lesson: str, name: str, **names: object):
    """The function or class `name` as the solved lesson defines it, which may use the `names` besides."""
    notebook = nbformat.read(SOLVED / f"{lesson}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and (f"def {name}(" in cell.source or f"class {name}(" in cell.source):
            [found] = [node for node in ast.parse(cell.source).body if getattr(node, "name", "") == name]
            scope = {"np": np, "torch": torch, "F": F, "nn": torch.nn, **names}
            exec(compile(ast.unparse(found), f"{lesson}: {name}", "exec"), scope)
            return scope[name]
    raise AssertionError(f"{lesson} defines no {name}")


@quick
@given(levels)
def test_otsu(picture):
    if picture.min() == picture.max():
        return  # one grey level has no threshold; scikit-image returns that level
    ours, between = from_lesson("01_thresholding", "otsu")(picture)
    # Several thresholds may be equally good up to rounding: the library's must be as good as ours.
    assert between[threshold_otsu(picture)] == pytest.approx(between[ours], rel=1e-9)


@quick
@given(masks)
def test_iou(pair):
    assert from_lesson("01_thresholding", "iou")(*pair) == pytest.approx(metrics.image_iou(*pair))


@quick
@given(masks)
def test_dice_and_iou_belong_together(pair):
    dice, iou = from_lesson("01_thresholding", "dice")(*pair), metrics.image_iou(*pair)
    assert dice == pytest.approx(2 * iou / (1 + iou))


@quick
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.6))
def test_bowl_score(seed, density):
    rng = np.random.default_rng(seed)
    truth = label(rng.random((20, 20)) < density)
    prediction = label(np.where(rng.random((20, 20)) < 0.05, 0, truth))
    overlaps = metrics.instance_iou(prediction, truth)
    if sum(overlaps.shape):
        expected = metrics.dsb_score(prediction, truth)
        assert from_lesson("01_thresholding", "bowl_score")(overlaps) == pytest.approx(expected)
        at_half = from_lesson("01_thresholding", "score_at")(overlaps, 0.5)
        assert at_half >= expected - 1e-12, "the score at the loosest limit is the highest"


convolutions = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))


@quick
@given(convolutions, st.integers(0, 2**32 - 1))
def test_convolution_and_its_size(shape, seed):
    channels, kernel, stride, padding = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(channels, 7, 9, generator=generator)
    w, b = torch.randn(2, channels, kernel, kernel, generator=generator), torch.randn(2, generator=generator)
    ours = from_lesson("03_cifar_cnn", "convolve")(x, w, b, stride, padding)
    theirs = F.conv2d(x[None], w, b, stride, padding)[0]
    assert torch.allclose(ours, theirs, atol=1e-4)
    size = from_lesson("03_cifar_cnn", "output_size")
    assert theirs.shape[1:] == (size(7, kernel, stride, padding), size(9, kernel, stride, padding))


@quick
@given(st.integers(1, 9), st.integers(2, 6), st.floats(0, 0.9))
def test_cross_entropy_and_smoothing(count, classes, eps):
    generator = torch.Generator().manual_seed(count)
    logits, labels = torch.randn(count, classes, generator=generator), torch.arange(count) % classes
    ours = from_lesson("03_cifar_cnn", "cross_entropy")(logits, labels)
    assert torch.allclose(ours, F.cross_entropy(logits, labels), atol=1e-5)
    targets = from_lesson("03_cifar_cnn", "smooth")(labels, classes, eps)
    theirs = F.cross_entropy(logits, labels, label_smoothing=eps)
    assert torch.allclose(F.cross_entropy(logits, targets), theirs, atol=1e-5)


@quick
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), max_size=4))
def test_receptive_field(layers):
    """The gradient says how far one value sees; strides may leave out pixels in between."""
    x = torch.ones(1, 1, 80, requires_grad=True)
    y = x
    for kernel, stride in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
    y[0, 0, 0].backward()
    assert from_lesson("03_cifar_cnn", "receptive_field")(layers) == int(x.grad.nonzero()[:, 2].max()) + 1


def test_the_classifier_is_the_lessons():
    scope: dict = {}
    for name in ("Residual", "whitened", "convolution", "Classifier"):
        scope[name] = from_lesson("03_cifar_cnn", name, **scope)
    pictures = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8)
    theirs, ours = scope["Classifier"](pictures, (16, 24, 32)), Classifier(channels=(16, 24, 32))
    ours.whiten(pictures)
    for name in ("mean", "stem.weight"):
        assert torch.allclose(theirs.state_dict()[name], ours.state_dict()[name], atol=1e-4)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(5, 3, 32, 32)
    assert torch.equal(theirs(images), ours(images))
