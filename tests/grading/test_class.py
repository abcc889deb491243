"""A class of thirty, six of them hostile, graded by the command as an instructor gives it."""

import csv
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from submissions import LESSONS, handed_in, left_behind, needs_bubblewrap

from course_lib.cli import sandbox

pytestmark = [needs_bubblewrap, pytest.mark.timeout(900)]

COURSE = [sys.executable, "-m", "course_lib.cli"]
SEED = 7  # of the class's release, which asks for the IoU that belongs to a Dice coefficient of 0.6
SOLVED = {"iou_from_dice": "jaccard = 0.6 / (2 - 0.6)"}  # the solved lesson's own answer is for 0.8
RIGHT_03 = {
    "output_size": "def output_size(size, kernel, stride, padding):\n"
    "    return len(range(0, size + 2 * padding - kernel + 1, stride))",
    "receptive_field": "def receptive_field(layers):\n    field = 1\n    for kernel, stride in reversed(layers):\n"
    "        field = (field - 1) * stride + kernel\n    return field",
    "cross_entropy": "def cross_entropy(logits, labels):\n    return F.cross_entropy(logits, labels)",
    "smooth": "def smooth(labels, classes, eps):\n"
    "    targets = torch.full((len(labels), classes), eps / classes)\n"
    "    targets[torch.arange(len(labels)), labels] += 1 - eps\n    return targets",
}
RIGHT_01 = {
    "dice": "def dice(p, t):\n    return 2 * np.sum(p & t) / (np.sum(p) + np.sum(t)) if p.any() or t.any() else 1",
    "iou_from_dice": "jaccard = 3 / 7",
    "remove_small": "def remove_small(labels, min_area):\n    kept = labels.copy()\n"
    "    for number in np.unique(labels):\n        if (labels == number).sum() < min_area:\n"
    "            kept[labels == number] = 0\n    return kept",
}
HONEST_01 = {  # student -> what the answers are, points of 5, part of a reason or a note
    "as-solved": ({}, 5, ""),
    "own-ways": (RIGHT_01, 5, ""),
    "iou": (
        {"dice": "def dice(p, t):\n    return (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0"},
        4,
        "that is the IoU",
    ),
    "halved": ({"iou_from_dice": "jaccard = 0.3"}, 4, "halving is not it"),
    "in-words": ({"iou_from_dice": "jaccard = 'two thirds'"}, 4, "two thirds"),
    "syntax": ({"dice": "def dice(p, t)\n    return 1"}, 4, "SyntaxError"),
    "forgot-return": ({"dice": "def dice(p, t):\n    2 * (p & t).sum()"}, 4, "returns None"),
    "divides": ({"remove_small": "def remove_small(labels, min_area):\n    return labels / 0 * (1 / 0)"}, 4, "Zero"),
    "two-wrong": (
        {
            "background_at_border": "def background_at_border(mask):\n    return ~mask",
            "score_at": "def score_at(overlaps, limit):\n    return (overlaps > limit).sum() / overlaps.shape[0]",
        },
        3,
        "that is precision",
    ),
    "memorised": (  # knows what the course's own cases give, and no more
        {
            "remove_small": "import json\nfrom importlib import resources\n"
            "known = json.loads(resources.files('course_lib').joinpath('exercises/01_thresholding.json').read_text())\n"
            "known = known['remove_small']\n"
            "def remove_small(labels, min_area):\n"
            "    for (case, _), right in zip(known['cases'], known['right']):\n"
            "        if np.array_equal(case['values'], labels):\n            return np.array(right)"
        },
        4,
        "returns None",
    ),
}
HONEST_03 = {
    "as-solved": ({}, 4, ""),
    "own-ways": (RIGHT_03, 4, ""),
    "one-side": (
        {
            "output_size": "def output_size(size, kernel, stride, padding):\n"
            "    return (size + padding - kernel) // stride + 1"
        },
        3,
        "zeros are added on both sides",
    ),
    "overflows": (
        {
            "cross_entropy": "def cross_entropy(z, y):\n    return -(z.exp() / z.exp().sum(1, keepdim=True)).log()"
            "[torch.arange(len(y)), y].mean()"
        },
        3,
        "large ones overflow",
    ),
    "no-strides": (
        {"receptive_field": "def receptive_field(layers):\n    return 1 + sum(kernel - 1 for kernel, _ in layers)"},
        3,
        "strides are missing",
    ),
    "one-hot": ({"smooth": "def smooth(labels, classes, eps):\n    return F.one_hot(labels, classes)"}, 3, "one-hot"),
    "undone": ({"smooth": "# later"}, 3, "name 'smooth' is not defined"),
}
HOSTILE = {  # in place of the answer to exercise 3 of lesson 01; points of 5, part of a note
    "loop": ("while True:\n    pass", 2, "after 30 seconds of computing"),
    "memory": ("hoard = []\nwhile True:\n    hoard.append(np.ones(10_000_000))", 4, "may hold 2 GB of memory"),
    "children": (
        "import subprocess, sys\nwait = [sys.executable, '-S', '-c', 'import time; time.sleep(99)']\n"
        "children = [subprocess.Popen(wait)"
        "\n            for _ in range(100)]\nimport time\ntime.sleep(99)",
        2,
        "more than 32 processes",
    ),
    "writes": (
        "from pathlib import Path\nimport course_lib\nfor place in {places!r}:\n    try:\n"
        "        Path(place).write_text('hello')\n    except OSError as error:\n        last = error\nraise last",
        4,
        "may write only into its own folder",
    ),
    "exit": ("import os\nos._exit(0)", 2, "os._exit"),
}
TAMPERED = """
import course_lib.check, sys
for name in dir(course_lib.check):
    sys.modules["course_lib.check"].__dict__[name] = lambda *_: print("[passed] Exercise 1: right on all 4 cases.")
course_lib.check.attempt = lambda given, cases: [1.0] * len(cases or [])
course_lib.check.judge = lambda *_, **__: "passed"
dice = background_at_border = remove_small = score_at = lambda *_: 1.0
jaccard = 0.6
print("[passed] Exercise 1: right on all 4 cases.")
"""


class Pulse:
    """How long the machine takes for a small thing, now and then: what somebody at it would feel."""

    def __enter__(self):
        self.longest, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _beat(self):
        while not self._stop.wait(2):
            started = time.monotonic()
            subprocess.run([sys.executable, "-S", "-c", "print()"], capture_output=True, check=True)
            self.longest = max(self.longest, time.monotonic() - started)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    places = [str(folder / "precious.txt"), str(folder / "report" / "grades.csv"), sandbox.__file__]
    places += [str(Path.home() / "precious.txt"), str(LESSONS["01"].with_suffix(".py")), "/usr/precious.txt"]
    (folder / "precious.txt").write_text("mine", encoding="utf-8")
    handed = folder / "handed in"
    expected = {}
    released = [*COURSE, "release", "01", "03", "--to", str(folder / "released"), "--seed", str(SEED)]
    subprocess.run(released, capture_output=True, check=True)
    first, other = sorted((folder / "released").iterdir())
    for lesson, students in ((first, HONEST_01), (other, HONEST_03)):
        for student, (changes, points, reason) in students.items():
            handed_in(handed / student, lesson, (SOLVED if lesson == first else {}) | changes)
            expected[student, lesson.name[:2]] = points, reason
    handed_in(handed / "untouched", first, solved=False)
    handed_in(handed / "untouched", other, solved=False)
    handed_in(handed / "no-checks", other, drop=("output_size", "receptive_field", "cross_entropy", "smooth"))
    handed_in(handed / "renamed", first, SOLVED, name="Copy of 01_thresholding (2).ipynb")
    handed_in(handed / "other-name", other, name="homework.ipynb")
    (handed / "broken").mkdir()
    (handed / "broken" / "01_thresholding.ipynb").write_text("<<<<<<< HEAD\n", encoding="utf-8")
    (handed / "a-poem").mkdir()
    (handed / "a-poem" / "poem.ipynb").write_text('{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {}}')
    expected |= {
        ("untouched", "01"): (0, "replace the ..."),
        ("untouched", "03"): (0, "replace the ..."),
        ("no-checks", "03"): (4, "The check of exercise 1 is gone or was changed"),
        ("renamed", "01"): (5, ""),
        ("other-name", "03"): (4, ""),
        ("broken", "01"): (0, "cannot be read"),
        ("a-poem", ""): (0, "no lesson of the course"),
    }
    for student, (source, points, note) in HOSTILE.items():
        handed_in(handed / student, first, {"iou_from_dice": source.replace("{places!r}", repr(places))})
        expected[student, "01"] = points, note
    tampered = dict.fromkeys(("background_at_border", "iou_from_dice", "remove_small", "score_at"), "")
    handed_in(handed / "tampers", first, {"dice": TAMPERED} | tampered, drop=("dice", "score_at"))
    expected["tampers", "01"] = 0, "The check of exercise 5 is gone or was changed"
    assert len(expected) == 30
    command = [*COURSE, "grade", str(handed), "--to", str(folder / "report"), "--seed", str(SEED)]
    command += ["--seconds", "30", "--jobs", "2"]
    started = time.time()
    with Pulse() as pulse:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, expected, (started, time.time()), pulse, done.stdout


@pytest.fixture(scope="module")
def rows(graded):
    with (graded[0] / "report" / "grades.csv").open(encoding="utf-8-sig", newline="") as stream:
        found = list(csv.DictReader(stream))
    return {(row["student"], row["lesson"][:2]): row for row in found}


def test_each_has_the_right_mark_and_a_reason(graded, rows):
    _, expected, *_ = graded
    assert rows.keys() == expected.keys()
    found = {key: (int(row["points"]), row) for key, row in rows.items()}
    wrong = {key: (found[key], points) for key, (points, _) in expected.items() if found[key][0] != points}
    assert not wrong
    said = {key: " ".join(filter(None, row.values())) for key, row in rows.items()}
    assert not {key: (why, said[key]) for key, (_, why) in expected.items() if why not in said[key]}


def test_right_and_untouched_notebooks_run_to_their_ends(rows):
    plain = [row for row in rows.values() if row["student"] in ("as-solved", "own-ways", "renamed", "untouched")]
    assert len(plain) == 7
    assert {row["notes"] for row in plain} == {""}


def test_it_is_done_in_time_and_the_machine_stays_usable(graded):
    _, _, born, pulse, said = graded
    seconds = born[1] - born[0]
    print(f"graded in {seconds:.0f} s; a small process took at most {pulse.longest:.1f} s meanwhile")
    assert seconds < 600
    assert pulse.longest < 10
    assert "isolation" not in said
    assert "Careful: 2 notebooks could not be run" in said


def test_nothing_is_left_behind(graded):
    folder, _, born, *_ = graded
    assert (folder / "precious.txt").read_text(encoding="utf-8") == "mine"
    assert not (Path.home() / "precious.txt").exists()
    assert LESSONS["01"].with_suffix(".py").read_text(encoding="utf-8") != "hello"
    until = time.monotonic() + 40  # another test's may have begun in the same time; they end, what hides would not
    while left_behind(sandbox.MARK, born) and time.monotonic() < until:
        time.sleep(1)
    assert not left_behind(sandbox.MARK, born)
