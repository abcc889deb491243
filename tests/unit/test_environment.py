"""`environment.yml` and `pyproject.toml` agree. What this cannot show: that conda finds versions that fit together."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rattler import MatchSpec

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CONDA = [entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)]
[PIP] = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
REQUIREMENTS = [
    Requirement(line)
    for lines in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in lines
]
SUPPORTED = ("3.11", "3.12", "3.13")


def test_conda_section_is_thin_and_in_conda_grammar():
    specs = [MatchSpec(entry, strict=True) for entry in CONDA]
    assert [spec.name.normalized for spec in specs] == ["python", "pip", "pytorch", "torchvision"]
    assert all(spec.version for spec in specs)
    bounds = {requirement.name: str(requirement.specifier) for requirement in REQUIREMENTS}
    assert CONDA[2:] == [f"pytorch{bounds['torch']}", f"torchvision{bounds['torchvision']}"], "as in pyproject.toml"


def test_python_versions_agree_with_the_project():
    conda = SpecifierSet(CONDA[0].removeprefix("python"))
    project = SpecifierSet(PROJECT["requires-python"])
    for version in SUPPORTED:
        assert conda.contains(f"{version}.1")
        assert project.contains(f"{version}.1")
        assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert not conda.contains("3.10.9")
    assert not project.contains("3.10.9")


def test_pip_section_installs_the_project_and_names_only_its_extras():
    assert len(PIP) == 1
    path, _, extras = PIP[0].removeprefix("-e ").partition("[")
    assert (ROOT / path).resolve() == ROOT
    assert set(filter(None, extras.rstrip("]").split(","))) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_requirement_has_a_lower_bound_and_no_pin(requirement):
    assert {specifier.operator for specifier in requirement.specifier} == {">="}


def test_constraints_satisfy_the_project_and_hold_no_address():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            pin = Requirement(line)
            pins.setdefault(pin.name, []).append(pin)
    for requirement in REQUIREMENTS:
        found = pins[requirement.name.lower().replace("_", "-")]
        for pin in found:
            [version] = [specifier.version for specifier in pin.specifier]
            assert requirement.specifier.contains(version), f"{pin} does not satisfy {requirement}"


@pytest.mark.skipif(not os.environ.get("COURSE_SLOW"), reason="set COURSE_SLOW=1 to install into a bare environment")
def test_pip_section_installs_into_a_bare_environment(tmp_path):
    uv = [sys.executable, "-m", "uv"]
    python = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([*uv, "venv", "--python", sys.executable, tmp_path / "bare"], check=True)
    install = [*uv, "pip", "install", "--python", python, *PIP[0].split(), "-c", "constraints.txt"]
    subprocess.run(install, cwd=ROOT, check=True)
    done = subprocess.run(
        [python, "-m", "course_lib.cli", "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Ready for the course." in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
