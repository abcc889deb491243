"""What the lessons build by hand equals the package's and the libraries' versions, on random input."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.filters import threshold_otsu
from skimage.measure import label

from course_lib import metrics

SOLVED = Path(__file__).parents[2] / "notebooks" / "solutions"
quick = settings(max_examples=100, deadline=None)
levels = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12))
masks = st.integers(1, 12).flatmap(lambda side: st.tuples(*[arrays(np.bool_, (side, 5))] * 2))


def from_lesson(lesson: str, name: str):
    """The function `name` as the solved lesson defines it."""
    notebook = nbformat.read(SOLVED / f"{lesson}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and f"def {name}(" in cell.source:
            [found] = [n for n in ast.parse(cell.source).body if isinstance(n, ast.FunctionDef) and n.name == name]
            scope = {"np": np}
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
