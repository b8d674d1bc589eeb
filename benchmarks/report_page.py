"""How long pages of reports take to make, how large they are, and what a browser takes to show them.

    python benchmarks/report_page.py [--json FILE]

The records are made up, written to a temporary folder, and read as any others. Seconds are those of a processor, of
this process and of the page's main thread in a headless Chromium (apt-get install chromium chromium-driver; pip
install selenium), so that other work on the machine does not count; without a browser those are left out. Takes a
minute or two.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import command_line
from rich.console import Console
from rich.table import Table

from harness.analysis.report import make_report
from harness.analysis.selection import find_runs
from harness.records.machine import describe
from harness.show.report.page import to_html
from tasks.registry import load_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (("5,000 samples of two models", 2, 358), ("200 records", 200, 100), ("1,000 records", 1000, 20))
"""Name, models, and samples of each of the 14 cells."""
LETTERS = 120
"""Of an answer."""


def main() -> None:
    parser = command_line.parser(__doc__)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    parser.add_argument("--json", type=command_line.new_file, default=RESULTS / f"{today}_report_page.json")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    rows = []
    with browser_if_any() as browser, tempfile.TemporaryDirectory() as folder:
        for name, models, samples in SIZES:
            rows.append({"name": name, **measured(Path(folder) / name, models, samples, browser)})
    machine = {key: value for key, value in describe().as_dict().items() if value is not None}
    args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print_rows(rows)


@contextmanager
def browser_if_any() -> Iterator[Chrome | None]:
    """A headless Chromium, or None where there is none."""
    import pytest
    from browsers import open_browser

    opened = open_browser()
    try:
        browser = next(opened)
    except pytest.skip.Exception as reason:
        print(reason)
        yield None
        return
    yield browser
    next(opened, None)


def measured(folder: Path, models: int, samples: int, browser: Chrome | None) -> dict[str, Any]:
    """Seconds and sizes of one page."""
    from report_pages import write_run

    answer = " word" * (LETTERS // 5)
    for place in range(models):
        every = 2 + place % 7
        write_run(
            *(folder / str(place), f"model-{place:04d}", samples),
            every=every,
            places=ruler_table3(),
            change=lambda *_: {"answer": answer},
        )
    suite = load_suite("ruler_table3")
    runs, reading = timed(lambda: find_runs([folder]))
    report, gathering = timed(lambda: make_report(suite, runs, on_problem=print))
    page, writing = timed(lambda: to_html(report))
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    found = {
        "samples": len(report.asked.questions),
        "answers": report.asked.answers,
        "build_seconds": round(reading + gathering + writing, 2),
        "megabytes": round(len(page.encode()) / 1e6, 2),
    }
    return found if browser is None else {**found, **shown(browser, path)}


def ruler_table3() -> list[tuple[str, int]]:
    """The tasks and lengths of the needle table."""
    return [(column.task, column.length) for column in load_suite("ruler_table3").columns if column.length is not None]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds of a processor that it took."""
    begin = time.process_time()
    found = work()
    return found, time.process_time() - begin


def shown(browser: Chrome, path: Path) -> dict[str, float]:
    """Seconds of the page's main thread: until it answers, then for a sort and for a search."""
    from browsers import Visit

    visit = Visit(browser, path)
    visit.keys("/")
    seconds = [visit.busy()]
    search = "document.getElementById('search')"
    for action in (
        "document.querySelector('button.sort[data-column=\"0\"]').click()",
        f"{search}.value = 'multikey_1-7 word'; {search}.dispatchEvent(new Event('input'))",
    ):
        visit.js(action)
        time.sleep(0.5)
        visit.js("return document.body.offsetHeight")
        seconds.append(visit.busy())
    load, sort, find = (round(after - before, 2) for before, after in zip([0.0, *seconds], seconds, strict=False))
    return {"load_seconds": load, "sort_seconds": sort, "search_seconds": find}


def as_row(row: dict[str, Any]) -> str:
    """A row of the page on reports."""
    return "| " + " | ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()) + " |"


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    table = Table()
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "name" else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    command_line.answer(main)
