"""The leaderboard as an HTML file, in a browser where one is: it sorts, it needs no network, names stay text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from records import cell, place, record

from harness.records.leaderboard import build_table
from harness.show.html import to_html
from tasks.registry import load_suite

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
EVIL = "<img src=x onerror='window.hit=1'></script><script>window.hit=1</script>"
ASKED = """
const said = [], rows = () => [...document.querySelectorAll("tbody")].map(
  body => [...body.rows].slice(1).map(row => row.cells[0].firstChild.textContent));
const click = n => { const button = headings[n].querySelector("button"); button.focus(); button.click();
  said.push([headings[n].getAttribute("aria-sort"), document.activeElement === button, rows()[0]]); };
click(1); click(1); click(1); click(2); click(0);
document.getElementById("intervals").click();
const hidden = getComputedStyle(document.querySelector("td small")).display;
const said_all = { said, hidden, hit: window.hit === undefined, sections: rows().length };
document.title = JSON.stringify(said_all);
"""


def page(published: bool = False) -> str:
    runs = [
        record("m10", (cell(value=0.5), cell(length=2048, value=0.25))),
        record("m9", (cell(value=0.75),)),
        record(EVIL, (cell(value=0.125), cell(length=2048, value=0.5))),
    ]
    return to_html(build_table(load_suite("ruler_table3"), [place(run) for run in runs], published))


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    VOID = ("meta", "input", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere() -> None:
    text = page(published=True)
    parsed = Balanced()
    parsed.feed(text)
    assert parsed.open == []
    tags = [tag for tag, _ in parsed.seen]
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(tags)
    assert tags.count("script") == tags.count("style") == 1
    assert not [attrs for _, attrs in parsed.seen if {"src", "href", "srcset", "action"} & attrs.keys()]
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttp", text)
    assert "default-src 'none'" in text
    assert (
        len({len(re.findall(r"<t[dh]", row)) for row in re.findall(r"<tr>\n<th scope=\"row\">.*?</tr>", text, re.S)})
        == 1
    )


def test_numbers_are_sorted_by_what_they_are_and_not_by_what_they_read() -> None:
    values = [float(value) for value in re.findall(r'data-value="([^"]+)"', page())]
    assert sorted(values) == [12.5, 25.0, 50.0, 50.0, 75.0]


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_a_click_on_a_heading_sorts_and_a_hostile_name_is_text(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(page().replace("</body>", f"<script>{ASKED}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[str, Any] = json.loads(unescape(re.findall("<title>(.*?)</title>", done.stdout)[0]))
    assert found["hit"]
    assert found["hidden"] == "none"
    assert found["said"] == [
        ["descending", True, ["m9", "m10", EVIL]],
        ["ascending", True, [EVIL, "m10", "m9"]],
        [None, True, [EVIL, "m10", "m9"]],
        ["descending", True, [EVIL, "m10", "m9"]],  # m9 has no number there
        ["ascending", True, [EVIL, "m9", "m10"]],
    ]
