"""`course data`."""

import typer

app = typer.Typer(help="List, fetch and verify data sets.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Being written."""
