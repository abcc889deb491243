"""What every test shares: the smoke profile, drawn data, no network, and results outside of `build/`.

It stands at the root because pytest also collects `notebooks/`, through nbval; kernels inherit this environment.
"""

import os
import tempfile
from pathlib import Path

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


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of real archives, named by the environment; for tests marked `real`."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(MIRROR))
    return MIRROR
