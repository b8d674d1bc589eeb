"""The page of a report in a headless Chromium: what people do with it, and what hostile texts do not."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsers import Visit, open_browser
from report_pages import HOSTILE, LENGTHS, TASKS, page_of, write_hostile_runs, write_run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

NAMES = "#board tr.model .who"
TAB, ENTER, DOWN, RIGHT, END = "\ue004", "\ue007", "\ue015", "\ue014", "\ue010"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    yield from open_browser()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, browser: Chrome) -> Path:
    """Three models: alpha is wrong on every fifth sample, beta on every third, gamma on every second."""
    assert browser
    folder = tmp_path_factory.mktemp("runs")
    for every, name in ((5, "alpha"), (3, "beta"), (2, "gamma")):
        write_run(folder / name, name, 20, every=every)
    return page_of(folder, folder / "page.html")


@pytest.fixture
def visit(browser: Chrome, path: Path) -> Iterator[Visit]:
    visit = Visit(browser, path)
    yield visit
    assert visit.complaints() == []


def ours(visit: Visit) -> list[str]:
    return [name for name in visit.texts(NAMES) if name in ("alpha", "beta", "gamma")]


def test_nothing_is_fetched_and_the_console_stays_silent(visit: Visit) -> None:
    visit.click("#theme")
    visit.click("#list .row")
    assert visit.requests() == [visit.path.as_uri()]


def test_a_click_on_a_column_sorts_by_it_and_another_turns_it_round(visit: Visit) -> None:
    button = 'button.sort[data-column="0"]'
    visit.click(button)
    assert ours(visit) == ["alpha", "beta", "gamma"]
    header = f"document.querySelector('{button}').closest('th').getAttribute('aria-sort')"
    assert visit.js(f"return {header}") == "descending"
    visit.click(button)
    assert ours(visit) == ["gamma", "beta", "alpha"]
    assert visit.js(f"return {header}") == "ascending"
    visit.click('button.sort[data-column="-1"]')
    assert ours(visit) == ["alpha", "beta", "gamma"]
    assert visit.js(f"return {header}") == "none"


def test_a_row_without_a_number_comes_last_both_ways(browser: Chrome, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "alpha", 3, lengths=LENGTHS[:1])
    write_run(tmp_path / "runs" / "b", "beta", 3)
    visit = Visit(browser, page_of(tmp_path / "runs", tmp_path / "page.html"))
    for _ in range(2):
        visit.click('button.sort[data-column="2"]')
        assert ours(visit) == ["beta", "alpha"]


def test_the_board_is_sorted_and_walked_by_keyboard_alone(visit: Visit) -> None:
    visit.js("document.querySelector('button.sort[data-column=\"-1\"]').focus()")
    visit.keys(RIGHT, DOWN)
    assert visit.js("return document.activeElement.dataset.column") == "0"
    visit.keys(ENTER)
    visit.keys(ENTER)
    assert ours(visit) == ["gamma", "beta", "alpha"]
    visit.keys(DOWN)
    assert visit.js("return document.activeElement.tagName") == "TD"
    assert visit.texts("#tip")[0].startswith("gamma, S-NIAH-1 1K: 50.0 (95 %: ")
    assert visit.js("return document.activeElement.getAttribute('aria-describedby')") == "tip"
    visit.keys(END)
    assert visit.js("return document.activeElement.cellIndex") == 14
    assert visit.js("return document.querySelectorAll('#board [tabindex=\"0\"]').length") == 1


def test_ours_and_the_papers_rows_are_sorted_in_one_list_if_wanted(visit: Visit) -> None:
    visit.click("#together")
    visit.click('button.sort[data-column="0"]')
    names = visit.texts(NAMES)
    assert names.index("Mamba-2") < names.index("alpha") < names.index("gamma")
    assert visit.js("return document.querySelectorAll('tr.section:not([hidden])').length") == 0


def test_models_are_filtered_by_name_with_a_count(visit: Visit) -> None:
    visit.click("#model-filter")
    visit.keys("ALPH")
    visible = "[...document.querySelectorAll('#board tr.model')].filter(e => !e.hidden).length"
    assert visit.js(f"return {visible}") == 1
    assert visit.texts("#board-status") == ["1 of 16 models"]


def test_a_field_of_a_heatmap_says_its_samples_and_interval_by_pointer_and_by_focus(visit: Visit) -> None:
    visit.js("document.querySelector('.heat td').focus()")
    by_focus = visit.texts("#tip")[0]
    assert by_focus.startswith("alpha, niah_single_1, 1,024 tokens, depth 0–20 %: 75.0 % (95 %: 30–95), n = 4")
    visit.keys(RIGHT)
    assert "2,048 tokens" in visit.texts("#tip")[0]
    visit.js("document.querySelector('.stack rect').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))")
    assert visit.texts("#tip")[0] == "alpha, niah_single_1@1024: right 16 of 20 (80.0%)"


def test_a_pair_of_the_matrix_is_shown_task_by_task(visit: Visit) -> None:
    shown = "return [...document.querySelectorAll('.pair-view')].filter(e => !e.hidden).map(e => e.innerText)"
    assert visit.js(shown)[0].startswith("alpha against beta")
    visit.js("document.querySelectorAll('.matrix tbody tr')[2].querySelector('button').focus()")
    visit.keys(RIGHT, ENTER)
    (text,) = visit.js(shown)
    assert text.startswith("beta against gamma")
    assert "mean of 9" in text
    pressed = "return [...document.querySelectorAll('button.pair[aria-pressed=true]')].map(e => e.dataset.pair)"
    assert visit.js(pressed) == ["2", "2"]


def test_points_of_a_chart_are_walked_by_arrows(visit: Visit) -> None:
    visit.js("document.querySelector('.chart [tabindex=\"0\"]').focus()")
    assert visit.texts("#tip")[0].startswith("alpha, 1,024 tokens: 80.0 %")
    visit.keys(RIGHT)
    assert visit.texts("#tip")[0].startswith("alpha, 2,048 tokens: 80.0 %")


def test_a_slash_leads_to_the_search_and_words_find_samples(visit: Visit) -> None:
    visit.keys("/")
    assert visit.js("return document.activeElement.id") == "search"
    visit.keys("multikey_1-7 1024")
    visit.wait("document.getElementById('found').textContent.startsWith('1 of')")
    assert visit.texts("#found") == ["1 of 180 samples"]
    assert "key-niah_multikey_1-7" in visit.texts("#sample")[0]
    assert visit.texts("#sample .excerpt") == ["…the key is 1056457. More text…"]
    assert visit.texts("#sample .excerpt mark") == ["1056457"]
    visit.keys("/")
    assert visit.js("return document.getElementById('search').value") == "multikey_1-7 1024/"
    visit.wait("document.getElementById('found').textContent.startsWith('0 of')")
    assert "No sample is like this" in visit.texts("#sample")[0]
    visit.click(".filters button[type=reset]")
    visit.wait("document.getElementById('found').textContent.startsWith('180 of')")


def test_filters_by_task_length_verdict_and_by_a_right_b_wrong_agree_with_the_runs(visit: Visit) -> None:
    right = {every: {index for index in range(20) if index % every} for every in (5, 3, 2)}
    visit.choose("#by-task", TASKS[1])
    visit.choose("#by-length", "2,048")
    assert visit.texts("#found") == ["20 of 180 samples"]
    visit.choose("#model-b", "gamma")
    visit.choose("#relation", "A right, B wrong")
    assert visit.texts("#found") == [f"{len(right[5] - right[2])} of 180 samples"]
    visit.choose("#relation", "A wrong, B right")
    assert visit.texts("#found") == [f"{len(right[2] - right[5])} of 180 samples"]
    visit.choose("#relation", "any")
    visit.choose("#by-verdict", "wrong needle")
    assert visit.texts("#found") == ["4 of 180 samples"]
    visit.choose("#model-a", "beta")
    assert visit.texts("#found") == ["7 of 180 samples"]


def test_the_list_is_walked_by_keys_and_says_where_one_is(visit: Visit) -> None:
    visit.js("document.getElementById('list').focus()")
    visit.keys(DOWN, DOWN)
    active = "document.getElementById(document.getElementById('list').getAttribute('aria-activedescendant'))"
    assert visit.js(f"return {active}.getAttribute('aria-posinset')") == "3"
    assert visit.js(f"return {active}.getAttribute('aria-setsize')") == "180"
    assert "sample 2" in visit.texts("#sample .where")[0]
    visit.keys(END)
    visit.wait(f"{active}?.getAttribute('aria-posinset') === '180'")
    assert "sample 19" in visit.texts("#sample .where")[0]


def test_dark_is_what_the_system_says_or_the_button(visit: Visit) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light = visit.js(f"return {paper}")
    visit.media("dark")
    dark = visit.js(f"return {paper}")
    assert sum(map(int, light[4:-1].split(","))) > 700 > 100 > sum(map(int, dark[4:-1].split(",")))
    visit.click("#theme")
    assert visit.js(f"return {paper}") == light
    visit.media("light")
    visit.click("#theme")
    assert visit.js(f"return {paper}") == dark
    visit.click("#theme")
    assert visit.js(f"return {paper}") == light
    assert visit.texts("#theme") == ["Theme: system"]


CONTRAST = """
const light = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number).map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
const of = (ink, paper) => (Math.max(light(ink), light(paper)) + 0.05) / (Math.min(light(ink), light(paper)) + 0.05);
const paper = getComputedStyle(document.body).backgroundColor;
const found = {};
for (const name of [".interval", ".what", ".lead", ".facts", ".notes li", ".section span"]) {
  found[name] = of(getComputedStyle(document.querySelector(name)).color, paper);
}
for (let place = 0; place < 12; place += 1) {
  const chip = document.createElement("span");
  chip.className = `chip v${place}`;
  document.body.append(chip);
  found[chip.className] = of(getComputedStyle(chip).color, getComputedStyle(chip).backgroundColor);
  chip.remove();
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_small_text_has_the_contrast_that_wcag_asks_for(visit: Visit, scheme: str) -> None:
    visit.media(scheme)
    assert not {name: round(ratio, 2) for name, ratio in visit.js(CONTRAST).items() if ratio < 4.5}


@pytest.mark.parametrize("pixels", [390, 1440])
def test_the_page_is_no_wider_than_its_screen(visit: Visit, pixels: int) -> None:
    visit.width(pixels)
    assert visit.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    name = visit.js("return document.querySelector('#board tr.model th').getBoundingClientRect().toJSON()")
    assert name["left"] >= 0
    assert name["width"] < pixels / 2.5, "numbers have room beside names"


@pytest.mark.parametrize("pixels", [390, 1200])
def test_a_name_without_a_space_makes_no_page_wider(browser: Chrome, tmp_path: Path, pixels: int) -> None:
    for place, name in enumerate(("L" * 180, "a-short-one")):
        write_run(tmp_path / "runs" / str(place), name, 2, tasks=("niah_single_1",))
    visit = Visit(browser, page_of(tmp_path / "runs", tmp_path / "page.html"))
    visit.width(pixels)
    assert visit.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_paper_has_the_tables_and_of_the_samples_a_summary(visit: Visit) -> None:
    visit.media(kind="print")
    hidden = "getComputedStyle(document.querySelector(arguments[0])).display === 'none'"
    for selector in ("#browser", ".bar", ".tools", "#tip"):
        assert visit.js(f"return {hidden}", selector), selector
    assert visit.js("return document.querySelector('#samples .lead').innerText").endswith("in a browser.")
    assert visit.js("return getComputedStyle(document.querySelector('button.sort')).display") == "contents"
    height = visit.js("return document.documentElement.scrollHeight")
    assert visit.js("return document.getElementById('samples').offsetHeight") < 200 < height
    pdf = base64.b64decode(visit.devtools("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert 1 <= pdf.count(b"/Type /Page\n") <= 8


def test_hostile_texts_run_nothing_and_are_shown_as_they_are(browser: Chrome, tmp_path: Path) -> None:
    write_hostile_runs(tmp_path / "runs")
    visit = Visit(browser, page_of(tmp_path / "runs", tmp_path / "page.html"))
    shown = []
    for _ in range(12):
        shown.append(visit.texts("#sample")[0])
        visit.js("document.getElementById('list').focus()")
        visit.keys(DOWN)
    assert visit.js("return window.broken") is None
    assert visit.js("return document.querySelectorAll('script, img, style, iframe, textarea').length") == 3
    said = "\n".join(shown)
    assert HOSTILE[0] in said
    assert HOSTILE[1] in said
    for code in ("U+202E", "U+0000", "U+001B", "U+FEFF", "U+D800", "U+2028"):
        assert code in said
    assert not set(said) & set("\x00\x1b\u202e\u2066\ufeff")
    assert visit.complaints() == []
    assert visit.requests() == [visit.path.as_uri()]


def test_markup_that_got_in_would_not_become_elements_and_no_address_is_fetched(browser: Chrome, path: Path) -> None:
    visit = Visit(browser, path)
    with pytest.raises(Exception, match="TrustedHTML"):
        visit.js("document.body.innerHTML = '<b>x</b>'")
    visit.js("const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i)")
    assert any("Content Security Policy" in line for line in visit.complaints())
    assert visit.requests() == [visit.path.as_uri()]


def test_five_thousand_samples_are_usable_within_two_seconds(browser: Chrome, tmp_path: Path) -> None:
    answer = "word " * 60
    for name, number in (("alpha", 556), ("beta", 10)):
        long = {"answer": answer, "query": None}
        write_run(tmp_path / "runs" / name, name, number, every=len(name), change=lambda *_, fields=long: fields)
    page = page_of(tmp_path / "runs", tmp_path / "page.html")
    visit = Visit(browser, page)
    visit.keys("/")
    visit.keys("word multikey")
    visit.wait("document.getElementById('found').textContent === '1,668 of 5,004 samples'")
    assert 0 < visit.busy() < 2
    assert visit.js("return document.querySelectorAll('#list .row').length") < 60
    visit.js("const list = document.getElementById('list'); list.scrollTop = list.scrollHeight")
    visit.wait("document.querySelector('#list .row[aria-posinset=\"1668\"]') !== null")
    visit.choose("#relation", "A right, B wrong")
    assert visit.complaints() == []


def test_a_sample_of_a_hundred_thousand_tokens_does_not_hold_the_page_up(browser: Chrome, tmp_path: Path) -> None:
    def long(*_: Any) -> dict[str, Any]:
        return {"answer": "token " * 100_000, "query": "key " * 100_000, "references": ("token",)}

    write_run(tmp_path / "runs" / "a", "alpha", 2, tasks=TASKS[:1], lengths=LENGTHS[:1], change=long)
    page = page_of(tmp_path / "runs", tmp_path / "page.html")
    visit = Visit(browser, page)
    visit.js("document.getElementById('list').focus()")
    visit.keys(DOWN)
    assert "more characters]" in visit.texts("#sample")[0]
    assert 0 < visit.busy() < 2
