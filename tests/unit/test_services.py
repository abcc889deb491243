"""What GitHub, Codespaces and Binder read: of the form that they expect, and calling what exists here."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from course_lib.cli import app

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
)
def test_files_fit_their_schema(schema: str, files: list[Path]) -> None:
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def commands(file: Path) -> list[str]:
    if file.suffix == ".json":
        return [json.loads(file.read_text(encoding="utf-8"))["postCreateCommand"]]
    jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize(
    "command",
    [line for file in [*WORKFLOWS, ROOT / ".devcontainer" / "devcontainer.json"] for line in commands(file)],
)
def test_every_command_exists(command: str) -> None:
    program, *words = command.split()
    if program == "make":
        assert words[0] in TARGETS
    elif program.endswith("course"):
        group = typer.main.get_command(app)
        for word in words:
            group = group.commands[word]
    elif words[:2] == ["-m", "pytest"]:  # of what exists
        folders = [word for word in words if "/" in word]
        assert folders
        assert all((ROOT / folder).exists() for folder in folders)
    elif program == "python":
        assert words[:3] in (["-m", "pip", "install"], ["-m", "pytest", "-n"])
    else:
        assert words[:2] in (["apt-get", "update"], ["pip", "install"])
    extras = [extra for names in re.findall(r"\.\[([a-z,]+)\]", command) for extra in names.split(",")]
    assert set(extras) <= set(PROJECT["optional-dependencies"])
