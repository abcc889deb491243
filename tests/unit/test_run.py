"""`course run`: failures shown, the scoreboard kept, unknown lessons refused. Real lessons run in tests/notebooks."""

import nbformat
import pytest
from typer.testing import CliRunner

from course_lib import lesson
from course_lib.cli import app, notebooks, run
from course_lib.cli.errors import NotebookError
from course_lib.errors import SettingsError

RECORD = dict.fromkeys(("method", "dataset", "split", "profile", "device"), "x") | {"seed": 0, "data": "synthetic"}


def notebook(*cells):
    parameters = nbformat.v4.new_code_cell("PROFILE = DATA = DEVICE = SEED = None", metadata={"tags": ["parameters"]})
    made = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """A checkout whose lessons the test writes; returns a function that writes one."""
    folder = tmp_path / "notebooks" / "solutions"
    folder.mkdir(parents=True)
    monkeypatch.setattr(notebooks, "checkout", lambda: tmp_path)
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path / "build"))

    def write(name, *cells):
        nbformat.write(notebook(*cells), folder / f"{name}.ipynb")

    return write


def invoke(*arguments):
    return CliRunner().invoke(app, ["run", *arguments])


def test_runs_in_order_prints_a_table_and_leaves_notebooks(lessons, tmp_path):
    record = (
        "from course_lib.lesson import update_scoreboard\n"
        f"update_scoreboard(bool, {RECORD!r} | {{'lesson': '02', 'metrics': {{'dsb': 0.5}}}})"
    )
    lessons("02_second", record)
    lessons("01_first", "x = bytearray(50 * 2**20); print(PROFILE, DATA, DEVICE)")
    result = invoke("--profile", "smoke", "--data", "synthetic", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.output.index("01_first") < result.output.index("02_second")
    assert "x: dsb 0.50" in result.output
    assert "--profile lesson --data real" in result.output.splitlines()[-1]
    finished = nbformat.read(tmp_path / "build" / "run" / "01_first.ipynb", as_version=4)
    assert finished.cells[-1].outputs[0].text == "smoke synthetic cpu\n"


def test_a_failing_lesson_shows_its_cell_and_the_others_still_run(lessons, tmp_path):
    lessons("01_first", "fine = 1", "wrong = 1 / 0  # the culprit")
    lessons("02_second", "print('reached')")
    result = invoke("--device", "cpu")
    assert isinstance(result.exception, NotebookError)
    assert "1 of 2 lessons failed: 01_first" in str(result.exception)
    assert "wrong = 1 / 0  # the culprit" in result.output
    assert "ZeroDivisionError: division by zero" in result.output
    assert (tmp_path / "build" / "run" / "02_second.ipynb").is_file()


def test_an_error_in_a_widget_callback_is_a_failure(lessons):
    callback = "from ipywidgets import interact\ninteract(lambda x: 1 / 0, x=(0, 3));"
    lessons("01_first", callback)
    result = invoke("--device", "cpu")
    assert isinstance(result.exception, NotebookError)
    assert "widget callback: ZeroDivisionError: division by zero" in result.output


def test_only_the_chosen_lessons_run_and_only_their_records_are_replaced(lessons, tmp_path):
    lessons("01_first", "pass")
    lessons("02_second", "pass")
    lesson.update_scoreboard(bool, *(RECORD | {"lesson": number, "metrics": {"dsb": 0.1}} for number in ("01", "02")))
    assert invoke("02", "--device", "cpu").exit_code == 0
    assert not (tmp_path / "build" / "run" / "01_first.ipynb").exists()
    assert [record["lesson"] for record in lesson.scoreboard()] == ["01"]


def test_a_relative_build_folder_is_the_same_for_the_kernel(lessons, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_BUILD_DIR", "results")
    lessons("01_first", "from course_lib import paths; print(paths.scoreboard_file())")
    assert invoke("--device", "cpu").exit_code == 0
    finished = nbformat.read(tmp_path / "results" / "run" / "01_first.ipynb", as_version=4)
    assert finished.cells[-1].outputs[0].text.strip() == str(tmp_path / "results" / "run" / "scoreboard.json")


def test_unknown_lessons_and_settings_are_refused(lessons):
    lessons("01_first", "pass")
    assert "there is no lesson '07'" in str(invoke("07").exception)
    unknown = invoke("--profile", "fast").exception
    assert isinstance(unknown, SettingsError)
    assert "lesson, smoke, full" in str(unknown)


def test_choose(tmp_path):
    sources = [tmp_path / name for name in ("00_start.ipynb", "01_next.ipynb")]
    assert run.choose(sources, []) == sources
    assert run.choose(sources, ["01"]) == run.choose(sources, ["01_next"]) == sources[1:]
