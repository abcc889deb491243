"""The errors that only commands raise."""

from course_lib.errors import CourseError


class NotebookError(CourseError):
    """A notebook breaks a rule of the house, or did not run to its end."""


class ServerError(CourseError):
    """The data server cannot listen where it was told to."""
