"""From a key on the budget's slider to the first answer on the screen, in Chromium, beside an empty round trip.

The table is one of transfers between 26 tasks, such as the published one; orders to 4. Budgets are asked for twice: as
soon as the page stands, while the server still searches the curve, and again when all of them are known.
"""

import shutil
import threading
from pathlib import Path
from statistics import median
from typing import Any

from _timing import options, show

from lightning_taskonomy.reports.page.server import make_app, open_server
from lightning_taskonomy.reports.tables import read_tables

WATCH = """() => {
  window.seen = [];
  const note = name => window.seen.push([name, performance.now()]);
  window.addEventListener('keydown', () => note('key'), true);
  new MutationObserver(() => requestAnimationFrame(() => note('answer'))).observe(
    document.querySelector('#taxonomy-cards'), {subtree: true, childList: true, characterData: true});
}"""
"""Notes in the browser when a key went down and when the cards changed, at the next frame."""


def moves(page: Any, budgets: int) -> list[float]:
    """Seconds from each press of an arrow key to the changed cards."""
    handle = page.locator("#budget [role=slider]")
    handle.focus()
    times = []
    for _ in range(budgets):
        page.evaluate("() => { window.seen = [] }")
        handle.press("ArrowRight")
        page.locator("#taxonomy-more", has_text="One more").wait_for()
        page.wait_for_timeout(300)
        seen = page.evaluate("() => window.seen")
        start = next(at for name, at in seen if name == "key")
        times.append(next(at - start for name, at in seen if name == "answer") / 1e3)
    return times


def main() -> None:
    """Measures and prints."""
    parser = options(__doc__, rounds=10)
    parser.add_argument("table", type=Path, help="a CSV of transfers")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    app = make_app(read_tables(given.table))
    server = open_server(app, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(f"http://{server.host}:{server.port}/")
        page.locator("#taxonomy-state", has_text="Proven optimal").wait_for()
        page.evaluate(WATCH)
        page.locator("#budget [role=slider]").press("Home")
        first = moves(page, given.rounds)
        page.locator("#taxonomy-chart .main-svg").first.wait_for()
        page.locator("#budget [role=slider]").press("Home")
        page.wait_for_timeout(1000)
        again = moves(page, given.rounds)
        ping = "async () => { const t = performance.now(); await (await fetch('/_dash-dependencies')).text(); "
        trips = [page.evaluate(ping + "return performance.now() - t }") / 1e3 for _ in range(given.rounds)]
        browser.close()
    server.shutdown()
    taken = {"round trip": trips, "as the page opens": first, "all budgets known": again}
    rows = [
        {"what": what, "median s": median(took), "slowest s": max(took), "of round trips": median(took) / median(trips)}
        for what, took in taken.items()
    ]
    show(rows, given.json, moves=given.rounds)


if __name__ == "__main__":
    main()
