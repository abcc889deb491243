"""Find the archive of a data set, or download it; check it; unpack it.

The order: a mirror named by `COURSE_DATA_DIR`, the cache, the publisher's URLs. Nothing gets its final name before it
is whole and checked. A lock per data set lets several processes ask at once.
"""

import contextlib
import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Generator
from math import inf
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from course_lib import paths
from course_lib.data.sources import Source, source
from course_lib.errors import DataError

TRIES = 3  # per URL
BACKOFF = 1.0  # seconds before the second try; doubled before each further one
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of an answer
SLOW_AFTER, SLOW_LEFT = 5.0, 300.0  # slow is what has, after so many seconds, so many still to go
STOP_WITHIN = 2.0  # seconds between two interrupts that stop a download; a single one changes to another URL
CHUNK = 1 << 14  # at most so much is lost when a connection breaks
BOMB_FACTOR, BOMB_FLOOR, BOMB_MEMBERS = 20, 64 << 20, 500_000  # far above what any set of the course needs
SUMS = "SHA256SUMS"
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
STRANGE = (NotImplementedError, RuntimeError, ValueError)  # unknown compression, a password, impossible offsets
ODD = {None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}
NETWORK = (  # words in an error of requests, whose texts fill a screen; what they mean; the cost
    ("NameResolution", "the host is not known; is this computer online?", inf),
    ("SSL", "its certificate cannot be verified", inf),
    ("connect timeout", "no answer in time", inf),  # a firewall that swallows the first packet will swallow the next
    ("timed out", "no answer in time", 1),
    ("Connection broken", "the connection broke off", 1),
)
ADVICE = "interrupt once (Ctrl-C, or the stop button) for another source, twice to stop; what is here is kept"


class _Failure(Exception):
    """One URL or one archive is no good; for a URL, that counts as `cost` of its `TRIES`."""

    def __init__(self, reason: str, cost: float = inf) -> None:
        super().__init__(reason)
        self.cost = cost


def find(name: str, *places: Path) -> Path | None:
    """The archive of a data set in one of the folders, by default the mirrors, then the cache; DataError if unknown."""
    known = source(name)
    for where in places or (*paths.mirror_dirs(), paths.cache_dir()):
        for file in (where / archive for archive in (known.archive, *known.alternatives)):
            with contextlib.suppress(OSError):
                if file.is_file():
                    return file
    return None


def unpacked(name: str) -> Path | None:
    """A folder to use as it is: `NAME` in a mirror, or one whose archive was deleted since; DataError if unknown."""
    found = find(name)
    for ready in (mirror / name for mirror in paths.mirror_dirs()):
        with contextlib.suppress(OSError):
            if next(ready.iterdir(), None):
                return ready
    kept = [] if found else paths.cache_dir().glob(f"{name}-{'[0-9a-f]' * 8}")
    return max(kept, key=lambda ready: ready.stat().st_mtime, default=None)


def fetch(name: str, to: Path | None = None, offline: bool | None = None) -> Path:
    """The archive of a data set, found or downloaded, and checked.

    By default it stays where it was found, and a download goes to the cache; a folder `to` gets it with a line in its
    `SHA256SUMS`, as a mirror for a class room. `offline`: use no network; by default what `COURSE_OFFLINE` says.

    Raises:
        DataError: unknown name; not here and not to be had; damaged; no room or no right to write.
    """
    known, found = source(name), find(name)
    if found and to is None:
        _checked(known, found)
        return found
    where = Path(to).expanduser() if to else paths.cache_dir()
    found = found or find(name, where)
    if not found and (os.environ.get("COURSE_OFFLINE", "") not in ("", "0") if offline is None else offline):
        raise _missing(known, f"{name} is not here, and downloads are off")
    with _writing(known, where) as fresh:
        if not (have := find(name, where) or found):
            _download(known, have := where / known.archive)
        file, (digest, _) = where / have.name, _checked(known, have)
        if file != have:
            shutil.copyfile(have, fresh)
            fresh.replace(file)
        with FileLock(where / f".{SUMS}.lock"):
            sums = _sums(where) | {file.name: digest}  # the original's, which tells if the copy came out different
            fresh.write_text("".join(f"{sums[key]}  {key}\n" for key in sorted(sums)), encoding="utf-8", newline="\n")
            fresh.replace(where / SUMS)
    return file


def folder(name: str, offline: bool | None = None) -> Path:
    """The unpacked data set, ready to read; unpacked into the cache at the first call.

    Its name holds the start of the archive's SHA-256, so that a mirror's subset and the whole set stay apart.

    Raises:
        DataError: as `fetch`; the archive is damaged, or would write outside its folder, or is a bomb.
    """
    if ready := unpacked(name):
        return ready
    known, archive = source(name), fetch(name, offline=offline)
    target = paths.cache_dir() / f"{name}-{_checked(known, archive)[0][:8]}"
    if not target.is_dir():
        with _writing(known, target.parent) as fresh:
            if target.is_dir():
                return target  # another process was faster
            fresh.mkdir()
            try:
                _extract(archive, fresh)
            except _Failure as failure:
                raise DataError(f"{archive} cannot be unpacked: {failure}", _replace(known, archive)) from None
            fresh.replace(target)
    return target


def verify(name: str) -> str:
    """Hash the archive again, and compare the unpacked folder with it; returns one line that says against what.

    Raises:
        DataError: not here; damaged; files of the unpacked folder are missing or changed.
    """
    known, file = source(name), find(name)
    if not file:
        raise _missing(known, f"the archive of {name} is not here")
    digest, whose = _checked(known, file, afresh=True)
    target = paths.cache_dir() / f"{name}-{digest[:8]}"
    if target.is_dir():
        with contextlib.closing(_members(file)) as members:
            sizes = {target / member: size for member, size, _ in members}
        changed = [copy.name for copy, size in sizes.items() if not copy.is_file() or copy.stat().st_size != size]
        if changed:
            what = f"{target}: {len(changed)} files are missing or changed, such as {changed[0]}"
            raise DataError(what, "delete that folder; the next use unpacks it again")
    return f"{file}: {megabytes(file.stat().st_size)}, sha256 {digest[:16]}..., {whose}"


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


def _checked(known: Source, file: Path, afresh: bool = False) -> tuple[str, str]:
    """SHA-256 of an archive, and who says so: as recorded if it was seen before, else hashed and compared.

    A mirror's keeper may replace an archive, so what was recorded at first use counts only when asked `afresh`.
    """
    book, records = paths.cache_dir() / ".checksums.json", {}  # path -> [bytes, time of change, SHA-256]
    with contextlib.suppress(OSError, ValueError):
        records = dict(json.loads(book.read_text("utf-8")))
    checksum, whose = "", "recorded now, at first use"
    try:
        key, now = str(file.resolve()), [file.stat().st_size, file.stat().st_mtime_ns]
        *before, digest = records.get(key, [""])
        if before == now and not afresh:
            return digest, "as recorded at first use"
        if file == paths.cache_dir() / known.archive and known.checksum:
            checksum, whose = known.checksum, "as published"
        elif listed := _sums(file.parent).get(file.name):
            checksum, whose = f"sha256:{listed}", f"as listed in {SUMS}"
        elif before and afresh:
            checksum, whose = f"sha256:{digest}", "as recorded at first use"
        if reason := _differs(file, checksum):
            raise DataError(f"{file} is damaged or was replaced: {reason} {whose}", _replace(known, file))
        records[key] = [*now, _hash(file)]
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}", _replace(known, file)) from error
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        book.parent.mkdir(parents=True, exist_ok=True)
        fresh = book.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(records, indent=1), encoding="utf-8")
        fresh.replace(book)
    return records[key][2], whose


def _differs(file: Path, checksum: str) -> str:
    algorithm, _, wanted = checksum.partition(":")
    actual = _hash(file, algorithm) if checksum else ""
    return f"its {algorithm} is {actual}, not {wanted}" if actual != wanted else ""


def _download(known: Source, final: Path) -> None:
    """Ask one URL after the other; the pieces gather in `ARCHIVE.part`, which a later call or another URL continues.

    Not with pooch, which begins a broken download anew, knows one URL per file and takes no lock.
    """
    part, failures, interrupted = final.with_name(final.name + ".part"), "", -inf
    speeds = dict.fromkeys(known.urls, inf)  # bytes per second: an untried URL may be as fast as any
    tries = dict.fromkeys(known.urls, 0.0)
    while speeds:
        url = max(speeds, key=speeds.__getitem__)  # the first of equals
        try:
            time.sleep(BACKOFF * 2 ** (tries[url] - 1) if tries[url] else 0)
            return _accept(known, part, final, resumed=_receive(known, url, part, speeds))
        except KeyboardInterrupt:
            if len(speeds) == 1 or time.monotonic() - interrupted < STOP_WITHIN:
                raise
            interrupted, reason = time.monotonic(), "interrupted (once more stops)"
            speeds[url] = -interrupted  # behind all others
        except _Failure as failure:
            tries[url] += failure.cost
            reason = f"{failure} ({TRIES} tries)" if tries[url] == TRIES > failure.cost else f"{failure}"
            if tries[url] >= TRIES:
                failures += f"\n  {url}: {reason}"
                del speeds[url]
        except OSError:  # the disk, not the network: leave it as it was
            _remove(part)
            raise
        if speeds:
            print(f"{url}: {reason}. Now asking {max(speeds, key=speeds.__getitem__)}", file=sys.stderr)
    raise _missing(known, f"{known.name} is not here and could not be downloaded", failures)


def _receive(known: Source, url: str, part: Path, speeds: dict[str, float]) -> bool:
    """Add what a URL sends to `part`, or begin anew; returns which. Fails if it is slow and another may be faster."""
    import requests
    from tqdm.auto import tqdm

    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        # certificates are verified with the certifi bundle, the default of requests
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            code, ranges = answer.status_code, answer.headers.get("Content-Range", "")
            if code == 416 and ranges == f"bytes */{have}":
                return True  # it was whole already
            resumed = code == 206 and ranges.startswith(f"bytes {have}-")
            if code in (206, 416) and not resumed:
                _remove(part)  # it cannot be continued
            if code != 200 and not resumed:
                raise _Failure(f"{code} {answer.reason}", 1 if code in (206, 408, 416, 429) or code >= 500 else inf)
            have = have if resumed else 0
            left = int(answer.headers.get("Content-Length") or known.size - have)
            if shutil.disk_usage(part.parent).free < left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            label, start, got = f"{known.name} from {urlsplit(url).hostname}", time.monotonic(), 0
            bar = tqdm(desc=label, total=have + left, initial=have, unit="B", unit_scale=True, disable=None)
            with part.open("ab" if resumed else "wb") as out, bar:
                for chunk in answer.iter_content(CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
                    got += len(chunk)
                    seconds = time.monotonic() - start
                    to_go = (left - got) * seconds / got
                    if speeds[url] == inf and seconds > SLOW_AFTER and to_go > SLOW_LEFT:
                        speeds[url] = got / seconds
                        slow = f"slow, {speeds[url] / 1e3:.3g} kB/s, {to_go / 60:.0f} minutes to go ({ADVICE})"
                        if speeds[url] < max(speeds.values()):
                            raise _Failure(slow, cost=0)
                        tqdm.write(f"{url}: {slow}. No other source is faster, so it goes on", file=sys.stderr)
            if got < left and "Content-Length" in answer.headers:
                raise _Failure("the connection broke off", cost=1)  # some versions of urllib3 do not tell
    except requests.RequestException as error:
        detail = re.search(r"\[(?:Errno|WinError) -?\d+\] ([^'\")]+)", str(error))
        unclear = (f"no connection: {detail[1] if detail else type(error).__name__}", 1)
        raise _Failure(*next((meaning for sign, *meaning in NETWORK if sign in str(error)), unclear)) from None
    return resumed


def _accept(known: Source, part: Path, final: Path, resumed: bool) -> None:
    """Give a finished download its name if it is what it should be; delete it otherwise."""
    listed = _sums(final.parent).get(final.name)
    checksum = known.checksum or (f"sha256:{listed}" if listed else "")
    try:
        if reason := _differs(part, checksum):
            whose = "as published" if known.checksum else f"as recorded in {final.parent / SUMS}"
            raise _Failure(f"sent a wrong file: {reason} {whose}")
        if not checksum:
            _extract(part, None)
    except _Failure as failure:
        _remove(part)
        raise _Failure(f"{failure}", cost=1 if resumed else inf) from None  # two versions joined? once more, whole
    part.replace(final)


def _members(archive: Path) -> Generator[tuple[str, int, IO[bytes]], None, None]:
    """Relative path, size and stream of every file of a zip or tar archive, by the same rules for both."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                name = _inside(info.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not info.is_dir():
                    with bundle.open(info) as stream:
                        yield name, info.file_size, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                name = _inside(member.name, plain=member.isreg() or member.isdir())
                if file := tar.extractfile(member):
                    yield name, member.size, file
            while tar.fileobj and tar.fileobj.read(CHUNK):
                pass  # to the very end, where gzip compares its checksum
    else:
        raise _Failure("it is no zip or tar archive, or only a part of one")


def _inside(name: str, plain: bool) -> str:
    """The name of a member as a relative path; refuses one that leads out of the folder on any system."""
    parts = name.replace("\\", "/").split("/")
    if not plain:
        raise _Failure(f"it holds {name!r}, a link or a device")
    if parts[0] == "" or ".." in parts or ":" in name or "\0" in name:
        raise _Failure(f"it holds {name!r}, a name that leads out of its folder")
    return "/".join(part for part in parts if part not in ("", "."))


def _extract(archive: Path, into: Path | None) -> None:
    """Unpack into a folder, or only read through. Sizes can be trusted: no stream gives more than its header says."""
    allowed = left = BOMB_FACTOR * archive.stat().st_size + BOMB_FLOOR
    try:
        with contextlib.closing(_members(archive)) as members:
            for count, (name, size, stream) in enumerate(members, start=1):
                left -= abs(size)  # a damaged tar may say less than nothing
                if left < 0:
                    raise _Failure(f"it unpacks to more than {megabytes(allowed)}: an archive bomb?")
                if count > BOMB_MEMBERS:
                    raise _Failure(f"it holds more than {BOMB_MEMBERS} files: an archive bomb?")
                target = into / name if into else Path(os.devnull)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(stream, out)
    except (*BROKEN, *STRANGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in ODD:
            raise  # the disk's fault, not the archive's
        raise _Failure(f"it is damaged or cannot be read ({error})") from None


@contextlib.contextmanager
def _writing(known: Source, where: Path) -> Generator[Path, None, None]:
    """One process at a time writes into a folder, at first under the name that this yields; errors become advice."""
    try:
        where.mkdir(parents=True, exist_ok=True)
        lock = FileLock(where / f".{known.name}.lock")
        try:
            held = lock.acquire(timeout=1)
        except Timeout:
            print(f"Waiting for another process that is fetching {known.name} ...", file=sys.stderr)
            held = lock.acquire()
        fresh = where / f".{known.name}-{os.getpid()}.tmp"
        with held:
            for remains in where.glob(f".{known.name}-*.tmp"):  # of a process that was killed
                _remove(remains)
            try:
                yield fresh
            finally:
                _remove(fresh)
    except OSError as error:
        message, hint = f"cannot write to {where}: {error.strerror or error}", "make it a folder that you may write to"
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            size, hint = megabytes(known.size), "free some space there"
            message = f"no space left in {where}: {known.name} takes about {size}, and as much again unpacked"
        elsewhere = f"or unpack {known.archive} into DIR/{known.name} elsewhere and set COURSE_DATA_DIR=DIR"
        raise DataError(message, f"{hint}, {elsewhere}") from error


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


def _missing(known: Source, message: str, failures: str = "") -> DataError:
    places, cache = (*paths.mirror_dirs(), paths.cache_dir()), paths.cache_dir()
    looked = (f"\n  {where}: {'no ' + known.archive if where.is_dir() else 'no such folder'}" for where in places)
    hint = f"place the file by hand: download {known.archive} from {known.homepage} and put it into {cache}, "
    hint += "or set COURSE_DATA_DIR to the folder that holds it"
    return DataError(f"{message}:{''.join(looked)}{failures}", hint)


def _replace(known: Source, file: Path) -> str:
    if file.parent == paths.cache_dir():
        return f"delete it and fetch it again: course data fetch {known.name}"
    return f"replace it in the mirror, or take {file.parent} out of COURSE_DATA_DIR"
