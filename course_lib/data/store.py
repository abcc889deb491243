"""The data sets of `sources.toml`: find an archive, or download it; check it; unpack it.

The order: a mirror named by `COURSE_DATA_DIR`, the cache, a class's server named by `COURSE_DATA_URL`, the publisher's
URLs. Nothing gets its final name before it is whole and checked. A lock per data set lets processes ask at once.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from course_lib import paths
from course_lib.errors import DataError, SettingsError

TRIES, BACKOFF = 3, 1.0  # for each URL; seconds before its second try, doubled before each further one
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of an answer
SLOW_AFTER, SLOW_LEFT = 5.0, 300.0  # slow is what has, after so many seconds, so many still to go
STOP_WITHIN = 2.0  # seconds between two interrupts that stop a download; a single one changes to another URL
CHUNK = 1 << 14  # at most so much is lost when a connection breaks
BOMB_FACTOR, BOMB_FLOOR, BOMB_MEMBERS = 20, 64 << 20, 500_000  # far above what any set of the course needs
SUMS = "SHA256SUMS"
ODD = {None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}
NETWORK = tomllib.loads(Path(__file__).with_name("network.toml").read_text("utf-8"))["errors"]
ADVICE = "interrupt once (Ctrl-C, or the stop button) for another source, twice to stop; what is here is kept"


@dataclass(frozen=True)
class Source:
    """One data set as its publisher offers it."""

    name: str
    title: str
    archive: str  # its name in the cache and in a mirror
    urls: Sequence[str]  # asked in this order
    size: int  # bytes of that archive; a round number where the publisher does not say
    licence: str
    citation: str
    homepage: str  # where a person finds the download
    checksum: str | None = None  # "sha256:..." or "md5:..."; None: recorded at the first download, checked after
    alternatives: Sequence[str] = ()  # archives that a mirror may hold instead: a part, or another layout
    by_hand: str = ""  # how to get it, where placing one file does not do


_TABLE = tomllib.loads(Path(__file__).with_name("sources.toml").read_text("utf-8"))
SOURCES = {name: Source(name, **entry) for name, entry in _TABLE.items()}


class _Failure(Exception):
    """One URL or one archive is no good; for a URL, that counts as `cost` of its `TRIES`."""

    def __init__(self, reason: str, cost: float = inf) -> None:
        super().__init__(reason)
        self.cost = cost


def source(name: str) -> Source:
    """The data set called `name`. Raises DataError, with the known names, if there is none."""
    if name not in SOURCES:
        raise DataError(f"no data set named {name!r}", f"known: {', '.join(SOURCES)}")
    return SOURCES[name]


def find(name: str, *first: Path) -> Path | None:
    """The archive of a data set, in the folders `first`, a mirror, or the cache; DataError if unknown."""
    known, folders = source(name), (*first, *paths.mirror_dirs(), paths.cache_dir())
    files = (where / archive for where in folders for archive in (known.archive, *known.alternatives))
    return next(filter(os.path.isfile, files), None)  # unlike Path's, it bears a mirror on a share that is away


def unpacked(name: str) -> Path | None:
    """A folder to use as it is: `NAME` in a mirror, or one whose archive was deleted since; DataError if unknown."""
    kept = [] if find(name) else paths.cache_dir().glob(f"{name}-{'[0-9a-f]' * 8}")
    for mirror in paths.mirror_dirs():
        with contextlib.suppress(OSError, StopIteration):  # no such folder, or an empty one
            return next((mirror / name).iterdir()).parent
    return max(kept, key=lambda ready: ready.stat().st_mtime, default=None)


def fetch(name: str, to: Path | None = None, offline: bool | None = None) -> Path:
    """The archive of a data set, found or downloaded, and checked.

    By default it stays where it was found, and a download goes to the cache; a folder `to` gets it with a line in its
    `SHA256SUMS`, as a mirror for a class room. `offline`: use no network; by default what `COURSE_OFFLINE` says.
    Raises DataError: unknown name; not here and not to be had; damaged; no room or no right to write.
    """
    known, where = source(name), Path(to).expanduser() if to else paths.cache_dir()
    first = [where] if to else []
    if (found := find(name, *first)) and not to:
        checked(known, found)
        return found
    if not found and (paths.offline() if offline is None else offline):
        raise missing(known, f"{name} is not here, and downloads are off")
    with _writing(known, where) as fresh:
        have = find(name, *first) or _download(known, where)
        file, (digest, _) = where / have.name, checked(known, have)
        if file != have:
            shutil.copyfile(have, fresh).replace(file)
        with FileLock(where / f".{SUMS}.lock"):
            sums = _sums(where) | {file.name: digest}  # the original's, which tells if the copy came out different
            fresh.write_text("".join(f"{sums[key]}  {key}\n" for key in sorted(sums)), encoding="utf-8", newline="\n")
            fresh.replace(where / SUMS)
    return file


def folder(name: str, offline: bool | None = None) -> Path:
    """The unpacked data set, ready to read; unpacked into the cache at the first call.

    Its name holds the start of the archive's SHA-256, so that a mirror's subset and the whole set stay apart.
    Raises DataError: as `fetch`; the archive is damaged, or would write outside its folder, or is a bomb.
    """
    if ready := unpacked(name):
        return ready
    known, archive = source(name), fetch(name, offline=offline)
    target = paths.cache_dir() / f"{name}-{checked(known, archive)[0][:8]}"
    if not target.is_dir():
        with _writing(known, target.parent) as fresh:
            if not target.is_dir():  # another process may have been faster
                fresh.mkdir()
                try:
                    extract(archive, fresh)
                except _Failure as failure:
                    raise DataError(f"{archive} cannot be unpacked: {failure}", _replace(known, archive)) from None
                fresh.replace(target)
    return target


def megabytes(size: float) -> str:
    """A number of bytes for people, such as `"83 MB"`."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.2g} MB"


def _hash(file: Path, algorithm: str = "sha256") -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _sums(where: Path) -> dict[str, str]:
    """What `SHA256SUMS` in a folder says: file name -> digest."""
    text = (where / SUMS).read_text("utf-8") if (where / SUMS).is_file() else ""
    return {name: digest.lower() for digest, name in re.findall(r"(?m)^([0-9a-fA-F]{64}) [ *](.+?)\s*$", text)}


def _compared(file: Path, trouble: str, claims: dict[str, str | None]) -> str:
    """Who says what the checksum is, the first of the claims that has one; fails if it is another."""
    whose, checksum = next((claim for claim in claims.items() if claim[1]), ("", None))
    if checksum:
        algorithm, wanted = checksum.split(":") if ":" in checksum else ("sha256", checksum)
        if (actual := _hash(file, algorithm)) != wanted:
            raise _Failure(f"{trouble}: its {algorithm} is {actual}, not {wanted} {whose}")
    return whose


def checked(known: Source, file: Path, afresh: bool = False) -> tuple[str, str]:
    """SHA-256 of an archive, and who says so: as recorded if it was seen before, else hashed and compared."""
    book, records = paths.cache_dir() / ".checksums.json", {}  # path -> [bytes, time of change, SHA-256]
    with contextlib.suppress(OSError, ValueError):
        records = json.loads(book.read_text("utf-8"))
    try:
        key, now = str(file.resolve()), [file.stat().st_size, file.stat().st_mtime_ns]
        *before, digest = records.get(key, [None])
        if before == now and not afresh:
            return digest, "as recorded at first use"
        claims = {"as published": known.checksum if file == paths.cache_dir() / known.archive else None}
        claims[f"as listed in {SUMS}"] = _sums(file.parent).get(file.name)
        claims["as recorded at first use"] = digest if afresh else None  # a mirror's keeper may have replaced it since
        whose = _compared(file, f"{file} is damaged or was replaced", claims)
        records[key] = [*now, _hash(file)]
    except (_Failure, OSError) as error:
        message = f"cannot read {file}: {error.strerror or error}" if isinstance(error, OSError) else f"{error}"
        raise DataError(message, _replace(known, file)) from error
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        paths.write_atomically(book, lambda fresh: fresh.write_text(json.dumps(records, indent=1), encoding="utf-8"))
    return records[key][2], whose or "recorded now, at first use"


def addresses(known: Source) -> list[str]:
    """Where to ask: the class's server first, at the path of the publisher's first URL. SettingsError: no address."""
    server = os.environ.get("COURSE_DATA_URL", "").rstrip("/")
    if server and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", server):
        raise SettingsError(f"COURSE_DATA_URL = {server!r} is no address", "choose one such as http://teacher:8765")
    return [f"{server}/{url.split('/', 3)[3]}" for url in known.urls[:1] if server] + list(known.urls)


def _download(known: Source, where: Path) -> Path:
    """Ask one URL after the other; the pieces gather in `ARCHIVE.part`, which a later call or another URL continues."""
    # not with pooch, which begins a broken download anew, knows one URL per file and takes no lock
    part, failures, interrupted = where / f"{known.archive}.part", "", -inf
    speeds = dict.fromkeys(addresses(known), inf)  # bytes per second: an untried URL may be as fast as any
    tries = dict.fromkeys(speeds, 0.0)
    claims = {"as published": known.checksum, f"as recorded in {where / SUMS}": _sums(where).get(known.archive)}
    while speeds:
        url, resumed = max(speeds, key=speeds.__getitem__), None  # the first of equals
        try:
            time.sleep(BACKOFF * 2 ** (tries[url] - 1) if tries[url] else 0)
            resumed = _receive(known, url, part, speeds)
            if not _compared(part, "sent a wrong file", claims):
                extract(part, None)
            return part.replace(where / known.archive)
        except KeyboardInterrupt:
            if len(speeds) == 1 or time.monotonic() - interrupted < STOP_WITHIN:
                raise
            interrupted, reason = time.monotonic(), "interrupted (once more stops)"
            speeds[url] = -interrupted  # behind all others
        except _Failure as failure:
            if resumed is not None:  # all is here, but wrong
                part.unlink()
            tries[url] += 1 if resumed else failure.cost  # two versions may have been joined: once more, whole
            reason = f"{failure} ({TRIES} tries)" if tries[url] == TRIES > failure.cost else f"{failure}"
            if tries[url] >= TRIES:
                failures += f"\n  {url}: {reason}"
                del speeds[url]
        except OSError:  # the disk, not the network: leave it as it was
            part.unlink(missing_ok=True)
            raise
        if speeds:
            print(f"{url}: {reason}. Now asking {max(speeds, key=speeds.__getitem__)}", file=sys.stderr)
    raise missing(known, f"{known.name} is not here and could not be downloaded", failures)


def _receive(known: Source, url: str, part: Path, speeds: dict[str, float]) -> bool:
    """Add what a URL sends to `part`, or begin anew; returns which. Fails if it is slow and another may be faster."""
    import requests
    from tqdm.auto import tqdm

    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    proxies = {} if url in known.urls else {"no_proxy": "*"}  # a class's server is near, whatever the environment says
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT, proxies=proxies) as answer:
            code, ranges = answer.status_code, answer.headers.get("Content-Range", "")
            if code == 416 and ranges == f"bytes */{have}":
                return True  # it was whole already
            resumed = code == 206 and ranges.startswith(f"bytes {have}-")
            if code in (206, 416) and not resumed:
                part.unlink(missing_ok=True)  # it cannot be continued
            if code != 200 and not resumed:
                raise _Failure(f"{code} {answer.reason}", 1 if code in (206, 408, 416, 429) or code >= 500 else inf)
            have = have if resumed else 0
            left = int(answer.headers.get("Content-Length") or known.size - have)
            if shutil.disk_usage(part.parent).free < left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            label, start, got = f"{known.name} from {url.split('/')[2]}", time.monotonic(), 0
            bar = tqdm(desc=label, total=have + left, initial=have, unit="B", unit_scale=True, disable=None)
            with part.open("ab" if resumed else "wb") as out, bar:
                for chunk in answer.iter_content(CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
                    got += len(chunk)
                    seconds = time.monotonic() - start
                    to_go = (left - got) * seconds / got
                    if url in known.urls and speeds[url] == inf and seconds > SLOW_AFTER and to_go > SLOW_LEFT:
                        speeds[url] = got / seconds
                        slow = f"slow, {speeds[url] / 1e3:.3g} kB/s, {to_go / 60:.0f} minutes to go ({ADVICE})"
                        if speeds[url] < max(speeds.values()):
                            raise _Failure(slow, cost=0)
                        tqdm.write(f"{url}: {slow}. No other source is faster, so it goes on", file=sys.stderr)
    except requests.RequestException as error:
        detail = re.search(r"\[(?:Errno|WinError) -?\d+\] ([^'\")]+)", str(error))
        unclear = (f"no connection: {detail[1] if detail else type(error).__name__}", 1)
        raise _Failure(*next((meaning for sign, *meaning in NETWORK if sign in str(error)), unclear)) from None
    return resumed


def members(archive: Path) -> Generator[tuple[str, bool, int, Callable[[Any], Any], Any], None, None]:
    """Of all in a zip or tar archive but folders: name, whether it is a plain file, size, and how to open it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if not info.is_dir():
                    plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                    yield info.filename, plain, info.file_size, bundle.open, info
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isdir():
                    yield member.name, member.isreg(), member.size, tar.extractfile, member
            while tar.fileobj and tar.fileobj.read(CHUNK):
                pass  # to the very end, where gzip compares its checksum
    else:
        raise _Failure("it is no zip or tar archive, or only a part of one")


def extract(archive: Path, into: Path | None) -> None:
    """Unpack into a folder, or only read through. Zip and tar obey the same rules."""
    allowed = left = BOMB_FACTOR * archive.stat().st_size + BOMB_FLOOR
    try:
        with contextlib.closing(members(archive)) as found:
            for count, (name, plain, size, opener, member) in enumerate(found, start=1):
                parts = name.replace("\\", "/").split("/")
                if not plain:
                    raise _Failure(f"it holds {name!r}, a link or a device")
                if parts[0] == "" or ".." in parts or ":" in name or "\0" in name:  # on any system
                    raise _Failure(f"it holds {name!r}, a name that leads out of its folder")
                left -= abs(size)  # no stream gives more than its header says; that of a damaged tar may be negative
                if left < 0 or count > BOMB_MEMBERS:
                    raise _Failure(f"it holds more than {megabytes(allowed)} or {BOMB_MEMBERS} files: an archive bomb?")
                target = into.joinpath(*parts) if into else Path(os.devnull)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opener(member) as stream, target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
    except Exception as error:  # damage comes as errors of a dozen kinds
        if isinstance(error, _Failure) or getattr(error, "errno", None) not in ODD:
            raise
        raise _Failure(f"it is damaged or cannot be read ({error})") from error


@contextlib.contextmanager
def _writing(known: Source, where: Path) -> Generator[Path, None, None]:
    """One process at a time writes into a folder, at first under the name that this yields; errors become advice."""
    try:
        lock = FileLock(where / f".{known.name}.lock")  # makes the folder, too
        try:
            held = lock.acquire(timeout=1)
        except Timeout:
            print(f"Waiting for another process that is fetching {known.name} ...", file=sys.stderr)
            held = lock.acquire()
        with held:
            try:
                yield where / f".{known.name}-{time.time_ns()}.tmp"
            finally:
                for remains in where.glob(f".{known.name}-*.tmp"):  # of this process, or of one that was killed
                    shutil.rmtree(remains, ignore_errors=True)
                    with contextlib.suppress(OSError):
                        remains.unlink()
    except OSError as error:
        message, hint = f"cannot write to {where}: {error.strerror or error}", "make it a folder that you may write to"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            size, hint = megabytes(known.size), "free some space there"
            message = f"no space left in {where}: {known.name} takes about {size}, and as much again unpacked"
        elsewhere = f"or unpack {known.archive} into DIR/{known.name} elsewhere and set COURSE_DATA_DIR=DIR"
        raise DataError(message, f"{hint}, {elsewhere}") from error


def missing(known: Source, message: str, failures: str = "") -> DataError:
    """The error that says where a data set was looked for, why each source failed, and how to place it by hand."""
    places = (*paths.mirror_dirs(), paths.cache_dir())
    looked = (f"\n  {where}: {'no ' + known.archive if where.is_dir() else 'no such folder'}" for where in places)
    hint = f"place the file by hand: download {known.archive} from {known.homepage} and put it into {places[-1]}, "
    hint += "or set COURSE_DATA_DIR to the folder that holds it"
    return DataError(f"{message}:{''.join(looked)}{failures}", known.by_hand or hint)


def _replace(known: Source, file: Path) -> str:
    if file.parent == paths.cache_dir():
        return f"delete it and fetch it again: course data fetch {known.name}"
    return f"replace it in the mirror, or take {file.parent} out of COURSE_DATA_DIR"
