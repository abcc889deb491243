"""Every lesson, as the student and as the author has it, from top to bottom; nbval compares the same files' outputs."""

import json
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from course_lib.cli.run import widget_errors

ROOT = Path(__file__).parents[2]
STUDENT = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLVED = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
SETTINGS = {"PROFILE", "DATA", "DEVICE", "SEED"}
STATES = re.compile(r"^\[(passed|open|wrong)\] Exercise", re.MULTILINE)


def run(path, target, **parameters):
    """The executed notebook; parameters that it does not declare are an error, where papermill would only warn."""
    assert set(papermill.inspect_notebook(path)) == SETTINGS
    assert set(parameters) <= SETTINGS
    return papermill.execute_notebook(
        path,
        target / path.name,
        parameters=parameters,
        kernel_name="python3",
        cwd=target,  # a lesson must not depend on the working directory
        progress_bar=False,
        start_timeout=120,
        execution_timeout=300,
    )


def printed(notebook):
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def exercises(notebook):
    return sum(cell.source.count("### Exercise") for cell in notebook.cells if cell.cell_type == "markdown")


def test_every_lesson_has_both_versions():
    assert STUDENT
    assert [path.name for path in STUDENT] == [path.name for path in SOLVED]


devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.cuda),
    ],
)


@devices
@pytest.mark.parametrize("path", SOLVED, ids=lambda path: path.stem)
def test_solved_lesson_passes_its_own_checks(path, device, finished, tmp_path, monkeypatch):
    if device == "cpu":
        build, notebook = finished.build, nbformat.read(finished(path), 4)
    else:
        monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
        build, notebook = tmp_path, run(path, tmp_path, PROFILE="smoke", DATA="synthetic", DEVICE=device)
    assert not widget_errors(notebook)
    assert STATES.findall(printed(notebook)) == ["passed"] * exercises(notebook)
    records = json.loads((build / "run" / "scoreboard.json").read_text(encoding="utf-8"))
    assert {(record["data"], record["device"]) for record in records if record["lesson"] == path.stem[:2]} == {
        ("synthetic", device)
    }
    stderr = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not stderr, "a lesson must not show warnings"


@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_untouched_lesson_runs_to_its_end_and_reports_its_exercises_open(path, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    notebook = run(path, tmp_path, PROFILE="smoke", DATA="synthetic", DEVICE="cpu")
    assert not widget_errors(notebook)
    assert STATES.findall(printed(notebook)) == ["open"] * exercises(notebook)


def test_the_same_seed_gives_the_same_result(tmp_path, monkeypatch):
    source = ROOT / "notebooks" / "solutions" / "00_start_here.ipynb"
    found = []
    for attempt, seed in enumerate((3, 3, 4)):
        build = tmp_path / str(attempt)
        build.mkdir()
        monkeypatch.setenv("COURSE_BUILD_DIR", str(build))
        run(source, build, PROFILE="smoke", DATA="synthetic", DEVICE="cpu", SEED=seed)
        records = json.loads((build / "run" / "scoreboard.json").read_text(encoding="utf-8"))
        found.append([record["metrics"] for record in records])
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_an_error_in_a_widget_callback_is_noticed(tmp_path):
    """papermill passes over such errors; the guard that the tests above rely on must not."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("from ipywidgets import interact"),
            nbformat.v4.new_code_cell("interact(lambda x: {}[x], x=(0, 3));"),
        ]
    )
    nbformat.write(notebook, tmp_path / "callback.ipynb")
    executed = papermill.execute_notebook(
        tmp_path / "callback.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
    )
    assert widget_errors(executed) == ["widget callback: KeyError: 1"]


@pytest.mark.real
def test_lesson_01_on_the_real_nuclei(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    source = ROOT / "notebooks" / "solutions" / "01_thresholding.ipynb"
    notebook = run(source, tmp_path, PROFILE="lesson", DATA="real", DEVICE="cpu")
    naive, chosen = re.search(r"naive ([\d.]+), polarity chosen ([\d.]+)", printed(notebook)).groups()
    assert float(naive) < 0.72 < 0.80 <= float(chosen)
    records = json.loads((tmp_path / "run" / "scoreboard.json").read_text(encoding="utf-8"))
    scores = {record["method"]: record["metrics"] for record in records if record["data"] == "real"}
    assert scores["otsu"]["image_iou"] >= 0.80
    assert scores["otsu + watershed"]["dsb"] >= 0.45
    assert scores["otsu + watershed"]["dsb"] > scores["otsu"]["dsb"]


@pytest.mark.real
def test_lesson_00_on_the_real_nuclei(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    run(ROOT / "notebooks" / "solutions" / "00_start_here.ipynb", tmp_path, PROFILE="smoke", DATA="real", DEVICE="cpu")
    [record] = json.loads((tmp_path / "run" / "scoreboard.json").read_text(encoding="utf-8"))
    assert record["data"] == "real"


@pytest.mark.real
def test_lesson_03_on_the_real_pictures(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    source = ROOT / "notebooks" / "solutions" / "03_cifar_cnn.ipynb"
    run(source, tmp_path, PROFILE="smoke", DATA="real", DEVICE="cpu")
    records = json.loads((tmp_path / "run" / "scoreboard.json").read_text(encoding="utf-8"))
    assert [(record["method"], record["data"]) for record in records] == [
        ("classic CNN", "real"),
        ("CIFAR CNN", "real"),
    ]
    assert (tmp_path / "weights" / "cifar_cnn.safetensors").is_file()
