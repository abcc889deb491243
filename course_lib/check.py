"""Self-checks of the exercises: passed, open, or a message that names the misconception.

`check.NAME(answer)` tries an answer on the cases that `course build` recorded in `course_lib/exercises`: what the right
solution gives there, and what known mistakes give. An answer that agrees with a mistake on every case gets its advice.
"""

import codecs
import json
import os
from collections.abc import Callable
from functools import cache, partial
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Outcome(NamedTuple):
    """The result of a check: `state` is `"passed"`, `"open"` or `"wrong"`."""

    exercise: str
    state: str
    message: str

    def __str__(self) -> str:
        return f"[{self.state}] {self.exercise}: {self.message}"

    def _ipython_display_(self) -> None:
        """Nothing: the check has printed it already."""


def __getattr__(name: str) -> Callable[[Any], Outcome]:
    if name.startswith("_"):  # Python itself asks for such names
        raise AttributeError(name)
    if name not in _records():
        raise AttributeError(f"no exercise is called {name!r}; there are {', '.join(sorted(_records()))}")
    return partial(_check, name)


def __dir__() -> list[str]:
    return sorted(_records())


@cache
def _records() -> dict[str, dict[str, Any]]:
    """The recorded exercises of all lessons, by name."""
    files = sorted(resources.files("course_lib").joinpath("exercises").iterdir(), key=str)
    return {name: record for file in files for name, record in json.loads(file.read_text("utf-8")).items()}


def use(records: str) -> None:
    """Compare with these records: those that `course release` put into a class's notebook, packed so that few peek."""
    _records().update(json.loads(codecs.decode(codecs.decode(records.encode(), "base64"), "zlib")))


def _check(name: str, given: Any) -> Outcome:
    outcome = judge(attempt(given, _records()[name]["cases"]), **_records()[name])
    print(outcome)
    if outcome.state != "passed" and "NBGRADER_EXECUTION" in os.environ:  # nbgrader counts cells that do not fail
        raise AssertionError(str(outcome))
    return outcome


def attempt(given: Any, cases: list | None) -> list | str:
    """What an answer comes to: a list of itself, or of what it returns on each of the `cases`; or why it has none."""
    if cases is None or given is ...:
        return [given]
    if not callable(given):
        return f"a function is asked for, not {type(given).__name__}."
    answers = []
    for case in cases:
        try:
            with np.errstate(all="ignore"):  # 0 / 0 is answered with advice below
                answers.append(given(*restored(case)))
        except Exception as error:  # noqa: BLE001 - whatever a student's code raises is the answer's, not ours
            return f"your function stopped with {type(error).__name__}: {error}"
    return answers


def judge(answers: list | str, number: int, cases: list | None, right: list, mistakes: list, atol: float) -> Outcome:
    """The outcome of what `attempt` gave, for the exercise with this record."""

    def agrees(others: list) -> NDArray[np.bool_]:
        return np.array([_same(answer, other, atol) for answer, other in zip(answers, others, strict=True)])

    if isinstance(answers, str):
        state, message = "wrong", answers
    elif all(answer is ... for answer in answers):
        state, message = "open", "replace the ... with your answer, then run this cell again."
    elif cases and any(answer is None for answer in answers):
        state, message = "wrong", "your function returns None: does every path end in a return?"
    elif agrees(right).all():
        state, message = "passed", f"right on all {len(right)} cases." if len(right) > 1 else "right."
    else:
        undefined = agrees([np.nan] * len(answers))  # 0 / 0 hides no other mistake
        known = (advice for advice, wrong in mistakes if agrees(wrong).any() and (agrees(wrong) | undefined).all())
        first = int(agrees(right).argmin())
        state, message = "wrong", next(known, None) or _difference(answers[first], right[first], cases, first + 1)
    return Outcome(f"Exercise {number}", state, message)


def _difference(answer: Any, right: Any, cases: list | None, number: int) -> str:
    """What is wrong with an answer to which no advice is known."""
    if cases is None:
        return f"{answer!r} is not it."
    if isinstance(right, dict):
        return f"case {number}: not the arrays that were expected."
    wanted, got = np.asarray(right), np.asarray(answer, None if hasattr(answer, "shape") else object)
    detail = f"{wanted} expected, {got} returned" if wanted.size <= 12 else "some of the values differ"
    detail = detail if wanted.shape == got.shape else f"shape {wanted.shape} expected, {got.shape} returned"
    return f"case {number}: {detail}."


def _same(given: Any, recorded: Any, atol: float) -> bool:
    """Whether an answer is the recorded one; several arrays are recorded as `parts`."""
    try:
        if isinstance(recorded, dict):
            return all(_same(*pair, atol) for pair in zip(given, recorded["parts"], strict=True))
        a, b = np.asarray(given.detach() if isinstance(given, torch.Tensor) else given), np.asarray(recorded, float)
        same = a.shape == b.shape and a.dtype.kind not in "SU"  # what looks like a number is none
        return same and bool(np.allclose(a.astype(float), b, atol=atol, equal_nan=True))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False


def restored(case: list) -> list:
    """The arguments of a case as `course build` recorded them, arrays and tensors made anew."""
    make: dict[bool, Callable] = {True: torch.from_numpy, False: np.asarray}
    fresh = json.loads(json.dumps(case))  # a function may change the lists that it is given
    return [make[x["tensor"]](np.array(x["values"], x["dtype"])) if isinstance(x, dict) else x for x in fresh]
