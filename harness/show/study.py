"""A study as tables, in a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.show.plain import markdown, plain
from harness.study.results import StudyResults
from harness.study.summary import CAPACITY, Difference, ModelSummary, Spread, capacity, summarise

if TYPE_CHECKING:
    from rich.console import Console

HIGHER, LOWER = "▲", "▼"


def print_study(results: StudyResults, tests: Sequence[Any], on: Console) -> None:
    """Print the tables of a study, as far as it has come.

    Args:
        results: of the study.
        tests: its kinds of rows.
        on: the terminal.
    """
    from rich.table import Table

    for title, header, rows in _tables(results, tests):
        table = Table(title=plain(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for place, name in enumerate(header):
            table.add_column(plain(name), justify="left" if place == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*(plain(cell) for cell in row))
        on.print(table)
        on.print()
    for note in notes(results, tests):
        on.print(plain(note), markup=False)


def study_markdown(results: StudyResults, tests: Sequence[Any]) -> str:
    """The same tables for a page on GitHub."""
    parts = []
    for title, header, rows in _tables(results, tests):
        lines = [" | ".join(markdown(cell) for cell in row) for row in (header, *rows)]
        ruler = " | ".join(["---", *["---:"] * (len(header) - 1)])
        parts.append(
            "\n".join([f"**{markdown(title)}**", "", *(f"| {line} |" for line in (lines[0], ruler, *lines[1:]))])
        )
    return "\n\n".join([*parts, "  \n".join(markdown(note) for note in notes(results, tests))]) + "\n"


def notes(results: StudyResults, tests: Sequence[Any]) -> list[str]:
    """What is to be known of the tables."""
    study, models = results.study, summarise(results)
    done = len(results.found)
    found = [
        f"Accuracy in percent, mean over seeds ± half the 95 % interval (Student's t); {HIGHER} {LOWER}: higher or "
        f"lower than {study.reference} by Welch's test over seeds, corrected by Holm over the table, p < 0.05.",
    ]
    if any(getattr(task, "pairs", 0) == getattr(task, "keys", -1) for task in tests):
        found.append(
            f"Held: the largest number of pairs up to which the mean accuracy is at least {CAPACITY:.0%} in every test."
        )
    if done < results.total:
        found.append(f"{done} of {results.total} runs are done; the tables have what there is.")
    for model in models:
        seeds = len(next(iter(model.tests.values())).values)
        if model.converged < seeds:
            found.append(f"{model.name}: the validation loss of {seeds - model.converged} of {seeds} seeds still fell.")
        if model.at_edge:
            found.append(f"{model.name}: its best rate, {model.rate:g}, is at the edge of the grid.")
    for run, words in results.failed():
        found.append(f"{run.model}, rate {run.rate:g}, seed {run.seed} failed: {words}")
    missing = [model for model in study.models if model not in {summary.name for summary in models}]
    if missing:
        found.append(f"Not trained yet: {'; '.join(missing)}.")
    return found


def _tables(results: StudyResults, tests: Sequence[Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    models, study = summarise(results), results.study
    labels = [task.label for task in tests]
    has_pairs = bool(models) and capacity(models[0], tests) is not None
    scores = [
        [
            model.name,
            *(_cell(model.tests.get(label), model.differences.get(label)) for label in labels),
            *([_count(capacity(model, tests))] if has_pairs else []),
        ]
        for model in models
    ]
    costs = [
        [
            model.name,
            f"{model.parameters[0]:,}",
            f"{model.parameters[1]:,}",
            "grows" if model.state_floats is None else f"{model.state_floats:,}",
            *(_loss(model, rate) for rate in study.rates),
            f"{model.seconds:.0f} s",
        ]
        for model in models
    ]
    return [
        (f"{study.name}: accuracy", ["model", *labels, *(["held"] if has_pairs else [])], scores),
        (
            f"{study.name}: sizes, validation loss by learning rate (the chosen one in brackets), time of a run",
            ["model", "parameters", "of mixers", "state floats", *(f"{rate:g}" for rate in study.rates), "time"],
            costs,
        ),
    ]


def _cell(found: Spread | None, difference: Difference | None) -> str:
    if found is None:
        return "—"
    text = f"{100 * found.mean:.1f}"
    if found.low is not None and found.high is not None:
        text += f" ± {50 * (found.high - found.low):.1f}"
    if difference is not None and difference.is_real:
        text += f" {HIGHER if difference.value > 0 else LOWER}"
    return text


def _count(pairs: int | None) -> str:
    return "—" if pairs is None else f"{pairs}"


def _loss(model: ModelSummary, rate: float) -> str:
    loss = model.losses.get(rate)
    if loss is None:
        return "failed"
    return f"[{loss:.3f}]" if rate == model.rate else f"{loss:.3f}"
