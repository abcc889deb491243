"""`course data`: where the data sets are, and how to get them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from course_lib.errors import DataError

if TYPE_CHECKING:
    from course_lib.data.store import Source

app = typer.Typer(help="List, fetch and verify data sets.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(help="Data sets, such as nuclei; `course data list` names all.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network; the same as COURSE_OFFLINE=1.")]


@app.command("list")
def list_() -> None:
    """List the data sets: size of the download, licence, and where each is now."""
    from course_lib.data import store

    rows = [("NAME", "SIZE", "LICENCE", "TITLE", "WHERE")]
    for name, entry in store.SOURCES.items():
        place = store.unpacked(name) or store.find(name)
        rows.append(
            (name, store.megabytes(entry.size), entry.licence, entry.title, str(place) if place else "not here")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        typer.echo("  ".join([*(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)), row[4]]))


@app.command()
def fetch(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All that can be downloaded.")] = False,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Put the archives into DIR: a mirror for a class room.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Get the archives of data sets: found in a mirror or the cache, else downloaded and checked."""
    from course_lib.data import store

    if not names and not everything:
        raise DataError("no data set named", f"course data fetch NAME, or --all; known: {', '.join(store.SOURCES)}")
    _each(
        [name for name, entry in store.SOURCES.items() if entry.urls] if everything else names or [],
        lambda name: f"{name}: {store.fetch(name, to=to, offline=offline or None)}",
    )
    if to:
        typer.echo(f"To use this mirror: set COURSE_DATA_DIR={to.expanduser().resolve()}")


@app.command()
def verify(names: Names = None) -> None:
    """Hash archives again and compare; with no names, all that are here."""
    from course_lib.data import store

    present = names or [name for name in store.SOURCES if store.find(name)]
    if not present:
        typer.echo("No data set is here. To get one: course data fetch NAME")
    _each(present, lambda name: f"{name}: ok: {verified(name)}")


def verified(name: str) -> str:
    """Hash the archive again, compare the unpacked folder; one line says with what. DataError: not here or damaged."""
    from course_lib import paths
    from course_lib.data import store

    known, file = store.source(name), store.find(name)
    if not file:
        raise store.missing(known, f"the archive of {name} is not here")
    digest, whose = store.checked(known, file, afresh=True)
    target = paths.cache_dir() / f"{name}-{digest[:8]}"
    if target.is_dir():
        sizes = {target / member.replace("\\", "/"): size for member, _, size, *_ in store.members(file)}
        if changed := [copy.name for copy, size in sizes.items() if not copy.is_file() or copy.stat().st_size != size]:
            what = f"{target}: {len(changed)} files are missing or changed, such as {changed[0]}"
            raise DataError(what, "delete that folder; the next use unpacks it again")
    return f"{file}: {store.megabytes(file.stat().st_size)}, sha256 {digest[:16]}..., {whose}"


@app.command()
def check(names: Names = None) -> None:
    """Ask every address of data sets for its size, without downloading; with no names, of all."""
    from course_lib import paths
    from course_lib.data import store

    if paths.offline():
        raise DataError("COURSE_OFFLINE forbids to ask any address", "unset it")
    chosen = [store.source(name) for name in names or store.SOURCES]
    addresses = {f"{known.name} {url}": (known, url) for known in chosen for url in known.urls}
    _each(list(addresses), lambda key: f"{key}: {_answer(*addresses[key])}")


def _answer(known: "Source", url: str) -> str:
    """What the address says about its file. DataError: no answer, or another size than the table has."""
    import requests

    hint = f"look at {known.homepage}, and mend course_lib/data/sources.toml"
    try:
        with requests.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=60) as answer:
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length") or 0)
    except requests.RequestException as error:
        raise DataError(f"{known.name}: {url}: {error}", hint) from None
    if size and abs(size - known.size) > 0.02 * known.size:  # the table rounds where the publisher does not say
        raise DataError(f"{known.name}: {url} has {size:,} bytes; the table says {known.size:,}", hint)
    return f"{size:,} bytes" if size else "answers, and does not say its size"


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="A data set, such as nuclei.")],
    offline: Offline = False,
) -> None:
    """Print the folder of an unpacked data set, and nothing else; fetches and unpacks it if need be."""
    from course_lib.data import store

    typer.echo(store.folder(name, offline=offline or None))


def _each(names: list[str], do: Callable[[str], str]) -> None:
    """Do all, even if some fail; exit code 1 if any did."""
    failed = False
    for name in names:
        try:
            typer.echo(do(name))
        except DataError as error:
            typer.echo(f"Error: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)
