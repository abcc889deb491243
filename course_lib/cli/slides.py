"""`course slides`: a lesson's marked cells as slides, one file for reveal.js that asks the network for nothing.

Marks are Jupyter's own: a cell's metadata `slideshow`, `slide_type`. The lesson is taken as it ran, as in the book.
"""

import copy
import re
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from course_lib import paths
from course_lib.cli import book, notebooks, npm, run
from course_lib.cli.errors import NotebookError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from nbformat import NotebookNode

NEEDS = ("nbconvert", "bs4")
TEMPLATE = "slides.html.j2"
REVEAL_FILES = ("dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js")
BEGINS = ("slide", "subslide")  # these begin a slide; a fragment adds to one
NO_ALT = "No description has been provided for this image"  # what nbconvert puts in
SHORT = 6  # lines: longer code is not shown beside what it prints


def slides(
    lesson: Annotated[list[str] | None, typer.Argument(help="Numbers of lessons, such as 01; all by default.")] = None,
    profile: Annotated[str, typer.Option(help="Run lessons as lesson, smoke (seconds) or full (a GPU).")] = "smoke",
    data: Annotated[str, typer.Option(help="auto, real or synthetic.")] = "synthetic",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Make slides in build/slides; lessons that did not run with these settings since they changed run first."""
    if missing := [name for name in NEEDS if not find_spec(name)]:
        raise NotebookError(f"making slides needs {', '.join(missing)}", 'pip install -e ".[book]"')
    chosen = run.choose(notebooks.sources(notebooks.checkout()), lesson or [])
    for source in chosen:  # before any of them runs
        cells = notebooks.read(source).cells
        if not any(slide_type(cell) in BEGINS and notebooks.BEGIN not in cell.source for cell in cells):
            raise NotebookError(
                f"{source.name} has no cell that is marked as a slide",
                "mark some: in JupyterLab, Property Inspector, Slide Type; then `course build`",
            )
    scripts = page_scripts()
    run.finish(chosen, profile, data, device)
    for source in chosen:
        nb = as_slides(notebooks.read(paths.build_dir() / "run" / source.name), source.name)
        html = render(nb, scripts).replace(str(notebooks.checkout()), ".")  # nobody's folders
        target = paths.build_dir() / "slides" / f"{source.stem}.html"
        paths.write_atomically(target, partial(Path.write_text, data=html, encoding="utf-8", newline="\n"))
        count = sum(slide_type(cell) in BEGINS for cell in nb.cells)
        typer.echo(f"{count} slides, {target.stat().st_size / 2**20:.1f} MB: {target}")


def page_scripts() -> dict[str, str]:
    """What a page of slides is made of, by file name. Raises NotebookError if npm cannot fetch it."""
    files = dict(zip(REVEAL_FILES, npm.read(npm.REVEAL, *REVEAL_FILES), strict=True))
    [files["mathjax.js"]] = npm.read(npm.MATHJAX, npm.MATHJAX_FILE)
    return {name.rpartition("/")[2]: content.decode() for name, content in files.items()}


def slide_type(cell: "NotebookNode") -> str:
    """The cell's slide type; an empty string if it has none."""
    return str(cell.metadata.get("slideshow", {}).get("slide_type", ""))


def as_slides(nb: "NotebookNode", name: str) -> "NotebookNode":
    """A finished lesson's marked cells as slides, each cell with the mark that nbconvert looks for."""
    from nbformat import v4

    nb = book.standing(nb, name)
    cells: list[NotebookNode] = []
    for cell in nb.cells:
        kind = slide_type(cell)
        if kind in ("", "skip"):
            continue
        if cell.cell_type == "markdown":
            cells += _sections(cell, kind)
        elif book.FOLDED not in notebooks.tags(cell):
            cells += _figures(cell, kind)
    about = v4.new_markdown_cell(book.how_it_ran(nb.metadata[run.STAMP], name[:2]), metadata=_marked("notes"))
    nb.cells = [*cells[:1], about, *cells[1:]]
    for index, cell in enumerate(nb.cells):
        cell.id = f"slide-{index}"
    return nb


def _marked(kind: str) -> dict[str, dict[str, str]]:
    return {"slideshow": {"slide_type": kind}}


def _copy(cell: "NotebookNode", kind: str, **changes: object) -> "NotebookNode":
    from nbformat import from_dict

    twin = copy.deepcopy(cell)
    twin.metadata.update(from_dict(_marked(kind)))
    twin.update(changes)
    return twin


def _sections(cell: "NotebookNode", kind: str) -> "Iterator[NotebookNode]":
    """A Markdown cell, a slide for each heading with text.

    What stands above a new slide's heading ends the section before: it goes to the speaker notes there. Above a
    subslide's heading, it is a slide of its own.
    """
    lines = cell.source.split("\n")
    headings = [token for token in notebooks.tokens(cell.source) if token.type == "heading_open"]
    starts = [token.map[0] for token in headings if token.map]
    # two headings with nothing between them share a slide
    starts = [start for k, start in enumerate(starts) if not k or "".join(lines[starts[k - 1] + 1 : start]).strip()]
    if kind not in BEGINS or not starts:
        yield cell
        return
    if above := "\n".join(lines[: starts[0]]).strip():
        yield _copy(cell, "notes" if kind == "slide" else kind, source=above)
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        first = start == starts[0] and not above
        section = "slide" if lines[start].startswith("## ") else "subslide"
        yield _copy(cell, kind if first else section, source="\n".join(lines[start:end]).strip())


def _figures(cell: "NotebookNode", kind: str) -> "Iterator[NotebookNode]":
    """A code cell: its figures, a slide for each after the first; without any, short code, and what it prints."""
    cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    figures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    settings = [output for output in cell.outputs if "text/markdown" in output.get("data", {})]  # a widget's
    if figures or (cell.outputs and cell.source.count("\n") + 1 > SHORT):
        cell.metadata["transient"] = {"remove_source": True}  # as nbconvert's own preprocessors say it
    if not figures:
        yield cell
    for index, figure in enumerate(figures):
        shown = [figure] if index < len(figures) - 1 else [figure, *settings]
        yield _copy(cell, "subslide" if index else kind, outputs=shown)


def render(nb: "NotebookNode", scripts: dict[str, str]) -> str:
    """The deck as one page. Raises NotebookError if it would ask another host, or has a picture without alt text."""
    from bs4 import BeautifulSoup
    from nbconvert import SlidesExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor
    from traitlets.config import Config

    exporter = SlidesExporter(
        config=Config({"CSSHTMLHeaderPreprocessor": {"style": "default"}}),
        preprocessors=[CoalesceStreamsPreprocessor],  # what a cell prints is one block
        extra_template_paths=[str(Path(__file__).parent)],
        template_file=TEMPLATE,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    # inside a page, these two would end or hide what follows; inside a script, they say the same
    pieces = {name: text.replace("</script", r"<\/script").replace("<!--", r"<\!--") for name, text in scripts.items()}
    html, _ = exporter.from_notebook_node(nb, resources={"deck": {"title": notebooks.title(nb), "scripts": pieces}})
    tree = BeautifulSoup(html, "html.parser")
    for link in tree.select("a[href]"):
        if not urlsplit(str(link["href"])).netloc:  # a page of the repository, which no stick holds
            link.unwrap()
    if found := list(faults(tree)):
        raise NotebookError("the slides have faults:\n" + "\n".join(found), "mend the cells that are marked as slides")
    return str(tree)


def faults(tree: "BeautifulSoup") -> Iterator[str]:
    """What is wrong with a deck: it loads something that does not lie inside, or a picture has no alt text."""
    addresses = [str(tag.get("src") or tag.get("href")) for tag in tree.select("[src], link[href]")]
    for style in tree.select("style"):
        found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", style.get_text())
        addresses += [address for pair in found for address in pair if address]
    yield from (f"loads {address}" for address in addresses if not address.startswith(("data:", "#")))
    for image in tree.select("img"):
        if str(image["alt"]).strip() in ("", NO_ALT):
            yield f"a picture without alt text: {str(image['src'])[:60]}"
