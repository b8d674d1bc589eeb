"""The page of a report: a template filled with texts, one style, one script, and data that the script reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.report import Report
from harness.records.table import Row
from harness.show.lengths import length_remarks
from harness.show.plain import plain
from harness.show.report import facts, pairs
from harness.show.report.board import make_board, model_of
from harness.show.report.embed import policy, to_script_json
from harness.show.report.fields import LEVELS, kinds_in, make_bars, make_heatmaps
from harness.show.report.lines import HEIGHT, LEFT, RIGHT, WIDTH, make_charts
from harness.show.report.pairs import make_matrix
from harness.show.report.samples import browser_data

FOLDER = Path(__file__).resolve().parent
SCRIPTS = ("page.js", "tables.js", "pairs.js", "tips.js", "samples.js")
"""In the order in which they are put together into one script."""


def to_html(report: Report) -> str:
    """Write a report as one file of HTML that fetches nothing; equal reports give equal texts."""
    styles, script = asset("style.css"), "\n".join(asset(f"scripts/{name}") for name in SCRIPTS)
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            policy=policy(styles, script),
            styles=Markup(styles),
            script=Markup(script),
            data=Markup(to_script_json({"samples": browser_data(report)})),
            **_views(report),
        )
    )


def _views(report: Report) -> dict[str, Any]:
    """What the template shows, by the names that it has there."""
    colours = {entrant.title: place for place, entrant in enumerate(report.entrants)}

    def colour_of(row: Row) -> int | None:
        model = model_of(row, report.models)
        return None if model is None else colours.get(model[0])

    runs = facts.runs_of(report)
    bars = make_bars(report.entrants)
    return {
        "board": make_board(report.suite, report.table, report.models),
        "charts": make_charts(report.suite, report.table, colour_of),
        "chart_size": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
        "lengths": facts.length_facts(report),
        "length_remarks": length_remarks(report.lengths),
        "heatmaps": make_heatmaps(report.entrants),
        "levels": LEVELS,
        "matrix": None if report.comparison is None else make_matrix(report.comparison),
        "whisker_width": pairs.WIDTH,
        "bars": bars,
        "kinds": kinds_in(bars),
        "protocol": facts.protocol_facts(report),
        "runs": facts.run_facts(runs),
        "self_test": facts.self_test_facts(runs),
        "machines": facts.machine_facts(runs),
        "commands": facts.commands_of(report, runs),
        "newest": max(run.finished for run in runs)[:10],
    }


@lru_cache
def asset(name: str) -> str:
    """A file of the templates' folder, its lines ended by newlines."""
    return (FOLDER / "templates" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Texts are escaped, and what would reorder or hide text is written as its code."""
    return Environment(
        loader=FileSystemLoader(FOLDER / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return plain(value)
