"""`course doctor`: each injected failure is found, and its line says how to mend it."""

import builtins
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from typer.testing import CliRunner

from course_lib.cli import app, doctor
from course_lib.cli.doctor import Check


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in doctor.os.environ if name.startswith("COURSE_")]:
        monkeypatch.delenv(name)


def only(check: Callable[[], Iterator[Check]]) -> Check:
    (line,) = check()
    return line


def test_python_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor.python_version).ok
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.9")
    line = only(doctor.python_version)
    assert not line.ok
    assert line.text.startswith("Python 3.10.9 (the course needs >=3.11")
    assert line.mend == "make a new environment with a newer Python"


def test_every_declared_package_is_found_without_importing_it() -> None:
    line = only(doctor.packages)
    assert line.ok, list(doctor.packages())
    assert int(line.text.split()[0]) >= 20


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    true_version, true_spec = doctor.metadata.version, doctor.find_spec

    def version(name: str) -> str:
        if name == "torchmetrics":
            raise doctor.metadata.PackageNotFoundError(name)
        return "1.26.4" if name == "numpy" else true_version(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "skimage" else true_spec(name))
    lines = {line.text: line for line in doctor.packages()}
    *failed, total = lines.values()
    assert [line.ok for line in failed] == [False] * 3
    assert total.ok is None
    assert lines["numpy 1.26.4 does not fit >=2.0"].mend == "pip install --upgrade 'numpy>=2.0'"
    assert lines["torchmetrics is not installed"].mend.startswith("pip install --upgrade 'torchmetrics>=")
    broken = next(line for line in failed if line.text.startswith("scikit-image"))
    assert broken.text.endswith("is installed but broken")
    assert broken.mend.endswith("--force-reinstall")


def test_colab_needs_no_jupyterlab(monkeypatch: pytest.MonkeyPatch) -> None:
    true_version = doctor.metadata.version

    def version(name: str) -> str:
        if name in doctor.NOT_ON_COLAB:
            raise doctor.metadata.PackageNotFoundError(name)
        return true_version(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    assert [line.ok for line in doctor.packages()] == [False, False, None]
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    assert only(doctor.packages).ok


def test_torch_and_torchvision_fit() -> None:
    assert only(doctor.torch_pair).ok


def test_torchvision_of_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def nms(*_: Any) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", nms)
    line = only(doctor.torch_pair)
    assert not line.ok
    assert line.text.endswith("do not work together: operator torchvision::nms does not exist")
    assert line.mend.startswith("pip install --upgrade torch torchvision ")


def test_torch_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def no_torch(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    line = only(doctor.torch_pair)
    assert (line.ok, "No module named 'torch'" in line.text) == (False, True)
    assert list(doctor.device()) == []


@pytest.mark.parametrize("driver", [None, "/usr/bin/nvidia-smi"])
def test_no_gpu_is_no_failure(monkeypatch: pytest.MonkeyPatch, driver: str | None) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    line = only(doctor.device)
    assert line.ok is None
    assert "lessons run on the CPU" in line.text
    assert ("CUDA build of torch" in line.mend) == (driver is not None)


def test_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def ones(*_: Any, device: str) -> None:
        raise RuntimeError(f"{device}: no kernel image is available\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(name="Old Card", total_memory=2e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch, "ones", ones)
    line = only(doctor.device)
    assert line == Check(
        False,
        "GPU: Old Card, 2 GB (cuda) fails: cuda: no kernel image is available",
        "install a torch built for this GPU and driver, or set COURSE_DEVICE=cpu",
    )
    monkeypatch.setattr(torch, "ones", lambda n, device: torch.zeros(n) + 1)
    assert only(doctor.device).text == "GPU: Old Card, 2 GB (cuda)"
    assert only(doctor.device).ok


@pytest.mark.parametrize(("total", "ok"), [(3.9e9, False), (4.0e9, True)])
def test_memory(monkeypatch: pytest.MonkeyPatch, total: float, ok: bool) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=total))
    line = only(doctor.memory)
    assert line.ok is ok
    assert line.text == f"memory: {total / 1e9:.1f} GB (at least 4)"
    assert "COURSE_PROFILE=smoke" in line.mend


def test_data_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    folder = tmp_path / "file" / "cache"
    monkeypatch.setattr(doctor.paths, "cache_dir", lambda: folder)
    line = only(doctor.cache)
    assert not line.ok
    assert line.text.startswith(f"cannot write to the data folder {folder}: ")
    assert line.mend == "make it writable for you"


@pytest.mark.parametrize(("free", "ok"), [(1.9e9, False), (2e9, True)])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, ok: bool) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.paths, "cache_dir", lambda: tmp_path / "data" / "cache")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(free))
    folder, room = doctor.cache()
    assert folder == Check(True, f"data folder: {tmp_path / 'data' / 'cache'}")
    assert (room.ok, room.text) == (ok, f"free disk: {free / 1e9:.1f} GB (at least 2)")
    assert room.mend.startswith("free some space on ")
    assert list((tmp_path / "data" / "cache").iterdir()) == [], "the trial file was left behind"


def test_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor.mirrors).ok is None
    monkeypatch.setenv("COURSE_DATA_DIR", doctor.os.pathsep.join([str(tmp_path), str(tmp_path / "none")]))
    there, missing = doctor.mirrors()
    assert there.ok
    assert (missing.ok, missing.text) == (False, f"data mirror {tmp_path / 'none'} does not exist")
    assert missing.mend.startswith("correct COURSE_DATA_DIR")


@pytest.mark.parametrize(
    ("name", "value", "text", "mend"),
    [
        ("COURSE_PROFLE", "smoke", "COURSE_PROFLE is no setting of the course", "did you mean COURSE_PROFILE?"),
        ("COURSE_DATADIR", "/x", "COURSE_DATADIR is no setting of the course", "did you mean COURSE_DATA_DIR?"),
        ("COURSE_PROFILE", "fast", "profile = 'fast' is not known", "choose one of lesson, smoke, full "),
        ("COURSE_DATA", "fake", "data = 'fake' is not known", "choose one of auto, real, synthetic "),
        ("COURSE_DEVICE", "gpu", "device = 'gpu' is not known", "choose one of auto, cpu, cuda, mps "),
        ("COURSE_OFFLINE", "yes", "COURSE_OFFLINE=yes is not known", "set it to 1, or unset it"),
        ("COURSE_SEED", "-1", "seed = '-1' is not a whole number", "choose 0, 1, 2, ... in SEED or COURSE_SEED"),
    ],
)
def test_wrong_settings(monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str, mend: str) -> None:
    monkeypatch.setenv(name, value)
    line = only(doctor.settings)
    assert (line.ok, line.text) == (False, text)
    assert line.mend.startswith(mend)


def test_right_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"COURSE_PROFILE": "full", "COURSE_DATA": "real", "COURSE_DEVICE": "cpu", "COURSE_SEED": "3"}
    right |= {"COURSE_DATA_DIR": "a", "COURSE_OFFLINE": "1", "COURSE_BUILD_DIR": "b", "COURSE_DEBUG": "1"}
    right["COURSE_DATA_URL"] = "http://teacher:8765"
    for name, value in right.items():
        monkeypatch.setenv(name, value)
    assert list(doctor.settings()) == [Check(None, f"{name}={value}") for name, value in sorted(right.items())]


@pytest.mark.parametrize("command", ["python", "python3", sys.executable])
def test_kernel_of_this_interpreter(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: KernelSpec(argv=[command]))
    assert only(doctor.kernel) == Check(True, "Jupyter kernel python3 is this interpreter", only(doctor.kernel).mend)


def test_kernel_of_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.symlink_to(sys.executable)  # as in a virtual environment: the same program, another environment
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: KernelSpec(argv=[str(other)]))
    line = only(doctor.kernel)
    assert (line.ok, line.text) == (False, f"Jupyter kernel python3 is another interpreter, {other}")
    assert line.mend == (f"jupyter kernelspec remove python3; then {sys.executable} -m ipykernel install --sys-prefix")


def test_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: KernelSpecManager, name: str) -> None:
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    line = only(doctor.kernel)
    assert (line.ok, line.text) == (False, "there is no Jupyter kernel python3")
    assert line.mend == f"{sys.executable} -m ipykernel install --sys-prefix"


@pytest.mark.parametrize(
    ("versions", "ok"),
    [
        ({}, True),
        ({"ipywidgets": "7.8.1"}, False),
        ({"jupyterlab_widgets": "1.1.1"}, False),
        ({"jupyterlab_widgets": "(missing)"}, False),
    ],
)
def test_widgets(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], ok: bool) -> None:
    fitting = {"jupyterlab": "4.3.0", "ipywidgets": "8.1.5", "jupyterlab_widgets": "3.0.13"} | versions
    monkeypatch.setattr(doctor, "_version", fitting.__getitem__)
    line = only(doctor.widgets)
    assert line.ok is ok
    assert line.text == "sliders: " + ", ".join(f"{name} {version}" for name, version in fitting.items())
    assert line.mend == "pip install --upgrade 'ipywidgets>=8.1' 'jupyterlab_widgets>=3'"


def lines(*checks: Check) -> tuple[Callable[[], Iterator[Check]], ...]:
    return (lambda: iter(checks), doctor.kernel)


def test_report_and_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good, fact, bad = Check(True, "good", "no"), Check(None, "fact", "perhaps"), Check(False, "bad", "do this")
    monkeypatch.setattr(doctor, "kernel", lambda: iter([Check(True, "kernel")]))
    monkeypatch.setattr(doctor, "CHECKS", lines(good, fact))
    assert doctor.report() is True
    assert capsys.readouterr().out == (
        "[OK]   good\n[--]   fact\n       to mend: perhaps\n[OK]   kernel\nReady for the course.\n"
    )
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr(doctor, "CHECKS", lines(bad))
    assert doctor.report() is False
    assert capsys.readouterr().out == "[FAIL] bad\n       to mend: do this\n1 of the checks failed.\n"
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1
    monkeypatch.setattr(doctor, "CHECKS", lines(good))
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0


def test_every_failure_has_a_mend_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [line for check in doctor.CHECKS for line in check()]
    assert len(found) >= len(doctor.CHECKS)
    for line in found:
        assert "\n" not in line.text + line.mend
    assert [line for line in found if line.ok is False] == []
