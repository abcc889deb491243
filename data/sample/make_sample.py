"""Draw the sample pictures of this folder: `python data/sample/make_sample.py`, from any folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from course_lib.data.synthetic import VOID, draw_cells, draw_streets

CELL_SEEDS = (4, 45, 10, 15)  # fluorescence twice, stained, bright-field
STREET_SEEDS = (103, 107, 113, 118)  # day, dusk, overcast, day
CELL_SIZE, STREET_SIZE = (128, 128), (120, 160)

# one colour for each street class, in the order of STREET_CLASSES; only for looking at the masks
STREET_COLOURS = (
    *("#56b4e9", "#a65628", "#bdbdbd", "#4d4d6b", "#cc79a7", "#009e73"),
    *("#f0e442", "#8c6d31", "#0072b2", "#d55e00", "#00d5d5"),
)


def write(folder: Path) -> None:
    """Write the samples below `folder`, as `FAMILY/images`, `FAMILY/masks` and, for cells, `cells/instances`."""
    for seed in CELL_SEEDS:
        scene = draw_cells(seed, CELL_SIZE)
        name = f"{scene.variant}-{seed:03d}.png"
        _save(scene.image, folder / "cells" / "images" / name)
        _save(scene.semantic, folder / "cells" / "masks" / name)
        _save(scene.instances, folder / "cells" / "instances" / name)
    for seed in STREET_SEEDS:
        scene = draw_streets(seed, STREET_SIZE)
        name = f"{scene.variant}-{seed:03d}.png"
        _save(scene.image, folder / "streets" / "images" / name)
        _save(scene.semantic, folder / "streets" / "masks" / name, STREET_COLOURS)


def _save(pixels: NDArray[np.uint8] | NDArray[np.uint16], file: Path, colours: tuple[str, ...] = ()) -> None:
    """Write a PNG; with `colours`, one whose pixels are class ids into that palette (void is black)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if colours:
        palette = [0] * 3 * (VOID + 1)
        for i, colour in enumerate(colours):
            palette[3 * i : 3 * i + 3] = bytes.fromhex(colour[1:])
        image.putpalette(palette)
    image.save(file, optimize=True)


if __name__ == "__main__":
    write(Path(__file__).resolve().parent)
