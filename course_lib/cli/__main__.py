"""`python -m course_lib.cli`: the `course` command, where its script is not on the PATH."""

from course_lib.cli import main

main()
