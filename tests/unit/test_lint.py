"""`course lint`: a lesson that keeps every rule passes; each broken rule is found, in its cell."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from course_lib.cli import app, build, lint, notebooks
from course_lib.cli.errors import NotebookError

FACTS = {"minutes_cpu": 10, "minutes_gpu": 8, "memory_gb": 1, "summary": "a mask", "prerequisites": []}
STEP = "a = 1\nb = a + 1\nc = b + 1\nd = c + 1\nd"


def code(source: str, *tags: str, **metadata: str) -> Any:
    cell = new_code_cell(source, metadata=dict(metadata))
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def words(count: int) -> str:
    return " ".join(["word"] * count)


def lesson() -> Any:
    """A notebook that keeps every rule; cell numbers: 1 title, 2-4 set-up, 5 words, 6 code, 7 words, ..."""
    cells = [
        new_markdown_cell("# Title\n\n<!-- badges -->\n<!-- /badges -->\n\nA promise."),
        code(build.bootstrap(build.Project("a/b", "main")), "bootstrap"),
        code('PROFILE = None\nDATA = None\nDEVICE = "auto"\nSEED = 0', "parameters"),
        code('lesson = start("01", profile=PROFILE)'),
    ]
    for number in range(20):
        marked = {"slideshow": {"slide_type": "slide"}}
        cells += [new_markdown_cell(f"## Step {number}\n\n{words(60)}", metadata=marked), code(STEP)]
    cells.append(new_markdown_cell("## Summary\n\nShort."))
    cells.append(new_markdown_cell("## Exercises"))
    for number in (1, 2, 3):
        cells.append(new_markdown_cell(f"### Exercise {number}: do it\n\nDo."))
        cells.append(code(f"### BEGIN SOLUTION\n{STEP}\n### END SOLUTION"))
        cells.append(code(f"check.step(d, {number})"))
    return new_notebook(cells=cells, metadata={"course": FACTS})


def findings(nb: Any, size: int = 20_000) -> list[str]:
    return [f"{cell}: {text}" for cell, text in lint.inspect(nb, size, "01_x.ipynb")[1]]


def test_a_lesson_that_keeps_every_rule_has_no_finding() -> None:
    figures, found = lint.inspect(lesson(), 20_480, "01_x.ipynb")
    assert found == []
    assert figures == {
        "code cells": 29,
        "median lines": 5,
        "lines in 90% of cells": 5,
        "lines in a cell": 12,
        "words": 1 + 2 + 20 * 62 + 2 + 1 + 3 * 5,
        "words before code": 3,
        "code cells in a row": 2,
        "exercises": 3,
        "words in summary": 1,
        "slides": 20,
        "lines of set-up": 12,
        "KB": 20.0,
    }


def replace(number: int, source: str) -> Callable[[Any], None]:
    """A change that gives cell `number` another source."""
    return lambda nb: nb.cells[number - 1].update(source=source)


def tagged(number: int, tag: str) -> Callable[[Any], None]:
    return lambda nb: nb.cells[number - 1].metadata.update(tags=[tag])


def no_exercise(nb: Any) -> None:
    nb.cells[-3].source = "### Homework"


def three_in_a_row(nb: Any) -> None:
    nb.cells[6].source = nb.cells[8].source = ""


def stored_output(nb: Any) -> None:
    nb.cells[5].outputs = [new_output("stream", text="1")]


def path_in_output(nb: Any) -> None:
    checked_output(nb)
    nb.cells[5].outputs[0].text = "PosixPath('/home/me/data')"


def checked_output(nb: Any) -> None:
    stored_output(nb)
    nb.cells[5].metadata["tags"] = [notebooks.CHECKED]


def raw_cell(nb: Any) -> None:
    nb.cells[4] = nbformat.v4.new_raw_cell("x")


LONG = "\n".join(["x = 1"] * 41)
BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "too few cells": (lambda nb: nb.cells.__delitem__(slice(4, 28)), "0: 17 code cells; 20-45: one idea"),
    "short cells": (
        lambda nb: [cell.update(source="1") for cell in nb.cells[5:44:2]],
        "0: 1 median lines; 4-8: a cell is one short step",
    ),
    "long cells": (
        lambda nb: [cell.update(source="\n".join(["x"] * 21)) for cell in nb.cells[5:12:2]],
        "0: 21 lines in 90% of cells; at most 20: split the long ones",
    ),
    "a monolith": (replace(6, LONG), "6: 41 lines in a cell; at most 40: split it"),
    "long set-up": (replace(4, "start()" + "\n1" * 12), "4: 13 lines of set-up; at most 12"),
    "too many words": (replace(5, words(2000)), "0: 3199 words; 1200-2500: one paragraph an idea"),
    "a long preface": (replace(1, f"# Title\n\n{words(200)}"), "0: 201 words before code; at most 200"),
    "code without prose": (three_in_a_row, "10: 3 code cells in a row; at most 2: put a sentence"),
    "set-up, then two more": (
        lambda nb: nb.cells.insert(4, code(STEP)) or nb.cells.insert(5, code(STEP)),
        "6: 3 code cells in a row; at most 2",
    ),
    "too few exercises": (no_exercise, "0: 2 exercises; 3-5"),
    "an exercise without check": (
        replace(49, "d"),
        "47: 'Exercise 1: do it' has no cell that calls check.… before the next heading",
    ),
    "the last exercise without check": (replace(55, "d"), "53: 'Exercise 3: do it' has no cell that calls check."),
    "no summary": (replace(45, "## Conclusion\n\nShort."), "0: 0 words in summary; 1-100: close with a short section"),
    "a long summary": (replace(45, f"## Summary\n\n{words(101)}"), "0: 101 words in summary; 1-100"),
    "two titles": (replace(7, "# Another"), "0: H1 headings in cells: 1, 7; must be one, at the top of cell 1"),
    "no title": (replace(1, "## Title"), "0: H1 headings in cells: none; must be one"),
    "a title in the wrong place": (replace(1, "## Before\n\n# Title"), "0: H1 headings in cells: 1; must be one"),
    "a skipped level": (replace(7, "#### Deep\n\nText"), "7: heading 'Deep' skips from level 2 to 4"),
    "raw HTML": (replace(5, "## A\n\n<div>a</div> and <br>"), "5: raw HTML <br>, <div>: only <details>"),
    "an HTML image": (replace(5, '## A\n\ntext <img src="a.png">'), "5: raw HTML <img>: only"),
    "a MyST block": (replace(5, "## A\n\n:::{note}\nText\n:::"), "5: MyST directive: raw text in JupyterLab"),
    "a MyST fence": (replace(5, "## A\n\n```{tip}\nText\n```"), "5: MyST directive"),
    "a GitHub alert": (replace(5, "## A\n\n> [!NOTE]\n> Text"), "5: MyST directive"),
    "an image without alt": (replace(5, "## A\n\n![](a.png)"), "5: image a.png without alt text"),
    "a figure without alt": (replace(6, "plt.plot(a)"), "6: draws a figure without alt text"),
    "a package figure without alt": (replace(6, "plots.compare(a, b, c)"), "6: draws a figure without alt text"),
    "imshow without alt": (replace(6, "axes[0].imshow(a)"), "6: draws a figure without alt text"),
    "an imported figure without alt": (
        replace(6, "from course_lib.plots import show as s\ns([a])"),
        "6: draws a figure without alt text",
    ),
    "a figure through a function of the lesson": (
        lambda nb: (replace(6, "def f():\n    g()\ndef g():\n    plt.show()")(nb), replace(8, "f()")(nb)),
        "8: draws a figure without alt text",
    ),
    "no parameters": (tagged(3, "other"), "0: 0 code cells tagged parameters; must be one"),
    "a parameter is missing": (replace(3, "PROFILE = DATA = None"), "3: parameters cell without DEVICE, SEED"),
    "a call of .cuda": (replace(6, "model.to(x).cuda()"), "6: .cuda(): write .to(device)"),
    "bare except": (replace(6, "try:\n    a\nexcept:\n    b"), "6: bare except: name the exception"),
    "raises-exception": (tagged(6, "raises-exception"), "6: tag raises-exception: every cell is run"),
    "nbval-skip": (tagged(6, "nbval-skip"), "6: tag nbval-skip: every cell is run"),
    "a misspelt tag": (tagged(6, "nbval-check-outputs"), "6: tag nbval-check-outputs: every cell is run"),
    "ignored output": (tagged(6, "nbval-ignore-output"), "6: tag nbval-ignore-output without a reason"),
    "a comment for nbval": (replace(6, "# NBVAL_SKIP\n1"), "6: a comment switches nbval"),
    "pip": (replace(6, "%pip install torch"), "6: shell or pip line"),
    "shell": (replace(6, "a = 1\n!ls"), "6: shell or pip line"),
    "a path": (replace(6, 'open("/home/me/a.png")'), "6: absolute path /home/me/a.png: paths come from"),
    "a Windows path": (replace(6, 'open(r"C:\\data\\a.png")'), "6: absolute path C:\\data\\a.png"),
    "a path in Markdown": (replace(5, "## A\n\n[a](file:///x)"), "5: absolute path file:///x"),
    "a path in an output": (path_in_output, "6: absolute path /home/me/data"),
    "an output": (stored_output, "6: stored output: run `course build`"),
    "a solution on a slide": (
        lambda nb: nb.cells[47].metadata.update(slideshow={"slide_type": "subslide"}),
        "48: a solution marked as a slide",
    ),
    "too few slides": (
        lambda nb: [cell.metadata.pop("slideshow", None) for cell in nb.cells[5:]],
        "0: 1 slides; 10-30: mark cells as slides",
    ),
    "a raw cell": (raw_cell, "5: a raw cell: it shows nowhere"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found(name: str) -> None:
    change, expected = BROKEN[name]
    nb = lesson()
    change(nb)
    found = findings(nb)
    assert any(line.startswith(expected) for line in found), found


def test_a_large_file_is_found() -> None:
    assert findings(lesson(), 67 * 1024) == ["0: 67 KB; at most 66: leave pictures and long data out of the notebook"]


@pytest.mark.parametrize(
    "change",
    [
        replace(5, f"## A\n\n<details><summary>Hint</summary>\n\n{words(60)}\n\n</details> <!-- note -->"),
        replace(5, f"## A\n\n![a mask](a.png) $<b>$ `<div>` {words(60)} [b](https://x.org/home/me)"),
        replace(5, f"## A\n\n{words(60)}\n\n```python\n# no title\n:::\n```"),
        replace(6, "plt.close()\nplots.picture(a)\nb\nc"),
        replace(6, "def f():\n    plt.show()\n1\n2"),
        replace(6, "torch.cuda.is_available()\n1\n2\n3"),
        replace(6, "try:\n    a\nexcept ValueError:\n    b"),
        replace(6, "%time a\n1\n2\n3"),
        replace(6, "'https://x.org/home/me/tmp/'\n1\n2\n'a / b'"),
        lambda nb: nb.cells[5].update(source="plt.show()\n1\n2\n3", metadata={"alt": "A plot."}),
        lambda nb: nb.cells[5].metadata.update(tags=["nbval-ignore-output"], reason="prints a time"),
        checked_output,
    ],
)
def test_what_is_allowed_is_not_found(change: Callable[[Any], Any]) -> None:
    nb = lesson()
    change(nb)
    assert findings(nb) == []


def test_words_leave_out_code_mathematics_addresses_and_comments() -> None:
    source = (
        "# One **two**th\n\nthree `code` $x + y$ [four five](https://x.org/six) ![seven](a.png) eight-nine –\nten\n\n"
        "$$\na = b\n$$\n\n```python\neleven\n```\n<!-- twelve -->\n\n"
        "| th | td |\n|---|---|\n| a | b |\n\n    indented code"
    )
    (above, below) = notebooks.sections(source)
    assert above == (0, "", 0)
    assert below == (1, "One twoth", 9), "three, four, five, eight-nine, ten, th, td, a, b"


def test_summary_goes_on_over_cells_and_ends_at_the_next_heading() -> None:
    nb = lesson()
    nb.cells[44].source = f"## Summary\n\n{words(50)}"
    nb.cells.insert(45, new_markdown_cell(f"{words(50)}\n\n## Next\n\n{words(9)}"))
    assert lint.inspect(nb, 1, "01_x.ipynb")[0]["words in summary"] == 100


def test_solution_markers_are_no_lines() -> None:
    source = "### BEGIN SOLUTION\n### PLACEHOLDER a = 2\na = 1\n\n# note\n### END SOLUTION"
    assert lint.Cell(1, code(source), [], None).lines == 3


def test_code_that_is_no_python_is_an_error() -> None:
    nb = lesson()
    nb.cells[5].source = "a ="
    with pytest.raises(NotebookError, match=r"01_x\.ipynb cell 6, line 1: invalid syntax"):
        findings(nb)


def test_drawing_functions_of_the_package_are_read_from_it() -> None:
    found = lint.package_drawing()
    assert {("plots", "show"), ("plots", "compare")} <= found
    assert ("plots", "colour_classes") not in found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    monkeypatch.setattr("course_lib.paths.checkout", lambda: tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    nbformat.write(lesson(), tmp_path / "notebooks" / "solutions" / "01_x.ipynb")
    return tmp_path


def test_command_passes_and_prints_the_figures(root: Path) -> None:
    result = CliRunner().invoke(app, ["lint"])
    assert result.exit_code == 0, result.output
    assert re.search(r"code cells +│ 20-45 +│ 29 ", result.output)
    assert result.output.rstrip().endswith("No findings.")


def test_command_prints_one_line_per_finding(root: Path) -> None:
    nb = lesson()
    nb.cells[5].source = LONG
    other = root / "notebooks" / "solutions" / "02_y.ipynb"
    nbformat.write(nb, other)
    result = CliRunner().invoke(app, ["lint"])
    assert isinstance(result.exception, NotebookError)
    assert result.exception.message == "1 finding(s)"
    assert result.output.splitlines()[0] == (
        "notebooks/solutions/02_y.ipynb cell 6: 41 lines in a cell; at most 40: split it"
    )
    assert CliRunner().invoke(app, ["lint", str(other.with_name("01_x.ipynb"))]).exit_code == 0
    assert CliRunner().invoke(app, ["lint", str(other.with_name("none.ipynb"))]).exit_code == 2
