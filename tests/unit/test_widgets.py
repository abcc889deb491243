"""The canvas: strokes of mouse, finger and keyboard, as the browser reports them, become labels."""

import numpy as np
import pytest
from PIL import Image

from course_lib.data import readers
from course_lib.errors import InputError
from course_lib.widgets import COLOURS, Scribbles


@pytest.fixture
def canvas():
    return Scribbles(np.full((3, 40, 60), 9, np.uint8), ("ground", "nucleus"))


def send(canvas, event, *places):
    """What the front end sends: for a mouse `x` and `y`, for fingers a list."""
    [(x, y), *_] = places or [(0, 0)]
    touches = [{"x": x, "y": y} for x, y in places]
    canvas.canvas._handle_frontend_event(None, {"event": event, "x": x, "y": y, "touches": touches}, [])


def test_a_stroke_of_the_mouse(canvas):
    canvas.radius.value = 0
    send(canvas, "mouse_move", (5, 30))
    assert (canvas.labels == 255).all(), "no button is down"
    send(canvas, "mouse_down", (10.7, 5.2))
    send(canvas, "mouse_move", (20.1, 5.9))  # fast: the places between are painted, too
    send(canvas, "mouse_up", (20.1, 5.9))
    send(canvas, "mouse_move", (20.1, 30))
    assert np.argwhere(canvas.labels < 255).tolist() == [[5, x] for x in range(10, 21)]
    assert (canvas.labels[5, 10:21] == 1).all()


def test_classes_radius_and_eraser(canvas):
    canvas.brush.value, canvas.radius.value = 0, 2
    canvas.press(30, 20)
    canvas.release()
    assert (canvas.labels == 0).sum() == 21, "pixels within 2.5 of the centre"
    canvas.brush.value, canvas.radius.value = 255, 0
    canvas.press(30, 20)
    canvas.release()
    assert canvas.labels[20, 30] == 255
    assert (canvas.labels == 0).sum() == 20


def test_a_finger(canvas):
    send(canvas, "touch_start", (3, 4), (50, 30))
    send(canvas, "touch_move", (6, 4))
    send(canvas, "touch_end")
    assert canvas.labels[4, 3] == canvas.labels[4, 6] == 1
    assert canvas.labels[30, 50] == 255, "the second finger does not paint"


def test_the_keyboard_reaches_every_corner(canvas):
    canvas.radius.value = 0
    [there] = [
        button
        for row in canvas.children
        for button in getattr(row, "children", ())
        if button.description == "Paint there"
    ]
    for down, across, place in ((0, 0, (0, 0)), (100, 100, (39, 59)), (50, 50, (19, 29))):
        canvas.down.value, canvas.across.value = down, across
        there.click()
        assert canvas.labels[place] == 1
    assert (canvas.labels < 255).sum() == 3


def test_a_stroke_that_leaves_the_picture(canvas):
    canvas.press(58, 38)
    canvas.drag(70, 60)
    send(canvas, "mouse_out", (70, 60))
    canvas.drag(5, 5)
    assert canvas.labels[39, 59] == 1
    assert canvas.labels[5, 5] == 255, "the stroke ended at the edge"


def test_listeners_hear_of_each_stroke_once(canvas):
    heard = []
    canvas.on_change(lambda: heard.append((canvas.labels < 255).sum()))
    canvas.press(10, 10)
    canvas.drag(20, 10)
    assert not heard, "the stroke goes on"
    canvas.release()
    send(canvas, "mouse_out", (0, 0))
    assert len(heard) == 1
    canvas.replace(np.full((40, 60), 255))
    assert heard[1:] == [0]
    canvas.on_change(lambda: heard.append("another"))  # a cell that runs again
    canvas.press(10, 10)
    canvas.release()
    assert heard[2:] == ["another"]


def test_strokes_are_saved_and_loaded(canvas, tmp_path):
    canvas.press(10, 10)
    canvas.release()
    before = canvas.labels.copy()
    Image.fromarray(canvas.labels).save(tmp_path / "strokes.png")
    canvas.children[-1].children[-1].click()  # clear all
    assert (canvas.labels == 255).all()
    canvas.replace(readers.read_labels(tmp_path / "strokes.png", canvas.labels.shape))
    assert (canvas.labels == before).all()


@pytest.mark.parametrize("given", [np.zeros((40, 61), np.uint8), np.full((40, 60), 2), np.full((40, 60), -1)])
def test_strokes_of_another_picture_are_refused_and_nothing_is_lost(canvas, given):
    canvas.press(10, 10)
    canvas.release()
    before = canvas.labels.copy()
    with pytest.raises(InputError, match=r"do not fit \(40, 60\)[\s\S]*0, 1, 255"):
        canvas.replace(given)
    assert (canvas.labels == before).all()


def test_a_page_that_is_loaded_again_gets_picture_and_strokes(canvas, monkeypatch):
    canvas.press(10, 10)
    canvas.release()
    sent = []
    monkeypatch.setattr(type(canvas.canvas), "put_image_data", lambda _, pixels: sent.append(pixels))
    send(canvas, "client_ready")
    assert sent[-1].shape == (40, 60, 3)
    assert sent[-1][10, 10].tolist() == COLOURS[1].tolist()
    assert sent[-1][30, 50].tolist() == [9, 9, 9]


def test_colab_is_asked_to_show_widgets_of_other_packages(monkeypatch):
    import sys
    from types import ModuleType

    asked = []
    colab = ModuleType("google.colab")
    colab.output = ModuleType("google.colab.output")
    colab.output.enable_custom_widget_manager = lambda: asked.append(True)
    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.output", colab.output)
    Scribbles(np.zeros((3, 40, 60), np.uint8), ("ground", "nucleus"))
    assert asked == [True]
