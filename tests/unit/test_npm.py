"""Scripts from npm: only those that were tried, fetched once, and one clear error where they cannot be had."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from course_lib.cli import npm
from course_lib.cli.errors import NotebookError


class Done:
    returncode, stderr = 0, ""


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: "npm")
    return tmp_path / "npm"


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_an_archive_must_be_the_one_that_was_tried(build: Path) -> None:
    build.mkdir()
    (build / "mathjax-3.2.2.tgz").write_text("something else", encoding="utf-8")
    with pytest.raises(NotebookError, match=r"what should be mathjax-3\.2\.2\.tgz has the sha256 .*\n.*delete"):
        npm.read(npm.MATHJAX, npm.MATHJAX_FILE)


def test_without_npm_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotebookError, match=r"(?s)slides need reveal\.js.*there is no npm.*install Node\.js"):
        npm.read(npm.REVEAL, "dist/reveal.js")


def test_npm_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        returncode, stderr = 1, "no such host"

    monkeypatch.setattr("subprocess.run", lambda *_, **__: Failed)
    with pytest.raises(NotebookError, match=r"npm could not fetch mathjax@3\.2\.2: no such host"):
        npm.read(npm.MATHJAX, npm.MATHJAX_FILE)


def test_files_are_read_from_the_archive_which_is_kept(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(a=b"first", b=b"second")

    def pack(command: Any, cwd: str, **_: Any) -> type[Done]:
        (Path(cwd) / "made-1.tgz").write_bytes(content)
        return Done

    monkeypatch.setattr("subprocess.run", pack)
    with pytest.raises(NotebookError, match="has the sha256"):
        npm.read(npm.Package("made@1", "", "another"), "a")
    assert not build.exists(), "another archive is not kept"
    made = npm.Package("made@1", "", hashlib.sha256(content).hexdigest())
    assert npm.read(made, "b", "a") == [b"second", b"first"]
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it is here"))
    assert npm.read(made, "a") == [b"first"]
