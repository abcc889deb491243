"""Figures of the course: one palette, safe for colour-blind readers, outlines beside colours."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray
from skimage.segmentation import find_boundaries, mark_boundaries
from torch import Tensor

from course_lib.metrics import IGNORE, Array

# after Okabe and Ito (2008); the colours differ in lightness too, so a grey print still tells them apart
COLOURS = {"background": "#1b1b2f", "nucleus": "#e69f00", "sky": "#8fd0f5", "building": "#77787d", "pole": "#f0e442"}
COLOURS |= {"road": "#4a4066", "pavement": "#e6dcec", "tree": "#009e73", "sign": "#e69f00", "fence": "#6b3f1a"}
COLOURS |= {"car": "#0072b2", "pedestrian": "#d55e00", "bicyclist": "#e38fbf"}
VOID = "#000000"
FALSE_ALARM, MISSED, RIGHT = "#d55e00", "#56b4e9", "#d9d9d9"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#1b1b2f")
CYCLE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#bbbbbb")


def picture(image: Array) -> NDArray[Any]:
    """An image as matplotlib wants it, `[H, W]` or `[H, W, 3]`: channel-first tensors become channel-last."""
    array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def colour_classes(mask: Array, classes: Sequence[str] = ("background", "nucleus")) -> NDArray[np.float64]:
    """Class ids `[H, W]` as colours `[H, W, 3]`; void is black."""
    colours = [COLOURS.get(name, CYCLE[i % len(CYCLE)]) for i, name in enumerate(classes)]
    table = to_rgba_array([*colours, *[VOID] * (256 - len(colours))])
    return table[np.asarray(mask).astype(np.uint8), :3]


def colour_instances(labels: Array) -> NDArray[np.float64]:
    """Label map `[H, W]` as colours `[H, W, 3]`, with a dark line between neighbours; background is dark."""
    array = np.asarray(labels).astype(np.int64)
    coloured = to_rgba_array(CYCLE)[(array * 5) % len(CYCLE), :3]  # 5 and 8 share no factor: close numbers differ
    coloured[(array == 0) | find_boundaries(array, mode="inner")] = to_rgb(COLOURS["background"])
    return coloured


def outline(image: Array, labels: Array, colour: str = "#f0e442") -> NDArray[Any]:
    """The image `[H, W, 3]`, 0..1, with the outline of each region of `labels` `[H, W]` drawn on it."""
    base = picture(image).astype(np.float64)
    base = base / 255 if base.max() > 1 else base
    return mark_boundaries(base, np.asarray(labels).astype(np.int64), to_rgb(colour), mode="inner")


def errors(prediction: Array, truth: Array) -> NDArray[np.float64]:
    """Error map `[H, W, 3]` of two masks: false alarms orange, missed pixels blue, the rest grey or dark.

    Of more than two classes, every wrong pixel of the foreground is a false alarm. Void is black.
    """
    predicted, true = np.asarray(prediction).astype(np.int64), np.asarray(truth).astype(np.int64)
    coloured = np.where((true > 0)[..., None], to_rgb(RIGHT), to_rgb(COLOURS["background"]))
    coloured[(predicted != true) & (predicted > 0)] = to_rgb(FALSE_ALARM)
    coloured[(predicted == 0) & (true > 0)] = to_rgb(MISSED)
    coloured[true == IGNORE] = to_rgb(VOID)
    return coloured


def show(panels: Mapping[str, Array], title: str = "", *, columns: int | None = None, width: float = 11.0) -> None:
    """Show pictures side by side, `columns` a row, by default all, under the finding, `title`; `width` in inches.

    `panels`: caption -> image, or an already coloured mask; two-dimensional arrays are shown in grey.
    """
    arrays = {caption: picture(panel) for caption, panel in panels.items()}
    columns = columns or len(arrays)
    rows = -(-len(arrays) // columns)
    tallest = max(array.shape[0] / array.shape[1] for array in arrays.values())
    height = rows * (width / columns * tallest + 0.35) + (0.4 if title else 0)
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (caption, array) in zip(axes.flat, arrays.items(), strict=False):
        axis.imshow(array, cmap="gray", interpolation="nearest")
        axis.set_title(caption, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    plt.show()


def compare(image: Array, truth: Array, prediction: Array, title: str = "") -> None:
    """Image, truth, prediction and error map of one picture, always in this order, under the finding, `title`.

    The image is `[3, H, W]`, `[H, W, 3]` or `[H, W]`, the masks are `[H, W]`: background and foreground; 255 = void.
    """
    panels = {"image": image, "truth": colour_classes(truth), "prediction": colour_classes(prediction)}
    panels["errors (orange: false, blue: missed)"] = errors(prediction, truth)
    show(panels, title)


def curves(lines: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str, axis: Any = None, **axes: Any) -> None:
    """Draw `lines`, name in the legend -> (x, y), told apart by colour, dash and marker, under the finding, `title`.

    `axis`: where to draw; by default a new figure, which is shown. `axes`: for `axis.set`, such as `xlabel="epoch"`.
    """
    place = axis or plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
    for (name, (x, y)), colour, style in zip(lines.items(), LINES, ("o-", "s--", "^:", "d-.", "v-"), strict=False):
        place.plot(x, y, style, color=colour, markersize=4, label=name)
    place.set(title=title, **axes)
    place.legend()
    if axis is None:
        plt.show()


def legend(classes: Sequence[str], axis: Any) -> None:
    """A legend of class colours beside `axis`."""
    patches = [Patch(color=COLOURS.get(name, CYCLE[i % len(CYCLE)]), label=name) for i, name in enumerate(classes)]
    axis.legend(handles=patches, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
