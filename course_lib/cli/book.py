"""`course book`: the site, from the solved lessons as they ran, the pages of `book/`, and what was measured."""

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from course_lib import paths
from course_lib.cli import build, notebooks, npm, run
from course_lib.cli.errors import NotebookError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup
    from nbformat import NotebookNode

COPIED = ("book", "data/README.md", "data/weights/README.md", "benchmarks/results", "CONTRIBUTING.md")
NEEDS = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton", "bs4")
UNTRAINED = ("00", "01", "02", "08")  # lessons that train no network, or none but in the profile full
ON_BINDER = ("00", "01")  # those that fit into its 2 GB
FEWEST_WORDS = 40  # a page with fewer is taken for empty
FOLDED = "hide-input"  # the tag of a solution
VIEW = "application/vnd.jupyter.widget-view+json"


def book(
    profile: Annotated[str, typer.Option(help="Run lessons as lesson, smoke (seconds) or full (a GPU).")] = "smoke",
    data: Annotated[str, typer.Option(help="auto, real or synthetic.")] = "synthetic",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Build the site in build/book/html; lessons that did not run with these settings since they changed run first."""
    if missing := [name for name in NEEDS if not find_spec(name)]:
        raise NotebookError(f"building the book needs {', '.join(missing)}", 'pip install -e ".[book]"')
    root, work = notebooks.checkout(), paths.build_dir().absolute() / "book"
    [script] = npm.read(npm.MATHJAX, npm.MATHJAX_FILE)
    lessons = notebooks.sources(root)
    run.finish(lessons, profile, data, device)
    source, html = work / "source", work / "html"
    assemble(root, lessons, source)
    (source / "book" / "_static" / "mathjax.js").write_bytes(script)
    render(source, html)
    for lesson in lessons:  # what the download button gives: the exercises open, as on Colab
        shutil.copyfile(root / "notebooks" / lesson.name, html / "_sources" / "notebooks" / lesson.name)
    if found := list(faults(html)):
        raise NotebookError("the site has faults:\n" + "\n".join(found), "mend the pages, then `course book` again")
    typer.echo(f"{len(pages(html))} pages, every link, picture and word of them checked: {html / 'index.html'}")


def assemble(root: Path, lessons: list[Path], source: Path) -> None:
    """Lay out what Sphinx reads as the repository does, so that one link works in both."""
    if source.is_dir():
        shutil.rmtree(source)
    for name in COPIED:
        place = root / name
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(place, source / name)
    (source / "notebooks").mkdir()
    rows, stamps = [], {}
    for lesson in lessons:
        nb = notebooks.read(paths.build_dir() / "run" / lesson.name)
        stamps[lesson.stem] = nb.metadata[run.STAMP]
        rows.append((lesson, nb))
        text = notebooks.text(as_page(nb, lesson.name)).replace(json.dumps(str(root))[1:-1], ".")  # nobody's folders
        (source / "notebooks" / lesson.name).write_text(text, encoding="utf-8", newline="\n")
    regions = {"index.md": {"lessons": lesson_table(rows)}, "status.md": {"status": status(stamps)}}
    regions["dashboard.md"] = {
        file.stem: results(file) for file in sorted((root / "benchmarks/results").glob("*.json"))
    }
    for name, contents in regions.items():
        page = (source / "book" / name).read_text(encoding="utf-8")
        for region, content in contents.items():
            page = build.fill(page, region, content, f"book/{name}")
        (source / "book" / name).write_text(page, encoding="utf-8", newline="\n")


def as_page(nb: "NotebookNode", name: str) -> "NotebookNode":
    """A finished lesson as a page of the book: standing still, and what it says about its run on top."""
    nb = standing(nb, name)
    places = "Colab or Binder" if name[:2] in ON_BINDER else "Colab"
    launch = f"The rocket above opens the lesson on {places}, its exercises unsolved; there, sliders move."
    nb.cells[0].source += f"\n\n> **Note.** {how_it_ran(nb.metadata[run.STAMP], name[:2])} {launch}"
    return nb


def standing(nb: "NotebookNode", name: str) -> "NotebookNode":
    """A finished lesson without a kernel: badges and settings gone, solutions folded, widgets standing still."""
    nb = copy.deepcopy(nb)
    state = run.widgets(nb)
    nb.metadata.pop("widgets", None)
    first = nb.cells[0]
    first.source = build.without_badges(first.source)
    hidden = {"bootstrap", "injected-parameters"}
    nb.cells = [cell for cell in nb.cells if not hidden & set(notebooks.tags(cell))]
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        page: dict[str, Any] = {}
        if notebooks.regions(cell.source, name):
            lines = cell.source.split("\n")
            marks = (notebooks.BEGIN, notebooks.END, notebooks.GIVEN)
            cell.source = "\n".join(line for line in lines if not line.strip().startswith(marks))
            cell.metadata.tags = [FOLDED]
            page |= {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
        if alt := cell.metadata.get("alt"):
            page["image"] = {"alt": " ".join(alt.split())}
        if page:
            cell.metadata["mystnb"] = page
        cell.outputs = [each for output in cell.outputs for each in still(output, state)]
    return nb


def how_it_ran(stamp: dict[str, Any], number: str) -> str:
    """About a finished lesson: settings, machine, time, and how to read the figures."""
    kind = {"real": "real data", "synthetic": "drawn data"}
    used = " and ".join(kind[name] for name in stamp["used"]) or "no data"
    note = (
        f"The solved lesson, as it ran on {stamp['date']}: profile `{stamp['asked']['PROFILE']}`, {used}, "
        f"{stamp['seconds']:.0f} seconds and at most {stamp['peak_mb'] / 1024:.1f} GB of memory ({stamp['machine']})."
    )
    if stamp["asked"]["PROFILE"] == "smoke" and number not in UNTRAINED:
        note += " In this short profile networks hardly learn."
    if stamp["asked"]["PROFILE"] == "smoke" or "synthetic" in stamp["used"]:
        note += (
            " Where the text speaks of results, it means the profile `lesson` on real data: numbers and figures here "
            "may say something else. The [dashboard](../book/dashboard.md) has real ones."
        )
    return note


def still(output: "NotebookNode", state: dict[str, Any]) -> "Iterator[NotebookNode]":
    """An output without a kernel: of a widget, what it showed last and how it was set; a progress bar is left out."""
    from nbformat import from_dict, v4

    view = output.get("data", {}).get(VIEW)
    if not view:
        yield output
        return
    inside = list(_descendants(view["model_id"], state))
    shown = [each for model in inside if model["model_name"] == "OutputModel" for each in model["state"]["outputs"]]
    yield from (from_dict(each) for each in shown)
    settings = [_setting(model) for model in inside if model["state"].get("description")]
    if shown and settings:
        names = "; ".join(settings)
        text = f"This figure stands still. In the lesson, opened in Jupyter or Colab, you can change: {names}."
        yield v4.new_output("display_data", data={"text/markdown": f"*{text}*", "text/plain": text})


def _descendants(model_id: str, state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A widget's model and those inside it, in order."""
    model = state[model_id]
    yield model
    for child in model["state"].get("children", []):
        yield from _descendants(child.removeprefix("IPY_MODEL_"), state)


def _setting(model: dict[str, Any]) -> str:
    """What a control is called, and where it stands."""
    state = model["state"]
    options, index = state.get("_options_labels"), state.get("index")
    value = options[index] if options and index is not None else state.get("value")
    return f"`{state['description']}` (here {f'{value:g}' if isinstance(value, float) else value})"


def lesson_table(rows: "list[tuple[Path, NotebookNode]]") -> str:
    """The lessons: what one builds, minutes and memory."""
    table = ["| Lesson | What you build | Minutes to compute (CPU / GPU) | Memory |", "|---|---|---|---|"]
    for path, nb in rows:
        facts = notebooks.facts(nb, path.name)
        gpu = "–" if facts["minutes_gpu"] is None else f"{facts['minutes_gpu']:g}"
        link = f"[{notebooks.title(nb)}](../notebooks/{path.name})"
        summary = facts["summary"].replace("|", r"\|")
        table.append(f"| {link} | {summary} | {facts['minutes_cpu']:g} / {gpu} | {facts['memory_gb']:g} GB |")
    return "\n".join(table)


def status(stamps: dict[str, dict[str, Any]]) -> str:
    """How each lesson ran: seconds, memory, settings, date; and on what machine with which versions."""
    table = ["| Lesson | Seconds | Peak memory | Profile | Data | Date |", "|---|---|---|---|---|---|"]
    for name, stamp in stamps.items():
        facts = [f"[{name}](../notebooks/{name}.ipynb)", f"{stamp['seconds']:.0f}", f"{stamp['peak_mb'] / 1024:.1f} GB"]
        facts += [stamp["asked"]["PROFILE"], ", ".join(stamp["used"]), stamp["date"]]
        table.append(f"| {' | '.join(facts)} |")
    machines = sorted({stamp["machine"] for stamp in stamps.values()})
    versions = sorted({f"{name} {version}" for stamp in stamps.values() for name, version in stamp["versions"].items()})
    return "\n".join([*table, "", f"Machine: {'; '.join(machines)}.", "", f"Versions: {', '.join(versions)}."])


def results(file: Path) -> str:
    """A benchmark's figures as tables, one a data set: each cell the range over the seeds."""
    found = json.loads(file.read_text(encoding="utf-8"))
    machine = f"{found['machine']}, torch {found['versions']['torch']}"
    command, _, how = found["command"].partition(" (")
    how = re.sub(r", 1 of the \w+", "", how.rstrip(")"))  # the whole of the usual time
    blocks = [f"Measured on {found['date']} with `{command}` ({how}): {machine}."]
    for dataset in dict.fromkeys(entry["dataset"] for entry in found["entries"]):
        entries = [entry for entry in found["entries"] if entry["dataset"] == dataset]
        metrics = list(dict.fromkeys(name for entry in entries for name in entry["metrics"]))
        rows = [
            ["method", "seeds", "seconds of training", *(f"`{name}`" for name in metrics)],
            ["---"] * (3 + len(metrics)),
        ]
        for entry in entries:
            scores = [value_range(entry["metrics"].get(name, []), 3) for name in metrics]
            rows.append(
                [entry["name"], str(len(entry["train_seconds"])), value_range(entry["train_seconds"], 0), *scores]
            )
        blocks.append(f"On {dataset}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(blocks)


def value_range(values: list[float], digits: int) -> str:
    """The range of a list, `a to b`, or the one value that all share."""
    ends = [f"{value:.{digits}f}" for value in (min(values), max(values))] if values else []
    return "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(dict.fromkeys(ends))


def render(source: Path, html: Path) -> None:
    """Run Sphinx. Raises NotebookError with its report: a warning, such as a dead link between pages, is an error."""
    if html.is_dir():
        shutil.rmtree(html)
    command = [sys.executable, "-X", "utf8", "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-E", "-d", str(html.parent / "doctrees"), "-c", str(source / "book"), str(source), str(html)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise NotebookError(f"Sphinx found fault:\n{(done.stdout + done.stderr).strip()}", "mend these pages")


def pages(html: Path) -> list[Path]:
    """The site's pages."""
    return sorted(page for page in html.rglob("*.html") if "_static" not in page.relative_to(html).parts)


def faults(html: Path) -> Iterator[str]:
    """What is wrong with a finished site: dead links, pictures without alt text, empty pages, foreign resources."""
    from bs4 import BeautifulSoup

    trees = {page: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in pages(html)}
    anchors = {page.resolve(): {str(tag["id"]) for tag in tree.select("[id]")} for page, tree in trees.items()}
    for page, tree in trees.items():
        name = page.relative_to(html).as_posix()
        found = [*_content_faults(name, tree), *_link_faults(page, tree, html.resolve(), anchors)]
        yield from (f"{name}: {fault}" for fault in found)


def _content_faults(name: str, tree: "BeautifulSoup") -> Iterator[str]:
    article = tree.find("article")
    words = article.get_text(" ").split() if article else []
    if len(words) < FEWEST_WORDS and name not in ("search.html", "index.html"):  # the latter sends one on to the book
        yield "an empty page"
    for image in tree.select("img"):
        if str(image.get("alt", "")).strip() in ("", image.get("src")):  # Sphinx gives the name of the file
            yield f"{image.get('src')} without alt text"


def _link_faults(page: Path, tree: "BeautifulSoup", html: Path, anchors: dict[Path, set[str]]) -> Iterator[str]:
    addresses = {str(tag["src"]) for tag in tree.select("[src]")}
    addresses |= {str(tag["href"]) for tag in tree.select("link[href]:not([rel=canonical])")}
    for address in sorted(addresses):
        if urlsplit(address).netloc:
            yield f"loads {address} from another host"
    addresses |= {str(tag["href"]) for tag in tree.select("a[href]")}
    for address in sorted(addresses):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
        if not (target.is_file() and target.is_relative_to(html)):
            yield f"the link {address} leads nowhere"
        elif parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
            yield f"the link {address} names no place on that page"
