"""The scoreboard: `build/run/scoreboard.json`, one record for each method that a lesson records."""

import json
from pathlib import Path
from typing import Any

import filelock

from course_lib import paths
from course_lib.errors import DataError


def read(file: Path | None = None) -> list[dict[str, Any]]:
    """The records of the scoreboard; an empty list where there is none yet.

    Raises:
        DataError: the file is damaged.
    """
    file = file or paths.scoreboard_file()
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise DataError(f"{file} is no scoreboard: {error}", "delete it; running a lesson writes it anew") from error


def write(records: list[dict[str, Any]], file: Path | None = None) -> None:
    """Replace the scoreboard in one step, so that a reader never sees half of it."""
    file = file or paths.scoreboard_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    fresh.replace(file)


def add(record: dict[str, Any], file: Path | None = None) -> None:
    """Add one record; a newer result of the same kind replaces the older. Safe when several lessons run at once."""
    file = file or paths.scoreboard_file()
    same = ("lesson", "method", "dataset", "data", "split", "profile", "device", "seed")
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_suffix(".lock")):
        kept = [old for old in read(file) if any(old[key] != record[key] for key in same)]
        write([*kept, record], file)
