"""`course lint`: does a lesson read as the house style says? Limits are in `LIMITS`, rules are functions below."""

import ast
import itertools
import math
import statistics
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from course_lib.cli import notebooks, slides
from course_lib.cli.errors import NotebookError

if TYPE_CHECKING:
    from nbformat import NotebookNode


class Limit(NamedTuple):
    """The range that a measured figure must lie in, and what to do if it does not."""

    least: float
    most: float
    mend: str


LIMITS = {  # in a lesson, measured on its solution notebook
    "code cells": Limit(20, 45, "one idea a cell"),
    "median lines": Limit(4, 8, "a cell is one short step that ends in its evidence"),
    "lines in 90% of cells": Limit(0, 20, "split the long ones"),
    "lines in a cell": Limit(0, 40, "split it"),
    "words": Limit(1200, 2500, "one paragraph an idea"),
    "words before code": Limit(0, 200, "the first result comes early"),
    "code cells in a row": Limit(0, 2, "put a sentence between them"),
    "exercises": Limit(3, 5, "each has a heading that begins with Exercise"),
    "words in summary": Limit(1, 100, "close with a short section `## Summary`"),
    "slides": Limit(10, 30, "mark cells as slides or subslides (`slideshow`), for `course slides`"),
    "lines of set-up": Limit(0, 12, "bootstrap, parameters and start() cells are short"),
    "KB": Limit(0, 66, "leave pictures and long data out of the notebook"),
}
PARAMETERS = {"PROFILE", "DATA", "DEVICE", "SEED"}
SETUP_TAGS = {"bootstrap", "parameters"}
STARTS = {("", "start"), ("lesson", "start"), ("course_lib", "start")}
NBVAL_TAGS = {notebooks.CHECKED, "nbval-ignore-output"}
HTML_TAGS = {"details", "summary"}
DIRECTIVES = (":::", *(f"[!{kind}]" for kind in ("NOTE", "TIP", "IMPORTANT", "WARNING", "CAUTION")))
SHELL = ("!", "%pip", "%conda", "%sh", "%sx", "%system", "%%bash", "%%sh", "%%script", "%%!")
SILENT = {"close", "get_cmap", "rc", "ion", "ioff", "switch_backend"}  # of pyplot: they draw nothing
QUOTES = str.maketrans(dict.fromkeys("\"'`()[]{}=,<>", " "))
MACHINE = ("/home/", "/Users/", "/root/", "/tmp/", "C:\\", "D:\\", "C:/", "file:/")

Name = tuple[str, str]  # ("check", "iou") of `check.iou(...)`; ("", "iou") of `iou(...)`


class Finding(NamedTuple):
    """A broken rule: in which cell, from 1 (0: the lesson as a whole), and what to do."""

    cell: int
    text: str


class Cell(NamedTuple):
    """A cell, read: `sections` if it is Markdown, `tree` if it is code."""

    number: int
    node: "NotebookNode"
    sections: list[notebooks.Section]
    tree: ast.Module | None

    @property
    def words(self) -> int:
        return sum(len(section.heading.split()) + section.words for section in self.sections)

    @property
    def is_setup(self) -> bool:
        return bool(SETUP_TAGS & set(notebooks.tags(self.node))) or self.is_start

    @property
    def is_start(self) -> bool:
        return self.tree is not None and bool(STARTS & set(notebooks.calls(self.tree)))

    @property
    def lines(self) -> int:
        """The lines of code, solution markers not counted."""
        marks = (notebooks.BEGIN, notebooks.END, notebooks.GIVEN)
        return sum(not line.strip().startswith(marks) for line in self.node.source.strip().split("\n"))


def beyond(name: str, value: float, cell: int = 0) -> list[Finding]:
    """A finding if a figure lies outside its limit."""
    limit = LIMITS[name]
    if limit.least <= value <= limit.most:
        return []
    allowed = f"{limit.least:g}-{limit.most:g}" if limit.least else f"at most {limit.most:g}"
    return [Finding(cell, f"{value:g} {name}; {allowed}: {limit.mend}")]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        self.names.add(tag)


def markdown_faults(source: str) -> Iterator[str]:
    """The rules that one Markdown cell breaks by itself."""
    html = _Tags()
    for token in notebooks.tokens(source):
        for part in [token, *(token.children or [])]:
            if part.type in ("html_block", "html_inline"):
                html.feed(part.content)
            if part.type == "image" and not part.content.strip():
                yield f"image {part.attrs['src']} without alt text: ![say what it shows](...)"
        text = token.content.split("\n") if token.type == "inline" else []
        fence = token.type == "fence" and token.info.lstrip().startswith("{")
        if fence or any(line.lstrip().startswith(DIRECTIVES) for line in text):
            yield "MyST directive: raw text in JupyterLab; write `> **Note.** text` or use <details>"
    if tags := html.names - HTML_TAGS:
        yield f"raw HTML <{'>, <'.join(sorted(tags))}>: only <details> and <summary> may be"


def heading_faults(cells: list[Cell]) -> Iterator[Finding]:
    """One H1, at the very top, and no level skipped."""
    headings = [(cell.number, *section[:2]) for cell in cells for section in cell.sections if section.level]
    titles = [number for number, level, _ in headings if level == 1]
    if titles != [1] or headings[0][1] != 1:
        found = ", ".join(map(str, titles)) or "none"
        yield Finding(0, f"H1 headings in cells: {found}; must be one, at the top of cell 1")
    for (_, before, _), (number, level, text) in itertools.pairwise(headings):
        if level > before + 1:
            yield Finding(number, f"heading {text!r} skips from level {before} to {level}")


def exercises(cells: list[Cell]) -> tuple[int, list[Finding]]:
    """How many exercises there are, and those without a `check.` cell before the next heading."""
    count, findings = 0, list[Finding]()
    waiting: Finding | None = None
    for cell in cells:
        for section in cell.sections:
            if section.level:
                findings += [waiting] if waiting else []
                waiting = None
                if section.heading.partition(" ")[0].rstrip(":.") == "Exercise":
                    count += 1
                    missing = f"{section.heading!r} has no cell that calls check.… before the next heading"
                    waiting = Finding(cell.number, missing)
        if cell.tree and any(owner == "check" for owner, _ in notebooks.calls(cell.tree)):
            waiting = None
    return count, [*findings, *([waiting] if waiting else [])]


def summary_words(cells: list[Cell]) -> int:
    """The words of the section `## Summary`, which may go over several cells."""
    count, inside = 0, False
    for section in (section for cell in cells for section in cell.sections):
        inside = (section.level, section.heading) == (2, "Summary") if section.level else inside
        count += section.words if inside else 0
    return count


def draws(tree: ast.AST, drawing: set[Name]) -> bool:
    """Whether a piece of code makes a figure when it runs: pyplot, `.imshow`, or a function in `drawing`."""
    return any(
        (owner == "plt" and name not in SILENT) or name == "imshow" or (owner, name) in drawing
        for owner, name in notebooks.calls(tree, scopes=False)
    )


def drawing_functions(tree: ast.Module, known: set[Name]) -> set[Name]:
    """The functions that a cell or module defines and whose call makes a figure, together with those `known`."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "course_lib.plots"]
    names = [alias for node in imported for alias in node.names]
    found = known | {("", alias.asname or alias.name) for alias in names if ("plots", alias.name) in known}
    for _ in functions:  # again and again, as one may call another
        found |= {("", node.name) for node in functions if draws(ast.Module(node.body, []), found)}
    return found


def package_drawing() -> set[Name]:
    """The functions of `course_lib.plots` whose call makes a figure, read from its source without importing it."""
    module = ast.parse((Path(notebooks.__file__).parent.parent / "plots.py").read_text(encoding="utf-8"))
    return {("plots", name) for _, name in drawing_functions(module, set())}


def code_faults(node: "NotebookNode", tree: ast.Module) -> Iterator[str]:
    """The rules that one code cell breaks by itself."""
    tags = notebooks.tags(node)
    for tag in tags:
        if tag == "raises-exception" or (tag.startswith("nbval") and tag not in NBVAL_TAGS):
            yield f"tag {tag}: every cell is run and tested; show an expected error with try/except"
    if "nbval-ignore-output" in tags and not str(node.metadata.get("reason", "")).strip():
        yield 'tag nbval-ignore-output without a reason: put "reason": "..." into the cell\'s metadata'
    if node.get("outputs") and notebooks.CHECKED not in tags:
        yield "stored output: run `course build`"
    if slides.slide_type(node) not in ("", "skip") and notebooks.BEGIN in node.source:
        yield "a solution marked as a slide: it is not shown there"
    if "# NBVAL_" in node.source:
        yield "a comment switches nbval: use a tag"
    if any(line.lstrip().startswith(SHELL) for line in node.source.split("\n")):
        yield "shell or pip line: packages come with course_lib, files from course_lib.data"
    if any(owner and name == "cuda" for owner, name in notebooks.calls(tree)):
        yield ".cuda(): write .to(device)"
    if any(isinstance(part, ast.ExceptHandler) and part.type is None for part in ast.walk(tree)):
        yield "bare except: name the exception"


def longest_run(cells: list[Cell]) -> tuple[int, int]:
    """The most code cells without prose between them, and the cell that ends this run.

    Bootstrap and parameters cells count as one, with the `start()` cell that follows them.
    """
    run, before, longest = 0, False, (0, 0)
    for cell in cells:
        if cell.tree is None:
            run, before = (0, False) if cell.words else (run, before)
        else:
            run += not (before and cell.is_setup)
            before = cell.is_setup and not cell.is_start
            longest = max(longest, (run, cell.number), key=lambda pair: pair[0])
    return longest


def parameter_faults(cells: list[Cell]) -> Iterator[Finding]:
    """One cell tagged `parameters` that sets them all."""
    tagged = [cell for cell in cells if cell.tree and "parameters" in notebooks.tags(cell.node)]
    if len(tagged) != 1:
        yield Finding(0, f"{len(tagged)} code cells tagged parameters; must be one")
    for cell in tagged:
        names = {n.id for n in ast.walk(cell.tree or ast.Module([], [])) if isinstance(n, ast.Name)}
        if missing := PARAMETERS - names:
            yield Finding(cell.number, f"parameters cell without {', '.join(sorted(missing))}")


def inspect(nb: "NotebookNode", size: int, name: str) -> tuple[dict[str, float], list[Finding]]:
    """The measured figures of a lesson (the keys of `LIMITS`) and its findings.

    Args:
        nb: a solution notebook.
        size: of its file, in bytes.
        name: what errors call it.

    Raises:
        NotebookError: a code cell is no Python, or the lesson's facts are missing.
    """
    findings: list[Finding] = []
    cells: list[Cell] = []
    drawing = package_drawing()
    for number, node in enumerate(nb.cells, 1):
        text = node.source + str(node.get("outputs", "")).replace("\\\\", "\\")
        if found := [word for word in text.translate(QUOTES).split() if word.startswith(MACHINE)]:
            findings.append(Finding(number, f"absolute path {found[0]}: paths come from course_lib"))
        if node.cell_type == "markdown":
            faults = list(markdown_faults(node.source))
            cells.append(Cell(number, node, notebooks.sections(node.source), None))
        elif node.cell_type == "code":
            tree = notebooks.parse(node.source, f"{name} cell {number}")
            cells.append(Cell(number, node, [], tree))
            faults = list(code_faults(node, tree))
            drawing = drawing_functions(tree, drawing)
            if draws(tree, drawing) and not str(node.metadata.get("alt", "")).strip():
                faults.append('draws a figure without alt text: put "alt": "..." into the cell\'s metadata')
            findings += beyond("lines in a cell", cells[-1].lines, number)
            findings += beyond("lines of set-up", cells[-1].lines, number) if cells[-1].is_setup else []
        else:
            faults = [f"a {node.cell_type} cell: it shows nowhere"]
        findings += [Finding(number, fault) for fault in faults]
    code = [cell for cell in cells if cell.tree is not None]
    lengths = [cell.lines for cell in code] or [0]
    exercise_count, unchecked = exercises(cells)
    run, run_end = longest_run(cells)
    figures = {
        "code cells": len(code),
        "median lines": statistics.median(lengths),
        "lines in 90% of cells": sorted(lengths)[math.ceil(0.9 * len(lengths)) - 1],
        "lines in a cell": max(lengths),
        "words": sum(cell.words for cell in cells),
        "words before code": sum(cell.words for cell in cells if not code or cell.number < code[0].number),
        "code cells in a row": run,
        "exercises": exercise_count,
        "words in summary": summary_words(cells),
        "slides": sum(slides.slide_type(cell) in slides.BEGINS for cell in nb.cells),
        "lines of set-up": max([cell.lines for cell in code if cell.is_setup], default=0),
        "KB": round(size / 1024, 1),
    }
    for key in figures.keys() - {"lines in a cell", "lines of set-up"}:  # these are found cell by cell
        findings += beyond(key, figures[key], run_end if key == "code cells in a row" else 0)
    findings += [*heading_faults(cells), *unchecked, *parameter_faults(cells)]
    return figures, sorted(findings)


def lint_files(files: list[Path], root: Path) -> None:
    """Print findings and figures of solution notebooks.

    Raises:
        NotebookError: there are findings.
    """
    from rich.console import Console
    from rich.table import Table

    measured: dict[str, dict[str, float]] = {}
    total = 0
    for path in files:
        inside = path.resolve().is_relative_to(root)
        name = path.resolve().relative_to(root).as_posix() if inside else path.name
        measured[path.stem[:2]], findings = inspect(notebooks.read(path), path.stat().st_size, name)
        total += len(findings)
        for cell, text in findings:
            typer.echo(f"{name} cell {cell}: {text}" if cell else f"{name}: {text}")
    table = Table("lesson", "limits", *measured)
    for key, limit in LIMITS.items():
        table.add_row(key, f"{limit.least:g}-{limit.most:g}", *(f"{figures[key]:g}" for figures in measured.values()))
    Console().print(table)
    if total:
        raise NotebookError(f"{total} finding(s)", "mend them; the limits stand in the table")
    typer.echo("No findings.")


def lint(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Solution notebooks; all by default.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Check that the lessons keep to the house style."""
    root = notebooks.checkout()
    lint_files(files or notebooks.sources(root), root)
