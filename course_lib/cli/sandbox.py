"""A submission in a sandbox: what it may see, write and use, and who ends it.

On Linux with bubblewrap it has no network, sees Python and the course but no home folder, no other submission and no
solution, and writes only into a scratch folder in memory; no rights of an administrator are needed. Elsewhere only the
limits below hold. A watcher ends it with all its processes when it takes too long, holds too much, or forks too much.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from course_lib import paths

if TYPE_CHECKING:
    import psutil

PROCESSES = 32  # of one submission, at the same time
TASKS = 256  # processes and threads of one submission, enforced by the system where it can: against a fork bomb
SCRATCH = 256 << 20  # bytes that a submission may write
TALK = 8 << 20  # bytes that it may send
DEEPEST = 12  # lists in lists that an answer may be
PATIENCE = 4  # times the seconds of computing may pass on the clock: on a busy machine, or asleep
FREE = 0.03  # of the machine's memory: with less, all that run are ended, so that it stays usable
GLANCE = 0.1  # seconds between two looks at it
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
MARK = "SUBMISSION_ID"  # in the environment of all processes of a submission
STOP = threading.Event()  # ends all that run


class Ended(NamedTuple):
    """How a run of a submission went."""

    happened: list[dict[str, Any]]  # what it sent, in order
    limit: str = ""  # why it was ended: a key of `grade.ENDED`
    seconds: float = 0.0


def lacking() -> list[str]:
    """What this platform does not offer to keep a submission in its place, a sentence each."""
    found = []
    if not bubblewrap():
        why = "bubblewrap (`bwrap`) is not installed, or may not run here" if sys.platform == "linux" else sys.platform
        found.append(
            f"No isolation of files and network ({why}): a submission runs with your rights. It can read and change "
            "your files: solutions, other submissions, and what keeps the marks. It can use the network, and leave "
            "processes behind."
        )
    if sys.platform == "win32":
        found.append("No limits enforced by the system: memory and processes are only looked at, ten times a second.")
    elif sys.platform == "darwin":
        found.append("macOS enforces no limit of memory: it is only looked at, ten times a second.")
    return found


@functools.cache
def bubblewrap() -> tuple[str, ...]:
    """The program and what only newer versions know; nothing if it is not here or cannot do what is asked of it."""
    program = shutil.which("bwrap") if sys.platform == "linux" else None
    for newer in (("--disable-userns",), ()) if program else ():
        head = (str(program), *newer)
        with suppress(subprocess.SubprocessError):
            command = [*head, *_walls(), "--", sys.executable, "-I", "-c", "import course_lib"]
            subprocess.run(command, capture_output=True, check=True, timeout=60)
            return head
    return ()


def _walls() -> list[str]:
    """Arguments of bubblewrap: Python, the package and its weights to read, a bounded scratch folder to write."""
    package = Path(__file__).parent.parent
    readable: Iterable[str | Path] = (*SYSTEM, sys.base_prefix, sys.prefix, package)
    walls = ["--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--die-with-parent", "--new-session"]
    walls += ["--hostname", "course", "--clearenv"]
    walls += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/scratch"):  # before what is to be read, which may lie in /tmp
        walls += ["--size", str(SCRATCH), "--tmpfs", folder]
    if root := paths.checkout():  # the package looks for it; its solutions stay outside
        readable = (*readable, root / "pyproject.toml", root / "data" / "weights")
        walls += ["--dir", str(root / "notebooks")]
    for place in readable:
        if Path(place).is_symlink():
            walls += ["--symlink", str(Path(place).readlink()), str(place)]
        elif Path(place).exists():
            walls += ["--ro-bind", str(place), str(place)]
    for name, value in _environment(Path("/scratch")).items():
        walls += ["--setenv", name, value]
    sealed = [word for place in ("/proc", "/dev", "/") for word in ("--remount-ro", place)]
    return [*walls, "--chdir", "/scratch", *sealed]


def _environment(scratch: Path) -> dict[str, str]:
    """The variables of a submission, besides those that its system needs."""
    here = str(scratch)
    return {
        "HOME": here,
        "TMPDIR": here,
        "PATH": os.environ["PATH"] if os.name == "nt" else "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "JOBLIB_MULTIPROCESSING": "0",
        "COURSE_BUILD_DIR": str(scratch / "build"),
        "COURSE_OFFLINE": "1",
    }


def run(task: dict[str, Any], seconds: int, memory: int) -> Ended:
    """Run the cells of a task in a sandbox.

    Args:
        task: `cells`, each with `source` and `id`; `exercises`, each with `name`, `answer` and `cases`; `settings`,
            such as the profile, and after which cell they hold, `parameters`.
        seconds: of computing until it is ended, or `PATIENCE` times as many on the clock.
        memory: bytes that it may hold.
    """
    task = task | {"limits": {"seconds": seconds, "memory": memory, "tasks": TASKS, "disk": SCRATCH}}
    script = [sys.executable, "-I", str(Path(__file__).with_name("sandboxed.py"))]
    mark, program = uuid.uuid4().hex, bubblewrap()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        (given := Path(scratch) / "task.json").write_text(json.dumps(task), encoding="utf-8")
        # Windows needs its own to start anything; elsewhere a submission learns none of the grader's
        environment = (dict(os.environ) if os.name == "nt" else {}) | _environment(Path(scratch))
        with given.open("rb") as stdin:
            process = subprocess.Popen(
                [*program, *_walls(), "--setenv", MARK, mark, "--", *script] if program else script,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=scratch,
                env=environment | {MARK: mark},
                start_new_session=True,
            )
        try:
            return _watch(process, seconds, memory)
        finally:
            _end(process, mark)


def _watch(process: "subprocess.Popen[bytes]", seconds: int, memory: int) -> Ended:
    assert process.stdout
    talk, limit, started = _Talk(process.stdout), "", time.monotonic()
    while process.poll() is None and not limit:
        talk.thread.join(GLANCE)  # it ends with the process, or before
        use = _use(process.pid, memory)
        over = {
            "seconds": use.seconds > seconds or time.monotonic() - started > PATIENCE * seconds,
            "processes": use.processes > PROCESSES,
            "memory": use.memory > memory,
            "talk": talk.too_much,
            "machine": use.free < FREE,
            "stopped": STOP.is_set(),
        }
        limit = next((name for name, reached in over.items() if reached), "")
        if not talk.thread.is_alive() and not limit:
            with suppress(subprocess.TimeoutExpired):
                process.wait(GLANCE)
    if limit:
        process.kill()
    else:
        talk.thread.join(10)  # the rest of what was sent; a process left behind may hold the other end open
    return Ended(talk.lines(), limit, round(time.monotonic() - started, 1))


class _Talk:
    """What a submission sends, read as it comes, up to a limit."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._pieces, self._size = stream, list[bytes](), 0
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    @property
    def too_much(self) -> bool:
        return self._size > TALK

    def _read(self) -> None:
        while not self.too_much and (piece := os.read(self._stream.fileno(), 1 << 16)):
            self._pieces.append(piece)
            self._size += len(piece)

    def lines(self) -> list[dict[str, Any]]:
        """The lines that are whole and of the form that `sandboxed` sends; others are passed over."""
        found = []
        for line in b"".join(self._pieces[:]).split(b"\n")[:-1]:
            with suppress(ValueError, RecursionError):
                happened = json.loads(line)
                if isinstance(happened, dict) and _well_formed(happened):
                    found.append(happened)
        return found


def _well_formed(happened: dict[str, Any]) -> bool:
    match happened:
        case {"cell": int(cell)} if len(happened) == 1:
            return 0 <= cell < 1 << 20
        case {"error": int(cell), "text": str()} if len(happened) == 2:
            return 0 <= cell < 1 << 20
        case {"exercise": str(), "answer": answer} if len(happened) == 2:
            return _depth(answer) <= DEEPEST
    return happened == {"end": True}


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(part) for part in inside if isinstance(part, dict | list)), default=0)


class _Use(NamedTuple):
    """What a submission uses: bytes, seconds of computing, and processes at this moment; what the machine has left."""

    memory: int = 0
    seconds: float = 0.0
    processes: int = 0
    free: float = 1.0


def _use(pid: int, enough: int) -> _Use:
    """What a process and its descendants use; of memory beyond `enough`, what they share counts once."""
    import psutil

    try:
        me = psutil.Process(pid)
        family = [me, *me.children(recursive=True)]
    except psutil.Error:  # it has ended
        return _Use()
    held = _sum(family, lambda member: member.memory_info().rss)
    if held > enough and sys.platform == "linux":
        held = _sum(family, lambda member: member.memory_full_info().pss)
    held += _sum(family, _unnamed) if sys.platform == "linux" else 0
    machine = psutil.virtual_memory()
    computed = _sum(family, lambda member: sum(member.cpu_times()[:4]))  # also of children that have ended
    return _Use(int(held), computed, len(family), machine.available / machine.total)


def _unnamed(member: "psutil.Process") -> int:
    """Bytes of a process's open files that have no name: they lie in memory, and are no part of what it holds."""
    size = 0
    for file in Path(f"/proc/{member.pid}/fd").iterdir():
        with suppress(OSError):
            if str(file.readlink()).startswith("/memfd:"):
                size += file.stat().st_blocks * 512
    return size


def _sum(family: "list[psutil.Process]", measure: "Callable[[psutil.Process], float]") -> float:
    import psutil

    total = 0.0
    for member in family:
        with suppress(psutil.Error, OSError):
            total += measure(member)
    return total


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """End all that belongs to a submission, also what has left its family."""
    import psutil

    with suppress(psutil.Error):
        for member in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.Error):
                member.kill()
    process.kill()
    for other in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if other.environ().get(MARK) == mark:
                other.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
