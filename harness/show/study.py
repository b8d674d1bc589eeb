"""A study as tables, in a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.show.plain import markdown, plain
from harness.study.plan import Study
from harness.study.results import StudyResults
from harness.study.summary import CAPACITY, Difference, ModelSummary, Spread, capacity, summarise
from harness.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

HIGHER, LOWER = "▲", "▼"
NAMES, LEAST_NAME = 4, 20  # names take a fourth of a terminal at most, but that many characters
GAP = 2  # between columns


def print_study(results: StudyResults, tests: Sequence[Any], on: Console) -> None:
    """Print the tables of a study, as far as it has come.

    Args:
        results: of the study.
        tests: its kinds of rows.
        on: the terminal.
    """
    for title, header, rows in _tables(results, tests):
        names = min(max(len(row[0]) for row in (header, *rows)), max(on.width // NAMES, LEAST_NAME))
        for part in _parts(header, rows, on.width - names):
            on.print(_drawn(title, header, rows, part, names))
            on.print()
            title = ""
    for note in notes(results, tests):
        on.print(plain(note), markup=False)


def _parts(header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Iterator[list[int]]:
    """The columns behind the names, shared out among tables that fit into a terminal."""
    part: list[int] = []
    used = 0
    for column in range(1, len(header)):
        lines = (*_heading(header[column]).split("\n"), *(row[column] for row in rows))
        width = GAP + max(len(line) for line in lines)
        if part and used + width > room:
            yield part
            part, used = [], 0
        part, used = [*part, column], used + width
    yield part


def _drawn(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], part: Sequence[int], names: int
) -> RichTable:
    """One table of some columns, cells on one line each."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(plain(title)) if title else None, title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    table.add_column(Text(plain(header[0])), width=names, overflow="fold", vertical="bottom")
    for column in part:
        table.add_column(Text(_heading(header[column])), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(plain(row[column])) for column in (0, *part)))
    return table


def _heading(label: str) -> str:
    """The heading of a column on several short lines."""
    return plain(label).replace(" @", "\n@").replace(", ", ",\n")


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
    done = results.done
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
    if (shared := max((result.get("together", 1) for result in results.found.values()), default=1)) > 1:
        found.append(f"Times are those of up to {shared} runs that shared a device.")
    found += _cautions(study, models)
    for run, words in results.failed():
        found.append(f"{run.words} failed: {words}")
    missing = [model for model in study.models if model not in {summary.name for summary in models}]
    hopeless = [model for model in missing if results.has_failed(model)]
    if hopeless:
        found.append(f"Failed at every rate: {'; '.join(hopeless)}.")
    if untrained := [model for model in missing if model not in hopeless]:
        found.append(f"Not trained yet: {'; '.join(untrained)}.")
    return found


def _cautions(study: Study, models: Sequence[ModelSummary]) -> list[str]:
    """What keeps a comparison from being an equal one, or from being the best that a model can do."""
    from gdn2.matching import EQUAL, unequal

    count = study.seeds.count
    few = [f"{model.name} ({model.seeds})" for model in models if model.seeds < count]
    falling = [
        f"{model.name} ({model.seeds - model.converged} of {counted(model.seeds, 'seed')})"
        for model in models
        if model.converged is not None and model.converged < model.seeds
    ]
    edges = [f"{model.name} ({model.rate:g})" for model in models if model.at_edge]
    like = next((model for model in models if model.name == study.reference), None)
    sizes = [] if like is None else [(model.name, model.parameters[0]) for model in models]
    states = [
        f"{model.name} ({'grows' if model.state_floats is None else f'{model.state_floats:,} floats'})"
        for model in models
        if like is not None and model.state_floats != like.state_floats
    ]
    said = {
        f"Fewer than {counted(count, 'seed')}": few,
        f"Parameters differ from those of {study.reference} by more than {EQUAL:.0%}": (
            [] if like is None else unequal(sizes, like.parameters[0])
        ),
        f"State differs from that of {study.reference}": states,
        "The validation loss still fell at the end": falling,
        "Looked at too seldom to say whether the validation loss still fell": [
            model.name for model in models if model.converged is None
        ],
        "The best rate is at the edge of the grid": edges,
    }
    return [f"{words}: {'; '.join(names)}." for words, names in said.items() if names]


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
    if found.reach is not None:
        text += f" ± {100 * found.reach:.1f}"
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
