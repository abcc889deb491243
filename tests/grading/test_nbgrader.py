"""nbgrader's round trip from the solved notebooks: the solution has full marks, what is untouched none."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
RUN = LESSONS if os.environ.get("COURSE_SLOW") else LESSONS[:1]  # nbgrader treats all alike, and takes its time


@pytest.fixture(scope="module")
def nbgrader(tmp_path_factory):
    """The program, in an environment of its own that also sees this one: it is no part of what students install."""
    folder = tmp_path_factory.mktemp("nbgrader")
    uv = [sys.executable, "-m", "uv"]
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder / "env"], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", python, "-c", ROOT / "constraints.txt", "nbgrader"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr or "Failed to fetch" in done.stderr:
        pytest.skip(f"no package index to get nbgrader from: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    ask = [python, "-c", "import site; print(site.getsitepackages()[-1])"]
    site = Path(subprocess.check_output(ask, text=True).strip())
    [ours] = {path for path in sys.path if Path(path).name == "site-packages" and (Path(path) / "torch").is_dir()}
    (site / "course.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    (folder / "nbgrader_config.py").write_text(
        f"c = get_config()\nc.CourseDirectory.root = {str(folder)!r}\nc.CourseDirectory.course_id = 'seg'\n"
        "c.ExecutePreprocessor.timeout = 300\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    environment |= {"JUPYTER_PATH": "", "COURSE_BUILD_DIR": str(folder / "build")}

    def call(*arguments):
        command = [python, "-m", "nbgrader", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return folder, call


def take(source, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)


def test_every_lesson_can_be_an_assignment(nbgrader):
    folder, call = nbgrader
    for source in LESSONS:
        take(source, folder / "source" / "all")
    call("generate_assignment", "all", "--create")
    for source in LESSONS:
        text = (folder / "release" / "all" / source.name).read_text(encoding="utf-8")
        assert "NotImplementedError" in text
        assert "BEGIN SOLUTION" not in text


@pytest.mark.timeout(1800)
def test_a_solution_has_full_marks_and_an_untouched_notebook_none(nbgrader):
    folder, call = nbgrader
    for source in RUN:
        take(source, folder / "source" / "first")
    call("generate_assignment", "first", "--create")
    for source in RUN:
        take(source, folder / "submitted" / "ada" / "first")
        take(folder / "release" / "first" / source.name, folder / "submitted" / "bob" / "first")
    call("autograde", "first", "--create")
    call("export")
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["student_id"]: row for row in csv.DictReader(stream) if row["assignment"] == "first"}
    cells = [cell for source in RUN for cell in nbformat.read(source, 4).cells]
    full = sum(cell.metadata.get("nbgrader", {}).get("grade", False) for cell in cells)
    assert full >= 3
    assert {name: float(row["max_score"]) for name, row in rows.items()} == {"ada": full, "bob": full}
    assert {name: float(row["score"]) for name, row in rows.items()} == {"ada": full, "bob": 0}
