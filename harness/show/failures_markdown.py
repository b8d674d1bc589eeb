"""Why a model failed, as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.failures import Contrast, Failures, Tally
from harness.analysis.judged_runs import JudgedAnswer
from harness.show.failures import by_place, contrast_remarks, percent, place_of, spaced, used, won_by
from harness.show.plain import markdown
from tasks.verdicts import MEANINGS, TITLES, VERDICTS, Verdict


def failures_to_markdown(
    failures: Sequence[Failures],
    found: Contrast | None,
    answers: Sequence[JudgedAnswer] = (),
    pairs: Sequence[tuple[JudgedAnswer, JudgedAnswer]] = (),
) -> str:
    """The tables, then answers to read with their needle in bold."""
    lines = [line for each in failures for line in _failures(each)]
    if found is not None:
        lines += _contrast(found)
    for answer in answers:
        lines += ["", f"**{TITLES[answer.verdict]}**, {markdown(place_of(answer))}", "", *_facts(answer)]
        lines.append(f"- answer: {_text(answer.sample.answer or '')}")
    for a, b in pairs:
        lines += ["", f"**{won_by(a)}**, {markdown(place_of(a))}", "", *_facts(a)]
        for side, answer in (("A", a), ("B", b)):
            lines.append(f"- answer of {side} ({TITLES[answer.verdict]}): {_text(answer.sample.answer or '')}")
    return "\n".join(lines) + "\n"


def _failures(failures: Failures) -> Iterator[str]:
    total = failures.total
    yield f"## Why answers are wrong: {markdown(failures.model.label)}"
    yield ""
    yield "| verdict | n | % | |"
    yield "| --- | ---: | ---: | --- |"
    for verdict, count in total.counts.items():
        if count:
            yield f"| {TITLES[verdict]} | {count} | {percent(count / total.n)} | {MEANINGS[verdict]} |"
    yield ""
    shown = [verdict for verdict in VERDICTS if total.counts[verdict]]
    for name, tallies in failures.groups.items():
        if tallies:
            yield from _group(name, tallies, shown)
    for note in failures.model.notes:
        yield f"- {markdown(note)}"
    if failures.model.unjudged:
        yield f"- without verdicts: {markdown(', '.join(failures.model.unjudged))}"


def _group(name: str, tallies: Sequence[Tally], shown: Sequence[Verdict]) -> Iterator[str]:
    titles = [name, "n", "score", "answered", "right when answered", *(TITLES[verdict] for verdict in shown)]
    yield f"| {' | '.join(titles)} |"
    yield "| --- |" + " ---: |" * (len(titles) - 1)
    for tally in tallies:
        shares = [percent(share) for share in (tally.score, tally.answered, tally.score_when_answered)]
        counts = [str(tally.counts[verdict]) for verdict in shown]
        yield f"| {' | '.join([markdown(tally.label), str(tally.n), *shares, *counts])} |"
    yield ""


def _contrast(found: Contrast) -> Iterator[str]:
    rows, columns = used(found)
    yield f"## {markdown(found.a)} (A, rows) beside {markdown(found.b)} (B, columns)"
    yield ""
    yield f"| | {' | '.join(TITLES[verdict] for verdict in columns)} |"
    yield "| --- |" + " ---: |" * len(columns)
    for verdict in rows:
        yield f"| {TITLES[verdict]} | {' | '.join(str(found.crossed[verdict, other]) for other in columns)} |"
    yield ""
    yield "| right | n | both | only A | only B | neither |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for label, numbers in by_place(found):
        yield f"| {markdown(label)} | {' | '.join(map(str, numbers))} |"
    yield ""
    for sentence in contrast_remarks(found):
        yield f"- {markdown(sentence)}"


def _facts(answer: JudgedAnswer) -> Iterator[str]:
    sample = answer.sample
    if sample.query:
        yield f"- asked: {_text(sample.query)}"
    yield f"- right: {_text(', '.join(sample.references))}"
    if sample.excerpt is not None:
        before, needle, behind = map(_text, sample.excerpt)
        yield f"- context: …{before} <b>{needle}</b> {behind}…"


def _text(text: str) -> str:
    return markdown(spaced(text))
