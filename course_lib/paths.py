"""Where things lie, independent of the working directory."""

import os
from pathlib import Path

import platformdirs


def checkout() -> Path | None:
    """The root of the course's checkout, or None when `course_lib` is installed without it (as on Colab)."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def cache_dir() -> Path:
    """The folder of downloaded data: `data/cache` in a checkout, else the user's cache folder."""
    root = checkout()
    return root / "data" / "cache" if root else Path(platformdirs.user_cache_dir("course_lib"))


def build_dir() -> Path:
    """The folder of results: `COURSE_BUILD_DIR` if set, `build` in a checkout, else the user's data folder."""
    if named := os.environ.get("COURSE_BUILD_DIR"):
        return Path(named).expanduser()
    root = checkout()
    return root / "build" if root else Path(platformdirs.user_data_dir("course_lib"))


def scoreboard_file() -> Path:
    """The file that `Lesson.record` writes and the leaderboard reads."""
    return build_dir() / "run" / "scoreboard.json"


def mirror_dirs() -> list[Path]:
    """The read-only mirrors named by `COURSE_DATA_DIR`, separated as `PATH` is.

    A relative folder is looked for from the working directory, then from the checkout: a kernel that JupyterLab starts
    works in the notebook's folder, not where the variable was set.
    """
    named = [Path(part).expanduser() for part in os.environ.get("COURSE_DATA_DIR", "").split(os.pathsep) if part]
    root = checkout() or Path()
    return [path.absolute() if path.exists() or path.is_absolute() else (root / path).resolve() for path in named]
