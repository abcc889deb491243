"""What the course says to people: errors that read like advice, and framed text."""

import textwrap


class CourseError(Exception):
    """A `message`, what went wrong, in one line where possible, and a `hint`, what to do next.

    Every error that the course raises on purpose is one: the command line prints it as two lines, not a traceback.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"{self.message}\nWhat to do: {self.hint}" if self.hint else self.message


class SettingsError(CourseError):
    """A setting has a name or a value that the course does not know."""


class DataError(CourseError):
    """A data set cannot be had, or does not look as it should."""


class InputError(CourseError):
    """A function was given arrays or arguments that it cannot work with."""


def box(lines: list[str], width: int = 88) -> str:
    """`lines` in a frame, wrapped to `width` characters: text, alike in a terminal, in notebooks and in the book."""
    wrapped = [part for line in lines for part in textwrap.wrap(line, width - 4) or [""]]
    inner = max(map(len, wrapped))
    rows = [f"│ {line:<{inner}} │" for line in wrapped]
    return "\n".join([f"┌{'─' * (inner + 2)}┐", *rows, f"└{'─' * (inner + 2)}┘"])
