"""The page in a real browser: quiet, without network, linked, readable in light and dark."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.host.report.made import Plan, make

from boardfront.host.report import comparing, page
from boardfront.host.report.pictures import find_browser
from boardfront.host.report.reading import read_findings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from boardfront.host.run_folder import RunFolder

sync_api = pytest.importorskip("playwright.sync_api")

_CHROMIUM = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]

_PATIENCE_MS = 120_000.0
_A4_PX = 688  # 210 mm less the margins that the page asks for, at 96 pixels an inch
_LOWEST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA


class Shown:
    """A page that is open, with what it said and asked for."""

    def __init__(self, browser: Browser, file: Path, **options: object) -> None:
        self._context = browser.new_context(**options)  # type: ignore[arg-type]
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(_PATIENCE_MS)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def close(self) -> None:
        """Close it."""
        self._context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(whole: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the whole run."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.page(page.report(read_findings(whole), page.in_page), 0.0))
    return path


@pytest.fixture(scope="module")
def shown(browser: Browser, file: Path) -> Iterator[Shown]:
    """The page on a screen of usual size, light."""
    opened = Shown(browser, file, viewport={"width": 1280, "height": 800}, color_scheme="light")
    yield opened
    opened.close()


def test_it_is_quiet_and_asks_for_nothing(shown: Shown, file: Path) -> None:
    shown.page.wait_for_load_state("networkidle")
    assert shown.said == []
    assert [url for url in shown.asked if not url.startswith("data:")] == [file.as_uri()]


def test_a_row_lights_its_points(shown: Shown) -> None:
    row = shown.page.locator("#found tr[data-c]").nth(1)
    row.hover()
    assert "lit" in (row.get_attribute("class") or "")
    # One ring for the searched and one for the re-measured point, on each of two targets, and
    # those of the plots of times.
    assert shown.page.locator("#front .ring").count() == 4
    assert shown.page.locator("#predicted .ring").count() == 4
    assert shown.page.locator("#devices .ring").count() == 2
    shown.page.mouse.move(5, 5)
    assert shown.page.locator(".ring").count() == 0


def test_a_point_lights_its_row_and_tells_its_values(shown: Shown) -> None:
    row = shown.page.locator("#found tr[data-c]").nth(2)
    encoding = row.locator("th").inner_text()
    key = row.get_attribute("data-c")
    point = shown.page.locator(f"#front figure >> nth=0 >> path[data-c='{key}']").first
    point.hover(force=True)
    assert "lit" in (row.get_attribute("class") or "")
    tip = shown.page.locator("#tip")
    assert tip.is_visible()
    assert re.search(rf"{encoding}: \d\d\.\d\d%, .* us \(.*\), (ok|unstable)", tip.inner_text())
    point.click(force=True)
    assert shown.page.evaluate("document.activeElement.dataset.c") == key
    assert shown.page.evaluate("document.activeElement.tagName") == "TR"


def test_a_row_of_a_comparison_lights_the_points_of_its_own_run(
    browser: Browser, whole: RunFolder, other: RunFolder, tmp_path: Path
) -> None:
    path = tmp_path / "both.html"
    runs = [read_findings(whole), read_findings(other)]
    path.write_text(page.page(comparing.comparison(runs, page.in_page), 0.0))
    opened = Shown(browser, path)
    rows = opened.page.locator("#fronts tr[data-c]")
    assert rows.count() == sum(len(run.members) for run in runs)
    for place in (0, rows.count() - 1):
        rows.nth(place).hover()
        assert opened.page.locator("tr.lit").count() == 1
        # A point on each of two targets.
        assert opened.page.locator("#plots .ring").count() == 2
    assert opened.said == []
    opened.close()


def test_it_works_by_keyboard_alone(shown: Shown) -> None:
    shown.page.reload()
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.className") == "skip"
    shown.page.keyboard.press("Enter")
    row = shown.page.locator("#found tr[data-c]").nth(0)
    row.focus()
    key = row.get_attribute("data-c")
    assert shown.page.locator(f"path.lit[data-c='{key}']").count() > 0
    shown.page.keyboard.press("Enter")
    focused = "document.activeElement"
    assert shown.page.evaluate(f"{focused}.tagName") == "path"
    assert shown.page.evaluate(f"{focused}.dataset.c") == key
    assert shown.page.evaluate(f"{focused}.getAttribute('aria-label')")
    shown.page.keyboard.press("Enter")
    assert shown.page.evaluate(f"{focused}.tagName") == "TR"
    shown.page.keyboard.press("Escape")
    assert shown.page.locator(".ring").count() == 0


def test_long_tables_sort(shown: Shown) -> None:
    shown.page.locator("details.long summary").click()
    heading = shown.page.get_by_role("button", name="pi5")
    for expected in ("ascending", "descending"):
        heading.click()
        assert heading.locator("..").get_attribute("aria-sort") == expected
        times = shown.page.eval_on_selector_all(
            "details.long tbody tr td:nth-child(5)", "cells => cells.map(c => +c.dataset.v)"
        )
        assert times == sorted(times, reverse=expected == "descending")
    assert shown.said == []


def test_a_person_chooses_light_or_dark(shown: Shown) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert shown.page.evaluate(paper) == "rgb(255, 255, 255)"
    shown.page.get_by_role("button", name="Dark").click()
    assert shown.page.evaluate(paper) == "rgb(20, 24, 29)"
    shown.page.reload()
    assert shown.page.evaluate(paper) == "rgb(20, 24, 29)"
    shown.page.get_by_role("button", name="Light").click()
    assert shown.page.evaluate(paper) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out(browser: Browser, file: Path, scheme: str) -> None:
    opened = Shown(browser, file, color_scheme=scheme)
    found = opened.page.evaluate(_CONTRASTS)
    opened.close()
    assert len(found) > 100
    assert [one for one in found if one["contrast"] < _LOWEST_CONTRAST] == []


def test_nothing_sticks_out_of_a_narrow_screen(browser: Browser, file: Path) -> None:
    opened = Shown(browser, file, viewport={"width": 360, "height": 640})
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    opened.close()
    assert wide == 360


def test_it_prints_light_and_whole(browser: Browser, file: Path, tmp_path: Path) -> None:
    opened = Shown(browser, file, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 32, 38)"
    assert not opened.page.locator("#theme").is_visible()
    assert opened.page.locator("#front figure svg").first.is_visible()
    opened.page.set_viewport_size({"width": _A4_PX, "height": 1000})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= _A4_PX
    printed = opened.page.pdf(path=tmp_path / "report.pdf", format="A4")
    opened.close()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3


def test_it_can_be_read_without_its_script(browser: Browser, file: Path) -> None:
    opened = Shown(browser, file, java_script_enabled=False)
    assert not opened.page.locator("#theme").is_visible()
    assert opened.page.locator("#front path[data-c] title").count() > 50
    assert opened.page.locator("#found tr[data-c]").first.is_visible()
    opened.close()


def test_two_thousand_candidates_are_shown(browser: Browser, tmp_path: Path) -> None:
    run = make(tmp_path, Plan(evaluations=2000, population=40, targets=("pi5",)))
    written = page.page(page.report(read_findings(run), page.in_page), 0.0)
    assert len(written.encode()) < 6e6
    path = tmp_path / "report.html"
    path.write_text(written)
    opened = Shown(browser, path)
    assert opened.page.locator("#front path[data-c]").count() > 1900
    row = opened.page.locator("#found tr[data-c]").first
    row.hover()
    assert opened.page.locator("#front .ring").count() == 2
    assert opened.said == []
    opened.close()


_CONTRASTS = """() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => {
      c /= 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const { rgb, alpha } = channels(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const found = [];
  const words = [...document.querySelectorAll("body *")].filter((one) =>
    one.checkVisibility() && [...one.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  for (const one of words) {
    const style = getComputedStyle(one);
    const inSvg = one.ownerSVGElement;
    if (inSvg && one.tagName !== "text") continue;
    if (one.classList.contains("skip")) continue;
    const ink = channels(inSvg ? style.fill : style.color).rgb;
    const [a, b] = [light(ink), light(paper(one))].sort((x, y) => y - x);
    found.push({ words: one.textContent.trim().slice(0, 40), contrast: (a + 0.05) / (b + 0.05) });
  }
  return found;
}"""
