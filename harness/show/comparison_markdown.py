"""A comparison as GitHub Markdown: the matrix of more than two models, then every pair task by task."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.comparison import MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.show import comparison_text as text
from harness.show.plain import markdown


def comparison_to_markdown(comparison: ModelComparison) -> str:
    """Tables with their notes below; a verdict is bold."""
    notes = text.Notes()
    lines = [f"**{markdown(comparison.title)}**: {', '.join(map(markdown, comparison.models))}", ""]
    if len(comparison.models) > 2:
        lines += [*_matrix(comparison), "", text.MATRIX_LEGEND, ""]
    for pair in comparison.pairs:
        if pair.tasks:
            lines += [*_pair(pair, notes), ""]
    below = [
        text.legend(comparison),
        f"{text.corrected(comparison.tests).capitalize()}.",
        *text.apart_alone(comparison),
    ]
    below += [f"[{place}] {markdown(note)}" for place, note in enumerate(notes.texts, 1)]
    below += [markdown(sentence) for sentence in text.sentences(comparison)]
    return "\n".join([*lines, "  \n".join(below)]) + "\n"


def _matrix(comparison: ModelComparison) -> Iterator[str]:
    pairs = {(pair.a, pair.b): pair for pair in comparison.pairs}
    yield "| | " + " | ".join(map(markdown, comparison.models)) + " |"
    yield "| --- |" + " ---: |" * len(comparison.models)
    for row in comparison.models:
        fields = (_against(pairs.get((row, other)), pairs.get((other, row))) for other in comparison.models)
        yield f"| {markdown(row)} | {' | '.join(fields)} |"


def _against(pair: PairComparison | None, exchanged: PairComparison | None) -> str:
    shown = pair or exchanged
    if shown is None:
        return ""
    if not shown.tasks:
        return "—"
    wins, losses = shown.count("A better"), shown.count("B better")
    ours = f"{wins}/{losses}" if pair is not None else f"{losses}/{wins}"
    counts = f"{ours}/{shown.count('not told apart') + shown.count('not tested')}"
    mean = text.mean_of(shown)
    if mean is None:
        return counts
    value = text.number(mean.difference if pair is not None else -mean.difference, mean.unit, signed=True)
    value = value if mean.verdict.startswith("not") else f"**{value}**"
    return f"{value}<br>{counts}<br>p {_p(mean)}"


def _pair(pair: PairComparison, notes: text.Notes) -> Iterator[str]:
    yield f"A = {markdown(pair.a)}, B = {markdown(pair.b)}"
    yield ""
    common = text.common_remarks(pair)
    for remark in common:
        yield f"*{markdown(remark)}*  "
    yield ""
    yield "| task | A | B | A−B | 95 % | wins/losses/ties | found | p | |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for task in pair.tasks:
        own = [remark for remark in text.remarks(task) if remark not in common]
        marks = "".join(f"[{number}]" for number in notes.numbers(own))
        name = (
            markdown(text.label(task, pair)) + ("" if task.higher_is_better else " ↓") + (f" {marks}" if marks else "")
        )
        values = [text.number(task.a, task.unit), text.number(task.b, task.unit)]
        values += [text.number(task.difference, task.unit, signed=True), text.interval(task.low, task.high, task.unit)]
        values += [text.counts(task), text.found(task), _p(task), _verdict(task)]
        yield f"| {name} | {' | '.join(values)} |"
    for mean in pair.means:
        values = [text.number(mean.difference, mean.unit, signed=True), text.interval(mean.low, mean.high, mean.unit)]
        values += ["", text.found(mean), _p(mean), _verdict(mean)]
        yield f"| *mean of {markdown(mean.label)} ({mean.places})* | | | {' | '.join(values)} |"


def _p(row: TaskComparison | MeanComparison) -> str:
    return text.p_value(row.p_corrected).replace("<", "&lt;")


def _verdict(row: TaskComparison | MeanComparison) -> str:
    return row.verdict if row.verdict.startswith("not") else f"**{row.verdict}**"
