"""Where things lie, whatever the working directory."""

import os

from course_lib import paths


def test_mirrors_are_separated_as_path_is_and_relative_ones_found_from_the_checkout(tmp_path, monkeypatch):
    checkout, here = tmp_path / "checkout", tmp_path / "elsewhere"
    for folder in (checkout, here / "near", tmp_path / "shared"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(paths, "checkout", lambda: checkout)
    monkeypatch.chdir(here)
    monkeypatch.setenv(
        "COURSE_DATA_DIR", os.pathsep.join(["near", "", str(tmp_path / "far"), "../shared", "../missing"])
    )
    assert paths.mirror_dirs() == [here / "near", tmp_path / "far", here / ".." / "shared", tmp_path / "missing"]
    monkeypatch.chdir(here / "near")
    assert paths.mirror_dirs()[2] == tmp_path / "shared"


def test_no_mirror(monkeypatch):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    assert paths.mirror_dirs() == []


def test_without_a_checkout_data_and_results_lie_in_the_users_folders(monkeypatch):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.delenv("COURSE_BUILD_DIR", raising=False)
    assert paths.cache_dir().name == "course_lib"
    assert paths.build_dir().name == "course_lib"


def test_in_a_checkout_they_lie_beside_the_notebooks(monkeypatch):
    monkeypatch.delenv("COURSE_BUILD_DIR", raising=False)
    root = paths.checkout()
    assert (root / "notebooks").is_dir()
    assert paths.cache_dir() == root / "data" / "cache"
    assert paths.scoreboard_file() == root / "build" / "run" / "scoreboard.json"
