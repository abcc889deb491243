"""Grading on one machine and on several, interrupted and gone on; with small notebooks, so that it is quick."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from distributed import Client
from submissions import needs_bubblewrap

from course_lib.cli import grade
from course_lib.cli.errors import NotebookError
from course_lib.cli.exercises import Draw

pytestmark = needs_bubblewrap
STUDENTS = 6
COURSE = [sys.executable, "-m", "course_lib.cli", "grade"]


def small(folder, student, source):
    """A notebook of lesson 01 with one answer only."""
    folder = folder / student
    folder.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(text) for text in ("from course_lib import check", source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_thresholding.ipynb")


def points(report):
    with (report / "grades.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["student"] for row in rows}) == len(rows)
    return {row["student"]: int(row["points"]) for row in rows}


@pytest.fixture
def handed(tmp_path):
    for number in range(STUDENTS):
        right = "jaccard = 2 / 3" if number % 2 else "jaccard = 0.8"
        small(tmp_path / "handed", f"student-{number}", f"# student {number}\nimport time\ntime.sleep(1)\n{right}")
    return tmp_path / "handed"


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each a process of its own: what `dask scheduler` and `dask worker` start."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    processes = [subprocess.Popen([*start, "--no-dashboard", "--scheduler-file", str(file)], **quiet)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1"]
    processes += [subprocess.Popen([*worker, "--no-nanny", "--no-dashboard"], **quiet) for _ in range(2)]
    try:
        for _ in range(300):
            if file.is_file() and file.read_text(encoding="utf-8").strip():
                break
            time.sleep(0.1)
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        with Client(address, timeout=30) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def test_a_worker_that_is_killed_loses_nothing_and_nothing_is_graded_twice(handed, cluster, tmp_path):
    address, workers = cluster
    pool = grade.Dask(address)
    came, killed = [], pool.ended

    def ended(tasks, limits):
        for key, what in killed(tasks, limits):
            came.append(key)
            if len(came) == 2:
                workers[0].send_signal(signal.SIGKILL)
            yield key, what

    pool.ended = ended
    (tmp_path / "report").mkdir()
    submissions = grade.collect(handed, Draw(0, 1), tmp_path / "report")
    with pool:
        assert pool.workers() == "2 at a time on 2 workers"
        assert pool.lacking() == []
        grade.mark_all(submissions, pool, (60, 2 << 30), tmp_path / "report")
        with Client(address) as client:
            log = client.run_on_scheduler(
                lambda dask_scheduler: [tuple(line) for line in dask_scheduler.transition_log]
            )
    grade.report(submissions, tmp_path / "report")
    assert workers[0].poll() is not None
    assert sorted(came) == sorted({submission.key((60, 2 << 30)) for submission in submissions})
    assert points(tmp_path / "report") == {f"student-{number}": number % 2 for number in range(STUDENTS)}
    done = [line[0] for line in log if line[1:3] == ("processing", "memory") and line[0] in came]
    assert len(done) <= len(came) + 1, "no more began anew than the killed worker had at hand"


def test_the_command_takes_a_scheduler(handed, cluster, tmp_path):
    for student in list(handed.iterdir())[2:]:
        (student / "01_thresholding.ipynb").unlink()
    command = [*COURSE, str(handed), "--to", str(tmp_path / "report"), "--engine", "dask", "--scheduler", cluster[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 submissions, 2 at a time on 2 workers" in done.stdout
    assert len(points(tmp_path / "report")) == 2


def test_no_workers_are_one_clear_error(cluster):
    address, workers = cluster
    for worker in workers:
        worker.kill()
        worker.wait()
    with Client(address) as client:
        while client.nthreads():
            time.sleep(0.1)
    with pytest.raises(NotebookError, match="has no workers"):
        grade.Dask(address)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupted_run_goes_on_where_it_was(handed, tmp_path):
    report = tmp_path / "report"
    command = [*COURSE, str(handed), "--to", str(report), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    answers = report / "answers.jsonl"
    for _ in range(600):
        if answers.is_file() and len(answers.read_text(encoding="utf-8").splitlines()) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "What is graded is kept" in said
    before = answers.read_text(encoding="utf-8").splitlines()
    assert 2 <= len(before) < STUDENTS
    subprocess.run(command, capture_output=True, check=True)
    after = answers.read_text(encoding="utf-8").splitlines()
    assert after[: len(before)] == before
    assert len({json.loads(line)[0] for line in after}) == len(after) == STUDENTS
    assert points(report) == {f"student-{number}": number % 2 for number in range(STUDENTS)}
