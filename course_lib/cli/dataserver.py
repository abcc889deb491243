"""The server of `course serve-data`: it gives the files that it is told of, and nothing else. Tornado speaks HTTP."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text
from tornado import httputil
from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, StaticFileHandler

from course_lib.data.store import SUMS, megabytes

CHUNK = 1 << 18  # bytes: so many that a disk with thirty readers does not spend its time on seeking
LOOK = 0.5  # seconds between two looks at what is under way


@dataclass(eq=False)
class Transfer:
    """One answer to one client, while it is sent and afterwards."""

    client: str
    file: str
    size: int  # bytes of the whole file
    start: int  # the first byte asked for
    wanted: int  # bytes asked for
    sent: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0  # from begin to end

    def __str__(self) -> str:
        part = f", continued at {self.start / self.size:.0%}" if self.start else ""
        if self.sent < self.wanted:
            return f"{self.client} {self.file}: broken off at {(self.start + self.sent) / self.size:.0%}{part}"
        speed = self.sent / 1e6 / max(self.seconds, 1e-3)
        return f"{self.client} {self.file}: {megabytes(self.sent)} in {self.seconds:.1f} s, {speed:.1f} MB/s{part}"


class Log:
    """What is sent, and what was. The server writes it, and never waits for who reads it."""

    def __init__(self) -> None:
        self.running: list[Transfer] = []
        self.over: SimpleQueue[Transfer] = SimpleQueue()
        self.whole, self.broken, self.bytes, self.clients = 0, 0, 0, set[str]()

    def begin(self, transfer: Transfer) -> None:
        """A client gets its first byte."""
        self.running.append(transfer)
        self.clients.add(transfer.client)

    def end(self, transfer: Transfer) -> None:
        """It got its last one, or went away."""
        transfer.seconds = time.monotonic() - transfer.began
        self.running.remove(transfer)
        self.bytes += transfer.sent
        self.whole += transfer.sent == transfer.wanted
        self.broken += transfer.sent < transfer.wanted
        self.over.put(transfer)

    def __str__(self) -> str:
        broken = f"; {self.broken} broken off" if self.broken else ""
        computers = f"{len(self.clients)} computer{'' if len(self.clients) == 1 else 's'}"
        return f"{self.whole} downloads to {computers}, {megabytes(self.bytes)}{broken}"


class Archives(StaticFileHandler):
    """Gives `files`, URL path -> file, all of them directly in `root`: GET and HEAD, whole or in parts."""

    def initialize(self, root: Path, files: Mapping[str, Path], log: Log) -> None:  # type: ignore[override]
        super().initialize(str(root))
        self.folder, self.files, self.log = root, files, log

    def set_default_headers(self) -> None:
        self.set_header("Server", "course")
        self.set_header("X-Content-Type-Options", "nosniff")

    def parse_url_path(self, url_path: str) -> str:
        file = self.files.get(url_path)
        if file is None or file.resolve().parent != self.folder.resolve():  # it may have become a link since
            raise HTTPError(404)
        return file.name

    def compute_etag(self) -> str | None:  # Tornado's would read the whole file
        assert self.modified
        return f'"{int(self.modified.timestamp()):x}-{self.get_content_size():x}"'

    def set_extra_headers(self, path: str) -> None:
        condition = self.request.headers.get("If-Range")  # which Tornado does not know
        valid = (None, self.compute_etag(), httputil.format_timestamp(self.modified or 0))
        if condition not in valid and "Range" in self.request.headers:
            del self.request.headers["Range"]

    def get_content(self, abspath: str, start: int | None = None, end: int | None = None) -> Iterator[bytes]:  # type: ignore[override]
        size, first = self.get_content_size(), start or 0
        left = (size if end is None else end) - first
        transfer = Transfer(str(self.request.remote_ip), Path(abspath).name, size, first, left)
        if transfer.file != SUMS:
            self.log.begin(transfer)
        try:
            with Path(abspath).open("rb") as stream:
                stream.seek(first)
                while chunk := stream.read(min(CHUNK, left - transfer.sent)):
                    yield chunk
                    transfer.sent += len(chunk)  # by now it has been sent
        finally:
            if transfer.file != SUMS:
                self.log.end(transfer)

    def flush(self, include_footers: bool = False) -> "asyncio.Future[Any]":
        sent = super().flush(include_footers)
        # a client faster than the disk would never make the server wait, and so never let others have their turn
        return sent if include_footers else asyncio.gather(sent, asyncio.sleep(0))

    def write_error(self, status_code: int, **_: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        here = ", ".join(path for path in self.files if path.count("/") == 1)
        reasons = {404: f"here are {here}", 405: "this server only gives; GET and HEAD"}
        if status_code == 405:
            self.set_header("Allow", "GET, HEAD")
        self.finish(f"{status_code} {self._reason}: {reasons.get(status_code, 'it failed')}\n")


async def serve(
    sockets: list[socket.socket], root: Path, files: Mapping[str, Path], log: Log, stop: asyncio.Event
) -> None:
    """Serve until `stop`, or until the task is cancelled; downloads that are under way then break off."""
    handlers = [(r"(.*)", Archives, {"root": root, "files": files, "log": log})]
    server = HTTPServer(Application(handlers, log_function=lambda _: None), max_body_size=1 << 10)
    server.add_sockets(sockets)
    try:
        await stop.wait()
    finally:
        server.stop()
        await server.close_all_connections()


class _Bars(Progress):
    def get_renderables(self) -> Iterator[RenderableType]:
        speed = sum(task.speed or 0 for task in self.tasks)
        # first, since a table longer than the screen loses its end
        yield Text(f"{len(self.tasks)} under way, {speed / 1e6:.1f} MB/s in all. Ctrl-C ends the server.")
        yield self.make_tasks_table(self.tasks)


class Display:
    """Shows a log: on a terminal as a table of what is under way, always as a line for each transfer that is over.

    A thread of its own does it, since a terminal may make it wait: on Windows, when somebody marks text there.
    """

    def __init__(self, log: Log, console: Console) -> None:
        what, left = TextColumn("{task.description}", markup=False), TimeRemainingColumn()
        self.bars = _Bars(
            *(what, BarColumn(20), TaskProgressColumn(), TransferSpeedColumn(), left),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self.log, self.rows = log, dict[Transfer, TaskID]()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Display":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(timeout=2)

    def _run(self) -> None:
        with self.bars:
            while not self.stop.wait(LOOK):
                self.update()
            self.update()

    def update(self) -> None:
        """Show what the log says now."""
        running = list(self.log.running)
        for transfer in [row for row in self.rows if row not in running]:
            self.bars.remove_task(self.rows.pop(transfer))
        for transfer in running:
            if transfer not in self.rows:
                label = f"{transfer.client} {transfer.file}"
                self.rows[transfer] = self.bars.add_task(label, total=transfer.size, completed=transfer.start)
            self.bars.update(self.rows[transfer], completed=transfer.start + transfer.sent)
        try:
            while True:
                line = f"{time.strftime('%H:%M:%S')} {self.log.over.get_nowait()}"
                self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        except Empty:
            self.bars.refresh()
