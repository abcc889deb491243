"""The scoreboard: `build/run/scoreboard.json`, one record for each method that a lesson records."""

import json
from typing import Any

import filelock

from course_lib import paths
from course_lib.errors import DataError


def read() -> list[dict[str, Any]]:
    """The records of the scoreboard; an empty list where there is none yet. DataError: the file is damaged."""
    file = paths.scoreboard_file()
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise DataError(f"{file} is no scoreboard: {error}", "delete it; running a lesson writes it anew") from error


def write(records: list[dict[str, Any]]) -> None:
    """Replace the scoreboard in one step, so that a reader never sees half of it."""
    text = json.dumps(records, indent=1) + "\n"
    paths.write_atomically(paths.scoreboard_file(), lambda fresh: fresh.write_text(text, encoding="utf-8"))


def add(record: dict[str, Any]) -> None:
    """Add one record; a newer result of the same kind replaces the older. Safe when several lessons run at once."""
    same = ("lesson", "method", "dataset", "data", "split", "profile", "device", "seed")
    with filelock.FileLock(paths.scoreboard_file().with_suffix(".lock")):  # makes the folder, too
        kept = [old for old in read() if any(old[key] != record[key] for key in same)]
        write([*kept, record])
