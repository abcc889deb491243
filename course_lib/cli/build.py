"""`course build`: students' notebooks, recorded answers, badges and lesson table, from `notebooks/solutions`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from course_lib.cli import notebooks
from course_lib.cli.errors import NotebookError
from course_lib.cli.notebooks import derive

if TYPE_CHECKING:
    from nbformat import NotebookNode

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
    own = ("ipykernel", "ipywidgets", "jupyterlab", "papermill", "extra ==")
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


def generate(nb: "NotebookNode", name: str, project: Project) -> "NotebookNode":
    """The lesson as its author's file stores it: tidied, with badges and bootstrap cell filled in.

    Raises:
        NotebookError: no place for the badges, not one bootstrap cell, or lesson facts that are missing.
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
    return nb


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


def plan(root: Path) -> dict[Path, str]:
    """Every generated file of the checkout and the text it must have.

    Args:
        root: the checkout. Its README.md is left out as long as it is empty.

    Raises:
        NotebookError: a source breaks a rule of `derive` or `generate`.
    """
    project = read_project(root)
    paths = {path.name: path for path in notebooks.sources(root)}
    lessons = {name: generate(notebooks.read(path), name, project) for name, path in paths.items()}
    files = {paths[name]: notebooks.text(nb) for name, nb in lessons.items()}
    for name, nb in lessons.items():
        files[root / "notebooks" / name] = notebooks.text(derive(nb, name))
        if (answers := paths[name].with_suffix(".py")).is_file():
            from course_lib.cli.exercises import recorded  # imports torch

            target = root / "course_lib" / "exercises" / f"{answers.stem}.json"
            files[target] = recorded(answers, target)
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
    """Derive the students' notebooks, recorded answers, badges and lesson table from notebooks/solutions."""
    build_in(notebooks.checkout(), check)
