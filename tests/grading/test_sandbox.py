"""What a submission may do, with bubblewrap and without."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from submissions import left_behind, needs_bubblewrap

from course_lib.cli import sandbox

GB = 1 << 30


@pytest.fixture(params=[pytest.param("bubblewrap", marks=needs_bubblewrap), "limits"])
def place(request, monkeypatch):
    if request.param == "limits":
        monkeypatch.setattr(sandbox, "bubblewrap", lambda: ())
    return request.param


def run(*sources, exercises=(), seconds=60, memory=2 * GB):
    cells = [{"source": source, "id": ""} for source in sources]
    task = {"cells": cells, "exercises": list(exercises), "settings": {"SEED": 3}, "parameters": 0}
    return sandbox.run(task, seconds, memory)


def errors(ended):
    return [event["text"] for event in ended.happened if "error" in event]


def answers(ended):
    return {event["exercise"]: event["answer"] for event in ended.happened if "exercise" in event}


def test_answers_come_out(place):
    exercises = [
        {"name": "double", "answer": "double", "cases": [[1], [2.5]]},
        {"name": "value", "answer": "half", "cases": None},
        {"name": "gone", "answer": "gone", "cases": None},
    ]
    sources = [
        "PROFILE = 'full'\nSEED = None",
        "def double(x):\n    return 2 * x",
        "mine = double",
        "check.double(mine)",
    ]
    ended = run(*sources, "%matplotlib inline\nhalf = SEED / 2", "1 / 0", exercises=exercises)
    assert ended.limit == ""
    assert ended.happened[-1] == {"end": True}
    assert answers(ended) == {
        "double": [2, 5.0],
        "value": [1.5],
        "gone": {"failed": "NameError: name 'gone' is not defined"},
    }
    assert errors(ended) == ["NameError: name 'check' is not defined", "ZeroDivisionError: division by zero"]


def test_a_loop_and_a_crowd_are_ended_with_all_their_processes(place, monkeypatch):
    mark = f"SUBMISSION_{os.getpid()}"  # others may be grading meanwhile
    monkeypatch.setattr(sandbox, "MARK", mark)
    loop = run("import subprocess, sys\nsubprocess.Popen([sys.executable, '-S', '-c', 'while 1: pass'])", seconds=8)
    assert loop.limit == ""
    crowd = "for _ in range(100):\n    subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(99)'])"
    ended = run("import subprocess, sys, time", crowd, "time.sleep(99)", "never = 1", seconds=60)
    assert ended.limit == "processes"
    assert {"cell": 3} not in ended.happened
    ended = run("while True:\n    pass", seconds=4)
    assert ended.limit == "seconds"
    assert ended.happened == [{"cell": 0}]
    time.sleep(0.2)
    assert not left_behind(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory beyond a limit")
def test_too_much_memory_is_an_error_in_its_cell(place):
    ended = run("import numpy as np", "big = np.ones(10**9)", "fine = 1", memory=GB)
    [text] = errors(ended)
    assert "MemoryError" in text
    assert ended.happened[-1] == {"end": True}


def test_memory_that_the_system_does_not_refuse_is_seen(place):
    fill = "shared = mmap.mmap(-1, 2 << 30)\nfor _ in range(1000):\n    shared.write(bytes(1 << 20))\ntime.sleep(9)"
    ended = run("import mmap, time", fill, memory=GB)
    assert ended.limit == "memory"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory without a name")
def test_memory_in_files_without_a_name_counts(place):
    fill = "files = [os.memfd_create('x') for _ in range(9)]\nfor file in files:\n    os.write(file, bytes(200 << 20))"
    ended = run("import os, time", f"{fill}\ntime.sleep(9)", memory=GB)
    assert ended.limit == "memory"


def test_a_machine_without_memory_ends_them(place, monkeypatch):
    monkeypatch.setattr(sandbox, "FREE", 1.0)
    assert run("import time", "time.sleep(99)").limit == "machine"


def test_all_can_be_stopped(place):
    threading.Timer(4, sandbox.STOP.set).start()
    try:
        assert run("import time", "time.sleep(99)").limit == "stopped"
    finally:
        sandbox.STOP.clear()


def test_what_children_computed_counts(place):
    forks = "import os, time\nfor _ in range(9):\n    if not os.fork():\n        end = time.process_time() + 1\n"
    forks += "        while time.process_time() < end:\n            pass\n        os._exit(0)\n    os.wait()"
    assert run(forks, seconds=5).limit == "seconds"


def test_what_is_sent_without_end_is_not_kept(place, monkeypatch):
    monkeypatch.setattr(sandbox, "TALK", 1 << 20)
    ended = run(
        "import os\nfrom contextlib import suppress\nwhile True:\n    for number in range(3, 20):\n"
        "        with suppress(OSError):\n            os.write(number, b'x' * 9999)"
    )
    assert ended.limit == "talk"
    assert all(set(event) <= {"cell", "error", "text"} for event in ended.happened)


def test_an_end_by_force_keeps_what_came_before(place):
    exercise = {"name": "value", "answer": "half", "cases": None}
    ended = run("half = 1 / 2", "check.value(half)", "import os\nos._exit(0)", "half = 1", exercises=[exercise])
    assert answers(ended) == {"value": [0.5]}
    assert {"end": True} not in ended.happened


@needs_bubblewrap
def test_bubblewrap_hides_all_but_the_course(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("mine", encoding="utf-8")
    solutions = sandbox.paths.checkout() / "notebooks" / "solutions"
    tries = [
        f"open({str(secret)!r}).read()",
        f"import os\nassert not os.path.exists({str(solutions)!r})",
        "open('/etc/passwd').read()",
        f"open({str(secret)!r}, 'w')",
        f"open({sandbox.__file__!r}, 'w')",
        "import socket\nsocket.create_connection(('10.0.0.1', 80), 1)",
        "open('/dev/shm/full', 'wb').write(bytes(300 << 20))",
        "open('full', 'wb').write(bytes(300 << 20))",
        "import os\nassert max(map(int, filter(str.isdigit, os.listdir('/proc')))) < 100, 'sees others'",
        "import os\nassert not os.environ.get('USER') and os.getcwd() == '/scratch' == os.environ['HOME']",
        "open('mine.txt', 'w').write('fine')",
        "status = dict(line.split(':') for line in open('/proc/self/status') if line.startswith('Cap'))\n"
        "assert int(status['CapEff'], 16) == int(status['CapBnd'], 16) == 0",
        "open('/proc/sys/kernel/core_pattern', 'w')",
        f"import ctypes\nplace = {str(Path(sandbox.__file__).parent)!r}.encode()\n"
        "assert ctypes.CDLL(None).mount(b'none', place, None, 32 | 4096, None) == -1",
    ]
    ended = run(*tries)
    failed = {event["error"]: event["text"] for event in ended.happened if "error" in event}
    assert set(failed) == {0, 2, 3, 4, 5, 6, 7, 12}, failed
    assert secret.read_text(encoding="utf-8") == "mine"


def test_what_is_lacking_is_said(monkeypatch):
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: ())
    [lack] = sandbox.lacking() if sys.platform == "linux" else [" ".join(sandbox.lacking())]
    assert "runs with your rights" in lack


def test_a_bubblewrap_that_may_not_work_is_none(tmp_path, monkeypatch):
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sandbox.bubblewrap.__wrapped__() == ()
