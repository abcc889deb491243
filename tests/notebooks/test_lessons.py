"""Every lesson, as the student and as the author has it, from top to bottom; nbval compares the same files' outputs."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
import pytest
import torch

from course_lib.cli.kernel import execute
from course_lib.cli.run import widget_errors

ROOT = Path(__file__).parents[2]
STUDENT = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLVED = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
SETTINGS = {"PROFILE", "DATA", "DEVICE", "SEED"}
STATES = re.compile(r"^\[(passed|open|wrong)\] Exercise", re.MULTILINE)


def run(path, target, kernel="python3", **parameters):
    """The executed notebook; parameters that it does not declare are an error, where papermill would only warn."""
    assert set(papermill.inspect_notebook(path)) == SETTINGS
    assert set(parameters) <= SETTINGS
    return execute(path, target / path.name, parameters, kernel=kernel, timeout=300)


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


COLAB = ["torch", "torchvision", "matplotlib", "numpy", "ipywidgets==7.7.1", "ipykernel==6.17.1", "pip"]


@dataclass
class Colab:
    """An environment like Colab's, of which notebooks believe that it is Colab; and the course as a wheel."""

    python: Path
    wheel: Path

    def versions(self):
        command = [sys.executable, "-m", "uv", "pip", "list", "--python", self.python, "--format", "json"]
        listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {entry["name"]: entry["version"] for entry in listed}


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    uv = [sys.executable, "-m", "uv"]
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [name for name in COLAB if "==" not in name]
    (folder / "pins.txt").write_text("\n".join(pin for pin in pins if pin.split("==")[0] in names), encoding="utf-8")
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "env"], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", python, "-c", folder / "pins.txt", *COLAB]
    if torch.version.cuda is None:
        install += ["--torch-backend", "cpu"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        yield None
        return
    assert done.returncode == 0, done.stderr
    subprocess.run([*uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    site = Path(
        subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[-1])"], text=True).strip()
    )
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    asked = "def enable_custom_widget_manager():\n    pass\n"  # what Colab offers, and the canvas asks for
    (site / "google" / "colab" / "output.py").write_text(asked, encoding="utf-8")
    (site / "colab.pth").write_text("import google.colab\n", encoding="utf-8")
    kernel = folder / "kernels" / "colab"
    kernel.mkdir(parents=True)
    start = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    (kernel / "kernel.json").write_text(json.dumps(start | {"display_name": "Colab", "language": "python"}), "utf-8")
    [wheel] = folder.glob("*.whl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield Colab(python, wheel)
    shutil.rmtree(folder / "env")  # 6 GB, where files are not shared with uv's cache


@pytest.mark.timeout(1800)  # the first has to wait for the environment
@pytest.mark.parametrize("path", STUDENT, ids=lambda path: path.stem)
def test_untouched_lesson_runs_on_colab_and_reports_its_exercises_open(path, colab, tmp_path, monkeypatch):
    """The first of them finds what Colab has, and no more: its first cell has to bring the rest.

    Without a package index there is no such environment; then they run in this one.
    """
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    before = colab.versions() if colab else {}
    nb = nbformat.read(path, 4)
    [first] = [cell for cell in nb.cells if "bootstrap" in cell.metadata.get("tags", [])]
    [address] = re.findall(r'"course_lib @ git\+https://[^"]*"', first.source)
    first.source = first.source.replace(address, json.dumps(str(colab and colab.wheel)))
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    nbformat.write(nb, copy)
    kernel = "colab" if colab else "python3"
    notebook = run(copy, tmp_path, kernel=kernel, PROFILE="smoke", DATA="synthetic", DEVICE="cpu")
    assert not widget_errors(notebook)
    assert STATES.findall(printed(notebook)) == ["open"] * exercises(notebook)
    if not colab:
        pytest.skip("no package index to make an environment like Colab's; the lesson runs in this one")
    after = colab.versions()
    assert "course-lib" in after or "course_lib" in after
    assert before.items() <= after.items(), "what was there is left as it was"


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
    executed = execute(tmp_path / "callback.ipynb", tmp_path / "out.ipynb", {}, timeout=60)
    assert widget_errors(executed) == ["widget callback: KeyError: 1"]


def test_a_cell_that_prints_in_a_widget_is_not_waited_for_in_vain(tmp_path):
    """nbclient itself stalls in one or two of a hundred such cells; here that would end in a timeout."""
    first = "from ipywidgets import Output\nout = Output()\nout"
    again = "with out:\n    for i in range(3):\n        print(i, flush=True)"
    cells = [nbformat.v4.new_code_cell(source) for source in (first, *[again] * 150)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "prints.ipynb")
    executed = execute(tmp_path / "prints.ipynb", tmp_path / "out.ipynb", {}, timeout=5)
    [state] = [
        model["state"]
        for model in executed.metadata.widgets.popitem()[1]["state"].values()
        if "outputs" in model["state"]
    ]
    assert sum(output["text"].count("2\n") for output in state["outputs"]) == 150


@pytest.mark.real
def test_lesson_01_on_the_real_nuclei(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    source = ROOT / "notebooks" / "solutions" / "01_thresholding.ipynb"
    notebook = run(source, tmp_path, PROFILE="lesson", DATA="real", DEVICE="cpu")
    naive, chosen = re.search(r"naive ([\d.]+), polarity chosen ([\d.]+)", printed(notebook)).groups()
    assert float(naive) < 0.72 < 0.80 <= float(chosen)
    records = json.loads((tmp_path / "run" / "scoreboard.json").read_text(encoding="utf-8"))
    assert all(200 < record["peak_mb"] < 1600 for record in records), "a free Binder machine has 2 GB"
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
