"""Draw `overview.png`, the figure of the README, from drawn data."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt

from course_lib import plots
from course_lib.classical import otsu_mask, split_touching
from course_lib.data.synthetic import STREET_CLASSES, draw_cells, draw_streets


def write(file: Path) -> None:
    """Two rows: a street and its labels; cells, their labels, and what lesson 01 finds without training."""
    street, cells = draw_streets(STREET, (192, 256)), draw_cells(CELLS, (192, 256))
    found = split_touching(otsu_mask(cells.image.transpose(2, 0, 1)))
    panels = {
        "a picture": street.image,
        "semantic: a class for every pixel": plots.colour_classes(street.semantic, STREET_CLASSES),
        "instance: a mask for each object": plots.colour_instances(street.instances),
        "cells under the microscope": cells.image,
        "true nuclei": plots.colour_instances(cells.instances),
        "lesson 01: Otsu and watershed": plots.colour_instances(found),
    }
    plots.show(panels, columns=3, width=12)
    plt.gcf().savefig(file, dpi=80, metadata={"Software": None})


STREET, CELLS = 30, 7  # scenes with several objects, and with touching nuclei

if __name__ == "__main__":
    write(Path(__file__).with_name("overview.png"))
