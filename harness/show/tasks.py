"""`tasks list` and `tasks show`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from basis.names import or_near
from harness.errors import UserError
from tasks import data
from tasks.registry import TaskInfo, list_suites, list_tasks
from tasks.suite import short_length

WIDE = 120  # columns of a terminal that holds lengths and metrics too
BETWEEN = 2  # columns that a table puts behind each of its own
HEAD, TAIL = 600, 500  # characters of a long prompt that are shown


def print_tasks(console: Console, words: Sequence[str] = ()) -> None:
    """Print tasks and suites, a line each: below 120 columns without lengths and metrics.

    Args:
        console: where to.
        words: what the name, family, description or suites of a task hold, each of them; case is ignored.

    Raises:
        UserError: nothing holds them all.
    """
    suites = list_suites()
    texts = {info.name: f"{info.name} {info.family} {info.description}" for info in list_tasks()}
    for suite in suites:
        for column in suite.columns:
            texts[column.task] = f"{texts.get(column.task, '')} {suite.name}"
    tasks = [info for info in list_tasks() if _holds(texts[info.name], words)]
    suites = [suite for suite in suites if _holds(f"{suite.name} {suite.description}", words)]
    if not tasks and not suites:
        known = sorted({info.family for info in list_tasks()})
        near = or_near(words[0], [*texts, *known]) if len(words) == 1 else ""
        held = " and ".join(map(repr, words))
        raise UserError(f"no task or suite holds {held}; families are {', '.join(known)}{near}")
    if tasks:
        console.print(_fitted(_task_table(tasks, is_wide=console.width >= WIDE), console.width))
    if suites:
        drawn = _table("suites", "suite", "columns", "data", "what it is")
        for suite in suites:
            needed = dict.fromkeys(name for task in suite.resolve() for name in task.data)
            drawn.add_row(suite.name, str(len(suite.columns)), _staged(needed), Text(suite.description))
        console.print(_fitted(drawn, console.width))
    console.print(
        "a task with lengths is written niah_single_1@1024; `tasks new NAME` begins one of your own", style="dim"
    )


def _holds(text: str, words: Sequence[str]) -> bool:
    return all(word.lower() in text.lower() for word in words)


def _task_table(tasks: Sequence[TaskInfo], *, is_wide: bool) -> Table:
    """Tasks under their families; on a wide terminal with lengths and metrics."""
    more = ("lengths", "metric") if is_wide else ()
    drawn = _table("tasks", "task", "data", *more, "what it asks")
    family = ""
    for info in tasks:
        if info.family != family:
            family = info.family
            drawn.add_row(Text(family, style="bold"))
        shipped = "–".join(dict.fromkeys(short_length(length) for length in (*info.lengths[:1], *info.lengths[-1:])))
        cells = (f"{shipped}, any" if shipped else "", info.metric) if is_wide else ()
        drawn.add_row(f"  {info.name}", _staged(info.data), *cells, Text(info.description))
    return drawn


def _table(title: str, *columns: str) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, no_wrap=True, overflow="ellipsis")
    return drawn


def _fitted(drawn: Table, width: int) -> Table:
    """The table with only its last column cut where the terminal is narrow."""
    *others, last = drawn.columns
    taken = sum(max(cell_len(str(cell)) for cell in (column.header, *column.cells)) + BETWEEN for column in others)
    last.max_width = max(width - taken - BETWEEN, 10)
    return drawn


def _staged(names: Iterable[str]) -> str:
    """Whether the data are here: nothing where none are needed."""
    listed = list(names)
    missing = [name for name in listed if not (data.data_dir() / name).is_file()]
    return "not staged" if missing else "staged" if listed else ""


def print_sample(name: str, sample: Mapping[str, Any], console: Console, *, full: bool) -> None:
    """A sample's facts, then its prompt with the answers marked."""
    facts = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("task", f"{name}, sample {sample.get('index', 0)}")
    facts.add_row("prompt tokens", f"{sample['prompt_tokens']:,}")
    for key in ("length", "fill", "depth", "distance", "needle_tokens", "query", "outputs", "seed", "sample_hash"):
        if sample.get(key) is not None:
            facts.add_row(key.replace("_", " "), _plain(sample[key]))
    console.print(facts)
    prompt: str = sample["prompt"]
    text = Text(prompt if full or len(prompt) <= HEAD + TAIL else _elided(prompt, sample.get("outputs") or []))
    for answer in sample.get("outputs") or []:
        text.highlight_words([str(answer)], style="bold green", case_sensitive=False)
    console.print()
    console.print(text)


def _elided(prompt: str, answers: list[str]) -> str:
    """Beginning, surroundings of the first answer, end."""
    place = prompt.find(str(answers[0])) if answers else -1
    parts = [prompt[:HEAD]]
    if HEAD < place < len(prompt) - TAIL:
        start, end = max(HEAD, place - TAIL // 2), min(len(prompt) - TAIL, place + TAIL // 2)
        parts += [_gap(start - HEAD), prompt[start:end], _gap(len(prompt) - TAIL - end)]
    else:
        parts.append(_gap(len(prompt) - HEAD - TAIL))
    return "".join([*parts, prompt[-TAIL:]])


def _gap(characters: int) -> str:
    return f"\n\n… {characters:,} characters …\n\n" if characters else ""


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
