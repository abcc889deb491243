"""One submission, run cell by cell in a process of its own. `sandbox.run` starts this file, and trusts nothing of it.

It reads a task as JSON and writes one line of JSON for each thing that happens. What students print goes nowhere. Which
answers are right is not known here: only what they come to, on cases drawn for grading, is sent.
"""

import ast
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

LONGEST = 100_000  # numbers in one answer
TRIES = 5  # at one exercise, of which the best counts


def main() -> None:
    """Run the task on standard input."""
    task = json.load(sys.stdin)
    send = _channel()
    _limit(task["limits"])
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from course_lib import check

    class Shell(InteractiveShell):
        def enable_gui(self, gui: Any = None) -> None:
            """Nothing, so that `%matplotlib` is no error."""

        def ask_exit(self) -> None:
            """What `exit()` does to a kernel."""
            os._exit(0)

        def showtraceback(self, *_: Any, **__: Any) -> None:
            """Nothing: the error itself is sent."""

        showsyntaxerror = showtraceback

    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    attempt, encode = check.attempt, _encode  # whatever students do to the modules
    due: dict[int, list[tuple[str, Any, str]]] = {}
    for exercise in task["exercises"]:
        for index, expression in _due(exercise, task["cells"]):
            due.setdefault(index, []).append((exercise["name"], exercise["cases"], expression))
    os.environ |= {f"COURSE_{name}": str(value) for name, value in task["settings"].items()}
    for index, cell in enumerate(task["cells"]):
        send(cell=index)
        result = shell.run_cell(cell["source"], store_history=True)
        if error := result.error_before_exec or result.error_in_exec:
            send(error=index, text=_said(error))
        if index == task["parameters"]:
            shell.user_ns.update(task["settings"])
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")
        for name, cases, expression in due.get(index, []):
            try:
                came = attempt(eval(expression, shell.user_ns), cases)
                send(exercise=name, answer={"failed": came} if isinstance(came, str) else encode(came))
            except BaseException as error:  # noqa: BLE001 - also SystemExit, or a memory that is full
                send(exercise=name, answer={"failed": _said(error)})
    send(end=True)
    os._exit(0)  # no thread, and no function left for the exit, keeps it alive


def _channel() -> Callable[..., None]:
    """What sends a line; from now on nothing else reads or writes here."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)

    def send(**happened: Any) -> None:
        lines.write(json.dumps(happened) + "\n")
        lines.flush()

    return send


def _limit(limits: dict[str, int]) -> None:
    """Set what the system enforces: memory, processor time, tasks, size of files. Windows enforces nothing of it."""
    if sys.platform == "win32":
        return
    import resource

    import psutil

    os.nice(10)
    tasks = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            tasks += process.num_threads() if process.uids().real == os.getuid() else 0
    wanted = {
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_CPU: limits["seconds"] + 5,  # the watcher is to be first, and to say so
        resource.RLIMIT_NPROC: tasks + limits["tasks"],
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_CORE: 0,
    }
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows some of them, and refuses to set them
            resource.setrlimit(name, (value, value))


def _due(exercise: dict[str, Any], cells: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """After which cells there is an answer, and what it is called: where it is checked; else as in the lesson."""
    trees = [_parsed(cell["source"]) for cell in cells]
    found = []
    for index, tree in enumerate(trees):
        for node in _outside_functions(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"check.{exercise['name']}":
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                found += [(index, ast.unparse(given[0]))] if given else []
    if found:
        return found[-TRIES:]
    ids = [cell["id"] for cell in cells]
    for wanted in (f"check-{exercise['name']}", exercise["name"]):
        if wanted in ids:
            return [(ids.index(wanted), exercise["answer"])]
    bound = [index for index, tree in enumerate(trees) if exercise["answer"] in _bound(tree)]
    return [(max(bound, default=len(cells) - 1), exercise["answer"])]


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a cell that run with it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _outside_functions(node)


def _bound(tree: ast.Module) -> set[str]:
    """The names that a cell defines."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _parsed(source: str) -> ast.Module:
    """The syntax tree of a cell, magics taken for what they are; of one that holds an error, an empty one."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        if source.lstrip().startswith("%%"):  # such as %%time, whose cell runs all the same
            source = source.lstrip().partition("\n")[2]
        return ast.parse(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def _said(error: BaseException) -> str:
    """An error in one line."""
    try:
        if isinstance(error, SyntaxError):  # whose text names a file that nobody knows
            return f"{type(error).__name__}: {error.msg}, line {error.lineno}"
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".strip(": ")
    except BaseException:  # noqa: BLE001 - the error may be of a class of the student's
        return type(error).__name__


def _encode(value: Any) -> Any:
    """An answer as JSON holds it: numbers, arrays as shape and values, lists; anything else as a description."""
    import numpy as np
    import torch

    if value is ...:
        return {"open": True}
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        if value.size > LONGEST:
            return {"odd": f"{value.size:,} numbers"}
        value = value.astype(float) if value.dtype.kind == "f" else value  # JSON knows no longer ones
        return {"shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, list | tuple) and len(value) <= LONGEST:
        return [_encode(part) for part in value]
    if not isinstance(value, str | bytes):
        with contextlib.suppress(Exception):  # fractions, and whatever else NumPy takes for numbers
            return _encode(np.asarray(value).astype(float))
    return {"odd": repr(value)[:200]}


if __name__ == "__main__":
    main()
