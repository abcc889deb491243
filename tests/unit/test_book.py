"""`course book`: what it finds fault with, and how it makes pages of finished lessons and of measurements."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_lib.cli import book, notebooks, run

WORDS = " word" * book.FEWEST_WORDS
STAMP: dict[str, Any] = {
    "asked": {"PROFILE": "smoke", "DATA": "synthetic", "DEVICE": "cpu"},
    "used": ["synthetic"],
    "inputs": "",
    "seconds": 12.34,
    "peak_mb": 1234,
    "machine": "A processor, 2 cores",
    "versions": {"python": "3.11", "torch": "2.15"},
    "date": "2026-01-02",
}


def site(tmp_path: Path, **bodies: str) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "outside.txt").touch()
    for name, body in bodies.items():
        page = f"<html><body><article>{body}</article></body></html>"
        (tmp_path / "site" / f"{name}.html").write_text(page, encoding="utf-8")
    return tmp_path / "site"


def test_a_sound_site_has_no_faults(tmp_path: Path) -> None:
    links = '<a href="b.html#there">b</a><a href="https://example.org">far</a><a href="#here">up</a>'
    first = f'<p id="here">{WORDS}</p>{links}'
    second = (
        f'<h1 id="there">b</h1>{WORDS}<img src="a.png" alt="a picture"><img src="data:image/png;base64,AA" alt="dot">'
    )
    html = site(tmp_path, a=first, b=second)
    (html / "a.png").touch()
    assert list(book.faults(html)) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>Few words.</p>", "a.html: an empty page"),
        (f'{WORDS}<a href="gone.html">x</a>', "a.html: the link gone.html leads nowhere"),
        (f'{WORDS}<a href="../outside.txt">x</a>', "a.html: the link ../outside.txt leads nowhere"),
        (f'{WORDS}<a href="b.html#gone">x</a>', "a.html: the link b.html#gone names no place on that page"),
        (f'{WORDS}<a href="#gone">x</a>', "a.html: the link #gone names no place on that page"),
        (f'{WORDS}<img src="b.html">', "a.html: b.html without alt text"),
        (f'{WORDS}<img src="b.html" alt=" ">', "a.html: b.html without alt text"),
        (f'{WORDS}<img src="b.html" alt="b.html">', "a.html: b.html without alt text"),
        (f'{WORDS}<img src="gone.png" alt="x">', "a.html: the link gone.png leads nowhere"),
        (
            f'{WORDS}<script src="https://cdn.example.org/x.js"></script>',
            "a.html: loads https://cdn.example.org/x.js from another host",
        ),
        (
            f'{WORDS}<link rel="stylesheet" href="//cdn.example.org/x.css">',
            "a.html: loads //cdn.example.org/x.css from another host",
        ),
    ],
)
def test_faults_of_a_site(tmp_path: Path, body: str, fault: str) -> None:
    assert list(book.faults(site(tmp_path, a=body, b=WORDS))) == [fault]


def widget(name: str, **state: Any) -> dict[str, Any]:
    return {"model_name": name, "state": state}


def test_widgets_show_their_last_figure_and_setting() -> None:
    picture = {"output_type": "display_data", "data": {"image/png": "AA=="}, "metadata": {}}
    state = {
        "box": widget("VBoxModel", children=["IPY_MODEL_slider", "IPY_MODEL_list", "IPY_MODEL_out"]),
        "slider": widget("IntSliderModel", description="threshold", value=47),
        "list": widget("DropdownModel", description="layer", index=1, _options_labels=["first", "second"]),
        "out": widget("OutputModel", outputs=[picture]),
        "bar": widget("HBoxModel", children=["IPY_MODEL_progress"]),
        "progress": widget("FloatProgressModel", description="", value=3.0),
    }

    def view(model_id: str) -> nbformat.NotebookNode:
        data = {"text/plain": "interactive(...)", book.VIEW: {"model_id": model_id}}
        return new_output("display_data", data=data)

    figure, caption = book.still(view("box"), state)
    assert figure == picture
    assert "`threshold` (here 47); `layer` (here second)" in caption.data["text/markdown"]
    assert list(book.still(view("bar"), state)) == [], "a progress bar says nothing in a book"
    plain = new_output("stream", text="42\n")
    assert list(book.still(plain, state)) == [plain]


def finished_notebook() -> nbformat.NotebookNode:
    solution = "def f(x):\n    ### BEGIN SOLUTION\n    ### PLACEHOLDER pass\n    return x\n    ### END SOLUTION"
    cells = [
        new_markdown_cell("# Title\n\n<!-- badges -->\n\n![x](https://x)\n\n<!-- /badges -->\n\n**Time.**"),
        new_code_cell("pass", metadata={"tags": ["bootstrap"]}),
        new_code_cell("PROFILE = None", metadata={"tags": ["parameters"]}),
        new_code_cell("PROFILE = 'smoke'", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("draw()", metadata={"alt": "A figure\nin two lines."}),
        new_code_cell(solution),
    ]
    return new_notebook(cells=cells, metadata={run.STAMP: STAMP})


def test_a_lesson_as_a_page() -> None:
    nb = finished_notebook()
    before = notebooks.text(nb)
    head, settings, figure, exercise = book.as_page(nb, "03_x.ipynb").cells
    assert notebooks.text(nb) == before
    assert "https://x" not in head.source
    assert head.source.startswith("# Title\n\n**Time.**")
    assert "profile `smoke`, drawn data, 12 seconds and at most 1.2 GB" in head.source
    assert "networks hardly learn" in head.source
    assert settings.source == "PROFILE = None"
    assert figure.metadata.mystnb == {"image": {"alt": "A figure in two lines."}}
    assert exercise.source == "def f(x):\n    return x"
    assert exercise.metadata.tags == ["hide-input"]


def test_status_and_results(tmp_path: Path) -> None:
    table = book.status({"01_x": STAMP})
    assert "| [01_x](../notebooks/01_x.ipynb) | 12 | 1.2 GB | smoke | synthetic | 2026-01-02 |" in table
    assert "Versions: python 3.11, torch 2.15." in table
    entry = {"name": "ours", "dataset": "cells", "train_seconds": [1.2, 2.9], "metrics": {"dsb": [0.5, 0.25]}}
    result = {
        "date": "2026-01-02",
        "machine": "m",
        "command": "make bench BENCH=r (2 seeds, 1 of the seconds)",
        "versions": {"torch": "2"},
    }
    (tmp_path / "r.json").write_text(json.dumps(result | {"entries": [entry]}), encoding="utf-8")
    assert "with `make bench BENCH=r` (2 seeds): m" in book.results(tmp_path / "r.json")
    assert "| ours | 2 | 1 to 3 | 0.250 to 0.500 |" in book.results(tmp_path / "r.json").replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert book.value_range([0.5, 0.5001], 3) == "0.500"
    assert book.value_range([], 3) == ""


def test_fresh_knows_what_a_lesson_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    source = notebooks.sources(notebooks.checkout())[0]
    asked = STAMP["asked"]
    assert not run.fresh(source, asked), "never ran"
    target = tmp_path / "run" / source.name
    target.parent.mkdir()
    stamp = STAMP | {"inputs": run.fingerprint(source)}
    target.write_text(notebooks.text(new_notebook(metadata={run.STAMP: stamp})), encoding="utf-8")
    assert run.fresh(source, asked)
    assert not run.fresh(source, asked | {"PROFILE": "lesson"})
    assert not run.fresh(source, asked | {"DATA": "auto"})
    target.write_text(notebooks.text(new_notebook(metadata={run.STAMP: STAMP})), encoding="utf-8")
    assert not run.fresh(source, asked), "the package has changed since"
    target.write_text('{"cells": [', encoding="utf-8")
    assert not run.fresh(source, asked), "killed while it was written"
