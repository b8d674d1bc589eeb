"""`tasks list` and `tasks show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.registry import list_suites, list_tasks

HEAD, TAIL = 600, 500  # characters of a long prompt that are shown


def print_tasks(console: Console) -> None:
    """Tasks and suites, as tables."""
    tasks = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="tasks", title_justify="left")
    for title in ("task", "family", "lengths", "metric", "what it asks"):
        tasks.add_column(title, no_wrap=title != "what it asks")
    for info in list_tasks():
        shipped = "–".join(dict.fromkeys(_short(length) for length in (*info.lengths[:1], *info.lengths[-1:])))
        lengths = f"{shipped}, any" if shipped else ""
        tasks.add_row(info.name, info.family, lengths, info.metric, info.description)
    suites = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="suites", title_justify="left")
    for title in ("suite", "columns", "what it is"):
        suites.add_column(title, no_wrap=title != "what it is")
    for suite in list_suites():
        suites.add_row(suite.name, str(len(suite.columns)), suite.description)
    console.print(tasks)
    console.print(suites)
    console.print(
        "a task with lengths is written niah_single_1@1024; `tasks new NAME` begins one of your own", style="dim"
    )


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


def _short(length: int) -> str:
    return f"{length // 1024}K" if length >= 1024 and length % 1024 == 0 else str(length)
