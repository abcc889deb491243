"""`course serve-data` and `COURSE_DATA_URL`: a real server on this computer, asked by the store and by hand."""

import asyncio
import contextlib
import hashlib
import http.client
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

import pytest
import requests
from rich.console import Console

from course_lib import paths
from course_lib.cli import doctor, serve
from course_lib.cli.dataserver import Display, Log, Transfer
from course_lib.cli.dataserver import serve as serve_files
from course_lib.cli.errors import ServerError
from course_lib.data import store
from course_lib.data.store import SOURCES, Source
from course_lib.errors import DataError, SettingsError


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a.png", content)
    return buffer.getvalue()


GOOD, OTHER = zipped(random.Random(0).randbytes(1_000_000)), zipped(b"another file")
URL_PATH = "/sets/2018/train.zip"


@dataclass
class Running:
    """A server in a thread of its own."""

    port: int
    log: Log

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """The answer to a path that no library has tidied up; headers with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse()


@contextlib.contextmanager
def running(folder: Path, files: Mapping[str, Path] | None = None) -> Iterator[Running]:
    """Serve what `course serve-data` would serve of a folder, or these files."""
    shelf, sockets, log, started = serve.stock(folder), serve.listen("127.0.0.1", 0), Log(), SimpleQueue()

    async def work() -> None:
        stop = asyncio.Event()
        started.put((asyncio.get_running_loop(), stop))
        await serve_files(sockets, shelf.folder, shelf.files if files is None else files, log, stop)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    loop, stop = started.get(timeout=10)
    try:
        yield Running(sockets[0].getsockname()[1], log)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no mirror, no waiting."""
    place = tmp_path / "cache"
    monkeypatch.setattr(paths, "cache_dir", lambda: place)
    monkeypatch.setattr(store, "BACKOFF", 0.0)
    for name in ("COURSE_DATA_DIR", "COURSE_DATA_URL", "COURSE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The teacher's folder: a whole archive, its checksum, and what is nobody's business."""
    place = tmp_path / "desk" / "room"
    place.mkdir(parents=True)
    (place / "tiny.zip").write_bytes(GOOD)
    (place / "SHA256SUMS").write_text(f"{hashlib.sha256(GOOD).hexdigest()}  tiny.zip\n")
    (place / "marks.txt").write_text("secret")
    (place.parent / "secret.txt").write_text("secret")
    return place


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Source:
    """The only data set; nobody listens at its publisher's address."""
    entry = replace(
        SOURCES["nuclei"],
        name="tiny",
        archive="tiny.zip",
        urls=(f"http://127.0.0.1:9{URL_PATH}",),
        size=len(GOOD),
        checksum=f"sha256:{hashlib.sha256(GOOD).hexdigest()}",
        alternatives=("part.zip",),
    )
    monkeypatch.setattr(store, "SOURCES", {"tiny": entry})
    return entry


@pytest.fixture
def server(tiny: Source, room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with running(room) as started:
        monkeypatch.setenv("COURSE_DATA_URL", f"{started.base}/")
        yield started


@pytest.fixture
def publisher(tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """The right archive at the address of the table."""
    place = tmp_path / "publisher"
    place.mkdir()
    (place / "tiny.zip").write_bytes(GOOD)
    with running(place, {URL_PATH: place / "tiny.zip"}) as started:
        monkeypatch.setitem(store.SOURCES, "tiny", replace(tiny, urls=(f"{started.base}{URL_PATH}",)))
        yield started


def over(log: Log, count: int = 1) -> list[Transfer]:
    """The transfers that have ended, once there are so many: the client may be faster than the server's last step."""
    return [log.over.get(timeout=10) for _ in range(count)]


# --- the store asks it


def test_the_store_downloads_from_it_first(server: Running, publisher: Running, cache: Path) -> None:
    assert store.fetch("tiny").read_bytes() == GOOD
    [transfer] = over(server.log)
    assert (transfer.client, transfer.file, transfer.sent) == ("127.0.0.1", "tiny.zip", len(GOOD))
    assert publisher.log.bytes == 0
    assert (cache / "SHA256SUMS").read_text() == f"{hashlib.sha256(GOOD).hexdigest()}  tiny.zip\n"


def test_a_download_that_breaks_off_goes_on(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    real, breaks = requests.Response.iter_content, [True]

    def chunks(self: requests.Response, size: int) -> Iterator[bytes]:
        for count, chunk in enumerate(real(self, size)):
            if count == 20 and breaks.pop():
                breaks.append(False)
                self.close()
                raise requests.ConnectionError("Connection broken")
            yield chunk

    monkeypatch.setattr(requests.Response, "iter_content", chunks)
    assert store.fetch("tiny").read_bytes() == GOOD
    starts = {transfer.start: transfer.sent for transfer in over(server.log, 2)}
    assert sorted(starts) == [0, 20 * store.CHUNK]
    assert starts[20 * store.CHUNK] == len(GOOD) - 20 * store.CHUNK


def test_a_wrong_file_is_refused_and_the_publisher_asked(
    room: Path, publisher: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(room) as server:
        (room / "tiny.zip").write_bytes(OTHER)  # after the start, which would have noticed
        monkeypatch.setenv("COURSE_DATA_URL", server.base)
        assert store.fetch("tiny").read_bytes() == GOOD
    assert f"{server.base}{URL_PATH}: sent a wrong file: its sha256 is " in capfd.readouterr().err
    assert over(publisher.log)[0].sent == len(GOOD)


def test_a_server_without_the_set_or_none_at_all_is_passed_over(
    room: Path, publisher: Running, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (room / "part.zip").write_bytes(OTHER)
    (room / "tiny.zip").unlink()
    with running(room) as server:
        monkeypatch.setenv("COURSE_DATA_URL", server.base)
        assert store.fetch("tiny").read_bytes() == GOOD
        assert server.log.bytes == 0
    (cache / "tiny.zip").unlink()  # and now the server has gone home
    assert store.fetch("tiny").read_bytes() == GOOD


def test_a_slow_class_server_is_not_given_up(
    server: Running, publisher: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SLOW_AFTER", -1.0)
    monkeypatch.setattr(store, "SLOW_LEFT", -1.0)
    store.fetch("tiny")
    assert publisher.log.bytes == 0


def test_no_proxy_of_the_environment_comes_between(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert store.fetch("tiny").read_bytes() == GOOD


def test_offline_asks_nobody(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    with pytest.raises(DataError, match="downloads are off"):
        store.fetch("tiny")
    assert server.log.bytes == 0


@pytest.mark.parametrize("value", ["teacher:8765", "ftp://teacher", "http://", "http:///x", "http://a b", "/srv/data"])
def test_a_wrong_address_is_one_clear_error(value: str, tiny: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA_URL", value)
    with pytest.raises(SettingsError, match=r"COURSE_DATA_URL = '.*' is no address\n.*http://teacher:8765"):
        store.fetch("tiny")


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA_URL", "http://[::1]:80/hub/")
    first, *rest = store.addresses(SOURCES["nuclei"])
    assert first == "http://[::1]:80/hub/bbbc/BBBC038/stage1_train.zip"
    assert rest == list(SOURCES["nuclei"].urls)
    assert store.addresses(SOURCES["coco"]) == []
    firsts = {url.split("/", 3)[3] for known in SOURCES.values() for url in known.urls[:1]}
    assert len(firsts) == len([known for known in SOURCES.values() if known.urls]), "two sets are asked for alike"


def test_the_doctor_asks_it(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store.SOURCES, "nuclei", store.SOURCES["tiny"])
    assert [check.ok for check in doctor.data_server()] == [True]
    monkeypatch.setenv("COURSE_DATA_URL", "http://127.0.0.1:9")
    [check] = doctor.data_server()
    assert (check.ok, check.text) == (False, "data server http://127.0.0.1:9 does not answer")
    monkeypatch.setenv("COURSE_DATA_URL", "teacher")
    assert [check.text for check in doctor.data_server()] == ["COURSE_DATA_URL = 'teacher' is no address"]
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    [check] = doctor.data_server()
    assert (check.ok, check.text) == (False, "COURSE_OFFLINE forbids the data server teacher, too")


# --- what it answers


@pytest.mark.parametrize("path", [URL_PATH, f"/127.0.0.1:9{URL_PATH}", "/tiny.zip", "/tiny.zip?download=1"])
def test_the_paths_of_an_archive(server: Running, path: str) -> None:
    answer = server.ask(path)
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(len(GOOD))
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert re.fullmatch(r'"[0-9a-f]+-[0-9a-f]+"', answer.headers["ETag"])
    assert answer.read() == GOOD


def test_the_checksums_are_served_and_are_no_download(server: Running, room: Path) -> None:
    assert server.ask("/SHA256SUMS").read() == (room / "SHA256SUMS").read_bytes()
    assert server.log.over.empty()


def test_head(server: Running) -> None:
    answer = server.ask(URL_PATH, "HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, str(len(GOOD)), b"")
    assert server.log.over.empty()


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-99", 0, 99), ("bytes=500000-", 500_000, len(GOOD) - 1), ("bytes=-7", len(GOOD) - 7, len(GOOD) - 1)],
)
def test_a_part(server: Running, wanted: str, first: int, last: int) -> None:
    answer = server.ask(URL_PATH, Range=wanted)
    assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {first}-{last}/{len(GOOD)}")
    assert answer.read() == GOOD[first : last + 1]


def test_a_part_behind_the_end(server: Running) -> None:
    answer = server.ask(URL_PATH, Range=f"bytes={len(GOOD)}-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(GOOD)}")


def test_a_part_of_a_file_that_has_changed_is_sent_whole(server: Running) -> None:
    headers = server.ask(URL_PATH, "HEAD").headers
    for same in (headers["ETag"], headers["Last-Modified"]):
        assert server.ask(URL_PATH, Range="bytes=5-", If_Range=same).status == 206
    for other in ('"1-1"', "Mon, 01 Jan 2001 00:00:00 GMT"):
        answer = server.ask(URL_PATH, Range="bytes=5-", If_Range=other)
        assert (answer.status, answer.read()) == (200, GOOD)
    assert server.ask(URL_PATH, If_None_Match=headers["ETag"]).status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/nothing.zip",
        "/marks.txt",
        "/sets/2018/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/tiny.zip/../../secret.txt",
        "//tiny.zip",
        "//etc/passwd",
        "/tiny.zip%00.txt",
        "http://127.0.0.1/tiny.zip",
    ],
)
def test_everything_else_is_refused_in_plain_text(server: Running, path: str) -> None:
    answer = server.ask(path or "*")
    said = answer.read().decode()
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert said == "404 Not Found: here are /tiny.zip, /SHA256SUMS\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: Running, room: Path, method: str) -> None:
    answer = server.ask(URL_PATH, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.read() == b"405 Method Not Allowed: this server only gives; GET and HEAD\n"
    assert (room / "tiny.zip").read_bytes() == GOOD


def test_a_link_out_of_the_folder_is_not_followed(tiny: Source, room: Path, server: Running) -> None:
    (room / "tiny.zip").replace(room.parent / "tiny.zip")
    (room / "tiny.zip").symlink_to(room.parent / "tiny.zip")  # while it serves
    assert server.ask(URL_PATH).status == 404
    with pytest.raises(DataError, match=r"there is nothing to serve in .*\n.*is a link that leads out of its folder"):
        serve.stock(room)
    (room / "tiny.zip").unlink()
    (room.parent / "tiny.zip").replace(room / "whole")
    (room / "tiny.zip").symlink_to("whole")  # one within the folder is
    assert server.ask(URL_PATH).read() == GOOD


def test_a_client_that_dawdles_does_not_hold_up_another(server: Running, room: Path) -> None:
    with (room / "tiny.zip").open("wb") as file:
        file.truncate(50 << 20)  # more than the system buffers
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(f"GET {URL_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        slow.recv(100)
        assert len(server.ask(URL_PATH).read()) == 50 << 20
        [first] = over(server.log)
        [still] = server.log.running
        assert 0 < still.sent < first.sent == 50 << 20
        waiting = still.sent
        time.sleep(0.2)
        assert still.sent == waiting, "what the client does not take is not read, either"
    [gone] = over(server.log)
    assert gone is still
    assert re.fullmatch(r"127\.0\.0\.1 tiny\.zip: broken off at \d+%", str(gone))
    assert str(server.log).startswith("1 downloads to 1 computer, ")
    assert str(server.log).endswith("; 1 broken off")


# --- what the keeper sees


def test_what_is_served_is_listed(tiny: Source, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = replace(tiny, name="loose", archive="loose.zip", checksum=None, licence="none stated", alternatives=())
    monkeypatch.setitem(store.SOURCES, "loose", free)  # has the same path at its publisher's
    (room / "loose.zip").write_bytes(OTHER)
    (room / "part.zip").write_bytes(OTHER)
    shelf = serve.stock(room)
    assert [line.split("  ")[0].strip() for line in shelf.lines()[:4]] == ["NAME", "tiny", "tiny", "loose"]
    assert shelf.lines()[1].endswith(URL_PATH)
    assert shelf.lines()[4] == "No licence lets you pass on loose: serve them to your own class only."
    [note] = shelf.notes
    assert note.startswith("tiny: part.zip is not the archive that its publisher offers")
    names = {path: file.name for path, file in shelf.files.items()}
    assert names[URL_PATH] == names["/tiny.zip"] == "tiny.zip", "the first in the table has it"
    assert (names["/loose.zip"], names["/part.zip"]) == ("loose.zip", "part.zip")


def test_another_archive_stands_in_where_the_publisher_states_no_checksum(
    tiny: Source, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store.SOURCES, "tiny", replace(tiny, checksum=None))
    (room / "part.zip").write_bytes(OTHER)
    assert serve.stock(room).files[URL_PATH].name == "tiny.zip"
    (room / "tiny.zip").unlink()
    with running(room) as server:
        monkeypatch.setenv("COURSE_DATA_URL", server.base)
        assert store.fetch("tiny").read_bytes() == OTHER


def test_a_damaged_archive_is_not_served(tiny: Source, room: Path) -> None:
    (room / "tiny.zip").write_bytes(OTHER)
    with pytest.raises(
        DataError, match=r"(?s)nothing to serve.*tiny\.zip is damaged or was replaced.*it is not served"
    ):
        serve.stock(room)


def test_no_folder_no_right_and_no_archive(tiny: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none: No such file[\s\S]*course data fetch --all --to DIR"):
        serve.stock(tmp_path / "none")
    (tmp_path / "tiny.zip").mkdir()  # unpacked under the archive's name
    with pytest.raises(DataError, match=rf"nothing to serve in {tmp_path}\n.*--all --to {tmp_path}"):
        serve.stock(tmp_path)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        serve.stock(tmp_path)


def test_addresses_at_which_it_cannot_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    [held] = serve.listen("127.0.0.1", 0)
    port = held.getsockname()[1]
    with held, pytest.raises(ServerError, match=rf"port {port}: Address already in use\n.*--port {port + 1}"):
        serve.listen("127.0.0.1", port)
    with pytest.raises(ServerError, match=r"cannot listen at 192\.0\.2\.77, .*\n.*name an address of this computer"):
        serve.listen("192.0.2.77", 0)
    with pytest.raises(ServerError, match=r"no host is named nowhere\.invalid"):
        serve.listen("nowhere.invalid", 0)
    with pytest.raises(ServerError, match="names no address"):
        serve.listen("", 0)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tornado.netutil.bind_sockets", refuse)
    with pytest.raises(ServerError, match=r"port 80: Permission denied\n.*ports below 1024"):
        serve.listen("127.0.0.1", 80)


def test_what_students_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "own_addresses", lambda family=None: ["10.0.0.5", "192.168.1.2"])
    [alone], [public] = serve.listen("127.0.0.1", 0), serve.listen("0.0.0.0", 0)
    with alone, public:
        [line] = serve.invitation([alone])
        assert line.endswith("to this computer only. For a class: --host 0.0.0.0, or one of 10.0.0.5, 192.168.1.2.")
        port = public.getsockname()[1]
        lines = serve.invitation([public])
        assert lines[1:3] == [f"  export COURSE_DATA_URL=http://{host}:{port}" for host in ("10.0.0.5", "192.168.1.2")]


def test_the_addresses_of_this_computer() -> None:
    for address in serve.own_addresses():
        assert not address.startswith("127.")
        socket.inet_aton(address)


def test_a_terminal_shows_a_table_and_a_line_for_each_that_ends() -> None:
    log, screen = Log(), io.StringIO()
    display = Display(log, Console(file=screen, force_terminal=True, width=100))
    ending, going = Transfer("10.0.0.7", "a.zip", 100, 0, 100), Transfer("10.0.0.8", "b.zip", 1000, 250, 750)
    log.begin(ending)
    log.begin(going)
    with display.bars:
        display.update()
        ending.sent, going.sent = 100, 250
        log.end(ending)
        display.update()
        shown = screen.getvalue()
    assert re.search(r"\d\d:\d\d:\d\d 10\.0\.0\.7 a\.zip: 0\.0001 MB in 0\.0 s, \d+\.\d MB/s", shown)
    assert "10.0.0.8 b.zip" in shown
    assert " 50%" in shown
    assert "1 under way, " in shown
    assert str(going).endswith("broken off at 50%, continued at 25%")


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no Ctrl-C to one process alone")
def test_the_command_on_loopback_its_lines_and_its_end(room: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from dataclasses import replace; from pathlib import Path; from course_lib import paths; "
        "from course_lib.cli import main; from course_lib.data import store; "
        "cache = Path(sys.argv.pop()); paths.cache_dir = lambda: cache; "
        "store.SOURCES = {'nuclei': replace(store.SOURCES['nuclei'], archive='tiny.zip', checksum=None)}; main()"
    )
    command = [sys.executable, "-c", program, "serve-data", str(room), "--port", "0", str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    head = [process.stdout.readline().rstrip() for _ in range(3)]
    assert head[1] == "nuclei  1 MB  CC0 1.0  /bbbc/BBBC038/stage1_train.zip"
    port = int(re.match(r"Serving at http://127\.0\.0\.1:(\d+), to this computer only", head[2])[1])
    for address in serve.own_addresses():
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, port), timeout=5)
    assert requests.get(f"http://127.0.0.1:{port}/tiny.zip", timeout=5, proxies={"no_proxy": "*"}).content == GOOD
    line = process.stdout.readline()  # at once, not at the end
    assert re.fullmatch(r"\d\d:\d\d:\d\d 127\.0\.0\.1 tiny\.zip: 1 MB in \d\.\d s, \d+\.\d MB/s\n", line)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert (rest, errors, process.returncode) == ("Served 1 downloads to 1 computer, 1 MB.\n", "", 0)


# --- the real mirror


@pytest.mark.real
def test_real_archives_go_through_it(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_DATA_DIR")
    shelf = serve.stock(mirror)
    whole = [(known, file) for known, file, path in shelf.offers if path != f"/{file.name}"]
    if not whole:
        pytest.skip("the mirror holds parts only, which students' computers refuse")
    known, file = min(whole, key=lambda offer: offer[1].stat().st_size)
    with running(mirror) as server:
        monkeypatch.setenv("COURSE_DATA_URL", server.base)
        fetched = store.fetch(known.name)
    assert fetched.parent == paths.cache_dir()
    assert store.checked(known, fetched)[0] == store.checked(known, file)[0]
    assert server.log.whole == 1
