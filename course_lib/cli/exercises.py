"""What `course build` records of the exercises: the answers that `course_lib.check` compares a student's with.

Beside a solved lesson lies a Python file of the same name. Each of its functions returns an `Exercise`; its name is the
check's. Only the answers' values on the cases are recorded, so that `course_lib` holds no solution to read.
"""

import inspect
import json
import math
import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course_lib.check import restored
from course_lib.cli.errors import NotebookError


@dataclass(frozen=True)
class Exercise:
    """The right answer of an exercise and its known mistakes.

    Attributes:
        number: in its lesson.
        right: a value, or a function.
        mistakes: wrong values or functions, each with the advice that it deserves.
        cases: arguments that functions are tried on; None where a value is asked for.
        atol: how far an answer may be from the recorded one.
    """

    number: int
    right: Any
    mistakes: Sequence[tuple[Any, str]]
    cases: Sequence[tuple] | None = None
    atol: float = 1e-5

    def record(self) -> dict[str, Any]:
        """All that a check needs, as JSON can hold it."""
        if self.cases is None:
            cases, answers = None, [_encoded(given) for given in (self.right, *(wrong for wrong, _ in self.mistakes))]
        else:
            cases = [[_encoded(argument, typed=True) for argument in case] for case in self.cases]
            functions = (self.right, *(wrong for wrong, _ in self.mistakes))
            with np.errstate(all="ignore"):  # a mistake may well divide by zero
                answers = [[_encoded(function(*restored(case))) for case in cases] for function in functions]
        advice = [advice for _, advice in self.mistakes]
        return {
            "number": self.number,
            "atol": self.atol,
            "cases": cases,
            "right": answers[0],
            "mistakes": [*zip(advice, answers[1:], strict=True)],
        }


def recorded(source: Path, target: Path) -> str:
    """The text of `target`, the JSON file of a lesson's exercises; as it is if it differs by rounding alone.

    Raises:
        NotebookError: `source` does not run.
    """
    try:
        names = runpy.run_path(str(source))
        own = {name: thing for name, thing in names.items() if inspect.isfunction(thing) and name[0] != "_"}
        found = {name: make().record() for name, make in own.items() if make.__module__ == names["__name__"]}
    except Exception as error:
        raise NotebookError(
            f"{source.name}: {type(error).__name__}: {error}", "run it with Python to see where"
        ) from error
    lines = (
        f"{json.dumps(name)}: {json.dumps(record, ensure_ascii=False, separators=(',', ':'))}"
        for name, record in found.items()
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
