"""Submissions as a class hands them in, made from the course's own notebooks."""

import copy
from pathlib import Path

import nbformat
import pytest

from course_lib.cli import sandbox

ROOT = Path(__file__).parents[2]
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))}

needs_bubblewrap = pytest.mark.skipif(
    not sandbox.bubblewrap(), reason="bubblewrap (`bwrap`) is not here, or may not make user namespaces"
)


def handed_in(folder, lesson, changes=None, *, solved=True, drop=(), name=None):
    """Write a lesson as a student hands it in.

    `changes`: exercise -> new source of its solution's cell; `drop`: exercises whose check's cell is deleted.
    """
    path = LESSONS[lesson] if solved else ROOT / "notebooks" / LESSONS[lesson].name
    nb = copy.deepcopy(nbformat.read(path, 4))
    cells = {cell.metadata["nbgrader"]["grade_id"]: cell for cell in nb.cells if "nbgrader" in cell.metadata}
    for exercise, source in (changes or {}).items():
        cells[exercise].source = source
    nb.cells = [cell for cell in nb.cells if cell not in [cells[f"check-{exercise}"] for exercise in drop]]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, folder / (name or path.name))
    return folder / (name or path.name)
