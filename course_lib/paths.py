"""Where things lie, independent of the working directory."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import platformdirs


def checkout() -> Path | None:
    """The root of the course's checkout, or None when `course_lib` is installed without it (as on Colab)."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def offline() -> bool:
    """Whether `COURSE_OFFLINE` says to use no network."""
    return os.environ.get("COURSE_OFFLINE", "") not in ("", "0")


def cache_dir() -> Path:
    """The folder of downloaded data: `data/cache` in a checkout, else the user's cache folder."""
    return root / "data" / "cache" if (root := checkout()) else Path(platformdirs.user_cache_dir("course_lib"))


def build_dir() -> Path:
    """The folder of results: `COURSE_BUILD_DIR` if set, `build` in a checkout, else the user's data folder."""
    if named := os.environ.get("COURSE_BUILD_DIR"):
        return Path(named).expanduser()
    return root / "build" if (root := checkout()) else Path(platformdirs.user_data_dir("course_lib"))


def scoreboard_file() -> Path:
    """The file that `Lesson.record` writes and the leaderboard reads."""
    return build_dir() / "run" / "scoreboard.json"


def mirror_dirs() -> list[Path]:
    """The read-only mirrors of `COURSE_DATA_DIR`, separated as `PATH` is; relative ones: from here, or the checkout."""
    named = [Path(part).expanduser() for part in os.environ.get("COURSE_DATA_DIR", "").split(os.pathsep) if part]
    root = checkout() or Path()  # a kernel works in the notebook's folder, not where the variable was set
    return [path.absolute() if path.exists() or path.is_absolute() else (root / path).resolve() for path in named]


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a new file, then give it its name: who reads, or is killed, never meets half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{uuid.uuid4().hex}{file.suffix}")
    try:
        write(fresh)
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
