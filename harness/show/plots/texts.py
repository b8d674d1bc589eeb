"""Texts in pictures: names that can do nothing, and that fit where they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from matplotlib.backends import backend_agg
from matplotlib.font_manager import FontProperties, findfont, get_font

from harness.show.plain import plain
from tasks.metrics import Unit
from tasks.suite import short_length

FAMILY = "DejaVu Sans"
DPI = 100.0
LONGEST = 60  # of a name as it is kept before it is fitted
METRICS = {"acc": "accuracy", "acc_norm": "accuracy, by length", "bits_per_byte": "bits per byte"}


def written(text: str) -> str:
    r"""A name in letters that the font has; others, and what would break a line, as their code such as `\u4e2d`."""
    known = _letters()
    return "".join(letter if ord(letter) in known else f"\\u{ord(letter):04x}" for letter in plain(text)[: 4 * LONGEST])


def width_of(text: str, size: float = 7.0) -> float:
    """How wide a text is in inches, in points `size`."""
    font = FontProperties(family=FAMILY, size=size)
    width: float = _renderer().get_text_width_height_descent(text, font, False)[0]
    return width / DPI


def fitted(text: str, inches: float, size: float = 7.0) -> str:
    """A name no wider than that, without its middle where it is too long: names differ at their ends."""
    text = written(text)
    if width_of(text, size) <= inches:
        return text
    for kept in range(min(len(text), LONGEST) - 1, 1, -1):
        head = (kept + 1) // 2
        short = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if width_of(short, size) <= inches:
            return short
    return f"{text[:1]}…"


def fitted_names(names: list[str], inches: float, size: float = 7.0) -> dict[str, str]:
    """Names as `fitted` makes them, numbered where two became one."""
    short = {name: fitted(name, inches, size) for name in names}
    shown = list(short.values())
    return {
        name: f"{fitted(name, inches - 0.2, size)} {number}" if shown.count(short[name]) > 1 else short[name]
        for number, name in enumerate(names, 1)
    }


def length_text(length: float) -> str:
    """A length in tokens: `4K`, `700`, `1M`."""
    whole = int(length)
    return f"{whole >> 20}M" if whole and whole % (1 << 20) == 0 else short_length(whole)


def bytes_text(size: float) -> str:
    """An amount of memory: `164 KiB`."""
    for unit, one in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size:.0f} B"


def count_text(number: float) -> str:
    """A number of steps: `2,000`, `20K`."""
    return f"{number / 1000:g}K" if number >= 10_000 and number % 100 == 0 else f"{number:,.0f}"


def metric_text(metric: str, unit: Unit) -> str:
    """What an axis shows."""
    name = METRICS.get(metric, written(metric.replace("_", " ")))
    return f"{name} (%)" if unit == "share" else name


def panel_names(kinds: Sequence[tuple[str, str]]) -> list[str]:
    """What panels of a task and a metric each are called: by the metric only where a task has several."""
    tasks = [task for task, _ in kinds]
    return [f"{task}, {metric}" if tasks.count(task) > 1 else task for task, metric in kinds]


def scaled(value: float | None, unit: Unit) -> float:
    """A value as it is drawn: shares in percent, and NaN for none."""
    return float("nan") if value is None else value * 100 if unit == "share" else value


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FAMILY))).get_charmap())


@lru_cache(maxsize=1)
def _renderer() -> Any:  # of matplotlib's untyped part
    made: Callable[..., Any] = backend_agg.RendererAgg
    return made(1, 1, DPI)
