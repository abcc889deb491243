"""`course run`: every lesson, in order, headless; what `make run` calls."""

import datetime
import hashlib
import json
import os
import platform
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from course_lib import paths
from course_lib.cli import doctor, notebooks
from course_lib.cli.errors import NotebookError
from course_lib.settings import setting

if TYPE_CHECKING:
    from nbformat import NotebookNode

SECONDS_PER_CELL = {"smoke": 300, "lesson": 3600, "full": None}
STAMP = "course_run"  # where a finished notebook's metadata say how it went
STAMPED = ("torch", "torchvision", "numpy", "scikit-image", "ipywidgets", "jupyterlab")  # worth knowing which


@dataclass
class Run:
    """How one lesson went."""

    name: str
    seconds: float
    peak_mb: int
    failure: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)

    def headline(self) -> str:
        """The first metric of the lesson's last record: by convention its main result."""
        if self.failure:
            return "FAILED"
        if not self.records:
            return "-"
        last = self.records[-1]
        metric, value = next(iter(last["metrics"].items()))
        return f"{last['method']}: {metric} {value:.2f}"


def run(
    lesson: Annotated[list[str] | None, typer.Argument(help="Numbers of lessons, such as 01; all by default.")] = None,
    profile: Annotated[str, typer.Option(help="lesson (a class hour), smoke (seconds) or full (a GPU).")] = "smoke",
    data: Annotated[str, typer.Option(help="auto, real or synthetic.")] = "synthetic",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Run lessons from top to bottom and leave the finished notebooks and the scoreboard in build/run."""
    from rich.console import Console
    from rich.table import Table
    from tqdm import tqdm

    from course_lib.lesson import scoreboard, update_scoreboard

    parameters = settings(profile, data, device)
    os.environ["COURSE_BUILD_DIR"] = str(paths.build_dir().absolute())  # kernels work in another folder
    sources = choose(notebooks.sources(notebooks.checkout()), lesson or [])
    numbers = {path.name[:2] for path in sources}
    update_scoreboard(lambda record: record["lesson"] not in numbers)
    runs = []
    with tqdm(sources, desc="lessons", unit="lesson", disable=None, leave=False) as bar:
        for source in bar:
            bar.set_postfix_str(source.stem)
            result = _run_one(source, parameters)
            result.records = [record for record in scoreboard() if record["lesson"] == source.name[:2]]
            runs.append(result)
            tqdm.write(f"{source.stem}: {'FAILED' if result.failure else 'done'} in {result.seconds:.0f} s")
    table = Table("lesson", "data", "seconds", "peak memory", "main metric", title=f"profile {profile}, data {data}")
    for result in runs:
        used = "/".join(sorted({record["data"] for record in result.records})) or "-"
        table.add_row(result.name, used, f"{result.seconds:.1f}", f"{result.peak_mb:,} MiB", result.headline())
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    if failed := [result for result in runs if result.failure]:
        for result in failed:
            console.print(f"\n{result.name} failed:\n{result.failure}", markup=False, highlight=False)
        raise NotebookError(
            f"{len(failed)} of {len(runs)} lessons failed: {', '.join(result.name for result in failed)}",
            f"the failing cell is shown above; the notebook so far lies in {paths.build_dir() / 'run'}",
        )
    console.print(f"Finished notebooks and scoreboard.json: {paths.build_dir() / 'run'}", highlight=False)
    if profile == "smoke" or data == "synthetic":
        console.print("The real thing: course data fetch nuclei, then --profile lesson --data real", highlight=False)


def settings(profile: str, data: str, device: str) -> dict[str, str]:
    """What a lesson's parameter cell gets. Raises SettingsError for a value that is not known."""
    return {"PROFILE": setting("profile", profile), "DATA": setting("data", data), "DEVICE": setting("device", device)}


def finish(sources: list[Path], profile: str, data: str, device: str) -> None:
    """Run those of these lessons that did not run with these settings since they changed. Errors: as `run`."""
    asked = settings(profile, data, device)
    if stale := [source.stem for source in sources if not fresh(source, asked)]:
        run(stale, profile=profile, data=data, device=device)


def fresh(source: Path, asked: dict[str, str]) -> bool:
    """Whether build/run holds this lesson, finished with these settings, and nothing that it depends on has changed.

    With data `auto` it never is: what can be had may have changed.
    """
    target = paths.build_dir() / "run" / source.name
    try:
        stamp = notebooks.read(target).metadata.get(STAMP, {}) if target.is_file() else {}
    except NotebookError:  # a run was killed while it wrote
        return False
    return asked["DATA"] != "auto" and stamp.get("asked") == asked and stamp.get("inputs") == fingerprint(source)


def fingerprint(source: Path) -> str:
    """A checksum of the lesson, the package without its command line, the cards of the weights, and versions."""
    root = notebooks.checkout()
    parts = [file for file in (root / "course_lib").rglob("*") if file.suffix in (".py", ".toml", ".json")]
    parts = [file for file in parts if "cli" not in file.relative_to(root).parts]
    files = [source, *sorted(parts), *sorted((root / "data" / "weights").glob("*.json"))]
    digests = {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return hashlib.sha256(json.dumps([digests, _versions()]).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in STAMPED}


def choose(sources: list[Path], wanted: list[str]) -> list[Path]:
    """The lessons with the `wanted` numbers or names; all when none is named.

    Raises:
        NotebookError: no lesson fits.
    """
    for word in wanted:
        if not any(word.zfill(2) in (source.stem, source.stem[:2]) for source in sources):
            known = ", ".join(source.stem for source in sources)
            raise NotebookError(f"there is no lesson {word!r}", f"known: {known}; the number is enough, such as 01")
    names = {word.zfill(2) for word in wanted}
    return [source for source in sources if not wanted or {source.stem, source.stem[:2]} & names]


def widgets(notebook: "NotebookNode") -> dict[str, Any]:
    """The stored state of a finished notebook's widgets, by the ids of their models."""
    state = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    return dict(state.get("state", {}))


def widget_errors(notebook: "NotebookNode") -> list[str]:
    """Errors raised in widget callbacks: papermill passes over them, only the widgets' stored state holds them."""
    return [
        f"widget callback: {output['ename']}: {output['evalue']}"
        for model in widgets(notebook).values()
        if model["model_name"] == "OutputModel"
        for output in model["state"].get("outputs", [])
        if output.get("output_type") == "error"
    ]


def _run_one(source: Path, parameters: dict[str, str]) -> Run:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    from course_lib.cli import kernel  # imports papermill

    target = paths.build_dir() / "run" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    failure, inputs = "", fingerprint(source)
    started = time.perf_counter()
    with _PeakMemory() as memory:
        try:
            bar = {"desc": source.stem, "unit": "cell", "disable": None, "leave": False, "position": 1}
            timeout = SECONDS_PER_CELL[parameters["PROFILE"]]
            executed = kernel.execute(source, target, parameters, timeout=timeout, bar=bar)
            failure = "\n".join(widget_errors(executed))
            if not failure:
                executed.metadata[STAMP] = {"asked": parameters, "inputs": inputs, **_stamp(source)}
                executed.metadata[STAMP] |= {
                    "seconds": round(time.perf_counter() - started, 1),
                    "peak_mb": memory.peak_mb,
                }
                text = notebooks.text(executed)
                paths.write_atomically(target, lambda fresh: fresh.write_text(text, encoding="utf-8", newline="\n"))
        except PapermillExecutionError as error:
            failure = f"cell {error.cell_index}:\n{error.source}\n\n{error.ename}: {error.evalue}"
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failure = str(error)
    return Run(source.stem, time.perf_counter() - started, memory.peak_mb, failure)


def _stamp(source: Path) -> dict[str, Any]:
    """What a reader of the finished notebook, or of the book, wants to know about the run, besides its settings."""
    from course_lib.lesson import scoreboard

    return {
        "used": sorted({record["data"] for record in scoreboard() if record["lesson"] == source.name[:2]}),
        "machine": f"{doctor.processor()}, {os.cpu_count()} cores",
        "versions": _versions(),
        "date": str(datetime.datetime.now(datetime.UTC).date()),
    }


class _PeakMemory:
    """The most memory that this process's children, a kernel and what it starts, held together; sampled."""

    def __enter__(self) -> "_PeakMemory":
        self.peak_mb = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._stop.wait(0.1):
            held = 0
            for child in me.children(recursive=True):
                try:
                    held += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue  # it ended between the two calls
            self.peak_mb = max(self.peak_mb, held >> 20)
