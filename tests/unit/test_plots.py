"""Figures: forms of pictures, colours that can be told apart, and what error maps mark."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from course_lib import plots
from course_lib.data.synthetic import CELL_CLASSES, STREET_CLASSES


@pytest.mark.parametrize("shape", [(3, 8, 9), (8, 9, 3), (8, 9), (1, 8, 9)])
def test_pictures_become_channel_last(shape):
    assert plots.picture(torch.zeros(shape)).shape in [(8, 9, 3), (8, 9)]


def test_every_class_has_a_colour():
    assert set(CELL_CLASSES) | set(STREET_CLASSES) <= set(plots.COLOURS)


@pytest.mark.parametrize("classes", [CELL_CLASSES, STREET_CLASSES])
def test_class_colours_differ_also_for_colour_blind_readers(classes):
    """Simulated deuteranopia (Viénot, Brettel and Mollon, 1999) on linear RGB."""
    blind = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    linear = {name: np.array(to_rgb(plots.COLOURS[name])) ** 2.2 for name in classes}
    seen = {name: rgb2lab(np.clip(blind @ rgb, 0, 1) ** (1 / 2.2)) for name, rgb in linear.items()}
    for one, other in itertools.combinations(classes, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 12, f"{one} and {other} look alike"


def test_colour_classes_marks_void():
    coloured = plots.colour_classes(np.array([[0, 1, 255]]))
    assert coloured.shape == (1, 3, 3)
    np.testing.assert_allclose(coloured[0, 1], to_rgb(plots.COLOURS["nucleus"]))
    np.testing.assert_allclose(coloured[0, 2], to_rgb(plots.VOID))


def test_error_map():
    truth = np.array([[0, 0, 1, 1, 255]])
    prediction = np.array([[0, 1, 1, 0, 1]])
    wanted = [plots.COLOURS["background"], plots.FALSE_ALARM, plots.RIGHT, plots.MISSED, plots.VOID]
    np.testing.assert_allclose(plots.errors(prediction, truth)[0], [to_rgb(colour) for colour in wanted])


def test_touching_instances_are_separated_by_a_line():
    coloured = plots.colour_instances(np.kron([[1, 2]], np.ones((5, 5), int)))
    dark = np.isclose(coloured, to_rgb(plots.COLOURS["background"])).all(-1)
    assert dark[2].tolist() == [False] * 4 + [True] * 2 + [False] * 4


def test_outline_keeps_the_picture_elsewhere():
    image = np.full((3, 9, 9), 128, np.uint8)
    labels = np.zeros((9, 9), int)
    labels[3:6, 3:6] = 1
    drawn = plots.outline(image, labels)
    assert drawn.shape == (9, 9, 3)
    np.testing.assert_allclose(drawn[4, 4], 128 / 255)
    np.testing.assert_allclose(drawn[3, 3], to_rgb("#f0e442"))
    np.testing.assert_allclose(plots.outline(image.astype(float), labels), drawn)  # levels need not be whole numbers


def test_figures_are_drawn_and_captioned(monkeypatch):
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    image, mask = torch.zeros(3, 8, 9, dtype=torch.uint8), torch.zeros(8, 9, dtype=torch.int64)
    plots.compare(image, mask, mask, "nothing found")
    plots.show({"a": image, "b": mask, "c": mask.bool()}, columns=2)
    captions = [axis.get_title() for axis in figures[0].axes]
    assert captions[:3] == ["image", "truth", "prediction"]
    assert captions[3].startswith("errors")
    assert figures[0].get_suptitle() == "nothing found"
    assert [axis.get_title() for axis in figures[1].axes] == ["a", "b", "c", ""]
    plt.close("all")


def drawn(monkeypatch, draw):
    """The axis that `draw` leaves, which a notebook would show."""
    monkeypatch.setattr(plt, "show", lambda: None)
    draw()
    axis = plt.gcf().axes[0]
    plt.close("all")
    return axis


def test_curves_differ_in_more_than_colour(monkeypatch):
    lines = {name: ([1, 2], [3, 4]) for name in "abc"}
    axis = drawn(monkeypatch, lambda: plots.curves(lines, "They rise", xlabel="epoch"))
    assert (axis.get_title(), axis.get_xlabel()) == ("They rise", "epoch")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b", "c"]
    assert len({line.get_linestyle() for line in axis.lines}) == len({line.get_marker() for line in axis.lines}) == 3
