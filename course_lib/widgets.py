"""A picture to paint labels on; lesson 02 learns from the strokes."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ipycanvas import Canvas
from ipywidgets import Button, HBox, IntSlider, ToggleButtons, VBox
from matplotlib.colors import to_rgba_array
from skimage.draw import disk, line

from course_lib.errors import InputError
from course_lib.metrics import IGNORE, Array
from course_lib.plots import CYCLE, picture

# of class 0, 1, ...: they stand out on dark and on pale
COLOURS = (255 * to_rgba_array((CYCLE[1], CYCLE[0], *CYCLE[2:]))[:, :3]).astype(np.uint8)


class Scribbles(VBox):
    """Paint with mouse or finger; with the keyboard: choose a class, set how far down and across, press *Paint there*.

    `image`: uint8 `[3, H, W]`; `classes`: names, the index is the id; `width`: of the canvas on the screen, in pixels.
    """

    def __init__(self, image: Array, classes: Sequence[str], width: int = 480) -> None:
        if "google.colab" in sys.modules:  # there, widgets of other packages must be asked for
            from google.colab import output

            output.enable_custom_widget_manager()
        self._pixels, self._last = np.ascontiguousarray(picture(image)), (-1, -1)  # row, column; while a button is down
        self._changed: Callable[[], Any] = lambda: None
        height, length = self._pixels.shape[:2]
        self.labels = np.full((height, length), IGNORE, np.uint8)
        """uint8 `[H, W]`: ids of classes where something is painted, 255 elsewhere. To change it, call `replace`."""
        layout = {"width": f"{width}px", "height": f"{width * height // length}px"}
        self.canvas = Canvas(width=length, height=height, layout=layout)
        ends = ("mouse_up", "mouse_out", "touch_end", "touch_cancel")
        events = {"mouse_down": self.press, "touch_start": self.press, "mouse_move": self.drag, "touch_move": self.drag}
        for event, action in (events | dict.fromkeys(ends, self.release)).items():
            getattr(self.canvas, f"on_{event}")(action)
        self.canvas.on_client_ready(self._draw)  # a page that was loaded again knows nothing of before
        choices = [*zip(classes, range(len(classes)), strict=True), ("erase", IGNORE)]
        self.brush = ToggleButtons(options=choices, value=1, description="paint")
        self.radius = IntSlider(1, max=8, description="radius, px")
        self.down, self.across = (IntSlider(50, description=f"{way}, %") for way in ("down", "across"))
        there, clear = Button(description="Paint there"), Button(description="Clear all")
        there.on_click(self._dab)
        clear.on_click(lambda _: self.replace(np.full_like(self.labels, IGNORE)))
        self._draw()
        super().__init__([self.brush, self.radius, self.canvas, self.down, self.across, HBox([there, clear])])

    def on_change(self, action: Callable[[], Any]) -> None:
        """Call `action()`, instead of an earlier one, after each stroke, and when strokes are replaced."""
        self._changed = action

    def replace(self, labels: Array) -> None:
        """Take these strokes, as `labels` has them, instead. InputError: another shape, or an id that is no class."""
        given, known = np.asarray(labels), {value for _, value in self.brush.options}
        if given.shape != self.labels.shape or not known.issuperset(np.unique(given).tolist()):
            what = f"strokes {given.shape} with ids {np.unique(given)[:9].tolist()} do not fit {self.labels.shape}"
            raise InputError(what, f"strokes belong to one picture; their ids are among {sorted(known)}")
        self.labels = given.astype(np.uint8)
        self._finish()

    def press(self, *place: Any) -> None:
        """A stroke begins at x, y, in pixels; of several fingers, `[(x, y), ...]`, the first one counts."""
        self._last = self._cell(*place)
        self.drag(*place)

    def drag(self, *place: Any) -> None:
        """The stroke goes on to x, y, if one has begun."""
        if self._last >= (0, 0):
            for centre in zip(*line(*self._last, *self._cell(*place)), strict=True):
                self.labels[disk(centre, self.radius.value + 0.5, shape=self.labels.shape)] = self.brush.value
            self._last = self._cell(*place)
            self._draw()

    def release(self, *_: Any) -> None:
        """The stroke ends, if one has begun."""
        if self._last >= (0, 0):
            self._last = (-1, -1)
            self._finish()

    def _cell(self, *place: Any) -> tuple[int, int]:
        x, y = place if len(place) == 2 else place[0][0]
        return max(int(y), 0), max(int(x), 0)

    def _dab(self, _: Any) -> None:
        rows, columns = self.labels.shape
        self.press(self.across.value * (columns - 1) / 100, self.down.value * (rows - 1) / 100)
        self.release()

    def _draw(self) -> None:
        painted = self.labels[..., None] < IGNORE
        self.canvas.put_image_data(np.where(painted, COLOURS[self.labels % len(COLOURS)], self._pixels))

    def _finish(self) -> None:
        self._draw()
        self._changed()
