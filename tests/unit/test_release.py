"""What a class gets: no solution, numbers and data of its own, and checks that know them."""

import re
import subprocess
import sys

import nbformat
import pytest

from course_lib import check
from course_lib.cli import exercises, notebooks, release
from course_lib.cli.errors import NotebookError
from course_lib.cli.exercises import Draw

LESSONS = notebooks.sources(notebooks.checkout())


def source_of(nb, pattern):
    return [cell.source for cell in nb.cells if re.search(pattern, cell.source, re.MULTILINE)]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_release_has_no_solution_and_numbers_of_its_own(path, monkeypatch, capsys):
    nb = release.released(path, 7)
    nbformat.validate(nb)
    text = notebooks.text(nb)
    assert not re.search(r"BEGIN SOLUTION|<!-- |colab-badge", text)
    assert source_of(nb, "^SEED = 7 ")
    assert "copy, number 7" in nb.cells[0].source
    found = exercises.read(path.with_suffix(".py"), Draw(variant=7))
    varied = {name: exercise for name, exercise in found.items() if exercise.constants}
    records = dict(check._records())
    monkeypatch.setattr(check, "_records", lambda: records)
    for source in source_of(nb, r"^check\.use\("):
        exec(source, {"check": check})
    for name, exercise in varied.items():
        assert getattr(check, name)(exercise.right).state == "passed"
        [text] = source_of(nb, rf"^### Exercise {exercise.number}\b")
        assert all(str(value) in text for value in exercise.constants.values())
    assert len(source_of(nb, r"^check\.use\(")) == bool(varied)


def test_without_a_seed_it_is_the_course_as_it_is(tmp_path):
    nb = release.released(LESSONS[1], 0)
    assert source_of(nb, "^SEED = None")
    assert not source_of(nb, r"^check\.use")
    student = notebooks.read(notebooks.checkout() / "notebooks" / LESSONS[1].name)
    assert [cell.source for cell in nb.cells[1:]] == [cell.source for cell in student.cells[1:]]


def test_two_releases_do_not_meet_in_one_folder(tmp_path):
    release.release(tmp_path / "class", ["01"], 3)
    before = (tmp_path / "class" / "01_thresholding.ipynb").read_bytes()
    release.release(tmp_path / "class", ["01"], 3)
    with pytest.raises(NotebookError, match="is there already, with other contents"):
        release.release(tmp_path / "class", ["00", "01"], 4)
    assert [path.name for path in (tmp_path / "class").iterdir()] == ["01_thresholding.ipynb"]
    assert (tmp_path / "class" / "01_thresholding.ipynb").read_bytes() == before


def test_the_command_says_how_to_grade(tmp_path):
    command = [sys.executable, "-m", "course_lib.cli", "release", "00", "--to", str(tmp_path / "class"), "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "course grade DIR --seed 5" in done.stdout
