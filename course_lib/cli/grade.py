"""`course grade`: a folder of submissions, each run in a sandbox, its answers judged outside of it."""

import csv
import datetime
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib import paths
from course_lib.cli import notebooks, run, sandbox, sandboxed
from course_lib.cli.errors import NotebookError, writing
from course_lib.errors import box

if TYPE_CHECKING:
    from course_lib.cli.exercises import Draw, Exercise

LARGEST, MOST = 20 << 20, 2000  # bytes of a notebook, and its cells
LOST = "lost"
KEPT = "answers.jsonl"  # what an interrupted run goes on from
ENDED = {  # why a run was ended, as students read it
    "seconds": "It was ended in {cell}, after {seconds} seconds of computing, or a long wait. Does a loop never end?",
    "memory": "It was ended in {cell}: it held more than {memory:g} GB of memory.",
    "processes": f"It was ended in {{cell}}: it started more than {sandbox.PROCESSES} processes.",
    "talk": "It was ended in {cell}: it wrote without end.",
    "machine": "It was ended in {cell}: the machine had no memory left. Grade it again, with fewer jobs.",
    "stopped": "It was ended in {cell}, with all others.",
    LOST: "It could not be run, perhaps through no fault of its own. Grade it again.",
    "": "It ended itself in {cell}, by os._exit, exit() or a crash, before the notebook was at its end.",
}
ADVICE = {  # what an error in a sandbox may mean
    r"Errno (1|13|30)\b": " A submission may write only into its own folder.",
    "Memory|can't allocate": " A submission may hold {memory:g} GB of memory.",
    "resolution|unreachable|Connection": " A submission has no network.",
}
_ENGINES = "--engine local, or --engine dask --scheduler ADDRESS"
BEST_FIRST = ("passed", "wrong", "open", "missing")  # the best of several tries counts
Seconds = Annotated[int, typer.Option(min=10, help="Longest computing time of a submission.")]


@dataclass
class Lesson:
    """A lesson as it is graded: its exercises, and what right and wrong answers give on the cases drawn for grading."""

    source: Path  # the solved notebook
    draw: "Draw"

    @property
    def name(self) -> str:
        return self.source.stem

    @cached_property
    def notebook(self) -> Any:
        return notebooks.read(self.source)

    @cached_property
    def fingerprint(self) -> str:
        return run.fingerprint(self.source)

    @cached_property
    def varies(self) -> bool:
        """Whether its exercises ask for other numbers in other copies."""
        return any(exercise.constants for exercise in self._exercises.values())

    @cached_property
    def asked(self) -> list[notebooks.Asked]:
        return notebooks.asked(self.notebook, self.source.name)

    @cached_property
    def _exercises(self) -> "dict[str, Exercise]":
        from course_lib.cli.exercises import read  # imports torch

        return read(self.source.with_suffix(".py"), self.draw)

    @cached_property
    def records(self) -> dict[str, dict[str, Any]]:
        return {name: json.loads(json.dumps(exercise.record())) for name, exercise in self._exercises.items()}


@dataclass
class Mark:
    """What an exercise earned, and why."""

    name: str
    number: int
    state: str  # of `BEST_FIRST`
    reason: str

    @property
    def points(self) -> int:
        return int(self.state == "passed")


@dataclass
class Submission:
    """A notebook that was handed in, and its marks."""

    student: str
    file: str
    lesson: Lesson | None = None
    cells: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def points(self) -> int:
        return sum(mark.points for mark in self.marks)

    @property
    def copy(self) -> int | None:
        """Which copy of the course its exercises are of, 0 for the course's own; None where all copies are alike."""
        if not self.lesson or not self.cells or not self.lesson.varies:
            return None
        found = [re.match(r"# Copy (\d{1,9})\b.*\ncheck\.use", cell["source"]) for cell in self.cells]
        return next((int(match[1]) for match in found if match), 0)

    @cached_property
    def task(self) -> dict[str, Any]:
        """What the sandbox gets."""
        assert self.lesson
        records = self.lesson.records
        exercises = [{"name": a.name, "answer": a.answer, "cases": records[a.name]["cases"]} for a in self.lesson.asked]
        places = [index for index, cell in enumerate(self.cells) if cell["parameters"]]
        settings = {"PROFILE": "smoke", "DATA": "synthetic", "DEVICE": "cpu", "SEED": self.lesson.draw.variant}
        cells = [{"source": cell["source"], "id": cell["id"]} for cell in self.cells]
        return {
            "cells": cells,
            "exercises": exercises,
            "settings": settings,
            "parameters": places[0] if places else None,
        }

    def key(self, limits: tuple[int, int]) -> str:
        """The same for two submissions, or two runs of one, that must come to the same."""
        assert self.lesson
        code = Path(sandboxed.__file__).read_text(encoding="utf-8")
        parts = [self.task, self.lesson.fingerprint, limits, code, bool(sandbox.bubblewrap())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def grade(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Notebooks, best one folder a student.")],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the report; build/grades by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="That of `course release`; 0: the course's own notebooks.")] = 0,
    seconds: Seconds = 300,
    memory: Annotated[float, typer.Option(min=1, help="GB that a submission may hold.")] = 2.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many run at the same time; by default as many as fit.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or dask for several machines.")] = "local",
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Such as tcp://10.0.0.1:8786.")] = None,
) -> None:
    """Run submissions in isolation, in the profile smoke on drawn data, and mark their exercises: grades.csv and .html.

    Run again after an interruption, it goes on where it was.
    """
    if engine not in ("local", "dask"):
        raise NotebookError(f"no engine {engine!r}", _ENGINES)
    if (engine == "dask") != bool(scheduler):
        raise NotebookError("--engine dask and --scheduler go together", _ENGINES)
    from course_lib.cli.exercises import Draw  # imports torch

    target = (to or paths.build_dir() / "grades").absolute()
    submissions = collect(folder, Draw(seed, 1 + seed), target)
    limits = (seconds, int(memory * (1 << 30)))
    with writing(target):  # before anything runs
        (target / KEPT).touch()
    pool = Dask(scheduler) if scheduler else Local(jobs or fitting(limits[1]))
    with pool:
        announce(len(submissions), pool.lacking(), seconds, memory, pool.workers())
        try:
            mark_all(submissions, pool, limits, target)
        except KeyboardInterrupt:
            typer.echo("What is graded is kept: the same command goes on from there.", err=True)
            raise
    with writing(target):
        report(submissions, target)
    for line in concerns(submissions, seed):
        typer.echo(f"Careful: {line}")
    points, most = sum(s.points for s in submissions), sum(len(s.marks) for s in submissions)
    typer.echo(f"{len(submissions)} submissions, {points} of {most} points: {target / 'grades.html'}")


def concerns(submissions: list[Submission], seed: int) -> Iterator[str]:
    """What whoever grades should look at, before anybody sees a mark."""
    if unmarked := [one.file for one in submissions if not one.lesson or not one.cells]:
        yield f"{len(unmarked)} notebooks could not be run: {', '.join(unmarked[:5])}"
    if copies := sorted({one.copy for one in submissions if one.copy not in (None, seed)}):
        numbers = " and ".join(map(str, copies))
        yield f"there are notebooks of copy {numbers}, but --seed is {seed}: grade those with the right seed"


def collect(folder: Path, draw: "Draw", report: Path) -> list[Submission]:
    """The notebooks in a folder, each with its lesson and its code cells; a report inside of it is left out.

    Raises:
        NotebookError: no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise NotebookError(f"{folder} is no folder", "name the folder that holds what was handed in")
    lessons = [Lesson(source, draw) for source in notebooks.sources(notebooks.checkout())]
    found = [
        _opened(path, folder, lessons)
        for path in sorted(folder.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts and report not in path.absolute().parents
    ]
    if not found:
        raise NotebookError(f"{folder} holds no notebook", "put notebooks there, best one folder a student")
    seen = Counter((one.student, one.lesson and one.lesson.name) for one in found)
    for one in found:
        if seen[one.student, one.lesson and one.lesson.name] > 1:
            one.notes.append(f"{one.student} has another notebook of this lesson: which one counts?")
    return found


def _opened(path: Path, folder: Path, lessons: list[Lesson]) -> Submission:
    file = path.relative_to(folder)
    stems = "|".join(lesson.name for lesson in lessons)
    own = re.sub(rf"{stems}|^Copy of |\(\d+\)", "", path.stem).strip(" _-")
    student = file.parts[0] if len(file.parts) > 1 else own or path.stem
    submission = Submission(_plain(student, 100), _plain(str(file)))
    try:
        submission.cells = _cells(path)
    except (NotebookError, OSError, ValueError, RecursionError) as error:
        submission.notes.append(f"It cannot be read: {_plain(getattr(error, 'message', str(error)))}.")
    submission.lesson = _lesson_of(path, submission.cells, lessons)
    if not submission.lesson and not submission.notes:
        submission.notes.append("It is no lesson of the course: keep the name of the notebook.")
    return submission


def _cells(path: Path) -> list[dict[str, Any]]:
    """Source, nbgrader's name and tag of each code cell of a notebook that anybody may have written."""
    if path.is_symlink() or not path.is_file():
        raise NotebookError("a link, or no file")
    if path.stat().st_size > LARGEST:
        raise NotebookError(f"it has more than {LARGEST >> 20} MB: clear its outputs and hand it in again")
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or raw.get("nbformat") != 4 or not isinstance(raw.get("cells"), list):
        raise NotebookError("it is no notebook of format 4: save it from JupyterLab")
    if len(raw["cells"]) > MOST:
        raise NotebookError(f"it has more than {MOST} cells")
    return [_cell(cell) for cell in raw["cells"] if isinstance(cell, dict) and cell.get("cell_type") == "code"]


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    source, meta = cell.get("source", ""), cell.get("metadata", {})
    lines = source if isinstance(source, list) else [source]
    meta = meta if isinstance(meta, dict) else {}
    tags, mark = meta.get("tags", []), meta.get("nbgrader", {})
    return {
        "source": "".join(line for line in lines if isinstance(line, str)),
        "id": str(mark.get("grade_id")) if isinstance(mark, dict) else "",
        "parameters": isinstance(tags, list) and "parameters" in tags,
    }


def _lesson_of(path: Path, cells: list[dict[str, Any]], lessons: list[Lesson]) -> Lesson | None:
    """The lesson of the file's name; else the one whose exercises it has."""
    if named := [lesson for lesson in lessons if lesson.name in path.name]:
        return named[0]
    checked = {name for cell in cells for name in re.findall(r"\bcheck\.(\w+)", cell["source"])}
    counts = [len(checked & {asked.name for asked in lesson.asked}) for lesson in lessons]
    return lessons[counts.index(max(counts))] if max(counts) else None


def fitting(memory: int) -> int:
    """How many submissions may run at the same time: one a core, as far as their memory is there."""
    import psutil

    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().available // memory))


class Local:
    """Runs on this machine, several at a time."""

    def __init__(self, jobs: int) -> None:
        self._pool, self._jobs = ThreadPoolExecutor(jobs), jobs

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error:
            sandbox.STOP.set()
        self._pool.shutdown(cancel_futures=True)
        sandbox.STOP.clear()

    def lacking(self) -> list[str]:
        return sandbox.lacking()

    def workers(self) -> str:
        return f"{self._jobs} at a time"

    def ended(self, tasks: dict[str, dict[str, Any]], limits: tuple[int, int]) -> Iterator[tuple[str, sandbox.Ended]]:
        """What each of the tasks came to, as they end."""
        futures = {self._pool.submit(sandbox.run, task, *limits): key for key, task in tasks.items()}
        for future in as_completed(futures):
            yield futures[future], sandbox.Ended([], LOST) if future.exception() else future.result()


_START = "start one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"


class Dask:
    """Runs on the workers of a Dask scheduler; what a worker had begun when it stopped begins anew on another."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise NotebookError("grading with Dask needs distributed", 'pip install -e ".[grading]"') from None
        try:
            self._client = Client(address, timeout=20)
            if not self._client.nthreads():
                raise NotebookError(f"the Dask scheduler at {address} has no workers", _START)
        except (OSError, ValueError) as error:
            raise NotebookError(f"no Dask scheduler answers at {address}: {error}", _START) from None

    def __enter__(self) -> "Dask":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def lacking(self) -> list[str]:
        """What the workers' machines lack, each of them once."""
        return sorted({lack for lacks in self._client.run(sandbox.lacking).values() for lack in lacks})

    def workers(self) -> str:
        threads = self._client.nthreads()
        return f"{sum(threads.values())} at a time on {len(threads)} workers"

    def ended(self, tasks: dict[str, dict[str, Any]], limits: tuple[int, int]) -> Iterator[tuple[str, sandbox.Ended]]:
        """What each of the tasks came to, as they end; a task has the name of what it is, so it is there once."""
        from distributed import as_completed

        futures = [self._client.submit(sandbox.run, task, *limits, key=key) for key, task in tasks.items()]
        for future in as_completed(futures):
            yield future.key, future.result() if future.status == "finished" else sandbox.Ended([], LOST)
            future.release()


def announce(count: int, lacking: list[str], seconds: int, memory: float, workers: str) -> None:
    """Say what begins, and first of all against what it does not protect."""
    if lacking:
        advice = "Grade in a container, a virtual machine or an account of its own, or install bubblewrap on Linux."
        typer.echo(box(["Careful:", *lacking, advice]))
    typer.echo(f"{count} submissions, {workers}; each may compute {seconds} s and hold {memory:g} GB.")


def mark_all(submissions: list[Submission], pool: Local | Dask, limits: tuple[int, int], target: Path) -> None:
    """Run all that have not run before, keep what they came to in `target`, and mark them."""
    from tqdm import tqdm

    waiting: dict[str, list[Submission]] = {}
    for submission in submissions:
        if submission.lesson:
            waiting.setdefault(submission.key(limits), []).append(submission)
    tasks = {key: same[0].task for key, same in waiting.items()}
    kept = target / KEPT
    with tqdm(total=len(waiting), desc="grading", unit="submission", disable=None) as bar:

        def settle(key: str, ended: sandbox.Ended) -> None:
            for submission in waiting.pop(key):
                mark(submission, ended, limits)
            tasks.pop(key, None)
            bar.update()

        for key, ended in _kept(kept):
            if key in waiting:
                settle(key, ended)
        with kept.open("a", encoding="utf-8") as answers:
            for key, ended in pool.ended(dict(tasks), limits):
                if {"end": True} in ended.happened:  # else it may have been the machine's fault
                    answers.write(json.dumps([key, ended]) + "\n")
                    answers.flush()
                settle(key, ended)


def _kept(file: Path) -> Iterator[tuple[str, sandbox.Ended]]:
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                with suppress(ValueError, TypeError, RecursionError):  # the last one of a run that was killed
                    key, ended = json.loads(line)
                    yield key, sandbox.Ended(*ended)


def mark(submission: Submission, ended: sandbox.Ended, limits: tuple[int, int]) -> None:
    """Fill in marks and notes from what a run sent. Nothing of it is trusted: it is compared, or shown as text."""
    assert submission.lesson
    lesson, cells = submission.lesson, submission.cells
    submission.seconds = ended.seconds
    submission.notes += _how_it_ended(cells, ended, limits)
    if submission.copy not in (None, lesson.draw.variant):
        submission.notes.append(f"It is of copy {submission.copy}, and was graded as copy {lesson.draw.variant}.")
    sources = {cell["source"].strip() for cell in cells}
    for asked in lesson.asked:
        record = lesson.records[asked.name]
        if lesson.notebook.cells[asked.check].source.strip() not in sources:
            submission.notes.append(
                f"The check of exercise {record['number']} is gone or was changed; its answer was tried all the same."
            )
        tries = [event["answer"] for event in ended.happened if event.get("exercise") == asked.name][-sandboxed.TRIES :]
        outcomes = [_judged(answer, record) for answer in tries]
        outcomes = outcomes or [("missing", "The run ended before it came to this exercise.")]
        state, reason = min(reversed(outcomes), key=lambda outcome: BEST_FIRST.index(outcome[0]))
        submission.marks.append(Mark(asked.name, record["number"], state, _plain(reason)))


def _how_it_ended(cells: list[dict[str, Any]], ended: sandbox.Ended, limits: tuple[int, int]) -> Iterator[str]:
    """Why a run was not whole, and the first error in it."""
    reached = [event["cell"] for event in ended.happened if "cell" in event]
    errors = [(event["error"], event["text"]) for event in ended.happened if "error" in event]
    memory = limits[1] / (1 << 30)
    if ended.limit or {"end": True} not in ended.happened:
        why = ended.limit if reached else LOST
        before = "" if why == LOST else " What came before counts."
        cell = _where(cells, reached[-1]) if reached else ""
        yield ENDED[why].format(cell=cell, seconds=limits[0], memory=memory) + before
    if errors:
        index, text = errors[0]
        hint = next((advice for sign, advice in ADVICE.items() if re.search(sign, text)), "").format(memory=memory)
        more = f" {len(errors) - 1} more stopped, too." if len(errors) > 1 else ""
        yield f"C{_where(cells, index)[1:]} stopped: {_plain(text)}.{hint}{more}"


def _where(cells: list[dict[str, Any]], index: int) -> str:
    """A cell by its number among the code cells, and its first line."""
    lines = cells[index]["source"].splitlines() if 0 <= index < len(cells) else []
    first = next((line.strip() for line in lines if line.strip()), "")
    return f"code cell {index + 1} (`{_plain(first, 50)}`)"


def _plain(text: str, longest: int = 300) -> str:
    """A text that others wrote, in one line of bounded length, without what controls a terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * longest])
    return text if len(text) <= longest else text[:longest] + " ..."


def _judged(answer: Any, record: dict[str, Any]) -> tuple[str, str]:
    """State and message, as `course_lib.check` would give them, of an answer that came out of a sandbox."""
    from course_lib.check import judge  # imports torch

    match answer:
        case {"failed": str(why)} if why.startswith("NameError"):
            return "missing", f"There is no answer to try: {why}."
        case {"failed": str(why)}:
            return "wrong", why
        case [{"open": True}]:  # also where a function is asked for, and cases are many
            answer = answer * len(record["right"])
    match answer:
        case list() if len(answer) == len(record["right"]):
            try:
                outcome = judge(_decoded(answer), **record)
                return outcome.state, outcome.message.replace(", then run this cell again", "")
            except Exception as error:  # noqa: BLE001 - whatever was sent, it is no right answer
                return "wrong", f"your answer cannot be compared: {type(error).__name__}."
    return "wrong", "your answer could not be read."


class _Odd:
    """What is neither a number nor a list of them, as it was shown."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        return self.shown


def _decoded(answer: Any) -> Any:
    import numpy as np

    match answer:
        case {"open": True}:
            return ...
        case {"shape": list(shape), "values": list(values)}:
            return np.array(values, float).reshape(shape)
        case list():
            return [_decoded(part) for part in answer]
        case None | bool() | int() | float():
            return answer
        case {"odd": str(shown)}:
            return _Odd(shown[:200])
    return _Odd("what cannot be read")


def report(submissions: list[Submission], target: Path) -> None:
    """Write `grades.csv`, a row a submission; `grades.html`, a row a student; a page of reasons for each student."""
    widest = max((len(submission.marks) for submission in submissions), default=0)
    header = ["student", "lesson", "file", "points", "of", "seconds", "notes"]
    header += [f"{what} {number}" for number in range(1, widest + 1) for what in ("exercise", "reason")]
    with (target / "grades.csv").open("w", encoding="utf-8-sig", errors="replace", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(header)
        for s in submissions:
            row = [s.student, s.lesson.name if s.lesson else "", s.file, s.points, len(s.marks), s.seconds]
            row += [" ".join(s.notes), *(text for mark in s.marks for text in (mark.state, mark.reason))]
            rows.writerow([_harmless(value) for value in row])
    students: dict[str, list[Submission]] = {}
    for s in submissions:
        students.setdefault(s.student, []).append(s)
    links = {name: f"students/{_file_name(name)}-{number}.html" for number, name in enumerate(students, 1)}
    (target / "students").mkdir(exist_ok=True)
    for old in (target / "students").glob("*.html"):
        old.unlink()
    for name, own in students.items():
        (target / links[name]).write_text(_page(title=name, submissions=own), encoding="utf-8", errors="replace")
    page = _page(title="Grades", students=students, links=links, date=datetime.date.today())
    (target / "grades.html").write_text(page, encoding="utf-8", errors="replace")


def _file_name(student: str) -> str:
    """What any system takes for a part of a file's name."""
    return re.sub(r"\W+", "-", student)[:60]


def _harmless(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def _page(**values: Any) -> str:
    from jinja2 import Environment

    template = Path(__file__).with_name("grades.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(template).render(values)
