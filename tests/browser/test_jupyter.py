"""Lessons as a student meets them: a real JupyterLab, *Run All*, a slider moved by keyboard, an exercise answered."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import requests
from playwright.sync_api import BrowserContext, Locator, Page, TimeoutError

from tests.browser.watch import Watch

ROOT = Path(__file__).parents[2]

PLACEHOLDER = "# YOUR CODE HERE"
BADGES = {"https://colab.research.google.com/assets/colab-badge.svg", "https://mybinder.org/badge_logo.svg"}
RUN_ALL = 180_000  # milliseconds; in the smoke profile a lesson takes 10 to 40 s

# From the notebook's model, not from the page, which holds only the cells that are near the window.
MODEL = "[...window.jupyterapp.shell.currentWidget.content.model.cells]"
ERRORS = f"""() => {MODEL}.flatMap((cell, i) => cell.type === 'code'
    ? cell.outputs.toJSON().filter(o => o.output_type === 'error').map(o => `cell ${{i}}: ${{o.ename}}: ${{o.evalue}}`)
    : [])"""
PRINTED = f"""i => {MODEL}[i].outputs.toJSON().filter(o => o.output_type === 'stream').map(o => o.text).join('')"""


@dataclass
class Server:
    base: str
    token: str
    root: Path


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    """Of the server: lab or notebook."""
    return request.param


@pytest.fixture(scope="module")
def server(chromium: BrowserContext, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab, or Notebook 7, on this machine only, with settings of its own, in a folder with copies of lessons."""
    home = tmp_path_factory.mktemp(kind)
    root = home / "lessons"
    shutil.copytree(ROOT / "notebooks", root, ignore=shutil.ignore_patterns("solutions"))
    quiet = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)  # no news, no pop-up that covers the page
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8")
    folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "run"}
    env = os.environ | {f"JUPYTER_{name}_DIR": str(home / folder) for name, folder in folders.items()}
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    env |= {"IPYTHONDIR": str(home / "ipython"), "COURSE_BUILD_DIR": str(home / "build")}
    env |= {"JUPYTER_TOKEN": (token := secrets.token_hex(16))}
    del env["MPLBACKEND"]  # with it, the kernel would show no figures
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}[kind]
    command = [sys.executable, "-m", "jupyter", kind, "--no-browser", f"--ServerApp.port={port}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={root}", f"--{app}.expose_app_in_browser=True"]
    command += ["--LabApp.extension_manager=readonly"] if kind == "lab" else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    log = home / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    found = Server(f"http://127.0.0.1:{port}", token, root)
    try:
        until(lambda: answers(found) or process.poll() is not None, 60, lambda: log.read_text(encoding="utf-8"))
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with pytest.raises(urllib.error.HTTPError, match="403"):  # nobody gets in without the token
            urllib.request.urlopen(f"{found.base}/api/contents")
        yield found
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(server: Server) -> bool:
    try:
        urllib.request.urlopen(f"{server.base}/api?token={server.token}", timeout=2).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


@dataclass
class Lesson:
    """What one opens, whether it has a slider, and answers to its first exercise with what the check says."""

    name: str
    slider: bool
    answers: tuple[tuple[str, str], ...] = ()
    canvas: bool = False  # to paint on


LESSONS = [
    Lesson(
        "00_start_here",
        False,
        (
            ("shape = (8, 96, 128, 3)", "[wrong] Exercise 1: that is channels-last"),
            ("shape = (8, 3, 96, 128)", "[passed] Exercise 1: "),
        ),
    ),
    Lesson(
        "01_thresholding",
        True,
        (
            (
                "def dice(prediction, truth):\n    return (prediction & truth).sum() / (prediction | truth).sum()",
                "[wrong] Exercise 1: that is the IoU",
            ),
            (
                "def dice(prediction, truth):\n    total = prediction.sum() + truth.sum()\n"
                "    return 2 * (prediction & truth).sum() / total if total else 1.0",
                "[passed] Exercise 1: ",
            ),
        ),
    ),
    Lesson(
        "02_pixel_classifiers",
        False,
        (
            (
                "def nearest_mean(points, means):\n    return (points @ means.T).argmax(1)",
                "[wrong] Exercise 1: a scalar product is no distance",
            ),
            (
                "def nearest_mean(points, means):\n    return ((points[:, None] - means) ** 2).sum(-1).argmin(1)",
                "[passed] Exercise 1: ",
            ),
        ),
        canvas=True,
    ),
    Lesson(
        "03_cifar_cnn",
        True,
        (
            (
                "def output_size(size, kernel, stride, padding):\n    return (size + 2 * padding - kernel) // stride",
                "[wrong] Exercise 1: the first place counts too",
            ),
            (
                "def output_size(size, kernel, stride, padding):\n"
                "    return (size + 2 * padding - kernel) // stride + 1",
                "[passed] Exercise 1: ",
            ),
        ),
    ),
    Lesson(
        "05_unet",
        True,
        (
            ("def padding(size, step):\n    return size % step", "[wrong] Exercise 1: that is what is left over"),
            ("def padding(size, step):\n    return -size % step", "[passed] Exercise 1: "),
        ),
    ),
]


slow = pytest.mark.skipif(not os.environ.get("COURSE_SLOW"), reason="set COURSE_SLOW=1 to open the other lessons")
MORE = [Lesson(name, True) for name in ("04_fcn", "06_gan_segmentation", "07_mask_rcnn")]
MORE += [Lesson("08_leaderboard", False), LESSONS[3]]  # the former's slider stands at a fraction
MORE += [LESSONS[1]]  # which Notebook 7 opens below
ELSEWHERE = {lesson.name for lesson in MORE}
CASES = [
    *(pytest.param("lab", lesson, id=f"lab-{lesson.name}") for lesson in LESSONS if lesson.name not in ELSEWHERE),
    *(pytest.param("lab", lesson, id=f"lab-{lesson.name}", marks=slow) for lesson in MORE),
    pytest.param("notebook", LESSONS[1], id=f"notebook-{LESSONS[1].name}"),  # Notebook 7 shares JupyterLab's parts
    pytest.param("notebook", LESSONS[2], id=f"notebook-{LESSONS[2].name}", marks=slow),
]


@pytest.mark.parametrize(("kind", "lesson"), CASES, indirect=["kind"])
def test_lesson(lesson: Lesson, kind: str, server: Server, chromium: BrowserContext, shots: Path) -> None:
    cells = nbformat.read(server.root / f"{lesson.name}.ipynb", 4).cells
    page = chromium.new_page()
    watch = Watch(page, server.base)
    try:
        path = {"lab": f"lab/tree/{lesson.name}.ipynb", "notebook": f"notebooks/{lesson.name}.ipynb"}[kind]
        page.goto(f"{server.base}/{path}?token={server.token}{'&reset' if kind == 'lab' else ''}")
        page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        run_all(page)
        if lesson.slider:
            slide(page, next(i for i, cell in enumerate(cells) if "interact(" in cell.source), kind)
            page.screenshot(path=shots / f"{kind}_{lesson.name}_slider.png")
        if lesson.canvas:
            paint(page, next(i for i, cell in enumerate(cells) if "HBox([canvas" in cell.source))
            page.screenshot(path=shots / f"{kind}_{lesson.name}_canvas.png")
        place = next(i for i, cell in enumerate(cells) if cell.cell_type == "code" and PLACEHOLDER in cell.source)
        assert not lesson.answers or page.evaluate(PRINTED, place + 1).startswith("[open] Exercise 1: ")
        for answer, message in lesson.answers:
            reply(page, place, answer)
            until_printed(page, place + 1, message)
        page.screenshot(path=shots / f"{kind}_{lesson.name}.png")
        assert set(watch.outside) <= BADGES
    except BaseException:
        page.screenshot(path=shots / f"{kind}_{lesson.name}_failed.png")
        raise
    finally:
        page.close()
        end_kernels(server)


def until_printed(page: Page, index: int, message: str) -> None:
    try:
        page.wait_for_function(f"([i, text]) => ({PRINTED})(i).includes(text)", arg=[index, message], timeout=20_000)
    except TimeoutError:
        raise AssertionError(f"not {message!r} but {page.evaluate(PRINTED, index)!r}") from None


def run_all(page: Page) -> None:
    # the command's promise resolves when all have run, to false if one failed; `evaluate` itself would never time out
    page.evaluate("""() => { window.ran = null; window.jupyterapp.commands.execute('notebook:run-all-cells')
        .then(ok => { window.ran = [ok] }, error => { window.ran = [false] }) }""")
    [ok] = page.wait_for_function("() => window.ran", timeout=RUN_ALL).json_value()
    assert page.evaluate(ERRORS) == []
    assert ok


def cell_at(page: Page, index: int) -> Locator:
    """A cell, brought into the window."""
    page.evaluate(
        """i => { const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = i; return notebook.scrollToItem(i) }""",
        index,
    )
    cell = page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')
    cell.wait_for(timeout=20_000)
    return cell


def slide(page: Page, index: int, kind: str) -> None:
    """Keys move the first slider: its number and the figure change; each control has a name."""
    cell = cell_at(page, index)
    handle, number = cell.locator(".noUi-handle").first, cell.locator(".widget-readout").first
    figure = cell.locator(".widget-output img, .jupyter-widgets-output-area img").last
    figure.wait_for(timeout=30_000)
    controls = cell.locator(".widget-inline-hbox")
    names = [controls.nth(i).locator(".widget-label").first.inner_text() for i in range(controls.count())]
    assert names, "no control on the page"
    assert all(name.strip() for name in names)
    before, told = figure.get_attribute("src"), number.inner_text()
    if kind == "lab":
        handle.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
    else:  # Notebook 7 takes the arrow keys for itself as well, and moves on to the next heading: type the number
        number.focus()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(str(int(told) + 4))
        page.keyboard.press("Enter")
    wanted = str(int(told) + 4)
    until(lambda: number.inner_text() == wanted, 10, lambda: f"the slider stands at {number.inner_text()}")
    until(lambda: figure.get_attribute("src") != before, 30, lambda: "the slider moved, the figure did not")
    figure.evaluate("element => element.scrollIntoView({block: 'center'})")  # for the screenshot
    failed = page.locator(".jupyter-widgets [data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert not [text for text in failed if "Traceback" in text]


def paint(page: Page, index: int) -> None:
    """A stroke with the mouse, a dab with the keyboard: after each, the model has learned anew and shows a new mask."""
    cell = cell_at(page, index)
    canvas, mask = (
        cell.locator("canvas").first,
        cell.locator(".widget-output img, .jupyter-widgets-output-area img").last,
    )
    mask.wait_for(timeout=30_000)
    canvas.evaluate("element => element.scrollIntoView({block: 'center'})")
    pixels = "element => element.toDataURL()"
    painted, before = canvas.evaluate(pixels), mask.get_attribute("src")
    cell.get_by_role("button", name="nucleus").click()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=12)
    page.mouse.up()
    until(lambda: canvas.evaluate(pixels) != painted, 20, lambda: "the stroke does not show")
    until(lambda: mask.get_attribute("src") not in (before, None), 30, lambda: "painted, but the mask stayed")
    painted, before = canvas.evaluate(pixels), mask.get_attribute("src")
    cell.get_by_role("button", name="background").press("Enter")
    cell.get_by_role("button", name="Paint there").press("Enter")
    until(lambda: canvas.evaluate(pixels) != painted, 20, lambda: "the keyboard's dab does not show")
    until(lambda: mask.get_attribute("src") not in (before, None), 30, lambda: "dabbed, but the mask stayed")
    failed = page.locator(".jupyter-widgets [data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert not [text for text in failed if "Traceback" in text]


def reply(page: Page, index: int, answer: str) -> None:
    """Write an answer as a student does: into the editor, then Shift+Enter twice, for it and for its check."""
    cell_at(page, index).locator(".cm-content").first.click()
    page.locator(f'.jp-Cell[data-windowed-list-index="{index}"] .cm-focused').wait_for(timeout=20_000)
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(answer)
    assert page.evaluate(f"i => {MODEL}[i].sharedModel.getSource()", index) == answer
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


def end_kernels(server: Server) -> None:
    """They hold memory."""
    headers = {"Authorization": f"token {server.token}"}
    for kernel in requests.get(f"{server.base}/api/kernels", headers=headers, timeout=20).json():
        requests.delete(f"{server.base}/api/kernels/{kernel['id']}", headers=headers, timeout=60)
