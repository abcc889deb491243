"""`course build`: placeholders that run, stripped outputs, generated badges and tables, and `--check`."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from packaging.requirements import Requirement
from typer.testing import CliRunner

from course_lib.cli import app, build, notebooks
from course_lib.cli.errors import NotebookError
from course_lib.cli.exercises import Exercise

FACTS = {"minutes_cpu": 10, "minutes_gpu": 2.5, "memory_gb": 1, "summary": "a | b", "prerequisites": []}
REPO = "someone/lessons"


def code(source: str, *tags: str, outputs: list[Any] | None = None) -> Any:
    cell = new_code_cell(textwrap.dedent(source).strip("\n"), outputs=outputs or [])
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def lesson(*cells: Any, title: str = "Thresholds") -> Any:
    head = new_markdown_cell(f"# {title}\n\n<!-- badges -->\n<!-- /badges -->\n\nTen minutes.")
    return new_notebook(cells=[head, code("", "bootstrap"), *cells], metadata={"course": FACTS})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with two lessons."""
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "x"\n[project.urls]\nRepository = "https://github.com/{REPO}"\n', encoding="utf-8"
    )
    (tmp_path / "README.md").write_text(
        "# Course\n<!-- badges -->\n<!-- /badges -->\nText\n<!-- lessons -->\nstale\n<!-- /lessons -->\nEnd\n",
        encoding="utf-8",
    )
    exercise = code("### BEGIN SOLUTION\nmask = 1 > 0\n### END SOLUTION")
    save(tmp_path, "00_start.ipynb", lesson(code("1 + 1"), title="Start"))
    save(tmp_path, "01_thresholds.ipynb", lesson(exercise, code("print(mask)")))
    return tmp_path


def save(root: Path, name: str, nb: Any) -> Path:
    path = root / "notebooks" / "solutions" / name
    nbformat.write(nb, path)
    return path


def student(*sources: str) -> list[str]:
    """The sources that `derive` makes of these code cells."""
    return [cell.source for cell in notebooks.derive(new_notebook(cells=[code(s) for s in sources])).cells]


PLACEHOLDERS = {  # a cell with its solution, and what students get
    "a name that is used later": """
a = 1
### BEGIN SOLUTION
t = 3
mask = a > t
### END SOLUTION
mask
---
a = 1
# YOUR CODE HERE
mask = ...
mask
""",
    "all names if none is used": """
### BEGIN SOLUTION
t = 3
u, v = 1, t
### END SOLUTION
---
# YOUR CODE HERE
t = ...
u = ...
v = ...
""",
    "names from inner blocks, loop variables not": """
### BEGIN SOLUTION
for i in range(3):
    if i:
        best = [x for x in 'ab']
### END SOLUTION
best, i, x
---
# YOUR CODE HERE
best = ...
best, i, x
""",
    "the body of a function": """
def f(x):
    y = 2 * x
    ### BEGIN SOLUTION
    z = y
    return z
    ### END SOLUTION
---
def f(x):
    y = 2 * x
    # YOUR CODE HERE
    return ...
""",
    "a block inside a function": """
def f(x):
    for y in x:
        ### BEGIN SOLUTION
        x += y
        ### END SOLUTION
    return x
---
def f(x):
    for y in x:
        # YOUR CODE HERE
        return ...
    return x
""",
    "a block at top level": """
for y in x:
    ### BEGIN SOLUTION
    total += y
    ### END SOLUTION
print(total)
---
for y in x:
    # YOUR CODE HERE
    total = ...
print(total)
""",
    "nothing assigned": """
for y in x:
    ### BEGIN SOLUTION
    print(y)
    ### END SOLUTION
---
for y in x:
    # YOUR CODE HERE
    pass
""",
    "a whole function: signature and docstring stay": '''
### BEGIN SOLUTION
@cache
def f(
    x,  # [H, W]
):
    """Twice.

    More.
    """
    # secret
    return 2 * x
### END SOLUTION
---
@cache
def f(
    x,  # [H, W]
):
    """Twice.

    More.
    """
    # YOUR CODE HERE
    return ...
''',
    "a whole function without docstring, and its comments": """
### BEGIN SOLUTION
def f(x):
    # secret

    y = x
    return y


limit = f(3)
### END SOLUTION
limit
---
def f(x):
    # YOUR CODE HERE
    return ...


# YOUR CODE HERE
limit = ...
limit
""",
    "a function on one line": """
### BEGIN SOLUTION
def f(é='é'): return é
### END SOLUTION
---
def f(é='é'):
    # YOUR CODE HERE
    return ...
""",
    "a class": '''
### BEGIN SOLUTION
class Net(Module):
    """Small."""

    width: int = 8

    def __init__(self):
        super().__init__()
        self.a = Conv(3)

    def forward(self, x):
        return self.a(x)
### END SOLUTION
---
class Net(Module):
    """Small."""
    width: int = ...

    def __init__(self):
        super().__init__()
        # YOUR CODE HERE
        self.a = ...

    def forward(self, x):
        # YOUR CODE HERE
        return ...
''',
    "the body of __init__, which must return None": """
class A:
    def __init__(self, n):
        ### BEGIN SOLUTION
        self.n = n
        ### END SOLUTION
---
class A:
    def __init__(self, n):
        # YOUR CODE HERE
        self.n = ...
""",
    "a needed import stays": """
### BEGIN SOLUTION
import math
import json
r = math.pi
### END SOLUTION
math.tau * r
---
import math
# YOUR CODE HERE
r = ...
math.tau * r
""",
    "the author's own placeholder": """
if x:
    ### BEGIN SOLUTION
    ### PLACEHOLDER for _ in x:
    ### PLACEHOLDER     y = 0  # mend this
    y = 1
    ### END SOLUTION
---
if x:
    # YOUR CODE HERE
    for _ in x:
        y = 0  # mend this
""",
    "two regions": """
### BEGIN SOLUTION
a = 1
### END SOLUTION
b = 2
### BEGIN SOLUTION
c = a + b
### END SOLUTION
c
---
# YOUR CODE HERE
a = ...
b = 2
# YOUR CODE HERE
c = ...
c
""",
}


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_placeholder(name: str) -> None:
    source, expected = PLACEHOLDERS[name].strip("\n").split("\n---\n")
    assert student(source) == [expected]


def test_names_used_in_later_cells_are_assigned() -> None:
    region = "### BEGIN SOLUTION\nhidden = 3\nmask = hidden\ncount = 1\n### END SOLUTION"
    assert student("hidden = 0", region, "%matplotlib inline\nf'{mask}'", "def g():\n    return count")[1] == (
        "# YOUR CODE HERE\nmask = ...\ncount = ..."
    )


def test_untouched_notebook_runs_to_its_end() -> None:
    cells = student(
        "### BEGIN SOLUTION\ndef iou(a, b):\n    return (a & b) / (a | b)\n### END SOLUTION",
        "### BEGIN SOLUTION\nclass Net:\n    def __init__(self):\n        self.w = 3\n    def __call__(self, x):\n"
        "        return x * self.w\n### END SOLUTION",
        "### BEGIN SOLUTION\nscore = iou(3, 1)\nnet = Net()\n### END SOLUTION",
        "found = [iou(3, 1) is ..., Net()(2) is ..., score is ..., net is ...]",
    )
    names: dict[str, Any] = {}
    for source in cells:
        exec(source, names)
    assert names["found"] == [True] * 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("### BEGIN SOLUTION\na = 1", ", line 1: '### BEGIN SOLUTION' without '### END SOLUTION'"),
        ("a = 1\n### END SOLUTION", ", line 2: '### END SOLUTION' is out of place"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", ", line 2: '### BEGIN SOLUTION' is out of place"),
        ("###BEGIN SOLUTION\na = 1\n### END SOLUTION", ", line 1: '###BEGIN SOLUTION' is out of place"),
        ("### PLACEHOLDER a = 2", ", line 1: ### PLACEHOLDER outside a solution"),
        ("### BEGIN SOLUTION\n# only this\n### END SOLUTION", ", line 1: the solution holds no whole statement"),
        (
            "if a:\n    ### BEGIN SOLUTION\n    b = 1\nelse:\n    b = 2\n    ### END SOLUTION\nelse:\n    b = 3",
            ", line 7: invalid syntax",
        ),
        (
            "try:\n    ### BEGIN SOLUTION\n    b = 1\nfinally:\n    b = 2\n    ### END SOLUTION",
            ": with its solution taken out it is no Python",
        ),
        ("a = (1", ", line 1: '(' was never closed"),
    ],
)
def test_errors_name_notebook_and_cell(source: str, message: str) -> None:
    nb = new_notebook(cells=[new_markdown_cell("# A"), code(source)])
    with pytest.raises(NotebookError, match=re.escape(f"01_a.ipynb cell 2{message}")):
        notebooks.derive(nb, "01_a.ipynb")


def test_marker_in_markdown_is_an_error() -> None:
    with pytest.raises(NotebookError, match="01_a cell 1: a solution marker in a Markdown cell"):
        notebooks.derive(new_notebook(cells=[new_markdown_cell("### BEGIN SOLUTION\nx\n### END SOLUTION")]), "01_a")


def outputs() -> list[Any]:
    return [
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stderr", text="warning\n"),
        new_output("stream", name="stdout", text="b\n"),
        new_output("display_data", data={"image/png": "AAAA"}),
        new_output("execute_result", data={"text/plain": "7", "text/html": "<b>7</b>"}, execution_count=12),
    ]


def test_only_text_of_checked_cells_is_kept() -> None:
    solved = code("### BEGIN SOLUTION\nx = 7\n### END SOLUTION\nx", notebooks.CHECKED, outputs=outputs())
    cells = [code("x", outputs=outputs()), code("x", notebooks.CHECKED, outputs=outputs()), solved]
    nb = new_notebook(cells=cells)
    for cell in nb.cells:
        cell.execution_count = 12
    plain, checked, source = notebooks.tidy(nb, "n").cells
    assert (plain.outputs, plain.execution_count) == ([], None)
    assert [output.get("text", output.get("data")) for output in checked.outputs] == ["a\nb\n", {"text/plain": "7"}]
    assert (checked.execution_count, checked.outputs[1].execution_count) == (1, 1)
    assert len(source.outputs) == 2
    student_cells = notebooks.derive(nb).cells
    assert [len(cell.outputs) for cell in student_cells] == [0, 2, 0]
    assert [cell.execution_count for cell in student_cells] == [None, 1, None]
    assert nb.cells[0].execution_count == 12, "the notebook given was changed"


def test_metadata_is_minimal_and_ids_are_kept() -> None:
    cell = code("1", "a")
    cell.id = "kept"
    cell.metadata.update(alt="A plot", reason="time", execution={"iopub.execute_input": "now"}, scrolled=True)
    nb = new_notebook(cells=[cell, code("2")], metadata={"course": FACTS, "widgets": {}, "papermill": {}})
    nb.cells[1].metadata["tags"] = []
    nb.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    tidied = notebooks.tidy(nb, "n")
    assert sorted(tidied.metadata) == ["accelerator", "colab", "course", "kernelspec", "language_info"]
    assert tidied.metadata.language_info == {"name": "python"}
    assert tidied.metadata.kernelspec.display_name == "Python 3 (ipykernel)"
    assert tidied.cells[0].id == "kept"
    assert tidied.cells[0].metadata == {"tags": ["a"], "alt": "A plot", "reason": "time"}
    assert tidied.cells[1].metadata == {}


def test_cells_without_id_get_stable_ones(tmp_path: Path) -> None:
    nb = json.loads(nbformat.writes(new_notebook(cells=[code("1"), code("2")])))
    nb["nbformat_minor"] = 4
    for cell in nb["cells"]:
        del cell["id"]
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(nb), encoding="utf-8")
    first, again = (notebooks.tidy(notebooks.read(path), "old") for _ in range(2))
    assert [cell.id for cell in first.cells] == [cell.id for cell in again.cells]
    assert len({cell.id for cell in first.cells}) == 2
    nbformat.validate(first)


def test_unreadable_notebooks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "01_a.ipynb"
    for content, message in [
        ("<<<<<<< HEAD\n{}", "01_a.ipynb is no notebook"),
        ("{}", "01_a.ipynb is no notebook"),
        ('{"nbformat": 3}', "01_a.ipynb is in notebook format 3"),
    ]:
        path.write_text(content, encoding="utf-8")
        with pytest.raises(NotebookError, match=message):
            notebooks.read(path)


@pytest.mark.parametrize("name", ["thresholds.ipynb", "1_a.ipynb", "01-a.ipynb", "01_a b.ipynb"])
def test_sources_must_be_numbered(root: Path, name: str) -> None:
    save(root, name, lesson())
    with pytest.raises(NotebookError, match=f"{name} is not named NN_name.ipynb"):
        notebooks.sources(root)


def test_no_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="holds no lesson"):
        notebooks.sources(tmp_path)


def test_build_writes_and_check_then_passes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.build_in(root, check=False)
    assert capsys.readouterr().out.splitlines() == [
        "notebooks/solutions/00_start.ipynb: written",
        "notebooks/solutions/01_thresholds.ipynb: written",
        "notebooks/00_start.ipynb: written",
        "notebooks/01_thresholds.ipynb: written",
        "README.md: written",
        "5 files are as their sources say.",
    ]
    build.build_in(root, check=True)
    derived = root / "notebooks" / "01_thresholds.ipynb"
    nb = nbformat.read(derived, as_version=4)
    nbformat.validate(nb)
    assert nb.cells[2].source == "# YOUR CODE HERE\nmask = ..."
    assert nb.metadata.course == FACTS
    assert derived.read_bytes().endswith(b"}\n")
    assert not derived.read_bytes().endswith(b"\n\n")
    before = derived.read_bytes()
    build.build_in(root, check=False)
    assert derived.read_bytes() == before
    assert capsys.readouterr().out.splitlines()[1:] == ["5 files are as their sources say."], "the second build wrote"


def test_check_lists_what_differs_and_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.build_in(root, check=False)
    source = root / "notebooks" / "solutions" / "01_thresholds.ipynb"
    nb = nbformat.read(source, as_version=4)
    nb.cells[3].execution_count = 4  # as JupyterLab saves it
    nbformat.write(nb, source)
    (root / "notebooks" / "00_start.ipynb").unlink()
    derived = root / "notebooks" / "01_thresholds.ipynb"
    derived.write_text(derived.read_text(encoding="utf-8").replace("print(mask)", "print(0)"), encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("Thresholds", "Threshold"), encoding="utf-8")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(NotebookError, match=r"4 generated file\(s\) are out of date"):
        build.build_in(root, check=True)
    assert capsys.readouterr().out.splitlines() == [
        "notebooks/solutions/01_thresholds.ipynb: not what its source gives",
        "notebooks/00_start.ipynb: not what its source gives",
        "notebooks/01_thresholds.ipynb: not what its source gives",
        "README.md: not what its source gives",
    ]
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    build.build_in(root, check=False)
    build.build_in(root, check=True)


@pytest.mark.parametrize("check", [True, False])
def test_a_notebook_without_source_is_reported(root: Path, check: bool, capsys: pytest.CaptureFixture[str]) -> None:
    build.build_in(root, check=False)
    stray = root / "notebooks" / "09_old.ipynb"
    stray.write_text("{}", encoding="utf-8")
    with pytest.raises(NotebookError, match="without a source"):
        build.build_in(root, check)
    assert "notebooks/09_old.ipynb: has no source in notebooks/solutions" in capsys.readouterr().out
    assert stray.is_file()


def test_an_error_in_one_lesson_writes_nothing(root: Path) -> None:
    save(root, "02_broken.ipynb", lesson(code("### BEGIN SOLUTION")))
    with pytest.raises(NotebookError, match=r"02_broken\.ipynb cell 3, line 1"):
        build.build_in(root, check=False)
    assert not list((root / "notebooks").glob("*.ipynb"))


def test_badges_in_both_notebooks_and_readme(root: Path) -> None:
    build.build_in(root, check=False)
    colab = f"https://colab.research.google.com/github/{REPO}/blob/main/notebooks/01_thresholds.ipynb"
    binder = f"https://mybinder.org/v2/gh/{REPO}/main?urlpath=lab/tree/notebooks/01_thresholds.ipynb"
    for folder in ("notebooks", "notebooks/solutions"):
        first = nbformat.read(root / folder / "01_thresholds.ipynb", as_version=4).cells[0].source
        assert f"]({colab})" in first
        assert f"]({binder})" in first
        assert "[![Open lesson 01 in Colab](" in first
        assert first.endswith("<!-- /badges -->\n\nTen minutes.")
    page = (root / "README.md").read_text(encoding="utf-8")
    badges, table = page.split("Text\n")
    assert "blob/main/notebooks/00_start.ipynb" in badges
    assert "01_thresholds" not in badges
    assert "stale" not in table
    assert table.endswith("<!-- /lessons -->\nEnd\n")
    row = next(line for line in table.splitlines() if line.startswith("| 01"))
    assert row.startswith("| 01 | [Thresholds](notebooks/01_thresholds.ipynb) | a \\| b | 10 / 2.5 | 1 GB | [![")
    assert f"]({binder}) |" in row


def test_an_empty_readme_is_left_alone(root: Path) -> None:
    (root / "README.md").write_text("", encoding="utf-8")
    build.build_in(root, check=False)
    assert (root / "README.md").read_text(encoding="utf-8") == ""


@pytest.mark.parametrize(
    "text",
    [
        "no marker",
        "<!-- badges -->",
        "<!-- /badges --> <!-- badges -->",
        "<!-- badges --><!-- badges --><!-- /badges -->",
        "<!-- /badges --><!-- badges --><!-- /badges -->",
    ],
)
def test_fill_needs_both_markers_once(text: str) -> None:
    with pytest.raises(NotebookError, match=r"README\.md: needs <!-- badges --> and, below it, <!-- /badges -->"):
        build.fill(text, "badges", "x", "README.md")


def test_fill_is_stable() -> None:
    once = build.fill("a\n<!-- b -->\n<!-- /b -->\nc", "b", "new", "f")
    assert once == "a\n<!-- b -->\n\nnew\n\n<!-- /b -->\nc"
    assert build.fill(once, "b", "new", "f") == once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nb: nb.metadata.pop("course"), "lacks, misspells or mistypes minutes_cpu, minutes_gpu"),
        (lambda nb: nb.metadata.course.update(minutes_cpu="10"), "mistypes minutes_cpu"),
        (lambda nb: nb.metadata.course.update(minute=1), "mistypes minute$"),
        (lambda nb: nb.cells.pop(1), "0 code cells tagged `bootstrap`, must be one"),
        (lambda nb: nb.cells.append(code("", "bootstrap")), "2 code cells tagged `bootstrap`, must be one"),
        (lambda nb: nb.cells.pop(0), "the first cell is no Markdown cell with a title"),
        (lambda nb: nb.cells[0].update(source="# Title"), "01_a.ipynb cell 1: needs <!-- badges -->"),
    ],
)
def test_a_lesson_must_have_facts_title_badges_and_bootstrap(change: Any, message: str) -> None:
    nb = nbformat.reads(nbformat.writes(lesson()), as_version=4)
    change(nb)
    with pytest.raises(NotebookError) as caught:
        build.generate(nb, "01_a.ipynb", build.Project(REPO, "main"))
    assert re.search(message, caught.value.message)


TEXT = "A Dice of <!-- dice -->0.8<!-- /dice -->, that is <!-- dice -->0.8<!-- /dice -->"


@pytest.mark.parametrize(
    ("marks", "wanted"), [(True, TEXT.replace("0.8", "0.6")), (False, "A Dice of 0.6, that is 0.6")]
)
def test_constants_are_written_into_the_text(marks: bool, wanted: str) -> None:
    nb = lesson(new_markdown_cell(TEXT), code(f"# {TEXT}"))
    said = notebooks.constants(nb, {"dice": 0.6}, "01_a.ipynb", marks)
    assert [cell.source for cell in said.cells[2:]] == [wanted, f"# {TEXT}"]
    assert said.cells[0].source == nb.cells[0].source, "the badges are no constant"
    assert nb.cells[2].source == TEXT, "the notebook given was changed"
    assert build.generate(nb, "01_a.ipynb", build.Project(REPO, "main"), {"dice": 0.6}).cells[2].source == (
        TEXT.replace("0.8", "0.6")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A Dice of 0.8", "01_a.ipynb: no text says the constant 'dice'"),
        (f"{TEXT} <!-- iou -->0.7<!-- /iou -->", "01_a.ipynb cell 3: the comment 'iou' marks no constant"),
        (f"{TEXT} <!-- dice -->", "01_a.ipynb cell 3: the comment 'dice' marks no constant"),
        (f"{TEXT} <!-- dice -->\n0.8<!-- /dice -->", "01_a.ipynb cell 3: the comment 'dice' marks no constant"),
        ("A Dice of\n- <!-- dice -->0.8<!-- /dice -->", "01_a.ipynb cell 3: a constant begins a line"),
    ],
)
def test_constants_and_their_places_must_agree(text: str, message: str) -> None:
    with pytest.raises(NotebookError) as caught:
        notebooks.constants(lesson(new_markdown_cell(text)), {"dice": 0.6}, "01_a.ipynb")
    assert caught.value.message.startswith(message)


ANSWERS = """from course_lib.cli.exercises import Exercise


def iou(draw):
    mistakes = [("`2 * J`", 0.8, "no: 2 * J is [not] `J * 2`.")]
    return Exercise(1, 0.4, mistakes, constants={"dice": draw.constant(0.8, 0.6)})
"""


def test_answers_give_records_texts_and_the_guide(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = root / "notebooks" / "solutions" / "01_thresholds.py"
    source.write_text(ANSWERS, encoding="utf-8")
    save(root, "01_thresholds.ipynb", lesson(new_markdown_cell(TEXT.replace("0.8", "0.7"))))
    guide = root / "book" / "instructors" / "01.md"
    guide.parent.mkdir(parents=True)
    guide.write_text(
        "# Guide\n\n<!-- mistakes iou -->\n<!-- /mistakes iou -->\n\n- **Help:** none.\n", encoding="utf-8"
    )
    build.build_in(root, check=False)
    assert "book/instructors/01.md: written" in capsys.readouterr().out
    assert r"- `2 * J`: *no: 2 \* J is \[not\] `J * 2`.*" in guide.read_text(encoding="utf-8").splitlines()
    solved, student = (
        notebooks.read(root / folder / "01_thresholds.ipynb").cells[2].source
        for folder in ("notebooks/solutions", "notebooks")
    )
    assert (solved, student) == (TEXT, "A Dice of 0.8, that is 0.8")
    build.build_in(root, check=True)
    source.write_text(ANSWERS.replace("no: ", "not so: "), encoding="utf-8")
    with pytest.raises(NotebookError, match="out of date"):
        build.build_in(root, check=True)
    assert "book/instructors/01.md: not what its source gives" in capsys.readouterr().out


def test_the_guide_has_a_region_for_each_exercise_and_no_other() -> None:
    with pytest.raises(NotebookError, match=r"01\.md: needs <!-- mistakes iou -->"):
        build.listed("# Guide", {"iou": Exercise(1, 1, [])}, "01.md")
    with pytest.raises(NotebookError, match=r"01\.md: mistakes of 'iou', which is no exercise"):
        build.listed("<!-- mistakes iou -->\n<!-- /mistakes iou -->", {}, "01.md")


def test_title_is_a_heading_not_a_comment_in_code() -> None:
    source = "```python\n# no title\n```\n\nTitle *one*\n===\n\n# Two"
    assert notebooks.title(new_notebook(cells=[code("# no"), new_markdown_cell(source)])) == "Title *one*"


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ('Repository = "https://github.com/a/b"', "a/b"),
        ('Repository = "https://github.com/a/b.git"', "a/b"),
        ('Repository = "https://github.com/a"', None),
        ('Repository = "https://example.org/a/b"', None),
        ('Home = "https://github.com/a/b"', None),
    ],
)
def test_repository(tmp_path: Path, urls: str, found: str | None) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n[project.urls]\n{urls}\n', encoding="utf-8")
    if found:
        assert build.read_project(tmp_path) == (found, "main")
    else:
        with pytest.raises(NotebookError, match=re.escape("[project.urls] Repository is '")):
            build.read_project(tmp_path)


def test_a_release_names_its_tag(tmp_path: Path) -> None:
    text = '[project.urls]\nRepository = "https://github.com/a/b"\n[tool.course]\nref = "v1.2"\n'
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{text}', encoding="utf-8")
    project = build.read_project(tmp_path)
    assert '"course_lib @ git+https://github.com/a/b@v1.2"' in build.bootstrap(project)
    assert "a/b/blob/v1.2/notebooks/01_x.ipynb" in build.badges(project, "01_x.ipynb")
    assert "a/b/v1.2?urlpath" in build.badges(project, "01_x.ipynb")


def test_the_checkout_names_its_repository() -> None:
    assert build.read_project(Path(build.__file__).parents[2]).repo.count("/") == 1


@pytest.mark.parametrize(("cpu", "gpu", "wanted"), [(8, 3, True), (1, 1, False), (1, None, False)])
def test_colab_gives_a_gpu_where_one_helps(cpu: int, gpu: int | None, wanted: bool) -> None:
    facts = FACTS | {"minutes_cpu": cpu, "minutes_gpu": gpu}
    metadata = notebooks.tidy(new_notebook(metadata={"course": facts}), "n").metadata
    assert (metadata.get("accelerator") == "GPU") == ("colab" in metadata) == wanted


def run_bootstrap(monkeypatch: pytest.MonkeyPatch, modules: dict[str, Any], installed: bool) -> list[list[str]]:
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "check_call", ran.append)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    exec(build.bootstrap(build.Project(REPO, "main")), {})
    return ran


def test_bootstrap_installs_on_colab_only(monkeypatch: pytest.MonkeyPatch) -> None:
    colab = {"google.colab": SimpleNamespace()}
    assert run_bootstrap(monkeypatch, {}, installed=False) == []
    assert run_bootstrap(monkeypatch, colab, installed=True) == []
    course, needs = run_bootstrap(monkeypatch, colab, installed=False)
    assert course[:6] == [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    assert course[6:] == [f"course_lib @ git+https://github.com/{REPO}@main"]
    assert {"torch==9.9", "torchvision==9.9", "numpy==9.9"} <= set(needs), "as they are"
    names = {Requirement(need).name for need in needs[5:]}
    assert {"torchmetrics", "scikit-image", "safetensors"} <= names
    assert not {"ipykernel", "ipywidgets", "jupyterlab", "papermill", "nbval", "sphinx"} & names


def test_bootstrap_keeps_to_the_style() -> None:
    source = build.bootstrap(build.read_project(Path(build.__file__).parents[2]))
    assert len(source.splitlines()) <= 12
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "-"], input=source + "\n", capture_output=True, text=True
    )
    assert ruff.returncode == 0, ruff.stdout + ruff.stderr


def test_nbval_compares_the_outputs_that_are_kept(tmp_path: Path) -> None:
    right, wrong = (new_output("stream", name="stdout", text=text) for text in ("2\n", "3\n"))
    cells = [code("print(1 + 1)", notebooks.CHECKED, outputs=[output]) for output in (right, wrong)]
    path = tmp_path / "n.ipynb"
    path.write_text(notebooks.text(notebooks.tidy(new_notebook(cells=cells), "n")), encoding="utf-8")
    flags = ["--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, str(path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "1 failed, 1 passed" in result.stdout, result.stdout + result.stderr


def test_command(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course_lib.paths.checkout", lambda: root)
    runner = CliRunner()
    assert isinstance(runner.invoke(app, ["build", "--check"]).exception, NotebookError)
    assert runner.invoke(app, ["build"]).exit_code == 0
    assert runner.invoke(app, ["build", "--check"]).exit_code == 0
    monkeypatch.setattr("course_lib.paths.checkout", lambda: None)
    error = runner.invoke(app, ["build"]).exception
    assert isinstance(error, NotebookError)
    assert "no notebooks beside course_lib" in error.message
