"""Errors that read like advice."""


class CourseError(Exception):
    """A `message`, what went wrong, in one line where possible, and a `hint`, what to do next.

    Every error that the course raises on purpose is one: the command line prints it as two lines, not a traceback.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nWhat to do: {self.hint}" if self.hint else self.message


class SettingsError(CourseError):
    """A setting has a name or a value that the course does not know."""


class DataError(CourseError):
    """A data set cannot be had, or does not look as it should."""


class InputError(CourseError):
    """A function was given arrays or arguments that it cannot work with."""
