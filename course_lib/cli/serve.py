"""`course serve-data`: the archives of a mirror over HTTP, for a class room without a network, or with a slow one."""

import asyncio
import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from course_lib.cli.errors import ServerError
from course_lib.errors import DataError

if TYPE_CHECKING:
    from course_lib.data.store import Source

LOOPBACK = ("127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")


def serve_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A mirror: course data fetch --all --to DIR")],
    host: Annotated[
        str, typer.Option(help="The address to listen at: 0.0.0.0 for all of this computer's; by default itself only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8765,
) -> None:
    """Serve the archives of a mirror to a class, read-only, over HTTP; students set COURSE_DATA_URL. Ctrl-C ends it."""
    from rich.console import Console

    from course_lib.cli.dataserver import Display, Log, serve

    shelf, log = stock(folder.expanduser()), Log()
    sockets = listen(host, port)
    for line in (*shelf.lines(), *invitation(sockets)):
        typer.echo(line)
    with Display(log, Console()), contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sockets, shelf.folder, shelf.files, log, asyncio.Event()))
    typer.echo(f"Served {log}.")


@dataclass(frozen=True)
class Shelf:
    """What a mirror has to offer."""

    folder: Path
    files: dict[str, Path]  # URL path -> file
    offers: list[tuple["Source", Path, str]]  # data set, archive, and the URL path by which it is asked for
    notes: list[str]

    def lines(self) -> list[str]:
        """For the terminal: each archive, then what its keeper should know."""
        from course_lib.data.store import megabytes

        rows = [("NAME", "SIZE", "LICENCE", "PATH")]
        for known, file, path in self.offers:
            rows.append((known.name, megabytes(file.stat().st_size), known.licence, path))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join([*(f"{row[i]:<{width}}" for i, width in enumerate(widths)), row[3]]) for row in rows]
        named = dict.fromkeys(known.name for known, _, _ in self.offers if not known.licence.startswith("CC"))
        if named:
            table.append(f"No licence lets you pass on {', '.join(named)}: serve them to your own class only.")
        return [*table, *(f"Note: {note}" for note in self.notes)]


def stock(folder: Path) -> Shelf:
    """What to serve of a folder: archives of known data sets that are whole, and that students' computers will take.

    An archive is served under its own name, at the paths of its publisher's URLs, and, since two publishers may use the
    same path, at `/HOST/path`; where paths collide, the data set that `sources.toml` names first has the short one.
    DataError: no such folder, no right to read it, no archive in it.
    """
    from course_lib.data import store

    try:
        there = {file.name for file in folder.iterdir() if os.path.isfile(file)}  # noqa: PTH113 - it never raises
    except OSError as error:
        hint = "name a mirror; to make one: course data fetch --all --to DIR"
        raise DataError(f"cannot read {folder}: {error.strerror}", hint) from error
    shelf = Shelf(folder, {}, [], [])
    for known in store.SOURCES.values():
        for name in known.urls and [name for name in (known.archive, *known.alternatives) if name in there]:
            try:
                _add(shelf, known, folder / name)
            except DataError as error:
                shelf.notes.append(f"{error.message}; it is not served")
    if not shelf.offers:
        message = "\n  ".join([f"there is nothing to serve in {folder}", *shelf.notes])
        raise DataError(message, f"fill it: course data fetch --all --to {folder}")
    if store.SUMS in there:
        shelf.files[f"/{store.SUMS}"] = folder / store.SUMS
    return shelf


def _add(shelf: Shelf, known: "Source", file: Path) -> None:
    """Offer an archive. DataError: it leads elsewhere, cannot be read, or is not what `SHA256SUMS` says."""
    from course_lib.data import store

    if file.resolve().parent != shelf.folder.resolve():
        raise DataError(f"{file} is a link that leads out of its folder")
    digest, _ = store.checked(known, file)
    algorithm, _, published = (known.checksum or "").partition(":")
    whole = {"": True, "sha256": digest == published}.get(algorithm, file.stat().st_size == known.size)
    shelf.files[f"/{file.name}"] = file
    hosts, ways = zip(*((url.split("/")[2], f"/{url.split('/', 3)[3]}") for url in known.urls), strict=True)
    if not whole:
        shelf.notes.append(
            f"{known.name}: {file.name} is not the archive that its publisher offers, and students' computers would "
            f"refuse it: nothing is served at {ways[0]}. To use it all the same, share the folder (COURSE_DATA_DIR)"
        )
    for host, way in zip(hosts, ways, strict=True) if whole else ():
        shelf.files.setdefault(way, file)
        shelf.files.setdefault(f"/{host}{way}", file)
    shelf.offers.append((known, file, ways[0] if whole else f"/{file.name}"))


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets at an address. ServerError: it is not this computer's; the port is taken, or not for everybody."""
    from tornado.netutil import bind_sockets

    if not host:  # Tornado would take it for all
        raise ServerError("--host names no address", "leave it out, or name one, such as 0.0.0.0")
    try:
        return bind_sockets(port, host)
    except socket.gaierror as error:
        raise ServerError(f"no host is named {host}", "name an address of this computer, or 0.0.0.0") from error
    except OSError as error:
        advice = {
            errno.EADDRINUSE: f"another program listens there; end it, or choose another: --port {port + 1}",
            errno.EACCES: "ports below 1024 are the administrator's; choose another: --port 8765",
            errno.EADDRNOTAVAIL: f"name an address of this computer: {', '.join(own_addresses()) or '127.0.0.1'}",
        }
        hint = advice.get(error.errno or 0, "choose another with --host and --port")
        raise ServerError(f"cannot listen at {host}, port {port}: {os.strerror(error.errno or 0)}", hint) from error


def own_addresses(family: int = socket.AF_INET) -> list[str]:
    """The addresses by which other computers may reach this one."""
    import psutil

    found = [entry.address for card in psutil.net_if_addrs().values() for entry in card if entry.family == family]
    return [address for address in found if not address.startswith(("127.", "169.254.", "fe80:")) and address != "::1"]


def invitation(sockets: list[socket.socket]) -> list[str]:
    """What to tell students; or, where nobody but this computer is served, how to change that."""
    bases = []
    for each in sockets:
        host, port = each.getsockname()[:2]
        hosts = own_addresses(each.family) if host in EVERYWHERE else [host]
        bases += [f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}" for name in hosts]
    if all(each.getsockname()[0] in LOOPBACK for each in sockets):
        others = ", ".join(own_addresses())
        return [
            f"Serving at {bases[0]}, to this computer only. For a class: --host 0.0.0.0"
            + (f", or one of {others}." if others else ".")
        ]
    students = "On students' computers, before JupyterLab starts" + (", the one that they reach:" if bases[1:] else ":")
    return [students, *(f"  export COURSE_DATA_URL={base}" for base in bases), POWERSHELL]


POWERSHELL = '  (Windows PowerShell: $env:COURSE_DATA_URL = "http://...")'
