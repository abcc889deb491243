"""`course build`: students' notebooks, answers, badges, tables and mistakes, from `notebooks/solutions`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from course_lib.cli import notebooks
from course_lib.cli.errors import NotebookError
from course_lib.cli.notebooks import derive

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from course_lib.cli.exercises import Exercise

__all__ = ["bootstrap", "build", "derive", "fill", "plan", "read_project"]

_BOOTSTRAP = """\
# On Colab: install course_lib, and leave torch and numpy as they are. Elsewhere: do nothing.
import sys
from importlib import metadata, util
from subprocess import check_call

if "google.colab" in sys.modules and util.find_spec("course_lib") is None:
    course = "course_lib @ git+https://github.com/{repo}@{ref}"
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    check_call([*pip, "--no-deps", course])
    own = ("ipykernel", "ipywidgets", "jupyterlab", "papermill", "tornado", "extra ==")
    needs = [need for need in metadata.requires("course_lib") if not any(name in need for name in own)]
    check_call([*pip, *needs, *(f"{{n}}=={{metadata.version(n)}}" for n in ("torch", "torchvision", "numpy"))])"""


class Project(NamedTuple):
    """Where the course is to be had, from pyproject.toml: it stands nowhere else."""

    repo: str  # OWNER/REPO
    ref: str  # the branch that notebooks install from, or the tag of a release


def read_project(root: Path) -> Project:
    """`[project.urls] Repository` and `[tool.course] ref` of the checkout's pyproject.toml.

    Raises:
        NotebookError: the address is missing, or is none of GitHub's.
    """
    import tomllib
    from urllib.parse import urlsplit

    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    address = table["project"].get("urls", {}).get("Repository", "")
    parts = urlsplit(address)
    repo = parts.path.strip("/").removesuffix(".git")
    if parts.netloc != "github.com" or repo.count("/") != 1:
        raise NotebookError(
            f"pyproject.toml: [project.urls] Repository is {address!r}",
            "it looks like https://github.com/OWNER/REPO",
        )
    return Project(repo, table.get("tool", {}).get("course", {}).get("ref", "main"))


def bootstrap(project: Project) -> str:
    """The source of every lesson's cell tagged `bootstrap`."""
    return _BOOTSTRAP.format(repo=project.repo, ref=project.ref)


def badges(project: Project, name: str) -> str:
    """Two links that open the lesson of the file `name` on Colab and on Binder, as Markdown."""
    number, target = name[:2], f"notebooks/{name}"
    colab = f"https://colab.research.google.com/github/{project.repo}/blob/{project.ref}/{target}"
    binder = f"https://mybinder.org/v2/gh/{project.repo}/{project.ref}?urlpath=lab/tree/{target}"
    return (
        f"[![Open lesson {number} in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open lesson {number} on Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def without_badges(text: str) -> str:
    """The first cell of a lesson without the links that open the course's own version of it."""
    return re.sub(r"<!-- badges -->.*<!-- /badges -->\n*", "", text, flags=re.DOTALL)


def fill(text: str, region: str, content: str, where: str) -> str:
    """`text` with `content` between the comments `<!-- region -->` and `<!-- /region -->`.

    Raises:
        NotebookError: the two comments do not stand there once each, in this order.
    """
    begin, end = f"<!-- {region} -->", f"<!-- /{region} -->"
    head, _, rest = text.partition(begin)
    old, _, tail = rest.partition(end)
    if (text.count(begin), text.count(end), begin in old) != (1, 1, False) or end in head:
        raise NotebookError(
            f"{where}: needs {begin} and, below it, {end}, once each",
            "put each on a line of its own; `course build` writes what stands between them",
        )
    return f"{head}{begin}\n\n{content}\n\n{end}{tail}"


def generate(
    nb: "NotebookNode", name: str, project: Project, constants: Mapping[str, Any] | None = None
) -> "NotebookNode":
    """The lesson as its author's file stores it: tidied, with badges, bootstrap cell and constants filled in.

    Args:
        nb: the lesson.
        name: of its file.
        project: where the course is to be had.
        constants: what the texts of its exercises name.

    Raises:
        NotebookError: no place for the badges or a constant, not one bootstrap cell, or lesson facts that are missing.
    """
    nb = notebooks.tidy(nb, name)
    notebooks.facts(nb, name)
    if not nb.cells or nb.cells[0].cell_type != "markdown" or not notebooks.title(nb):
        raise NotebookError(f"{name}: the first cell is no Markdown cell with a title", "begin it with `# Title`")
    nb.cells[0].source = fill(nb.cells[0].source, "badges", badges(project, name), f"{name} cell 1")
    cells = [cell for cell in nb.cells if "bootstrap" in notebooks.tags(cell) and cell.cell_type == "code"]
    if len(cells) != 1:
        raise NotebookError(
            f"{name}: {len(cells)} code cells tagged `bootstrap`, must be one",
            "add an empty code cell with this tag; `course build` writes it",
        )
    cells[0].source = bootstrap(project)
    mark(nb, name)
    return notebooks.constants(nb, constants or {}, name)


def mark(nb: "NotebookNode", name: str) -> None:
    """Give the cells of exercises the metadata by which nbgrader, and `course grade`, find them; a check is a point."""
    from nbformat import from_dict

    for exercise in notebooks.asked(nb, name):
        shared = {"schema_version": 3, "cell_type": "code", "task": False}
        solution = {"grade_id": exercise.name, "solution": True, "grade": False, "locked": False}
        check = {"grade_id": f"check-{exercise.name}", "solution": False, "grade": True, "locked": True, "points": 1}
        nb.cells[exercise.solution].metadata["nbgrader"] = from_dict(shared | solution)
        nb.cells[exercise.check].metadata["nbgrader"] = from_dict(shared | check)


def table(lessons: "dict[str, NotebookNode]", project: Project) -> str:
    """The README's table of lessons, as Markdown: one row per file name -> notebook."""
    rows = [
        "| # | Lesson | What you build | Minutes to compute (CPU / GPU) | Memory | Open in |",
        "|---|---|---|---|---|---|",
    ]
    for name, nb in lessons.items():
        facts: dict[str, Any] = notebooks.facts(nb, name)
        gpu = "–" if facts["minutes_gpu"] is None else f"{facts['minutes_gpu']:g}"
        cells = [
            name[:2],
            f"[{notebooks.title(nb)}](notebooks/{name})",
            facts["summary"],
            f"{facts['minutes_cpu']:g} / {gpu}",
            f"{facts['memory_gb']:g} GB",
            badges(project, name),
        ]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def listed(page: str, exercises: "Mapping[str, Exercise]", where: str) -> str:
    """An instructors' page with the known mistakes of its lesson's exercises: of `dice` in the region `mistakes dice`.

    Raises:
        NotebookError: an exercise without a region, or a region without an exercise.
    """
    from course_lib.cli.exercises import bullets

    for name, exercise in exercises.items():
        page = fill(page, f"mistakes {name}", bullets(exercise), where)
    if unknown := sorted(set(re.findall(r"<!-- mistakes (\w+) -->", page)) - exercises.keys()):
        raise NotebookError(f"{where}: mistakes of {unknown[0]!r}, which is no exercise", "delete the two comments")
    return page


def plan(root: Path) -> dict[Path, str]:
    """Every generated file of the checkout and the text it must have.

    Args:
        root: the checkout. Its README.md is left out as long as it is empty.

    Raises:
        NotebookError: a source breaks a rule of `derive` or `generate`.
    """
    from course_lib.cli import exercises  # imports torch

    project = read_project(root)
    paths = {path.name: path for path in notebooks.sources(root)}
    answers = {name: path.with_suffix(".py") for name, path in paths.items() if path.with_suffix(".py").is_file()}
    found = {name: exercises.read(answers[name]) if name in answers else {} for name in paths}
    values = {name: exercises.constants(found[name], name) for name in paths}
    lessons = {name: generate(notebooks.read(path), name, project, values[name]) for name, path in paths.items()}
    files = {paths[name]: notebooks.text(nb) for name, nb in lessons.items()}
    for name, nb in lessons.items():
        student = notebooks.constants(derive(nb, name), values[name], name, marks=False)
        files[root / "notebooks" / name] = notebooks.text(student)
        if name in answers:
            target = root / "course_lib" / "exercises" / f"{answers[name].stem}.json"
            files[target] = exercises.recorded(answers[name], target)
        guide = root / "book" / "instructors" / f"{name[:2]}.md"
        if guide.is_file():
            files[guide] = listed(guide.read_text(encoding="utf-8"), found[name], guide.relative_to(root).as_posix())
    readme = root / "README.md"
    if readme.is_file() and (page := readme.read_text(encoding="utf-8")).strip():
        page = fill(page, "badges", badges(project, next(iter(lessons))), "README.md")
        files[readme] = fill(page, "lessons", table(lessons, project), "README.md")
    return files


def build_in(root: Path, check: bool) -> None:
    """Write what `plan` gives, or with `check` only compare.

    Raises:
        NotebookError: something is not as its source says (`check`), or a notebook has no source.
    """
    files = plan(root)
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    derived = (*(root / "notebooks").glob("*.ipynb"), *(root / "course_lib" / "exercises").glob("*.json"))
    orphans = [path for path in sorted(derived) if path not in files]
    for path in stale:
        name = path.relative_to(root).as_posix()
        typer.echo(f"{name}: not what its source gives" if check else f"{name}: written")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8", newline="\n")
    for path in orphans:
        typer.echo(f"{path.relative_to(root).as_posix()}: has no source in notebooks/solutions")
    if orphans:
        raise NotebookError(
            f"{len(orphans)} file(s) without a source", "delete them, or give them one in notebooks/solutions"
        )
    if check and stale:
        raise NotebookError(f"{len(stale)} generated file(s) are out of date", "run `course build`, commit the result")
    typer.echo(f"{len(files)} files are as their sources say.")


def build(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if anything would change.")] = False,
) -> None:
    """Derive students' notebooks, answers, badges, lesson table and the guide's mistakes from notebooks/solutions."""
    build_in(notebooks.checkout(), check)
