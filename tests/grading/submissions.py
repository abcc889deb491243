"""Submissions as a class hands them in, made from the course's own notebooks."""

import copy
from pathlib import Path

import nbformat
import psutil
import pytest

from course_lib.cli import sandbox

ROOT = Path(__file__).parents[2]
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))}

needs_bubblewrap = pytest.mark.skipif(
    not sandbox.bubblewrap(), reason="bubblewrap (`bwrap`) is not here, or may not make user namespaces"
)


def handed_in(folder, notebook, changes=None, *, solved=True, drop=(), name=None):
    """Write a notebook as a student hands it in.

    `notebook`: the student's, as a class gets it; `changes`: exercise -> what its cell holds; `solved`: whether the
    other exercises are; `drop`: exercises whose check's cell is deleted.
    """
    nb = copy.deepcopy(nbformat.read(notebook, 4))
    cells = marked(nb)
    answers = {mark: cell.source for mark, cell in marked(nbformat.read(LESSONS[notebook.name[:2]], 4)).items()}
    for exercise, source in ((answers if solved else {}) | (changes or {})).items():
        cells[exercise].source = source
    nb.cells = [cell for cell in nb.cells if cell not in [cells[f"check-{exercise}"] for exercise in drop]]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, folder / (name or notebook.name))


def marked(nb):
    """The cells of exercises and of their checks, by nbgrader's name for them."""
    return {cell.metadata["nbgrader"]["grade_id"]: cell for cell in nb.cells if "nbgrader" in cell.metadata}


def left_behind(mark, born=(0.0, float("inf"))):
    """The command lines of processes that have this in their environment, and began in this time."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ() and born[0] <= process.create_time() <= born[1]:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found
