"""What `course build` records of the exercises: the answers that `course_lib.check` compares a student's with.

Beside a solved lesson lies a Python file of the same name. Each of its functions takes a `Draw` and returns an
`Exercise`; its name is the check's. Only the answers' values on the cases are recorded, so that `course_lib` holds no
solution to read.
"""

import inspect
import json
import math
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from course_lib.check import restored
from course_lib.cli.errors import NotebookError

T = TypeVar("T")

VALUE_ATOL = 5e-3  # how far a value may be from the right one: people round


class Draw(NamedTuple):
    """Which version of an exercise is asked for; `Draw()` is the course's own."""

    variant: int = 0  # of its constants: what a release asks its students
    cases: int = 0  # of the cases that its functions are tried on: what grading tries

    def constant(self, own: T, *others: T) -> T:
        """A number that the exercise's text names: `own` in the course, one of `others` in a variant."""
        return others[(self.variant - 1) % len(others)] if self.variant else own

    def seed(self, own: int) -> int:
        """A seed for random cases: `own` in the course, another in every other draw of cases."""
        return own + 1000 * self.cases


@dataclass(frozen=True)
class Exercise:
    """The right answer of an exercise and its known mistakes.

    Attributes:
        number: in its lesson.
        right: a value, or a function.
        mistakes: what somebody did, in Markdown; the wrong value or function; the advice that it deserves.
        cases: arguments that functions are tried on; None where a value is asked for.
        atol: how far what a function returns may be from the recorded answer.
        constants: what its text names, by the name of the place: `<!-- dice -->0.8<!-- /dice -->`.
    """

    number: int
    right: Any
    mistakes: Sequence[tuple[str, Any, str]]
    cases: Sequence[tuple] | None = None
    atol: float = 1e-5
    constants: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """All that a check needs, as JSON can hold it."""
        given = (self.right, *(wrong for _, wrong, _ in self.mistakes))
        if self.cases is None:
            cases, answers = None, [[_encoded(value)] for value in given]
        else:
            cases = [[_encoded(argument, typed=True) for argument in case] for case in self.cases]
            with np.errstate(all="ignore"):  # a mistake may well divide by zero
                answers = [[_encoded(function(*restored(case))) for case in cases] for function in given]
        advice = [advice for _, _, advice in self.mistakes]
        return {
            "number": self.number,
            "atol": self.atol if cases else VALUE_ATOL,
            "cases": cases,
            "right": answers[0],
            "mistakes": [*zip(advice, answers[1:], strict=True)],
        }


def read(source: Path, draw: Draw = Draw()) -> dict[str, Exercise]:  # noqa: B008 - it cannot be changed
    """The exercises of a lesson, by name, in the version that `draw` asks for.

    Args:
        source: the Python file beside the solved lesson.
        draw: constants and cases.

    Raises:
        NotebookError: `source` does not run.
    """
    try:
        names = runpy.run_path(str(source))
        own = {name: thing for name, thing in names.items() if inspect.isfunction(thing) and name[0] != "_"}
        return {name: make(draw) for name, make in own.items() if make.__module__ == names["__name__"]}
    except Exception as error:
        raise _stopped(source, error) from error


def _stopped(source: Path, error: Exception) -> NotebookError:
    return NotebookError(f"{source.name}: {type(error).__name__}: {error}", "run it with Python to see where")


def constants(exercises: Mapping[str, Exercise], name: str) -> dict[str, Any]:
    """What the texts of a lesson's exercises name, by the name of the place.

    Args:
        exercises: as `read` gives them.
        name: what error messages call the lesson.

    Raises:
        NotebookError: two exercises share the name of a place.
    """
    found: dict[str, Any] = {}
    for exercise in exercises.values():
        if shared := found.keys() & exercise.constants:
            raise NotebookError(
                f"{name}: two exercises have a constant {', '.join(sorted(shared))}", "give one another name"
            )
        found |= exercise.constants
    return found


def bullets(exercise: Exercise) -> str:
    """The known mistakes of an exercise as a list in Markdown, each with the advice that its check gives."""
    return "\n".join(f"- {what}: *{_plain(advice)}*" for what, _, advice in exercise.mistakes)


def _plain(text: str) -> str:
    """What a check prints, in Markdown: every sign stands for itself but those of `code`."""
    return re.sub(r"(`[^`]*`)|([\\*\[\]<$~]|\b_|_\b)", lambda found: found[1] or rf"\{found[2]}", text)


def recorded(source: Path, target: Path) -> str:
    """The text of `target`, the JSON file of a lesson's exercises; as it is if it differs by rounding alone.

    Raises:
        NotebookError: `source` does not run.
    """
    found = read(source)
    try:
        records = {name: exercise.record() for name, exercise in found.items()}
    except Exception as error:
        raise _stopped(source, error) from error
    lines = (
        f"{json.dumps(name)}: {json.dumps(record, ensure_ascii=False, separators=(',', ':'))}"
        for name, record in records.items()
    )
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    before = target.read_text(encoding="utf-8") if target.is_file() else "null"
    return before if _agree(json.loads(before), json.loads(text)) else text


def _encoded(value: Any, typed: bool = False) -> Any:
    """Numbers, lists of them and arrays as JSON can hold them; `typed` keeps what kind of array it was."""
    if isinstance(value, np.ndarray | torch.Tensor | np.generic):
        array = np.asarray(value)
        values = _encoded(array.astype(int).tolist() if array.dtype == bool else array.tolist())
        described = {"tensor": isinstance(value, torch.Tensor), "dtype": str(array.dtype), "values": values}
        return described if typed else values
    if isinstance(value, tuple) and any(getattr(part, "ndim", 0) for part in value):
        return {"parts": [_encoded(part) for part in value]}
    if isinstance(value, list | tuple):
        return [_encoded(part) for part in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{9 if typed else 7}g}")
    return value


def _agree(old: Any, new: Any) -> bool:
    """Whether two records are the same, but for the rounding that differs from machine to machine."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_agree, old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(_agree(old[key], new[key]) for key in old)
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(old) and math.isnan(new))
    return bool(old == new)
