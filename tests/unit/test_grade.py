"""What a submission sent becomes a mark and a reason; nothing of it is trusted."""

import csv
import json
import math
from decimal import Decimal
from fractions import Fraction

import nbformat
import numpy as np
import pytest
import torch

from course_lib.cli import grade, notebooks, release, sandbox
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
        ("<<<<<<< HEAD", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"nbformat": 3}', "format 4"),
        ('{"nbformat": "\\ud800"}', "format 4"),
        ("[1]", "format 4"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}', "format 4"),
        ('{"nbformat": 4, "cells": [' + "{}," * 2000 + "{}]}", "more than 2000 cells"),
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


@pytest.mark.parametrize(
    "cell", ["a", 3, {}, {"cell_type": "code"}, {"cell_type": "code", "source": 3, "metadata": [], "outputs": {}}]
)
def test_odd_cells_are_passed_over(tmp_path, cell):
    text = json.dumps({"nbformat": 4, "cells": [cell, {"cell_type": "code", "source": ["a = 1\n", "b = 2"]}]})
    (tmp_path / f"{FIRST}.ipynb").write_text(text, encoding="utf-8")
    [one] = collect(tmp_path).values()
    assert one.cells[-1]["source"] == "a = 1\nb = 2"
    assert one.task


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


def test_a_function_that_was_never_begun_is_open(submission):
    marks = marked(submission, {"exercise": "panoptic", "answer": [{"open": True}]}, {"end": True})
    assert (marks["panoptic"].state, marks["panoptic"].reason) == ("open", "replace the ... with your answer.")


def test_a_report_that_cannot_be_written_is_said_before_anything_runs(tmp_path, monkeypatch):
    write(tmp_path / "handed" / f"{FIRST}.ipynb", "1")
    (tmp_path / "file").touch()
    monkeypatch.setattr(grade, "mark_all", pytest.fail)
    with pytest.raises(NotebookError, match="cannot write to"):
        grade.grade(tmp_path / "handed", to=tmp_path / "file" / "report")


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


@pytest.mark.parametrize(
    "event",
    [
        {},
        [],
        {"cell": "x"},
        {"cell": 10**30},
        {"cell": -1},
        {"cell": 1, "more": 2},
        {"error": 0},
        {"error": -4, "text": "x"},
        {"error": 1, "text": 3},
        {"exercise": [], "answer": 1},
        {"exercise": "dice"},
        {"end": 1.5},
        {"exercise": "dice", "answer": json.loads("[" * 50 + "]" * 50)},
    ],
)
def test_what_is_no_event_is_passed_over(event):
    assert not (isinstance(event, dict) and sandbox._well_formed(event))


def test_the_best_of_several_tries_counts(submission):
    right = submission.lesson.records["batch_shape"]["right"]
    tries = ([{"open": True}], [[1, 2]], right, [[8, 96, 128, 3]], {"failed": "NameError: name"})
    marks = marked(submission, *({"exercise": "batch_shape", "answer": answer} for answer in tries), {"end": True})
    assert marks["batch_shape"].state == "passed"


def test_what_did_not_begin_is_not_the_student_s_fault(submission):
    marked(submission)
    assert "could not be run" in submission.notes[0]


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
    submission.student = "=HYPERLINK(1)/../\ud800"
    submission.notes.append("<script>alert(1)</script>")
    marked(submission, {"cell": 0}, {"end": True})
    grade.report([submission], tmp_path)
    [page] = [file.read_text(encoding="utf-8") for file in (tmp_path / "students").iterdir()]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    with (tmp_path / "grades.csv").open(encoding="utf-8-sig", newline="") as stream:
        [row] = csv.DictReader(stream)
    assert row["student"].startswith("'=HYPERLINK(1)")
    assert (row["points"], row["of"], row["file"]) == ("0", "3", submission.file)


def test_an_answer_survives_its_way_out():
    for value in (3, 2.5, True, None, math.inf, [1, [2, 3]]):
        assert grade._decoded(json.loads(json.dumps(_encode(value)))) == value
    for value in (Fraction(1, 2), Decimal("0.5"), np.longdouble(0.5), np.ma.array(0.5), np.array(0.5, object)):
        assert grade._decoded(json.loads(json.dumps(_encode(value)))) == 0.5
    for value in ("0.5", b"0.5", {"a": 1}, object()):
        assert isinstance(grade._decoded(json.loads(json.dumps(_encode(value)))), grade._Odd)
    array = grade._decoded(json.loads(json.dumps(_encode(torch.zeros(0, 4)))))
    assert array.shape == (0, 4)
    assert grade._decoded(_encode(...)) is ...
    assert repr(grade._decoded(_encode({"a": 1}))) == "{'a': 1}"
    assert repr(grade._decoded(_encode(torch.zeros(1000, 1000)))) == "1,000,000 numbers"


@pytest.mark.parametrize(
    ("cells", "due"),
    [
        ([("dice = 1", "dice"), ("check.dice(mine)", "check-dice"), ("dice = 2", "")], [(1, "mine")]),
        ([("dice = 1", "dice"), ("print('[passed]')", "check-dice"), ("dice = 2", "")], [(1, "dice")]),
        ([("dice = 1", "dice"), ("dice = 2", "")], [(0, "dice")]),
        ([("def dice(): pass", ""), ("def dice(", ""), ("1", "")], [(0, "dice")]),
        ([("1", ""), ("%magic", "")], [(1, "dice")]),
        ([("check.dice(a); check.dice(given=b)", ""), ("%%time\ncheck.dice(c)", "")], [(0, "a"), (0, "b"), (1, "c")]),
        ([("def f(x):\n    check.dice(x)", ""), ("!ls\nx = %pwd\ncheck.dice(c)", "")], [(1, "c")]),
        ([("\n".join(f"check.dice({n})" for n in range(9)), "")], [(0, f"{n}") for n in range(4, 9)]),
    ],
)
def test_where_an_answer_is_found(cells, due):
    cells = [{"source": source, "id": mark} for source, mark in cells]
    assert _due({"name": "dice", "answer": "dice"}, cells) == due


@pytest.mark.parametrize(("seed", "variant"), [(0, 0), (0, 5), (5, 5), (5, 0), (5, 6)])
def test_a_notebook_of_another_class_is_noticed(tmp_path, seed, variant):
    release.release(tmp_path / "handed", ["00", "03"], seed)
    one, other = collect(tmp_path / "handed", Draw(variant, 1)).values()
    for submission in (one, other):
        grade.mark(submission, Ended([{"cell": 0}, {"end": True}]), LIMITS)
    assert (seed != variant) == any("It is of copy" in note for note in one.notes)
    assert not other.notes, "in lesson 03, all classes are asked for the same"
    assert (seed != variant) == any("there are notebooks of copy" in line for line in grade.concerns([one], variant))


def test_what_could_not_be_run_is_said_at_the_end(tmp_path):
    (tmp_path / f"{FIRST}.ipynb").write_text("[]", encoding="utf-8")
    [line] = grade.concerns(list(collect(tmp_path).values()), 0)
    assert f"1 notebooks could not be run: {FIRST}.ipynb" in line


def test_two_notebooks_of_one_student_are_noticed(tmp_path):
    for name in (f"{FIRST}.ipynb", f"{FIRST} (1).ipynb", f"{OTHER}.ipynb"):
        write(tmp_path / "ada" / name, "1")
    noted = [one.lesson.name for one in collect(tmp_path).values() if any("which one" in note for note in one.notes)]
    assert noted == [FIRST, FIRST]


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
    (tmp_path / "report").mkdir()
    grade.mark_all(submissions, pool, LIMITS, tmp_path / "report")
    assert pool.count == 1
    assert [one.points for one in submissions] == [1, 1]
    again = list(collect(tmp_path / "handed").values())
    grade.mark_all(again, pool, LIMITS, tmp_path / "report")
    assert pool.count == 1
    assert [one.points for one in again] == [1, 1]
    last = list(collect(tmp_path / "handed").values())
    grade.mark_all(last, pool, (60, 3 << 30), tmp_path / "report")
    assert pool.count == 2, "with another limit it may come to something else"


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
    for options in ({"engine": "dask"}, {"scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(NotebookError, match="go together"):
            grade.grade(tmp_path, **options)
    with pytest.raises(NotebookError, match="no engine 'spark'"):
        grade.grade(tmp_path, engine="spark")


def test_as_many_as_fit(monkeypatch):
    monkeypatch.setattr(grade.os, "cpu_count", lambda: 64)
    assert grade.fitting(1 << 60) == 1
    assert grade.fitting(1) == 64
    assert sandbox.PROCESSES < sandbox.TASKS
