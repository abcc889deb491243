"""What a submission sent becomes a mark and a reason; nothing of it is trusted."""

import csv
import json
import math

import nbformat
import pytest
import torch

from course_lib.cli import grade, notebooks, sandbox
from course_lib.cli.errors import NotebookError
from course_lib.cli.exercises import Draw
from course_lib.cli.sandbox import Ended
from course_lib.cli.sandboxed import _due, _encode

LESSONS = {path.stem: path for path in notebooks.sources(notebooks.checkout())}
FIRST, OTHER = "00_start_here", "01_thresholding"
LIMITS = (60, 2 << 30)


def write(path, *sources, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path.write_text(json.dumps(nbformat.v4.new_notebook(cells=cells) | fields), encoding="utf-8")


def collect(folder, draw=Draw(0, 1)):  # noqa: B008 - it cannot be changed
    return {str(one.file): one for one in grade.collect(folder, draw, folder / "report")}


@pytest.fixture
def submission(tmp_path):
    write(tmp_path / "ada" / f"{FIRST}.ipynb", "shape = 0", "check.batch_shape(shape)", "x = '''long\ncell'''")
    [one] = collect(tmp_path).values()
    return one


def marked(submission, *happened, limit=""):
    grade.mark(submission, Ended(list(happened), limit, 1.5), LIMITS)
    return {mark.name: mark for mark in submission.marks}


def test_a_notebook_is_known_by_its_name_or_by_its_exercises(tmp_path):
    write(tmp_path / "ada" / "late" / f"Copy of {FIRST} (1).ipynb", "1")
    write(tmp_path / f"bob_{OTHER}.ipynb", "1")
    write(tmp_path / "eve" / "homework.ipynb", "check.dice(mine)")
    write(tmp_path / "ida" / "poem.ipynb", "print('check')")
    write(tmp_path / "ida" / ".ipynb_checkpoints" / f"{FIRST}-checkpoint.ipynb", "1")
    write(tmp_path / "report" / f"{FIRST}.ipynb", "1")
    found = {(one.student, one.lesson and one.lesson.name) for one in collect(tmp_path).values()}
    assert found == {("ada", FIRST), ("bob", OTHER), ("eve", OTHER), ("ida", None)}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("<<<<<<< HEAD", "is no notebook"),
        ("[" * 100_000, "cannot be read"),
        ('{"nbformat": 3}', "format 3"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ["a", 3]}', "cannot be read"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}', "cannot be read"),
        (" " * (21 << 20), "more than 20 MB"),
    ],
)
def test_what_cannot_be_read_is_said_and_earns_nothing(tmp_path, text, note):
    (tmp_path / f"{FIRST}.ipynb").write_text(text, encoding="utf-8")
    [one] = collect(tmp_path).values()
    assert note in " ".join(one.notes)
    grade.mark(one, Ended([{"cell": 0}, {"end": True}]), LIMITS)
    assert (one.points, len(one.marks)) == (0, 3)


def test_a_link_is_not_followed(tmp_path):
    write(tmp_path / "elsewhere.txt", "check.batch_shape(1)")
    (tmp_path / "handed").mkdir()
    try:
        (tmp_path / "handed" / f"{FIRST}.ipynb").symlink_to(tmp_path / "elsewhere.txt")
    except OSError:
        pytest.skip("this system does not let us make links")
    [one] = collect(tmp_path / "handed").values()
    assert "a link" in one.notes[0]
    assert one.cells == []


def test_no_folder_and_no_notebook_are_errors(tmp_path):
    with pytest.raises(NotebookError, match="is no folder"):
        collect(tmp_path / "none")
    with pytest.raises(NotebookError, match="holds no notebook"):
        collect(tmp_path)


def test_marks_and_reasons(submission):
    good = {"shape": [2], "values": [1, 2]}
    marks = marked(
        submission,
        {"cell": 1},
        {"exercise": "batch_shape", "answer": [[8, 96, 128, 3]]},
        {"exercise": "normalise", "answer": {"failed": "your function stopped with ValueError: no"}},
        {"exercise": "panoptic", "answer": [{"open": True}] * 3},
        {"exercise": "another", "answer": good},
        {"end": True},
    )
    assert {name: (mark.state, mark.points) for name, mark in marks.items()} == {
        "batch_shape": ("wrong", 0),
        "normalise": ("wrong", 0),
        "panoptic": ("open", 0),
    }
    assert "channels-last" in marks["batch_shape"].reason
    assert marks["panoptic"].reason == "replace the ... with your answer."
    assert all("gone or was changed" in note for note in submission.notes)
    assert len(submission.notes) == 2, "the check of batch_shape is there"


def test_right_answers_earn_points(submission):
    record = submission.lesson.records
    events = [{"exercise": name, "answer": record[name]["right"]} for name in record]
    events[0]["answer"] = [_encode(torch.Size(record["batch_shape"]["right"][0]))]
    marked(submission, *events, {"end": True})
    assert submission.points == 3


@pytest.mark.parametrize(
    "answer",
    [
        None,
        True,
        "passed",
        {},
        {"state": "passed"},
        [],
        [[]],
        [1, 2],
        {"shape": [-1, 99], "values": [1]},
        {"shape": [10**12], "values": []},
        {"shape": ["a"], "values": ["b"]},
        [10**400] * 3,
        [{"failed": "x"}] * 3,
        [{"open": True, "state": "passed"}, 1, 2],
        [float("nan")] * 3,
        ["passed"] * 3,
    ],
)
def test_no_forged_answer_earns_a_point_or_stops_the_others(submission, answer):
    marks = marked(
        submission, *({"exercise": name, "answer": answer} for name in submission.lesson.records), {"end": 1}
    )
    assert len(marks) == 3
    assert submission.points == 0


def test_events_that_are_none_are_passed_over(submission):
    marked(submission, {}, {"cell": "x"}, {"cell": 10**30}, {"error": 0}, {"error": -4, "text": 3}, {"exercise": []})
    assert submission.points == 0
    assert "It ended itself in code cell" in submission.notes[0]


@pytest.mark.parametrize("limit", grade.ENDED)
def test_an_end_before_the_end_is_explained(submission, limit):
    marks = marked(submission, {"cell": 2}, limit=limit)
    assert "code cell 3 (`x = '''long`)" in submission.notes[0] or limit == "lost"
    assert {mark.state for mark in marks.values()} == {"missing"}


def test_texts_of_others_are_bounded_and_control_nothing(submission):
    marked(submission, {"cell": 0}, {"error": 0, "text": "Oh\x1b[2J\n" + "x" * 9999}, {"end": True})
    [note] = [note for note in submission.notes if "stopped" in note]
    assert note.isprintable()
    assert len(note) < 500


def test_the_report_is_safe_for_browsers_and_spreadsheets(submission, tmp_path):
    submission.student = "=HYPERLINK(1)"
    submission.notes.append("<script>alert(1)</script>")
    marked(submission, {"cell": 0}, {"end": True})
    grade.report([submission], tmp_path)
    page = (tmp_path / "grades.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as stream:
        [row] = csv.DictReader(stream)
    assert row["student"] == "'=HYPERLINK(1)"
    assert (row["points"], row["of"], row["file"]) == ("0", "3", str(submission.file))


def test_an_answer_survives_its_way_out():
    values = [3, 2.5, True, None, "text", math.inf, [1, [2, 3]]]
    for value in values:
        assert grade._decoded(json.loads(json.dumps(_encode(value)))) == value
    array = grade._decoded(json.loads(json.dumps(_encode(torch.zeros(0, 4)))))
    assert array.shape == (0, 4)
    assert grade._decoded(_encode(...)) is ...
    assert grade._decoded(_encode({"a": 1})) == "{'a': 1}"
    assert grade._decoded(_encode(torch.zeros(1000, 1000))) == "1,000,000 numbers"


@pytest.mark.parametrize(
    ("cells", "due"),
    [
        ([("dice = 1", "dice"), ("check.dice(mine)", "check-dice"), ("dice = 2", "")], (1, "mine")),
        ([("dice = 1", "dice"), ("print('[passed]')", "check-dice"), ("dice = 2", "")], (1, "dice")),
        ([("dice = 1", "dice"), ("dice = 2", "")], (0, "dice")),
        ([("def dice(): pass", ""), ("def dice(", ""), ("1", "")], (0, "dice")),
        ([("1", ""), ("%magic", "")], (1, "dice")),
    ],
)
def test_where_an_answer_is_found(cells, due):
    cells = [{"source": source, "id": mark} for source, mark in cells]
    assert _due({"name": "dice", "answer": "dice"}, cells) == due


@pytest.mark.parametrize(
    ("variant", "source", "noted"),
    [
        (0, "SEED = 5", False),
        (0, "SEED = 5\ncheck.use('...')", True),
        (5, "SEED = 5\ncheck.use('...')", False),
        (6, "SEED = 5\ncheck.use('...')", True),
    ],
)
def test_a_notebook_of_another_release_is_noticed(tmp_path, variant, source, noted):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{FIRST}.ipynb")
    [one] = collect(tmp_path, Draw(variant, 1)).values()
    grade.mark(one, Ended([{"cell": 0}, {"end": True}]), LIMITS)
    assert noted == any("SEED" in note for note in one.notes)


def test_what_is_not_protected_is_said_first(capsys):
    grade.announce(3, ["No isolation of files."], 60, 2, "2 at a time")
    said = capsys.readouterr().out
    assert said.index("Careful") < said.index("No isolation of files.") < said.index("3 submissions, 2 at a time")
    grade.announce(3, [], 60, 2, "2 at a time")
    assert "Careful" not in capsys.readouterr().out


def test_two_equal_notebooks_run_once(tmp_path):
    for student in ("ada", "bob"):
        write(tmp_path / "handed" / student / f"{FIRST}.ipynb", "shape = (8, 3, 96, 128)")

    class Pool:
        count = 0

        def ended(self, tasks, limits):
            for key in tasks:
                self.count += 1
                yield key, Ended([{"cell": 0}, {"exercise": "batch_shape", "answer": [[8, 3, 96, 128]]}, {"end": True}])

    pool, submissions = Pool(), list(collect(tmp_path / "handed").values())
    grade.mark_all(submissions, pool, LIMITS, tmp_path / "report")
    assert pool.count == 1
    assert [one.points for one in submissions] == [1, 1]
    again = list(collect(tmp_path / "handed").values())
    grade.mark_all(again, pool, LIMITS, tmp_path / "report")
    assert pool.count == 1
    assert [one.points for one in again] == [1, 1]


def test_a_failure_of_our_own_stops_no_others(monkeypatch):
    def run(task, seconds, memory):
        if task["cells"] == "bad":
            raise OSError("no more processes")
        return Ended([{"end": True}])

    monkeypatch.setattr(sandbox, "run", run)
    with grade.Local(2) as pool:
        found = dict(pool.ended({"a": {"cells": "bad"}, "b": {"cells": ""}}, LIMITS))
    assert found == {"a": Ended([], "lost"), "b": Ended([{"end": True}])}


def test_an_engine_needs_its_scheduler(tmp_path):
    for options in ({"engine": "dask"}, {"engine": "spark"}, {"scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(NotebookError, match="no such engine"):
            grade.grade(tmp_path, **options)


def test_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(grade.os, "cpu_count", lambda: 64)
    assert grade.fitting(1 << 60) == 1
    assert grade.fitting(1) == 64
    assert sandbox.PROCESSES < sandbox.TASKS
