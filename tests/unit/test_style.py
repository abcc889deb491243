"""The rules that a machine can check: ruff, the type checker, generated files, lesson style, the house's limits."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "course_lib"
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
TEXTS = [ROOT / name for name in TRACKED if name and (ROOT / name).suffix not in (".png", ".safetensors")]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        ["course_lib.cli", "build", "--check"],
        ["course_lib.cli", "lint"],
    ],
    ids=" ".join,
)
def test_command_finds_nothing(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def modules():
    return [path for path in PACKAGE.rglob("*.py") if "cli" not in path.relative_to(PACKAGE).parts]


def test_package_stays_small():
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules())
    assert lines < 3000


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_are_documented_and_typed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"class {node.name} has no docstring"
    for scope in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        for node in scope.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{node.name} has no docstring"
                assert node.returns is not None, f"{node.name} says not what it returns"


FORBIDDEN = (".cuda" + "()", "except" + ":", "pickle" + ".load", "shell" + "=True", "os." + "system")


@pytest.mark.parametrize("word", FORBIDDEN)
def test_forbidden_words(word):
    found = [
        path.name for path in TEXTS if path.suffix in (".py", ".ipynb") and word in path.read_text(encoding="utf-8")
    ]
    assert set(found) <= {"lint.py", "test_lint.py", "test_store.py"}, found


def arrows(path):
    """The modules of `course_lib` that one of them imports, anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_lib"):
            yield node.module.removeprefix("course_lib").lstrip(".").split(".")[0]
            yield from (alias.name for alias in node.names if node.module == "course_lib")


@pytest.mark.parametrize("leaf", ["plots", "check", "lesson", "cli"])
def test_data_and_metrics_import_nothing_that_stands_above_them(leaf):
    below = [*(PACKAGE / "data").glob("*.py"), PACKAGE / "metrics.py", PACKAGE / "paths.py", PACKAGE / "settings.py"]
    assert [path.name for path in below if leaf in set(arrows(path))] == []


def registry_hosts():
    """The package hosts that this machine is set up with, read from its own tools: none may stand in a tracked file."""
    shown = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--verbose", "--no-deps", "pip"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    words = shown.replace("(", " ").replace(")", " ").split()
    return {word.split("/")[2] for word in words if word.startswith(("http://", "https://"))}


def test_no_tracked_file_names_a_package_host_or_a_home():
    hosts = registry_hosts() - {"pypi.org", "files.pythonhosted.org"}
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert not [host for host in hosts if host in text], path
        assert str(ROOT) not in text, f"{path} names a folder of this machine"
