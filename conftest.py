"""What every test shares: the smoke profile, drawn data, no download of data, and results outside of `build/`.

It stands at the root because pytest also collects notebooks, through nbval; kernels inherit this environment.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import filelock
import pytest

ROOT = Path(__file__).parent
os.environ |= {
    "COURSE_PROFILE": "smoke",
    "COURSE_DATA": "synthetic",
    "COURSE_DEVICE": "cpu",
    "COURSE_OFFLINE": "1",
    "MPLBACKEND": "agg",
}
if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers, spinning on the same cores, stall each other
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("COURSE_BUILD_DIR", tempfile.mkdtemp(prefix="course-test-"))
MIRROR = Path(os.environ.get("COURSE_DATA_DIR") or ROOT.parent / "shared" / "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    no_mirror = pytest.mark.skip(reason=f"no real data: {MIRROR} is not there; set COURSE_DATA_DIR to a mirror")
    no_cuda = pytest.mark.skip(reason="no CUDA device on this machine")
    for item in items:
        if item.get_closest_marker("real") and not MIRROR.is_dir():
            item.add_marker(no_mirror)
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(no_cuda)


@dataclass(frozen=True)
class Finished:
    """Solved lessons as `course run` leaves them, on drawn data; each runs once for all tests, when first asked for."""

    build: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # it would hide all figures
        return kept | {"COURSE_BUILD_DIR": str(self.build)}

    def __call__(self, lesson: Path) -> Path:
        """The finished notebook of a solved lesson."""
        said = self.build / f"{lesson.stem}.txt"
        with filelock.FileLock(self.build / f"{lesson.stem}.lock"):  # another worker may be at it
            if not said.is_file():
                command = [sys.executable, "-m", "course_lib.cli", "run", lesson.stem, "--device", "cpu"]
                done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
                said.write_text("" if done.returncode == 0 else done.stdout + done.stderr, encoding="utf-8")
        if failure := said.read_text(encoding="utf-8"):
            pytest.fail(failure)
        return self.build / "run" / lesson.name


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which the workers share
    (base / "finished").mkdir(exist_ok=True)
    return Finished(base / "finished")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real archives, named by the environment; for tests marked `real`."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(MIRROR))
    return MIRROR
