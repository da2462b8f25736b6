"""The page in real Chromium: answers, keys, loopback. One server and one browser for all tests, a page for each."""

import json
import os
import shutil
import threading
import zipfile
from pathlib import Path
from urllib.parse import urlparse

import pytest

pytest.importorskip("dash", reason="the extra 'page' is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium")
PUBLISHED = Path(__file__).parents[3] / "shared/published"
TRANSFERS = PUBLISHED / "taskonomy/transfers_16k.csv"
GROUPINGS = PUBLISHED / "taskgrouping/setting1_validation.tsv"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not TRANSFERS.is_file(), reason="the published measurements are not here"),
]


@pytest.fixture(scope="module")
def address():
    from lightning_taskonomy.reports.page.server import make_app, open_server
    from lightning_taskonomy.reports.tables import read_tables

    server = open_server(make_app(read_tables(TRANSFERS, GROUPINGS)), port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{server.host}:{server.port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def context(browser):
    """The cache of scripts; the page keeps nothing else between two visits."""
    return browser.new_context(viewport={"width": 1360, "height": 1060}, accept_downloads=True)


@pytest.fixture
def page(context, address):
    """A page of its own; no request may leave the machine, and nothing may go wrong in it."""
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    urls, wrong = [], []
    opened.on("request", lambda request: urls.append(request.url))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    opened.goto(address)
    opened.locator("#taxonomy-state", has_text="Proven optimal").wait_for()
    yield opened
    opened.close()
    assert len(urls) > 10
    assert {urlparse(url).hostname for url in urls if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert wrong == []


def settled(page, tab="taxonomy"):
    """Waits for the exact answer and all that follows from it."""
    page.locator(f"#{tab}-state", has_text="Proven optimal").wait_for()
    page.locator(f"#{tab}-chart .main-svg").first.wait_for()


def card(page, name):
    return page.locator("#taxonomy-cards .card", has_text=name).locator("dd").first


def slide(page, budget):
    """Types a budget into the slider's own field."""
    field = page.locator("#budget input[type=number]")
    field.fill(str(budget))
    field.press("Tab")  # the field counts when it is left
    page.locator("#taxonomy-cards", has_text=f"of {budget}").first.wait_for()
    settled(page)


def test_the_published_taxonomies(page):
    slide(page, 15)
    assert card(page, "Objective").inner_text() == "2.4421"
    assert card(page, "Gain").inner_text() == "0.879"
    assert card(page, "Quality").inner_text() == "0.485"
    assert page.locator("#taxonomy-table tbody tr").count() == 22


def test_arrow_keys_move_the_slider_and_focus_is_seen(page):
    slide(page, 8)
    handle = page.locator("#budget [role=slider]")
    handle.focus()
    handle.press("ArrowLeft")
    page.locator("#taxonomy-cards", has_text="of 7").first.wait_for()
    assert handle.get_attribute("aria-valuenow") == "7"
    outline = handle.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline != "none"
    page.locator("#taxonomy-more", has_text="budget (in all 8)").wait_for()


def test_every_control_has_a_name_and_is_reached_by_the_tab_key(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('main input, main button')].filter(e => !(e.labels && e.labels.length
        && e.labels[0].innerText.trim()) && !e.innerText.trim() && !e.closest("[aria-labelledby], .away")).length"""
    )
    assert unnamed == 0
    page.locator("#budget [role=slider]").focus()
    for wanted in ("order", "order", "all"):
        page.keyboard.press("Tab")
        assert page.evaluate("id => !!document.activeElement.closest('#' + id)", wanted), wanted


def test_ticks_are_solved_again(page):
    slide(page, 8)
    page.get_by_label("Solve curvature", exact=True).press("Space")
    page.locator("#taxonomy-table:not(:has-text('curvature'))").wait_for()
    assert page.locator("#taxonomy-table tbody tr").count() == 21
    page.get_by_role("button", name="Reset").press("Enter")
    page.locator("#taxonomy-table th", has_text="curvature").wait_for()


def test_what_cannot_be_met_is_said_in_place(page):
    slide(page, 8)
    page.get_by_role("button", name="Solve none").click()
    page.locator("#taxonomy-state", has_text="tick at least one").wait_for()
    assert page.locator("#taxonomy-table tr").count() == 0
    assert "Traceback" not in page.content()
    page.get_by_role("button", name="Reset").click()
    page.locator("#taxonomy-state", has_text="Proven optimal").wait_for()


def test_downloads(page, tmp_path):
    slide(page, 4)
    with page.expect_download() as waiting:
        page.locator("#taxonomy-json").click()
    waiting.value.save_as(tmp_path / "solution.json")
    content = json.loads((tmp_path / "solution.json").read_text())
    assert content["solution"]["budget"] == 4 and content["solution"]["proven"]
    with page.expect_download() as waiting:
        page.locator("#taxonomy-recipe").click()
    waiting.value.save_as(tmp_path / "recipes.zip")
    with zipfile.ZipFile(tmp_path / "recipes.zip") as archive:
        sources = {f"source_{name}.yaml" for name in content["solution"]["sources"]}
        assert sources <= set(archive.namelist())


def test_groupings(page):
    page.get_by_text("Grouping", exact=True).click()
    settled(page, "grouping")
    field = page.locator("#grouping-budget input[type=number]")
    field.fill("1")
    field.press("Tab")  # the field counts when it is left
    page.locator("#grouping-cards", has_text="cost 1 of 1").wait_for()
    assert page.locator("#grouping-table tbody tr").count() == 5
    painted = page.locator("#grouping-graph canvas").last.evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"
    )
    assert painted


def test_two_browsers_have_settings_of_their_own(page, browser, address):
    slide(page, 8)
    other = browser.new_context().new_page()
    other.set_default_timeout(60_000)
    other.goto(address)
    settled(other)
    slide(other, 3)
    assert card(page, "Trained").inner_text() == "8"
    assert card(other, "Trained").inner_text() == "3"
    other.context.close()


@pytest.mark.slow  # PAGE_PICTURES=docs/images renews the pictures of the documentation
def test_pictures(page, tmp_path):
    folder = Path(os.environ.get("PAGE_PICTURES", tmp_path))
    slide(page, 8)
    page.mouse.move(0, 0)
    for tab in ("taxonomy", "grouping"):
        page.get_by_text(tab.capitalize(), exact=True).click()
        settled(page, tab)
        page.wait_for_timeout(1000)
        page.screenshot(path=folder / f"page_{tab}.png")
        assert (folder / f"page_{tab}.png").stat().st_size < 300_000
