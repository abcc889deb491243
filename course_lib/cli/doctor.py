"""`course doctor`: is this machine ready for the course? Each failed check says how to mend it."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import typer

from course_lib import paths
from course_lib.errors import SettingsError
from course_lib.settings import CHOICES, VARIABLES, seed, setting

GB = 1e9
MEMORY_GB, DISK_GB = 4, 2
# packages whose module has another name
MODULES = {"pillow": "PIL", "scikit-image": "skimage", "scikit-learn": "sklearn"}
NOT_ON_COLAB = {"jupyterlab", "papermill"}  # Colab is the front end there, and lessons run by hand
FLAGS = ("COURSE_OFFLINE", "COURSE_DEBUG", "COURSE_SLOW")


@dataclass(frozen=True)
class Check:
    """One line of the report: `ok` is None for a neutral fact; `mend`, one line too, is printed unless `ok`."""

    ok: bool | None
    text: str
    mend: str = ""


def on_colab() -> bool:
    """Whether this runs in a Colab notebook."""
    return "google.colab" in sys.modules


def python_version() -> Iterator[Check]:
    """The interpreter is one that the course supports."""
    from packaging.specifiers import SpecifierSet

    wanted = metadata.metadata("course_lib")["Requires-Python"]
    found = platform.python_version()
    ok = SpecifierSet(wanted).contains(found, prereleases=True)
    yield Check(ok, f"Python {found} (the course needs {wanted})", "make a new environment with a newer Python")


def packages() -> Iterator[Check]:
    """Every package that course_lib needs is there and new enough; none is imported."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in metadata.requires("course_lib") or []]
    wanted = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    wanted = [need for need in wanted if not (on_colab() and need.name in NOT_ON_COLAB)]
    fitting = 0
    for need in wanted:
        mend = f"pip install --upgrade '{need.name}{need.specifier}'"
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield Check(False, f"{need.name} is not installed", mend)
            continue
        if not need.specifier.contains(found, prereleases=True):
            yield Check(False, f"{need.name} {found} does not fit {need.specifier}", mend)
        elif find_spec(MODULES.get(need.name, need.name.replace("-", "_"))) is None:
            yield Check(False, f"{need.name} {found} is installed but broken", f"{mend} --force-reinstall")
        else:
            fitting += 1
    yield Check(
        True if fitting == len(wanted) else None, f"{fitting} of {len(wanted)} packages are there and new enough"
    )


def torch_pair() -> Iterator[Check]:
    """torch and torchvision are builds that fit each other, and compute."""
    versions = " and ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
    try:
        import torch
        import torchvision

        torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3))
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
        ok, text = kept == [0], "work together"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        ok, text = False, f"do not work together: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    yield Check(ok, f"{versions} {text}", "pip install --upgrade torch torchvision   (both in one command)")


def device() -> Iterator[Check]:
    """What the lessons compute on."""
    try:
        import torch
    except (ImportError, OSError):
        return  # torch_pair has said it
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        text = f"GPU: {properties.name}, {properties.total_memory / GB:.0f} GB (cuda)"
        try:
            ok = torch.ones(2, device="cuda").sum().item() == 2
        except RuntimeError as error:
            ok, text = False, f"{text} fails: {str(error).splitlines()[0]}"
        yield Check(ok, text, "install a torch built for this GPU and driver, or set COURSE_DEVICE=cpu")
    elif torch.backends.mps.is_available():
        yield Check(True, "GPU: Apple (mps)")
    else:
        tools = ", though NVIDIA's tools are here" if shutil.which("nvidia-smi") else ""
        mend = "if there is a GPU, install the CUDA build of torch that fits its driver" if tools else ""
        yield Check(None, f"no GPU that torch can use{tools}: lessons run on the CPU, {os.cpu_count()} cores", mend)


def memory() -> Iterator[Check]:
    """Main memory."""
    import psutil

    total = psutil.virtual_memory().total / GB
    mend = "close other programs and set COURSE_PROFILE=smoke, or open the lessons in Colab"
    yield Check(total >= MEMORY_GB, f"memory: {total:.1f} GB (at least {MEMORY_GB})", mend)


def cache() -> Iterator[Check]:
    """The folder of downloads can be written and has room."""
    folder = paths.cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free / GB
    except OSError as error:
        yield Check(False, f"cannot write to the data folder {folder}: {error.strerror}", "make it writable for you")
        return
    yield Check(True, f"data folder: {folder}")
    yield Check(free >= DISK_GB, f"free disk: {free:.1f} GB (at least {DISK_GB})", f"free some space on {folder}")


def mirrors() -> Iterator[Check]:
    """The folders named by COURSE_DATA_DIR exist, and the server named by COURSE_DATA_URL answers."""
    for folder in paths.mirror_dirs():
        mend = f"correct COURSE_DATA_DIR (folders separated by {os.pathsep!r}), or unset it"
        yield Check(folder.is_dir(), f"data mirror {folder}{'' if folder.is_dir() else ' does not exist'}", mend)
    if not paths.mirror_dirs():
        yield Check(None, "no data mirror (COURSE_DATA_DIR): data are downloaded, or drawn")
    yield from data_server()


def data_server() -> Iterator[Check]:
    """Whether the class's server answers; whatever it says, since it may have a part of the sets."""
    from course_lib.data import store

    url = os.environ.get("COURSE_DATA_URL")
    if not url:
        return
    if paths.offline():
        yield Check(False, f"COURSE_OFFLINE forbids the data server {url}, too", "unset one of the two")
        return
    import requests

    try:
        requests.head(store.addresses(store.source("nuclei"))[0], timeout=5, proxies={"no_proxy": "*"})
    except SettingsError as error:
        yield Check(False, error.message, error.hint)
    except requests.RequestException:
        yield Check(False, f"data server {url} does not answer", "ask whoever runs it, or unset COURSE_DATA_URL")
    else:
        yield Check(True, f"data server {url}")


def settings() -> Iterator[Check]:
    """The environment variables COURSE_... have names and values that the course knows."""
    for variable in sorted(name for name in os.environ if name.startswith("COURSE_")):
        value, name = os.environ[variable], variable.removeprefix("COURSE_").lower()
        try:
            if name in CHOICES:
                setting(name)
            elif name == "seed":
                seed()
        except SettingsError as error:
            yield Check(False, error.message, error.hint)
            continue
        if variable not in VARIABLES:
            near = get_close_matches(variable, VARIABLES, 1, 0.0)[0]
            yield Check(False, f"{variable} is no setting of the course", f"did you mean {near}? else unset {variable}")
        elif variable in FLAGS and value not in ("", "0", "1"):
            yield Check(False, f"{variable}={value} is not known", "set it to 1, or unset it")
        else:
            yield Check(None, f"{variable}={value}")


def kernel() -> Iterator[Check]:
    """Notebooks run in this environment: the kernel `python3` starts this interpreter."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield Check(False, "there is no Jupyter kernel python3", mend)
        return
    own = {"python", "python3", f"python3.{sys.version_info.minor}"}  # Jupyter puts its own interpreter for these
    ok = command in own or Path(command).parent.resolve() == Path(sys.executable).parent.resolve()
    text = "is this interpreter" if ok else f"is another interpreter, {command}"
    yield Check(ok, f"Jupyter kernel python3 {text}", f"jupyter kernelspec remove python3; then {mend}")


def widgets() -> Iterator[Check]:
    """JupyterLab's half of ipywidgets fits: version 3 for ipywidgets 8."""
    versions = {name: _version(name) for name in ("jupyterlab", "ipywidgets", "jupyterlab_widgets")}
    ok = versions["ipywidgets"].startswith("8.") and versions["jupyterlab_widgets"].startswith("3.")
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Check(ok, f"sliders: {text}", "pip install --upgrade 'ipywidgets>=8.1' 'jupyterlab_widgets>=3'")


def processor() -> str:
    """The name of the machine's processor."""
    info = Path("/proc/cpuinfo")  # Linux; elsewhere Python knows the name
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(missing)"


CHECKS = (python_version, packages, torch_pair, device, memory, cache, mirrors, settings, kernel, widgets)


def report() -> bool:
    """Run every check and print its lines as they come; True if none failed. For notebooks, too."""
    failed = 0
    for check in CHECKS[: CHECKS.index(kernel)] if on_colab() else CHECKS:
        for line in check():
            print({True: "[OK]  ", False: "[FAIL]", None: "[--]  "}[line.ok], line.text, flush=True)
            if line.mend and not line.ok:
                print(f"       to mend: {line.mend}")
            failed += line.ok is False
    print(f"{failed} of the checks failed." if failed else "Ready for the course.")
    return not failed


def doctor() -> None:
    """Check that this machine is ready for the course."""
    if not report():
        raise typer.Exit(1)
