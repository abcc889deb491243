"""The book, in a real Chromium, served from a folder: search, formulas, dark mode; nothing asks the network."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.watch import Watch

pytestmark = pytest.mark.timeout(1800)  # the first test has to wait for the lessons
ROOT = Path(__file__).parents[2]
SOLVED = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


@pytest.fixture(scope="module")
def html(chromium: BrowserContext, finished) -> Path:
    """The book of the finished lessons, built by the command."""
    if not shutil.which("npm"):
        pytest.skip("no npm here, which fetches the script for the book's formulas: install Debian's `npm`")
    for lesson in SOLVED:
        finished(lesson)
    command = [sys.executable, "-m", "course_lib.cli", "book", "--device", "cpu"]
    done = subprocess.run(command, env=finished.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done in" not in done.stdout, "no lesson had to run again"
    return finished.build / "book" / "html"


@pytest.fixture(scope="module")
def home(html: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(chromium: BrowserContext) -> Iterator[Page]:
    page = chromium.new_page()
    yield page
    page.close()


PAGES = ["", "book/faq.html", "book/glossary.html", "book/dashboard.html", "book/status.html"]
PAGES += ["book/applications/medicine.html", "book/instructors/index.html", "data/README.html"]
PAGES += [f"notebooks/{lesson.stem}.html" for lesson in SOLVED]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_no_other_host_and_complains_of_nothing(name: str, home: str, page: Page) -> None:
    watch = Watch(page, home)
    page.goto(f"{home}/{name}")
    page.wait_for_selector("article h1")
    page.wait_for_load_state("networkidle")
    assert not watch.outside
    assert not watch.errors


def test_formulas_are_rendered(home: str, page: Page, shots: Path) -> None:
    page.goto(f"{home}/notebooks/01_thresholding.html")
    page.wait_for_selector("mjx-container svg", timeout=30_000)
    page.wait_for_function("() => !document.querySelector('.math:not(:has(mjx-container))')", timeout=30_000)
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    page.locator("mjx-container").first.scroll_into_view_if_needed()
    page.screenshot(path=shots / "book_formula.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_modes(scheme: str, home: str, page: Page, shots: Path) -> None:
    page.emulate_media(color_scheme=scheme)  # what the reader's system asks for
    seen = {}
    for name in ("book/index", "notebooks/05_unet", "book/dashboard"):
        page.goto(f"{home}/{name}.html")
        page.wait_for_selector("article h1")
        shade = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        seen[name] = sum(shade[:3])
        page.screenshot(
            path=shots / f"book_{name.rpartition('/')[2]}_{scheme}.png", full_page=name != "notebooks/05_unet"
        )
    assert all(value > 600 if scheme == "light" else value < 200 for value in seen.values()), seen


def test_search_finds_a_term(home: str, page: Page) -> None:
    watch = Watch(page, home)
    page.goto(f"{home}/search.html?q=watershed")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    found = page.locator("#search-results li a").all_inner_texts()
    assert any(text.startswith("1. Thresholding") for text in found), found
    assert not watch.outside
    assert not watch.errors


def test_search_works_from_a_folder_without_a_server(html: Path, page: Page) -> None:
    page.goto(f"{(html / 'search.html').as_uri()}?q=watershed")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    page.goto((html / "index.html").as_uri())
    page.wait_for_selector("article h1")
    page.goto((html / "notebooks" / "01_thresholding.html").as_uri())
    page.wait_for_selector("mjx-container svg", timeout=30_000)


def test_a_lesson_can_be_launched_and_downloaded_with_its_exercises_open(home: str, html: Path, page: Page) -> None:
    page.goto(f"{home}/notebooks/01_thresholding.html")
    links = page.evaluate("() => [...document.querySelectorAll('.article-header-buttons a')].map(a => a.href)")
    for host in ("colab.research.google.com", "mybinder.org"):
        assert any(host in link and "notebooks/01_thresholding.ipynb" in link for link in links), links
    [download] = {link for link in links if link.endswith("_sources/notebooks/01_thresholding.ipynb")}
    assert page.request.get(download).body() == (ROOT / "notebooks" / "01_thresholding.ipynb").read_bytes()


def test_solutions_are_folded_and_widgets_stand_still(home: str, page: Page) -> None:
    page.goto(f"{home}/notebooks/01_thresholding.html")
    solution = page.locator("details.hide", has_text="Show a solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    assert "SOLUTION" not in page.locator("article").text_content()
    assert page.get_by_text("This figure stands still").count() == 1
    assert page.locator("article .cell_output img").count() > 5
