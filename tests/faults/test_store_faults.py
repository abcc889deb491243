"""Everything that goes wrong between a publisher and a laptop: each with its message, and nothing left half-written."""

import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from course_lib import paths
from course_lib.data import store
from course_lib.data.store import SOURCES, Source
from course_lib.errors import DataError

Server = Any  # the one of conftest.py


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive; names may be as evil as one likes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


NOISE = random.Random(0).randbytes(300_000)  # does not compress: the archive is about as large
GOOD = zipped({"a/images/a.png": NOISE, "a/masks/1.png": b"one", "a/masks/2.png": b"two"})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no mirror, no waiting, no proxy."""
    place = tmp_path / "cache"
    monkeypatch.setattr(paths, "cache_dir", lambda: place)
    monkeypatch.setattr(store, "BACKOFF", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("COURSE_DATA_DIR", "COURSE_DATA_URL", "COURSE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def tiny(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The data set `tiny`: two URLs, no published checksum."""
    server.files |= {"one.zip": GOOD, "two.zip": GOOD}
    entry = Source(
        name="tiny",
        title="A tiny set",
        archive="tiny.zip",
        urls=(server.url("one.zip"), server.url("two.zip")),
        size=len(GOOD),
        checksum=None,
        licence="CC0 1.0",
        citation="nobody",
        homepage="https://example.org/tiny",
    )
    monkeypatch.setitem(SOURCES, "tiny", entry)
    return entry


HALF = len(GOOD) // 2 // store.CHUNK * store.CHUNK  # what is kept of a download that breaks off in the middle
assert HALF > 100_000


def leavings(place: Path) -> list[str]:
    """Whatever lies in a folder that is not a lock or a record."""
    if not place.is_dir():
        return []
    kept = (".tiny.lock", ".SHA256SUMS.lock", ".checksums.json")
    return sorted(file.name for file in place.iterdir() if file.name not in kept)


def statuses(server: Server) -> list[int]:
    return [status for _, _, status in server.asked]


def test_a_download_is_checked_named_listed_and_unpacked(server: Server, tiny: Source, cache: Path) -> None:
    folder = store.folder("tiny")
    assert statuses(server) == [200]
    assert (folder / "a/images/a.png").read_bytes() == NOISE
    assert (cache / "tiny.zip").read_bytes() == GOOD
    assert leavings(cache) == ["SHA256SUMS", folder.name, "tiny.zip"]
    digest = (cache / "SHA256SUMS").read_text().split()[0]
    assert folder.name == f"tiny-{digest[:8]}"
    assert store.folder("tiny") == folder
    assert statuses(server) == [200]  # the second call asked nobody


def test_a_cut_download_is_continued(server: Server, tiny: Source, cache: Path) -> None:
    server.plan = ["cut"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server) == [200, 206]
    assert server.asked[1][1] == f"bytes={HALF}-"


def test_a_part_left_by_an_earlier_call_is_continued(server: Server, tiny: Source, cache: Path) -> None:
    server.plan = ["cut"] + ["503"] * 5
    with pytest.raises(DataError, match="could not be downloaded"):
        store.fetch("tiny")
    assert leavings(cache) == ["tiny.zip.part"]  # kept on purpose
    assert (cache / "tiny.zip.part").read_bytes() == GOOD[:HALF]
    server.asked.clear()
    assert store.fetch("tiny").read_bytes() == GOOD
    assert server.asked == [("/one.zip", f"bytes={HALF}-", 206)]
    assert leavings(cache) == ["SHA256SUMS", "tiny.zip"]


def test_a_part_that_was_whole_already_is_taken(server: Server, tiny: Source, cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.zip.part").write_bytes(GOOD)
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server) == [416]


def test_a_server_that_ignores_range_starts_anew(server: Server, tiny: Source, cache: Path) -> None:
    server.plan = ["cut", "no-range"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server) == [200, 200]


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * (len(GOOD) + 9)], ids=["shorter", "longer"])
def test_a_part_of_another_file_is_thrown_away(server: Server, tiny: Source, cache: Path, part: bytes) -> None:
    cache.mkdir()
    (cache / "tiny.zip.part").write_bytes(part)
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server)[-1] == 200
    assert leavings(cache) == ["SHA256SUMS", "tiny.zip"]


def test_a_busy_server_is_asked_again_with_growing_pauses(
    server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(store, "BACKOFF", 1.0)
    monkeypatch.setattr(store.time, "sleep", pauses.append)
    server.plan = ["503", "429"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server) == [503, 429, 200]
    assert [pause for pause in pauses if pause] == [1.0, 2.0]


def test_the_next_url_is_tried(server: Server, tiny: Source, cache: Path) -> None:
    del server.files["one.zip"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert [(path, status) for path, _, status in server.asked] == [("/one.zip", 404), ("/two.zip", 200)]


def test_unreachable_says_what_was_tried_why_and_how_to_do_it_by_hand(
    server: Server, tiny: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = "http://127.0.0.1:9/tiny.zip"  # the discard port: nobody listens
    unknown = "http://nowhere.invalid/tiny.zip"
    monkeypatch.setitem(SOURCES, "tiny", replace(tiny, urls=(server.url("gone.zip"), closed, unknown)))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("COURSE_DATA_DIR", os.pathsep.join([str(tmp_path), str(tmp_path / "typo")]))
    server.plan = ["503", "503", "503"]
    with pytest.raises(DataError) as caught:
        store.folder("tiny")
    lines = caught.value.message.splitlines()
    assert lines[:5] == [
        "tiny is not here and could not be downloaded:",
        f"  {tmp_path}: no tiny.zip",
        f"  {tmp_path / 'typo'}: no such folder",
        f"  {cache}: no tiny.zip",
        f"  {server.url('gone.zip')}: 503 Service Unavailable (3 tries)",
    ]
    assert lines[5].startswith(f"  {closed}: no connection: ")
    assert lines[5].endswith("(3 tries)")
    assert lines[6] == f"  {unknown}: the host is not known; is this computer online?"
    assert len(lines) == 7
    assert caught.value.hint == (
        f"place the file by hand: download tiny.zip from https://example.org/tiny and put it into {cache}, "
        "or set COURSE_DATA_DIR to the folder that holds it"
    )
    assert leavings(cache) == []


def test_a_silent_server_does_not_hang(
    server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "TIMEOUT", (0.05, 0.05))
    monkeypatch.setattr(store, "TRIES", 1)
    server.plan = ["slow", "slow"]
    with pytest.raises(DataError, match=r"one\.zip: no answer in time\n.*two\.zip: no answer in time"):
        store.fetch("tiny")
    assert not (cache / "tiny.zip").exists()


@pytest.fixture
def impatient(tiny: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """`tiny`, whose second URL names another host, and little patience with slow ones."""
    monkeypatch.setattr(store, "SLOW_AFTER", 0.15)
    monkeypatch.setattr(store, "SLOW_LEFT", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    urls = tiny.urls[0], tiny.urls[1].replace("127.0.0.1", "localhost")
    monkeypatch.setitem(SOURCES, "tiny", replace(tiny, urls=urls))
    return SOURCES["tiny"]


def test_a_slow_source_gives_way_to_another_that_continues(
    server: Server, impatient: Source, capfd: pytest.CaptureFixture[str]
) -> None:
    server.plan = ["slow", "ok"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert [path for path, _, _ in server.asked] == ["/one.zip", "/two.zip"]
    assert statuses(server) == [200, 206]
    first, second = impatient.urls
    shown = re.search(
        rf"(?m)^{first}: slow, ([0-9.]+) kB/s, 0 minutes to go \((.+)\)\. Now asking {second}$", capfd.readouterr().err
    )
    assert shown
    assert 50 < float(shown[1]) < 400
    assert shown[2] == store.ADVICE


def test_when_all_are_slow_the_fastest_goes_on(
    server: Server, impatient: Source, capfd: pytest.CaptureFixture[str]
) -> None:
    server.plan = ["slow", "slower", "slow"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert [path for path, _, _ in server.asked] == ["/one.zip", "/two.zip", "/one.zip"]
    assert statuses(server) == [200, 206, 206]
    lines = [line for line in capfd.readouterr().err.splitlines() if ": slow, " in line]
    first, second = impatient.urls
    assert [line.split()[-1] for line in lines] == [second, first]


def test_a_slow_source_without_an_alternative_says_so_and_goes_on(
    server: Server, impatient: Source, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "tiny", replace(impatient, urls=impatient.urls[:1]))
    server.plan = ["slow"]
    assert store.fetch("tiny").read_bytes() == GOOD
    assert statuses(server) == [200]
    shown = capfd.readouterr().err
    assert shown.count(": slow, ") == shown.count("No other source is faster, so it goes on") == 1


def interrupt(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Ctrl-C in the middle of the first downloads."""
    import requests

    real, left = requests.Response.iter_content, [times]

    def chunks(self: requests.Response, size: int) -> Iterator[bytes]:
        for count, chunk in enumerate(real(self, size)):
            yield chunk
            if count and left[0]:
                left[0] -= 1
                raise KeyboardInterrupt

    monkeypatch.setattr(requests.Response, "iter_content", chunks)


def test_one_interrupt_changes_to_another_source(
    server: Server, impatient: Source, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, 1)
    assert store.fetch("tiny").read_bytes() == GOOD
    assert server.asked[1] == ("/two.zip", f"bytes={2 * store.CHUNK}-", 206)
    first, second = impatient.urls
    assert f"{first}: interrupted (once more stops). Now asking {second}\n" in capfd.readouterr().err


def test_interrupts_with_time_between_them_go_round(
    server: Server, impatient: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STOP_WITHIN", 0.0)
    interrupt(monkeypatch, 3)
    assert store.fetch("tiny").read_bytes() == GOOD
    assert [path for path, _, _ in server.asked] == ["/one.zip", "/two.zip", "/one.zip", "/two.zip"]


@pytest.mark.parametrize("sources", [1, 2])
def test_two_interrupts_or_one_without_an_alternative_stop(
    sources: int, server: Server, impatient: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "tiny", replace(impatient, urls=impatient.urls[:sources]))
    interrupt(monkeypatch, sources)
    with pytest.raises(KeyboardInterrupt):
        store.fetch("tiny")
    assert len(server.asked) == sources
    assert leavings(cache) == ["tiny.zip.part"]
    assert (cache / "tiny.zip.part").read_bytes() == GOOD[: 2 * sources * store.CHUNK]
    assert store.fetch("tiny").read_bytes() == GOOD


def test_a_host_that_cannot_be_reached_in_time_is_asked_once(
    server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    asked: list[str] = []

    def swallow(url: str, **_: object) -> None:
        asked.append(url)
        raise requests.ConnectTimeout("Connection to host timed out. (connect timeout=10.0)")

    monkeypatch.setattr(requests, "get", swallow)
    with pytest.raises(DataError, match=r"one\.zip: no answer in time\n.*two\.zip: no answer in time"):
        store.fetch("tiny")
    assert asked == list(tiny.urls)


def test_a_login_page_instead_of_the_archive(server: Server, tiny: Source, cache: Path) -> None:
    server.files |= dict.fromkeys(("one.zip", "two.zip"), b"<html>Welcome to the hotel network")
    with pytest.raises(DataError, match=r"one\.zip: it is no zip or tar archive, or only a part of one\n"):
        store.fetch("tiny")
    assert leavings(cache) == []


def test_half_an_archive_without_a_length(server: Server, tiny: Source, cache: Path) -> None:
    server.plan = ["no-length", "no-length"]
    with pytest.raises(DataError, match="it is no zip or tar archive, or only a part of one"):
        store.folder("tiny")
    assert leavings(cache) == []


def test_a_wrong_checksum_is_refused_and_the_next_url_serves(
    server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    published = f"md5:{hashlib.md5(GOOD).hexdigest()}"
    monkeypatch.setitem(SOURCES, "tiny", replace(tiny, checksum=published))
    other = zipped({"b.png": b"another file"})
    server.files["one.zip"] = other
    assert store.fetch("tiny").read_bytes() == GOOD
    (cache / "tiny.zip").unlink()
    (cache / "SHA256SUMS").unlink()
    server.files["two.zip"] = other
    with pytest.raises(DataError) as caught:
        store.fetch("tiny")
    wrong = hashlib.md5(other).hexdigest()
    expected = f"sent a wrong file: its md5 is {wrong}, not {published[4:]} as published"
    assert caught.value.message.count(expected) == 2
    assert leavings(cache) == []


def test_what_the_first_download_was_is_held_against_the_second(server: Server, tiny: Source, cache: Path) -> None:
    store.fetch("tiny").unlink()
    server.files |= dict.fromkeys(("one.zip", "two.zip"), zipped({"b.png": b"something else"}))
    with pytest.raises(DataError, match=r"sent a wrong file: its sha256 is .* as recorded in .*SHA256SUMS"):
        store.fetch("tiny")
    assert leavings(cache) == ["SHA256SUMS"]


def corrupt(archive: bytes) -> bytes:
    middle = len(archive) // 2
    return archive[:middle] + bytes(byte ^ 255 for byte in archive[middle : middle + 64]) + archive[middle + 64 :]


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            bundle.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        bundle.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def tar_with_noise() -> bytes:
    return tarred((member("a.png"), NOISE), (member("b.png"), NOISE))


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "corrupt zip": (lambda: corrupt(GOOD), r"it is damaged or cannot be read \(Bad CRC-32|Error -3"),
    "corrupt tar": (lambda: corrupt(tar_with_noise()), r"it is damaged or cannot be read \("),
    "half zip": (lambda: GOOD[: len(GOOD) // 2], "it is no zip or tar archive, or only a part of one"),
    "half tar": (lambda: tar_with_noise()[:200_000], r"it is damaged or cannot be read \(Compressed file ended"),
    "zip ../": (lambda: zipped({"ok.png": b"1", "../evil": b"2"}), r"it holds '\.\./evil', a name that leads out"),
    "zip deep ../": (lambda: zipped({"a/b/../../../evil": b"2"}), "a name that leads out of its folder"),
    "zip absolute": (lambda: zipped({"/tmp/evil": b"2"}), "it holds '/tmp/evil', a name that leads out"),
    "zip drive": (lambda: zipped({"C:/evil": b"2"}), "it holds 'C:/evil', a name that leads out"),
    "zip backslash": (lambda: zipped({"..\\evil": b"2"}), "a name that leads out of its folder"),
    "zip share": (lambda: zipped({"\\\\host\\evil": b"2"}), "a name that leads out of its folder"),
    "zip link": (zip_with_link, "it holds 'link', a link or a device"),
    "tar ../": (lambda: tarred((member("../evil"), b"2")), r"it holds '\.\./evil', a name that leads out"),
    "tar absolute": (lambda: tarred((member("/tmp/evil"), b"2")), "it holds '/tmp/evil', a name that leads out"),
    "tar symlink": (lambda: tarred((member("x", tarfile.SYMTYPE, ".."), b"")), "it holds 'x', a link or a device"),
    "tar hard link": (lambda: tarred((member("x", tarfile.LNKTYPE, "a"), b"")), "it holds 'x', a link or a device"),
    "tar device": (lambda: tarred((member("x", tarfile.CHRTYPE), b"")), "it holds 'x', a link or a device"),
    "zip bomb": (lambda: zipped({"zeros": bytes(3_000_000)}), "more than .* MB or 50 files: an archive bomb"),
    "tar bomb": (lambda: tarred((member("zeros"), bytes(3_000_000))), "more than .* MB or 50 files: an archive bomb"),
    "many files": (lambda: zipped({f"{n}": b"" for n in range(60)}), "more than .* MB or 50 files: an archive bomb"),
}


@pytest.mark.parametrize("how", ["placed in a mirror", "downloaded"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_archive_is_refused_and_leaves_nothing(
    kind: str, how: str, server: Server, tiny: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BOMB_FLOOR", 1_000_000)
    monkeypatch.setattr(store, "BOMB_MEMBERS", 50)
    make, message = BAD[kind]
    mirror = tmp_path / "up" / "mirror"
    mirror.mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    if how == "downloaded":
        server.files |= dict.fromkeys(("one.zip", "two.zip"), make())
    else:
        monkeypatch.setenv("COURSE_DATA_DIR", str(mirror))
        (mirror / "tiny.zip").write_bytes(make())
    with pytest.raises(DataError, match=message) as caught:
        store.folder("tiny")
    assert leavings(cache) == []
    new = {path for path in set(tmp_path.rglob("*")) - before if cache not in path.parents and path != cache}
    if how == "downloaded":
        assert statuses(server) == [200, 200]
        assert not new
    else:
        assert caught.value.message.startswith(f"{mirror / 'tiny.zip'} cannot be unpacked: it ")
        assert caught.value.hint == f"replace it in the mirror, or take {mirror} out of COURSE_DATA_DIR"
        assert new == {mirror / "tiny.zip"}
    assert not Path("/tmp/evil").exists()


# --- disks


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], bool]]:
    """Mounts a small file system over `tmp_path / "cache"`; returns whether this system lets us."""
    place, mounted = tmp_path / "cache", []

    def do(options: str) -> bool:
        if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("mount"):
            return False
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        mounted.append(place)
        return True

    yield do
    for point in mounted:
        subprocess.run(["umount", str(point)], check=True)


def break_writes(monkeypatch: pytest.MonkeyPatch, under: Path, room: int) -> None:
    """The stand-in for a full disk: files opened for writing below a folder take so many bytes, then ENOSPC."""
    real, left = Path.open, [room]

    def opened(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        file = real(self, mode, *args, **options)  # type: ignore[arg-type]
        if under not in self.parents or "b" not in mode or "r" in mode:
            return file
        write = file.write

        class Limited:
            def __enter__(self) -> "Limited":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> int:
                left[0] -= len(data)
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(data)

        return Limited()

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("disk", ["real", "stand-in"])
@pytest.mark.parametrize("when", ["downloading", "unpacking"])
def test_a_disk_that_fills_up(
    when: str,
    disk: str,
    tiny: Source,
    cache: Path,
    tmp_path: Path,
    mount: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kb = 200 if when == "downloading" else 450  # the archive takes 300 kB, unpacked 300 more
    if disk == "stand-in" or not mount(f"size={kb}k"):
        break_writes(monkeypatch, cache, kb * 1000)
    plenty = shutil.disk_usage(tmp_path)._replace(free=1 << 40)  # another program fills it while we write
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: plenty)
    with pytest.raises(DataError) as caught:
        store.folder("tiny")
    assert caught.value.message == (f"no space left in {cache}: tiny takes about 0.3 MB, and as much again unpacked")
    assert caught.value.hint == (
        "free some space there, or unpack tiny.zip into DIR/tiny elsewhere and set COURSE_DATA_DIR=DIR"
    )
    assert leavings(cache) == ([] if when == "downloading" else ["SHA256SUMS", "tiny.zip"])


def test_a_disk_that_is_full_from_the_start(
    server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    little = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: little)
    with pytest.raises(DataError, match=r"no space left in .*cache: tiny takes about 0\.3 MB"):
        store.fetch("tiny")
    assert leavings(cache) == []
    assert statuses(server) == [200]  # noticed before anything was written, and no other URL was bothered


@pytest.mark.parametrize("how", ["a file is in the way", "no right to write"])
def test_a_read_only_cache(
    how: str,
    tiny: Source,
    cache: Path,
    tmp_path: Path,
    mount: Callable[[str], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = ["File exists", "Not a directory"]
    if how == "a file is in the way":
        cache.write_text("not a folder")
    elif mount("size=1m,ro"):
        reasons = ["Read-only file system"]
    else:
        cache.mkdir()
        cache.chmod(0o555)
        reasons = ["Permission denied"]
        if os.access(cache, os.W_OK):  # an administrator who may not mount: refuse in the system's place
            monkeypatch.setattr(store, "FileLock", _refuse)
    with pytest.raises(DataError) as caught:
        store.folder("tiny")
    assert caught.value.message in [f"cannot write to {cache}: {reason}" for reason in reasons]
    assert caught.value.hint == (
        "make it a folder that you may write to, or unpack tiny.zip into DIR/tiny elsewhere and set COURSE_DATA_DIR=DIR"
    )
    ready = tmp_path / "mirror" / "tiny"  # what the hint says must work
    ready.mkdir(parents=True)
    (ready / "a.png").write_bytes(NOISE)
    monkeypatch.setenv("COURSE_DATA_DIR", str(ready.parent))
    assert store.folder("tiny") == ready


def _refuse(path: Path) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


# --- processes

PROGRAM = """
import json, sys
from pathlib import Path
from course_lib import paths
from course_lib.data import store
store.SOURCES["tiny"] = store.Source(**json.loads(sys.argv[2]))
paths.cache_dir = lambda: Path(sys.argv[1])
print(store.folder("tiny"))
"""


def start(tiny: Source, cache: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(cache), json.dumps(vars(tiny))]
    return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.02)


def test_two_processes_at_once(server: Server, tiny: Source, cache: Path, tmp_path: Path) -> None:
    server.plan = ["hold"]  # the first one is kept busy until the second one is seen to wait
    logs = [tmp_path / "first", tmp_path / "second"]
    with logs[0].open("w") as first, logs[1].open("w") as second:
        running = [start(tiny, cache, stdout=subprocess.PIPE, stderr=log) for log in (first, second)]
        waiting = "Waiting for another process that is fetching tiny ..."
        wait_for(lambda: any(waiting in log.read_text() for log in logs))
        assert [process.poll() for process in running] == [None, None]
        assert leavings(cache) == ["tiny.zip.part"]
        server.go_on.set()
        folders = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0], [log.read_text() for log in logs]
    assert len(folders) == 1
    folder = Path(folders.pop())
    assert (folder / "a/images/a.png").read_bytes() == NOISE
    assert server.asked == [("/one.zip", None, 200)]  # one request for the two of them
    assert leavings(cache) == ["SHA256SUMS", folder.name, "tiny.zip"]


def test_a_killed_download_leaves_a_part_that_the_next_one_continues(server: Server, tiny: Source, cache: Path) -> None:
    server.plan = ["slow"]
    victim, part = start(tiny, cache, stdout=subprocess.DEVNULL), cache / "tiny.zip.part"
    wait_for(lambda: part.is_file() and part.stat().st_size)
    victim.kill()
    victim.communicate()
    have = part.stat().st_size
    assert 0 < have < len(GOOD)
    assert leavings(cache) == ["tiny.zip.part"]
    folder = store.folder("tiny")
    assert server.asked[1:] == [("/one.zip", f"bytes={have}-", 206)]
    assert leavings(cache) == ["SHA256SUMS", folder.name, "tiny.zip"]


def test_what_a_killed_process_left_is_swept(tiny: Source, cache: Path) -> None:
    (cache / ".tiny-4711.tmp" / "a").mkdir(parents=True)
    (cache / ".tiny-4712.tmp").write_text("half a copy")
    folder = store.folder("tiny")
    assert leavings(cache) == ["SHA256SUMS", folder.name, "tiny.zip"]


def test_an_interrupt_while_unpacking_leaves_nothing(
    tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.fetch("tiny")
    real = store.extract

    def interrupted(archive: Path, into: Path) -> None:
        real(archive, into)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "extract", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        store.folder("tiny")
        pytest.fail("the interrupt was swallowed")
    assert leavings(cache) == ["SHA256SUMS", "tiny.zip"]


def test_offline_asks_nobody(server: Server, tiny: Source, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as caught:
        store.folder("tiny", offline=True)
    assert caught.value.message == f"tiny is not here, and downloads are off:\n  {cache}: no such folder"
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    with pytest.raises(DataError, match="downloads are off") as caught:
        store.folder("tiny")
    assert "place the file by hand: download tiny.zip from https://example.org/tiny" in caught.value.hint
    assert server.asked == []
    assert not cache.exists()
    monkeypatch.setenv("COURSE_OFFLINE", "0")
    assert store.folder("tiny").is_dir()
