"""Slides of a lesson, in a real Chromium, opened from the disk: every slide by the keyboard, and nothing else loads."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.watch import Watch

pytestmark = pytest.mark.timeout(1800)  # the first test has to wait for the lesson
ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "solutions" / "05_unet.ipynb"
SEEN = """() => {
    const slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
    const figures = [...slide.querySelectorAll("img")].map((image) => image.getBoundingClientRect());
    return {
        number: Reveal.getSlidePastCount() + 1,
        letters: parseFloat(getComputedStyle(slide).fontSize),
        overflow: slide.scrollHeight - slide.clientHeight,
        whole: figures.every((f) => f.height > 150 && f.top >= box.top && f.bottom <= box.bottom),
        hidden: [...slide.querySelectorAll(".fragment")].some((f) => getComputedStyle(f).visibility == "hidden"),
        text: slide.innerText,
        more: Reveal.availableFragments().next,
        last: Reveal.isLastSlide(),
    };
}"""


@pytest.fixture(scope="module")
def deck(chromium: BrowserContext, finished) -> Path:
    """Lesson 05's slides, made by the command."""
    if not shutil.which("npm"):
        pytest.skip("no npm here, which fetches reveal.js: install Debian's `npm`")
    finished(LESSON)
    command = [sys.executable, "-m", "course_lib.cli", "slides", "05", "--device", "cpu"]
    done = subprocess.run(command, env=finished.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return finished.build / "slides" / "05_unet.html"


@pytest.fixture
def page(chromium: BrowserContext) -> Iterator[Page]:
    page = chromium.new_page()
    page.set_viewport_size({"width": 1280, "height": 720})
    yield page
    page.close()


def opened(page: Page, deck: Path) -> Watch:
    watch = Watch(page, "")
    page.on("requestfailed", lambda request: watch.errors.append(f"failed: {request.url}"))
    page.goto(deck.as_uri())
    page.evaluate("() => MathJax.startup.promise")
    return watch


def test_every_slide_by_the_keyboard(deck: Path, page: Page, shots: Path) -> None:
    watch, number, texts = opened(page, deck), 0, []
    while True:
        seen = page.evaluate(SEEN)
        if seen["number"] != number:
            assert seen["number"] == number + 1, "none is passed over"
            number = seen["number"]
        assert seen["hidden"] == seen["more"], f"slide {number}: what comes later does not show yet"
        if not seen["more"]:
            texts.append(seen["text"])
            assert seen["overflow"] <= 0, f"slide {number} is too long: {seen['text'][:80]}"
            assert seen["letters"] >= 22, f"slide {number} has too small letters: {seen['text'][:80]}"
            assert seen["whole"], f"slide {number}: a figure does not show as a whole"
            page.screenshot(path=shots / f"slides_05_{number:02}.png")
        if seen["last"] and not seen["more"]:
            break
        page.keyboard.press("ArrowRight")
    assert number > 20
    assert texts[0].startswith("5. U-Net")
    assert texts[-1].startswith("Summary")
    assert not any("$" in text for text in texts), "a formula is not typeset"
    assert page.locator("mjx-container svg").count() > 10
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert not watch.outside
    assert not watch.errors


def test_a_figure_comes_after_its_prediction(deck: Path, page: Page) -> None:
    opened(page, deck)
    while "Which number will differ most?" not in page.evaluate("() => Reveal.getCurrentSlide().innerText"):
        page.keyboard.press("Space")
    result = page.locator("section.present section.present pre", has_text="boundary_iou")
    assert not result.is_visible()
    page.keyboard.press("Space")
    assert result.is_visible()


def test_speaker_notes_need_no_network(deck: Path, page: Page, chromium: BrowserContext) -> None:
    watch = opened(page, deck)
    with chromium.expect_page() as info:
        page.keyboard.press("s")
    notes = info.value
    notes.locator(".speaker-controls-notes", has_text="as it ran on").wait_for(timeout=30_000)
    upcoming = notes.frame_locator("#upcoming-slide iframe").locator("section.present section.present h2")
    upcoming.filter(has_text="Nuclei again").wait_for(timeout=30_000)
    assert not watch.outside
    assert not watch.errors
    notes.close()
