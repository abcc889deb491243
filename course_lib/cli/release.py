"""`course release`: students' notebooks for a class, with numbers and data of its own."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from course_lib.cli import build, notebooks, run
from course_lib.cli.errors import NotebookError, writing

if TYPE_CHECKING:
    from nbformat import NotebookNode

_RECORDS = """\
# Copy {seed}: its exercises ask for other numbers than the course does, and its checks compare with these.
check.use("{records}")"""


def release(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the notebooks.")],
    lesson: Annotated[list[str] | None, typer.Argument(help="Numbers of lessons, such as 01; all by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Number of your class: it chooses numbers and data.")] = 0,
) -> None:
    """Write students' notebooks, without solutions, for a class: with a seed, other numbers are asked for."""
    chosen = run.choose(notebooks.sources(notebooks.checkout()), lesson or [])
    files = {to / source.name: notebooks.text(released(source, seed)) for source in chosen}
    if other := [path for path, text in files.items() if path.is_file() and path.read_text(encoding="utf-8") != text]:
        hint = "name another folder, or move the file away"
        raise NotebookError(f"{other[0]} is there already, with other contents", hint)
    with writing(to):
        for path, text in files.items():
            path.write_text(text, encoding="utf-8", newline="\n")
            typer.echo(f"{path}: written")
    typer.echo(f"To grade what is handed in: course grade DIR{f' --seed {seed}' if seed else ''}")


def released(source: Path, seed: int) -> "NotebookNode":
    """The student's notebook of a solved lesson as a class gets it.

    Args:
        source: the solved notebook.
        seed: which constants its exercises name, and the seed of its data; 0 for the course's own.

    Raises:
        NotebookError: the lesson breaks a rule of `build.plan`, has no cell `SEED = None`, or imports no `check`.
    """
    from nbformat import v4

    from course_lib.cli import exercises  # imports torch

    name = source.name
    found = exercises.read(source.with_suffix(".py"), exercises.Draw(variant=seed))
    values = exercises.constants(found, name)
    nb = notebooks.constants(notebooks.derive(notebooks.read(source), name), values, name, marks=False)
    nb.cells[0].source = build.without_badges(nb.cells[0].source)
    varied = {key: exercise for key, exercise in found.items() if exercise.constants and seed}
    note = f"This is your class's copy, number {seed}. " if seed else ""
    if varied:
        note += (
            "Some exercises ask for other numbers than the public course; leave the cell `check.use(...)` as it is. "
        )
    nb.cells[0].source += f"\n\n> **Note.** {note}Keep the file's name when you hand it in."
    if not seed:
        return nb
    parameters = _cell(nb, r"^SEED = None", name)
    parameters.source = re.sub(r"^SEED = None", f"SEED = {seed}", parameters.source, flags=re.MULTILINE)
    if varied:
        records = {key: exercise.record() for key, exercise in varied.items()}
        packed = base64.b64encode(zlib.compress(json.dumps(records, ensure_ascii=False).encode(), 9)).decode()
        cell = v4.new_code_cell(_RECORDS.format(seed=seed, records=packed))
        cell.id, cell.metadata["jupyter"] = f"{name[:2]}-release", {"source_hidden": True}
        nb.cells.insert(nb.cells.index(_cell(nb, r"^from course_lib import .*\bcheck\b", name)) + 1, cell)
    return nb


def _cell(nb: "NotebookNode", pattern: str, name: str) -> "NotebookNode":
    """The first code cell with a line like this."""
    for cell in nb.cells:
        if cell.cell_type == "code" and re.search(pattern, cell.source, re.MULTILINE):
            return cell
    raise NotebookError(f"{name}: no code cell has a line like {pattern}", "give it the usual cells of a lesson")
