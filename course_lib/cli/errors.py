"""The error of commands that work on notebooks."""

from course_lib.errors import CourseError


class NotebookError(CourseError):
    """A notebook breaks a rule of the house, or did not run to its end."""
