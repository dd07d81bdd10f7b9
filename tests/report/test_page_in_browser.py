"""The HTML pages in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import hostile_page, make_runs, make_verdict, page_of

from dlsys_bench.report.html.page import Page, render, write_page
from dlsys_bench.report.html.verdicts import verdict_sections
from dlsys_bench.runs.store.text import write_text
from dlsys_bench.verdicts.verdict import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

ENGINES = ("numpy", "numba", "torch", "jax", "keras", "keras-jax")
INSTALL = "pip install 'dlsys-bench[browser]' and apt-get install chromium"
SERIOUS = ("serious", "critical")

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason=INSTALL)
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip(INSTALL)
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open a page from disk; at the end, it must have logged and requested nothing else."""
    contexts, seen = [], []

    def opened(page: Page, width: int = 1280, **options: Any) -> Any:
        path = write_page(page, tmp_path / "page.html")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: seen.append(message.text))
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.on("dialog", lambda dialog: seen.append(dialog.message))
        tab.on("request", lambda request: seen.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield opened
    for context in contexts:
        context.close()
    uri = (tmp_path / "page.html").as_uri()
    assert [one for one in seen if one != uri and not one.startswith("data:image/png")] == []


def run_page(tmp_path: Path, arms: int = 6) -> Page:
    return page_of(make_runs(arms, ("numpy", "torch"), 3), tmp_path)


def gate_page() -> Page:
    verdicts = [make_verdict(f"arm {n}", Outcome.PASS if n % 2 else Outcome.FAIL) for n in range(6)]
    return Page("Gate", "FAIL", (), verdict_sections(verdicts, (), 1e-3, 1e-2))


def test_sorting(show: Open) -> None:
    tab = show(gate_page())
    table = tab.locator(".sheet table").first
    given = [f"study/arm {n}" for n in range(6)]
    assert table.locator("tbody tr td:first-child").all_text_contents() == given
    table.get_by_role("button", name="verdict").click()
    order = table.locator("tbody tr td:last-child").all_text_contents()
    assert order == ["FAIL"] * 3 + ["PASS"] * 3
    table.get_by_role("button", name="arm").click()
    table.get_by_role("button", name="arm").click()
    assert table.locator("tbody tr td:first-child").all_text_contents() == given[::-1]
    assert table.locator("th").first.get_attribute("aria-sort") == "descending"


def test_filtering(show: Open) -> None:
    tab = show(gate_page())
    sheet = tab.locator(".sheet").first
    sheet.get_by_label("Filter").fill("pass arm")
    assert sheet.locator("tbody tr:visible").count() == 3
    assert sheet.get_by_role("status").text_content() == "3 of 6 rows"
    sheet.get_by_label("Filter").fill("")
    assert sheet.locator("tbody tr:visible").count() == 6


def test_copying_a_command(show: Open) -> None:
    tab = show(gate_page(), permissions=["clipboard-read", "clipboard-write"])
    button = tab.get_by_role("button", name="Copy dlsys-bench gate study/arm 1", exact=True)
    button.click()
    tab.wait_for_function(
        "() => [...document.querySelectorAll('.copy')].some(b => b.textContent === 'Copied')"
    )
    assert tab.evaluate("navigator.clipboard.readText()") == "dlsys-bench gate study/arm 1"


def test_the_theme_follows_the_system_and_the_button(show: Open) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    tab = show(gate_page(), color_scheme="dark")
    assert tab.evaluate(background) == dark
    tab.get_by_role("button", name="Light theme").click()
    assert tab.evaluate(background) == light
    tab.reload()
    assert tab.evaluate(background) == light
    tab.emulate_media(media="print")
    assert not tab.locator(".theme").is_visible()


def test_the_keyboard_reaches_everything(show: Open) -> None:
    tab = show(gate_page())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    table = tab.locator(".sheet table").first
    table.get_by_role("button", name="verdict").focus()
    tab.keyboard.press("Enter")
    assert table.locator("tbody tr td:last-child").first.text_content() == "FAIL"
    tab.keyboard.press("Space")
    assert table.locator("tbody tr td:last-child").first.text_content() == "PASS"


def test_without_javascript_everything_is_visible(show: Open, tmp_path: Path) -> None:
    tab = show(run_page(tmp_path), java_script_enabled=False)
    assert tab.locator("circle.dot").count() == 36
    assert tab.locator("tbody tr:visible").count() >= 12
    assert tab.locator("button").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility_and_width(show: Open, tmp_path: Path, width: int, theme: str) -> None:
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason=INSTALL)
    for page in (gate_page(), run_page(tmp_path)):
        tab = show(page, width, color_scheme=theme)
        found = module.Axe().run(tab).response["violations"]
        assert [one["id"] for one in found if one["impact"] in SERIOUS] == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_texts_do_nothing(show: Open) -> None:
    tab = show(hostile_page())
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img").count() == 0


def test_the_policy_stops_what_an_escape_would_miss(browser: Any, tmp_path: Path) -> None:
    attack = '<script>window.hacked = 1</script><img src="x" onerror="window.hacked = 1">'
    path = tmp_path / "attacked.html"
    path.write_text(render(gate_page()).replace("<main", f"{attack}<main"))
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(path.as_uri())
    assert tab.evaluate("window.hacked") is None
    context.close()


def test_2400_runs_fit_and_are_drawn(browser: Any, tmp_path: Path) -> None:
    write_text(tmp_path / "big.jsonl", make_runs(20, ENGINES, 20))
    command = [sys.executable, "-m", "dlsys_bench", "report", "big.jsonl", "--html", "big.html"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=900)
    page = tmp_path / "big.html"
    assert page.stat().st_size < 5e6
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(page.as_uri())
    assert tab.locator("circle.dot").count() == 2400
    context.close()
