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
CHUNK = 1 << 16  # at most so much is lost when a connection breaks
BOMB_FACTOR, BOMB_FLOOR, BOMB_MEMBERS = 20, 64 << 20, 500_000  # far above what any set of the course needs
SUMS = "SHA256SUMS"
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
STRANGE = (NotImplementedError, RuntimeError, ValueError)  # unknown compression, a password, impossible offsets
ODD = {None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}


class _Failure(Exception):
    """One URL or one archive is no good."""


class _Retry(_Failure):
    """No good this time; another try may help."""


def find(name: str) -> Path | None:
    """The archive of a data set in a mirror, else in the cache, else None. Never downloads.

    Raises:
        DataError: unknown name.
    """
    known = source(name)
    places = (_archive_in(where, known) for where in [*paths.mirror_dirs(), paths.cache_dir()])
    return next((file for file in places if file), None)


def unpacked(name: str) -> Path | None:
    """A folder that is used as it is: `NAME` in a mirror, or one in the cache whose archive was deleted since.

    Raises:
        DataError: unknown name.
    """
    found = find(name)
    for ready in (mirror / name for mirror in paths.mirror_dirs()):
        with contextlib.suppress(OSError):
            if next(ready.iterdir(), None):
                return ready
    kept = [] if found else paths.cache_dir().glob(f"{name}-{'[0-9a-f]' * 8}")
    return max(kept, key=lambda ready: ready.stat().st_mtime, default=None)


def fetch(name: str, to: Path | None = None, offline: bool | None = None) -> Path:
    """The archive of a data set, found or downloaded, and checked.

    Args:
        name: one of `sources.SOURCES`.
        to: a folder that shall hold it, with a line in its `SHA256SUMS`: a mirror for a class room. By default the
            archive stays where it was found, and a download goes to the cache.
        offline: no network; by default what `COURSE_OFFLINE` says.

    Raises:
        DataError: unknown name; not here and not to be had; damaged; no room or no right to write.
    """
    known, found = source(name), find(name)
    if found and to is None:
        with _advice(known, paths.cache_dir()):
            _digest(known, found)
        return found
    where = Path(to).expanduser() if to else paths.cache_dir()
    found = found or _archive_in(where, known)
    if not found and (os.environ.get("COURSE_OFFLINE", "") not in ("", "0") if offline is None else offline):
        raise DataError(f"{name} is not here, and downloads are off:{_looked(known)}", _by_hand(known))
    with _writing(known, where):
        if not (file := _archive_in(where, known)):
            file = where / (found.name if found else known.archive)
            if found:
                _make_room(where, found.stat().st_size)
                fresh = where / f".{name}-{os.getpid()}.tmp"
                shutil.copyfile(found, fresh)
                if _hash(fresh) != _digest(known, found):
                    raise DataError(f"the copy of {found} in {where} came out different", "check that disk")
                fresh.replace(file)
            else:
                _download(known, file)
        digest = _digest(known, file)
        with FileLock(where / f".{SUMS}.lock"):
            sums = _sums(where) | {file.name: digest}
            _write(where / SUMS, "".join(f"{sums[key]}  {key}\n" for key in sorted(sums)))
    return file


def folder(name: str, offline: bool | None = None) -> Path:
    """The unpacked data set, ready to read; unpacked into the cache at the first call.

    Its name holds the start of the archive's SHA-256, so that a mirror's subset and the whole set stay apart.

    Raises:
        DataError: as `fetch`; the archive is damaged, or would write outside its folder, or is a bomb.
    """
    if ready := unpacked(name):
        return ready
    known, archive, cache = source(name), fetch(name, offline=offline), paths.cache_dir()
    with _advice(known, cache):
        target = cache / f"{name}-{_digest(known, archive)[:8]}"
    if not target.is_dir():
        with _writing(known, cache):
            fresh = cache / f".{name}-{os.getpid()}.tmp"
            try:
                if not target.is_dir():  # another process was not faster
                    _make_room(cache, archive.stat().st_size)
                    fresh.mkdir()
                    _extract(archive, fresh)
                    fresh.replace(target)
            except _Failure as failure:
                raise DataError(f"{archive} cannot be unpacked: {failure}", _replace(known, archive)) from None
            finally:
                _remove(fresh)
    return target


def verify(name: str) -> str:
    """Hash the archive again, and compare the unpacked folder with it; returns one line that says against what.

    Raises:
        DataError: not here; damaged; files of the unpacked folder are missing or changed.
    """
    known, file = source(name), find(name)
    if not file:
        raise DataError(f"the archive of {name} is not here:{_looked(known)}", f"course data fetch {name}")
    with _advice(known, paths.cache_dir()):
        whose = _expected(known, file)[1] or "recorded now, at first use"
        digest = _digest(known, file, afresh=True)
        target = paths.cache_dir() / f"{name}-{digest[:8]}"
        if target.is_dir():
            with contextlib.closing(_members(file)) as members:
                sizes = {target / _inside(member): size for member, size, stream in members if stream}
            changed = [copy for copy, size in sizes.items() if not copy.is_file() or copy.stat().st_size != size]
            if changed:
                message = f"{target}: {len(changed)} files are missing or changed, such as {changed[0].name}"
                raise DataError(message, "delete that folder; the next use unpacks it again")
    return f"{file}: {megabytes(file.stat().st_size)}, sha256 {digest[:16]}..., {whose}"


def megabytes(size: float) -> str:
    """A number of bytes for people, such as `"83 MB"`."""
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.2g} MB"


# --- checksums


def _hash(file: Path, algorithm: str = "sha256") -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _sums(where: Path) -> dict[str, str]:
    """What `SHA256SUMS` in a folder says: file name -> digest."""
    text = (where / SUMS).read_text("utf-8") if (where / SUMS).is_file() else ""
    return {name: digest.lower() for digest, name in re.findall(r"(?m)^([0-9a-fA-F]{64}) [ *](.+?)\s*$", text)}


def _records() -> dict[str, list]:
    """Archives seen before: path -> [bytes, time of change, SHA-256]."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((paths.cache_dir() / ".checksums.json").read_text("utf-8")))
    return {}


def _expected(known: Source, file: Path, recorded: bool = True) -> tuple[str, str]:
    """The checksum that an archive must have, and who says so; empty if nobody has said yet."""
    if file.parent == paths.cache_dir() and file.name == known.archive and known.checksum:
        return known.checksum, "as published"
    if digest := _sums(file.parent).get(file.name):
        return f"sha256:{digest}", f"as listed in {SUMS}"
    if recorded and (record := _records().get(str(file.resolve()))):
        return f"sha256:{record[2]}", "as recorded at first use"
    return "", ""


def _digest(known: Source, file: Path, afresh: bool = False) -> str:
    """SHA-256 of an archive: from the record, unless it is new or has changed; then it is hashed and compared.

    A mirror's keeper may replace an archive, so what was recorded at first use counts only when asked `afresh`.
    """
    key, now = str(file.resolve()), [file.stat().st_size, file.stat().st_mtime_ns]
    record = _records().get(key)
    if record and record[:2] == now and not afresh:
        return str(record[2])
    digest, (checksum, whose) = _hash(file), _expected(known, file, recorded=afresh)
    if reason := _differs(file, checksum):
        raise DataError(f"{file} is damaged or was replaced: {reason} {whose}", _replace(known, file))
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
        _write(paths.cache_dir() / ".checksums.json", json.dumps(_records() | {key: [*now, digest]}, indent=1))
    return digest


def _differs(file: Path, checksum: str) -> str:
    algorithm, _, wanted = checksum.partition(":")
    actual = _hash(file, algorithm) if checksum else ""
    return f"its {algorithm} is {actual}, not {wanted}" if actual != wanted else ""


# --- download


def _download(known: Source, final: Path) -> None:
    """Try every URL in turn; the pieces gather in `ARCHIVE.part`, which a later call continues.

    With `requests`, on which pooch is built: pooch itself begins a broken download anew, knows one URL per file and
    takes no lock. A part may be continued from another URL: the checksum, or reading the archive through, tells
    whether the two fit, and if not, it is fetched once more from the start.
    """
    part, failures = final.with_name(final.name + ".part"), ""
    for url in known.urls:
        for attempt in range(TRIES):
            time.sleep(BACKOFF * 2 ** (attempt - 1) if attempt else 0)
            try:
                return _accept(known, part, final, resumed=_receive(known, url, part))
            except _Failure as failure:
                reason = f"{failure} ({attempt + 1} tries)" if attempt else f"{failure}"
                if not isinstance(failure, _Retry):
                    break
            except OSError:  # the disk, not the network: leave it as it was
                _remove(part)
                raise
        failures += f"\n  {url}: {reason}"
    message = f"{known.name} is not here and could not be downloaded:{_looked(known)}{failures}"
    raise DataError(message, _by_hand(known))


def _receive(known: Source, url: str, part: Path) -> bool:
    """Write what a URL sends to `part`, after what is there already if the server can; returns whether it could."""
    import requests
    from tqdm.auto import tqdm

    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        # certificates are verified with the certifi bundle, the default of requests
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            code, ranges = answer.status_code, answer.headers.get("Content-Range", "")
            resumed = code == 206 and ranges.startswith(f"bytes {have}-")
            if code == 416 and ranges == f"bytes */{have}":
                return True  # it was whole already
            if code == 416 or (code == 206 and not resumed):
                _remove(part)
                raise _Retry("cannot continue the part that is here")
            if code not in (200, 206):
                raise (_Retry if code in (408, 429) or code >= 500 else _Failure)(f"{code} {answer.reason}")
            have = have if resumed else 0
            length = int(answer.headers.get("Content-Length") or 0)
            _make_room(part.parent, length or known.size - have)
            label, total = f"{known.name} from {urlsplit(url).hostname}", have + length if length else None
            bar = tqdm(desc=label, total=total, initial=have, unit="B", unit_scale=True, disable=None)
            with part.open("ab" if resumed else "wb") as out, bar:
                for chunk in answer.iter_content(CHUNK):
                    out.write(chunk)
                    bar.update(len(chunk))
    except requests.RequestException as error:
        raise _network(str(error), type(error).__name__) from None
    if total and part.stat().st_size != total:
        raise _Retry("the connection broke off")
    return resumed


def _network(text: str, kind: str) -> _Failure:
    """A short reason for an exception of requests, whose own texts fill a screen."""
    if "NameResolution" in text:
        return _Failure("the host is not known; is this computer online?")
    if "SSL" in text:
        return _Failure("its certificate cannot be verified")
    if "timed out" in text:
        # a firewall that swallows the first packet will swallow the next one
        return (_Failure if kind == "ConnectTimeout" else _Retry)("no answer in time")
    if "Connection broken" in text:
        return _Retry("the connection broke off")
    detail = re.search(r"\[(?:Errno|WinError) -?\d+\] ([^'\")]+)", text)
    return _Retry(f"no connection: {detail[1] if detail else kind}")


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
        _remove(part)  # if two versions were joined: once more, whole
        raise (_Retry if resumed else _Failure)(f"{failure}") from None
    part.replace(final)


# --- unpack


def _members(archive: Path) -> Generator[tuple[str, int, IO[bytes] | None], None, None]:
    """Name, size and stream of every file of a zip or tar archive; the stream is None for a folder.

    Files are written by `_extract` from their streams, never by `extractall`: no links, no owners, no modes, no
    devices, and the same rules for both kinds of archive.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _Failure(f"it holds {info.filename!r}, a link or a device")
                with contextlib.nullcontext() if info.is_dir() else bundle.open(info) as stream:
                    yield info.filename, info.file_size, stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise _Failure(f"it holds {member.name!r}, a link or a device")
                yield member.name, member.size, tar.extractfile(member)
            while tar.fileobj and tar.fileobj.read(CHUNK):
                pass  # to the very end, where gzip compares its checksum
    else:
        raise _Failure("it is no zip or tar archive, or only a part of one")


def _inside(name: str) -> str:
    """The name of a member as a relative path; refuses one that leads out of the folder on any system."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or ":" in name or "\0" in name:
        raise _Failure(f"it holds {name!r}, a name that leads out of its folder")
    return "/".join(part for part in parts if part not in ("", "."))


def _extract(archive: Path, into: Path | None) -> None:
    """Unpack into a folder, or only read through; counts the bytes that really come out, whatever headers say."""
    allowed = left = BOMB_FACTOR * archive.stat().st_size + BOMB_FLOOR
    made: set[Path] = set()
    try:
        with contextlib.closing(_members(archive)) as members:
            for count, (name, _, stream) in enumerate(members, start=1):
                if count > BOMB_MEMBERS:
                    raise _Failure(f"it holds more than {BOMB_MEMBERS} files: an archive bomb?")
                target = (into or Path()) / _inside(name)
                parent = target.parent if stream else target
                if into and parent not in made:
                    parent.mkdir(parents=True, exist_ok=True)
                    made.add(parent)
                with target.open("wb") if into and stream else contextlib.nullcontext() as out:
                    while stream and (chunk := stream.read(CHUNK)):
                        left -= len(chunk)
                        if left < 0:
                            raise _Failure(f"it unpacks to more than {megabytes(allowed)}: an archive bomb?")
                        if out:
                            out.write(chunk)
    except (*BROKEN, *STRANGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in ODD:
            raise  # the disk's fault, not the archive's
        raise _Failure(f"it is damaged or cannot be read ({error})") from None


# --- disk


@contextlib.contextmanager
def _writing(known: Source, where: Path) -> Generator[None, None, None]:
    """One process at a time writes a data set into a folder; what a killed one has left is swept away."""
    with _advice(known, where):
        where.mkdir(parents=True, exist_ok=True)
        lock = FileLock(where / f".{known.name}.lock")
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"Waiting for another process that is fetching {known.name} ...", file=sys.stderr)
            lock.acquire()
        try:
            for remains in where.glob(f".{known.name}-*.tmp"):
                _remove(remains)
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def _advice(known: Source, where: Path) -> Generator[None, None, None]:
    """Turn an error of the operating system into one that says which folder, and what else could be done."""
    try:
        yield
    except OSError as error:
        elsewhere = f"or unpack {known.archive} into DIR/{known.name} elsewhere and set COURSE_DATA_DIR=DIR"
        parents = Path(error.filename or where).parents
        if error.errno in DISK_FULL:
            size = megabytes(known.size)
            message = f"no space left in {where}: {known.name} takes about {size}, and as much again unpacked"
            raise DataError(message, f"free some space there, {elsewhere}") from error
        if where not in parents and any(mirror in parents for mirror in paths.mirror_dirs()):
            raise DataError(f"cannot read {error.filename}: {error.strerror}", _by_hand(known)) from error
        message = f"cannot write to {where}: {error.strerror or error}"
        raise DataError(message, f"make it a folder that you may write to, {elsewhere}") from error


def _make_room(where: Path, size: int) -> None:
    if shutil.disk_usage(where).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write(file: Path, text: str) -> None:
    """Write a small file in one step, so that no reader sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}-{os.getpid()}.tmp")
    fresh.write_text(text, encoding="utf-8", newline="\n")
    fresh.replace(file)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


def _archive_in(where: Path, known: Source) -> Path | None:
    with contextlib.suppress(OSError):
        return next((where / name for name in (known.archive, *known.alternatives) if (where / name).is_file()), None)
    return None


# --- what an error tells


def _looked(known: Source) -> str:
    places = [*paths.mirror_dirs(), paths.cache_dir()]
    return "".join(f"\n  {where}: {'no ' + known.archive if where.is_dir() else 'no such folder'}" for where in places)


def _by_hand(known: Source) -> str:
    return (
        f"place the file by hand: download {known.archive} from {known.homepage} and put it into "
        f"{paths.cache_dir()}, or set COURSE_DATA_DIR to the folder that holds it"
    )


def _replace(known: Source, file: Path) -> str:
    if file.parent == paths.cache_dir():
        return f"delete it and fetch it again: course data fetch {known.name}"
    return f"replace it in the mirror, or take {file.parent} out of COURSE_DATA_DIR"
