"""The `course` command: one module a subcommand; errors are one line and a hint."""

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from course_lib.cli import book, build, data, doctor, grade, lint, release, run, serve, slides, weights
from course_lib.errors import CourseError

app = typer.Typer(
    name="course",
    help="Run, check and build the image segmentation course.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(doctor.doctor)
app.add_typer(data.app, name="data")
app.command("serve-data")(serve.serve_data)
app.command()(run.run)
app.command()(build.build)
app.command()(book.book)
app.command()(slides.slides)
app.command()(lint.lint)
app.command()(release.release)
app.command()(grade.grade)
app.add_typer(weights.app, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"course_lib {metadata.version('course_lib')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["COURSE_DEBUG"] = "1"


def main() -> None:
    """Entry point of the `course` command. Exit code 1: an error, printed as one line and a hint."""
    try:
        app()
    except CourseError as error:
        if os.environ.get("COURSE_DEBUG", "0") != "0":
            raise
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(130) from None
