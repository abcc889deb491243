"""The errors that only commands raise."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from course_lib.errors import CourseError


class NotebookError(CourseError):
    """A notebook breaks a rule of the house, or did not run to its end."""


class ServerError(CourseError):
    """The data server cannot listen where it was told to."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What is written inside goes to this folder. Raises NotebookError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise NotebookError(f"cannot write to {folder}: {error.strerror}", "name another folder") from error
