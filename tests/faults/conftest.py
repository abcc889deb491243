"""A web server on this computer whose faults a test can choose."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

import pytest


class Server(http.server.ThreadingHTTPServer):
    """Offers `files`; `plan` holds the faults of the next answers, one word each, `"ok"` for none."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.plan: list[str] = []
        self.go_on = threading.Event()
        self.asked: list[tuple[str, str | None, int]] = []  # path, Range, status
        super().__init__(("127.0.0.1", 0), _Answer)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        fault = self.server.plan.pop(0) if self.server.plan else "ok"
        body, wanted = self.server.files.get(self.path.lstrip("/")), self.headers.get("Range")
        status, start = 200, 0
        if fault.isdigit():
            status, body = int(fault), b"a fault that the test asked for"
        elif body is None:
            status, body = 404, b"not found"
        elif wanted and fault != "no-range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(body) else 416
        self.server.asked.append((self.path, wanted, status))
        self.send_response(status)
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        rest = body[start:]
        if fault != "no-length":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if fault in ("cut", "no-length"):
            rest = rest[: len(rest) // 2]
        with contextlib.suppress(ConnectionError):  # the other side may have been killed
            for piece in range(0, len(rest), 1 << 14):
                self.wfile.write(rest[piece : piece + (1 << 14)])
                if fault in ("slow", "slower"):
                    time.sleep(0.1 if fault == "slow" else 0.4)
                elif fault == "hold" and piece:
                    self.server.go_on.wait(60)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()
