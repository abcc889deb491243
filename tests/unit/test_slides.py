"""`course slides`: what becomes a slide and what does not, and that a deck holds all that it needs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.cli import notebooks, run, slides
from course_lib.cli.errors import NotebookError

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "solutions" / "05_unet.ipynb"
SCRIPTS = {"reveal.css": "", "reveal.js": "x = '</script><!-- '", "notes.js": "", "mathjax.js": ""}
STAMP: dict[str, Any] = {
    "asked": {"PROFILE": "smoke", "DATA": "synthetic", "DEVICE": "cpu"},
    "used": ["synthetic"],
    "seconds": 1,
    "peak_mb": 1,
    "machine": "m",
    "date": "2026-01-02",
}
PICTURE = {"image/png": "AA==\n", "text/plain": "<Figure>"}


def text(source: str, kind: str = "") -> nbformat.NotebookNode:
    return new_markdown_cell(source, metadata={"slideshow": {"slide_type": kind}} if kind else {})


def code(source: str, kind: str, *outputs: nbformat.NotebookNode, **metadata: str) -> nbformat.NotebookNode:
    mark = {"slideshow": {"slide_type": kind}} if kind else {}
    return new_code_cell(source, outputs=list(outputs), metadata=mark | metadata)


def said(words: str, name: str = "stdout") -> nbformat.NotebookNode:
    return new_output("stream", name=name, text=words)


def figure() -> nbformat.NotebookNode:
    return new_output("display_data", data=PICTURE)


def deck(*cells: nbformat.NotebookNode) -> BeautifulSoup:
    title = text("# A title", "slide")
    nb = new_notebook(cells=[title, *cells], metadata={run.STAMP: STAMP})
    return BeautifulSoup(slides.render(slides.as_slides(nb, "03_x.ipynb"), SCRIPTS), "html.parser")


def leaves(tree: BeautifulSoup) -> list[str]:
    """The text of each slide, speaker notes left out."""
    for notes in tree.select("aside.notes"):
        notes.extract()
    return [" ".join(leaf.get_text(" ").split()) for leaf in tree.select("section > section")]


def test_marked_cells_become_slides_and_others_do_not() -> None:
    tree = deck(
        text("Unmarked."),
        text("## First", "slide"),
        text("Below.", "subslide"),
        text("More.", "fragment"),
        text("Left out.", "skip"),
        text("Said aloud.", "notes"),
        code("hidden = 1", ""),
    )
    assert [notes.get_text().strip().partition(":")[0] for notes in tree.select("aside.notes")] == [
        "The solved lesson, as it ran on 2026-01-02",
        "Said aloud.",
    ]
    assert [fragment.get_text().split() for fragment in tree.select("div.fragment")] == [["More.", "Said", "aloud."]]
    assert len(tree.select(".slides > section")) == 2
    assert leaves(tree) == ["A title", "First", "Below. More."]


def test_a_heading_begins_a_slide() -> None:
    tree = deck(
        text("## First\n\nOne.", "slide"),
        text("So much for one.\n\n## Second\n\nTwo.\n\n### Exercise 1\n\nTry.", "slide"),
        text("So much for two.\n\n## Third\n\n### Exercise 2\n\nTry.", "subslide"),
    )
    section = tree.select(".slides > section")[1]
    assert section.select_one("aside").get_text().strip() == "So much for one."
    assert leaves(tree) == [
        "A title",
        "First One.",
        "Second Two.",
        "Exercise 1 Try.",
        "So much for two.",
        "Third Exercise 2 Try.",
    ]


def test_a_figure_is_shown_without_its_code_and_each_further_one_on_a_slide_of_its_own() -> None:
    tree = deck(code("draw()", "slide", figure(), said("noise"), figure(), alt='Two "figures"'))
    assert leaves(tree) == ["A title", "", ""]
    images = tree.select("section > section img")
    assert [image["alt"] for image in images] == ['Two "figures"'] * 2
    assert images[0]["src"] == "data:image/png;base64,AA=="


def test_code_without_a_figure_is_shown_if_it_is_short() -> None:
    longer = "\n".join(["1"] * slides.SHORT)
    tree = deck(
        code("print(2)", "slide", said("2\n"), said("bar", "stderr"), said("3\n")),
        code(f"{longer}\nprint(4)", "slide", said("4")),
        code(f"{longer}\n5", "slide"),
    )
    short, long, silent = leaves(tree)[1:]
    assert short == "print ( 2 ) 2 3"
    assert len(tree.select("section > section")[1].select(".jp-OutputArea pre")) == 1
    assert long == "4"
    assert silent.endswith("1 5"), "there is nothing else to see"


def test_solutions_and_progress_bars_are_not_shown() -> None:
    solution = "def f(x):\n    ### BEGIN SOLUTION\n    return secret\n    ### END SOLUTION"
    view = new_output("display_data", data={"text/plain": "...", "application/vnd.jupyter.widget-view+json": VIEW})
    nb = new_notebook(
        cells=[
            text("# T", "slide"),
            code(solution, "slide", said("secret")),
            code("fit()", "slide", view, said("0.5")),
        ],
        metadata={run.STAMP: STAMP, "widgets": {STATE: {"state": {"bar": BAR}}}},
    )
    html = slides.render(slides.as_slides(nb, "03_x.ipynb"), SCRIPTS)
    assert "secret" not in html
    assert leaves(BeautifulSoup(html, "html.parser")) == ["T", "fit () 0.5"]


VIEW, STATE = {"model_id": "bar"}, "application/vnd.jupyter.widget-state+json"
BAR = {"model_name": "HBoxModel", "state": {"children": []}}


def test_a_page_holds_its_scripts_and_no_dead_links() -> None:
    tree = deck(text("[Near](02_y.ipynb), [far](https://example.org).", "slide"))
    assert [link["href"] for link in tree.select("a")] == ["https://example.org"]
    assert leaves(tree)[1] == "Near, far ."
    assert any(script.get_text() == r"x = '<\/script><\!-- '" for script in tree.select("script"))


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (text("![a dot](https://example.org/a.png)", "slide"), "loads https://example.org/a.png"),
        (text("![a dot](a.png)", "slide"), "loads a.png"),
        (code("draw()", "slide", figure()), "a picture without alt text"),
    ],
)
def test_faults_of_a_deck(cell: nbformat.NotebookNode, fault: str) -> None:
    with pytest.raises(NotebookError, match=re.escape(fault)):
        deck(cell)


def test_styles_that_load_are_found() -> None:
    style = "<style>@import 'a.css'; b { background: url(//c/d.png) } e { background: url(data:image/png,) }</style>"
    found = list(slides.faults(BeautifulSoup(style, "html.parser")))
    assert sorted(found) == ["loads //c/d.png", "loads a.css"]


def test_a_lesson_without_marks_is_an_error_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    source = tmp_path / "notebooks" / "solutions" / "01_x.ipynb"
    source.write_text(notebooks.text(new_notebook(cells=[text("# T")])), encoding="utf-8")
    monkeypatch.setattr("course_lib.paths.checkout", lambda: tmp_path)
    with pytest.raises(NotebookError, match=r"01_x\.ipynb has no cell that is marked as a slide\n.*Slide Type"):
        slides.slides(["01"])


def test_without_npm_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotebookError, match=r"slides need reveal\.js, which npm fetches once; there is no npm"):
        slides.slides(["05"])


@pytest.mark.timeout(900)
def test_slides_of_a_lesson(finished) -> None:
    if not shutil.which("npm"):
        pytest.skip("no npm here, which fetches reveal.js: install Debian's `npm`")
    finished(LESSON)
    command = [sys.executable, "-m", "course_lib.cli", "slides", "05", "--device", "cpu"]
    done = subprocess.run(command, env=finished.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done in" not in done.stdout, "the lesson had not to run again"
    html = (finished.build / "slides" / "05_unet.html").read_text(encoding="utf-8")
    tree = BeautifulSoup(html, "html.parser")
    assert list(slides.faults(tree)) == []
    assert all(len(image["alt"]) > 20 for image in tree.select("img"))
    assert 20 < len(tree.select("section > section")) < 45
    body = tree.select_one(".slides").get_text()
    assert "What a skip connection buys" in body
    assert "import torch" not in body, "an unmarked cell"
    solved = [cell.source for cell in notebooks.read(LESSON).cells if notebooks.BEGIN in cell.source]
    answers = [source.partition(notebooks.BEGIN)[2].partition(notebooks.END)[0].strip() for source in solved]
    assert answers
    assert not any(answer in html or answer.split("return ")[-1] in body for answer in answers)
    assert "SOLUTION" not in body
    assert str(ROOT) not in html
