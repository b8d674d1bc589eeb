"""Two sides at one place: which numbers they show, whether these may be compared, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.analysis.comparison import Place, TaskComparison
from harness.analysis.measure import (
    Contribution,
    Group,
    compare_groups,
    compare_pairs,
    group_of_score,
    group_of_terms,
)
from harness.analysis.pairing import MOST_OTHER_TOKENIZER, Pairs, pair
from harness.analysis.protocols import Differences, differences
from harness.analysis.seeds import compare_seeds
from harness.analysis.sides import Figure, GridPlace, Shown, Side
from harness.errors import UserError
from harness.records.samples import Sample, has_samples
from tasks.families import unit_of
from tasks.metrics import Unit


@dataclass(frozen=True)
class Compared:
    """A comparison at one place, with what each group of samples adds to it; None where that is not known."""

    task: TaskComparison
    parts: tuple[Contribution, ...] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A place that both sides have and that was not compared."""

    label: str
    reason: str


def compare_place(a: Side, b: Side, at: GridPlace, alpha: float, anyway: bool) -> Compared | LeftOut | None:
    """Compare two sides at a place.

    Args:
        a: one side.
        b: the other.
        at: the place.
        alpha: the level of the smallest difference that could have been found.
        anyway: whether numbers of different protocols are compared too.

    Returns:
        The comparison, or why there is none; None where a side does not have the place.
    """
    if not (a.has(at) and b.has(at)):
        return None
    if a.seeds or b.seeds:
        other_protocols = _among_seeds(a, b, at)
        if other_protocols and not anyway:
            return LeftOut(at.place.label, f"other protocols: {'; '.join(other_protocols)}")
        task = compare_seeds(a, b, at, alpha)
        return Compared(replace(task, notes=tuple(f"other protocols: {text}" for text in other_protocols)))
    if a.figures or b.figures:
        return Compared(_with_figures(a, b, at, alpha))
    one, other = a.shown(at), b.shown(at)
    if one is None or other is None:
        return None
    differ = differences(one, other)
    if differ.other and not anyway:
        return LeftOut(at.place.label, f"other protocols: {'; '.join(differ.other)}")
    return _compare_shown(at.place, one, other, differ, alpha)


def _among_seeds(a: Side, b: Side, at: GridPlace) -> list[str]:
    """What any seed of two trainings was asked otherwise than the first one."""
    shown = [found for side in (*a.members(), *b.members()) if (found := side.shown(at)) is not None]
    return list(dict.fromkeys(text for each in shown[1:] for text in differences(shown[0], each).other))


def _compare_shown(place: Place, a: Shown, b: Shown, differ: Differences, alpha: float) -> Compared | LeftOut:
    """Compare two numbers of runs, on their common samples if there are any."""
    unit, higher = a.score.unit, a.score.higher_is_better
    head: dict[str, Any] = {"place": place, "unit": unit, "higher_is_better": higher}
    notes = [*differ.known, *([f"other protocols: {'; '.join(differ.other)}"] if differ.other else [])]
    of_a, of_b = _samples(a, place), _samples(b, place)
    missing = [found for found in (of_a, of_b) if isinstance(found, str)]
    if isinstance(of_a, str) or isinstance(of_b, str):
        reasons = "; ".join(filter(None, missing))
        notes.append(f"unpaired, by the record alone{reasons and ': '}{reasons}")
    elif not (a.adds_up(place.metric, unit) and b.adds_up(place.metric, unit)):
        notes.append(f"unpaired, by the record alone: {place.metric} is no mean of what its documents score")
        return Compared(TaskComparison(**head, **_by_record(a, b, alpha), pairing="unpaired", notes=tuple(notes)))
    else:
        pairs = pair(partial(a.terms, place.metric, unit), partial(b.terms, place.metric, unit))
        if pairs is not None and len(pairs.a) and not _is_selected(pairs, differ):
            found, parts = compare_pairs(pairs, unit, higher, alpha)
            return Compared(TaskComparison(**head, **found, notes=tuple(notes)), (parts,))
        if not (differ.has_other_tokenizer or differ.other):
            return LeftOut(place.label, _nothing_in_common(pairs))
        notes.append(f"unpaired: {'filled by another tokenizer' if differ.has_other_tokenizer else 'other samples'}")
    group_a, parts_a = _group(a, of_a, place, unit)
    group_b, parts_b = _group(b, of_b, place, unit)
    found = compare_groups(group_a, group_b, unit, alpha)
    task = TaskComparison(**head, **found, pairing="unpaired", notes=tuple(notes))
    return Compared(task, _unpaired_parts(parts_a, parts_b))


def _by_record(a: Shown, b: Shown, alpha: float) -> dict[str, Any]:
    """Compare two numbers that are no means, so that no share of right answers says how sure they are."""
    one, other = (replace(group_of_score(each.score), is_share_of_right=False) for each in (a, b))
    return compare_groups(one, other, a.score.unit, alpha)


def _samples(shown: Shown, place: Place) -> Sequence[Sample] | str:
    """The samples behind a number, or why there are none; nothing for a run without any, which is said once for all."""
    if not has_samples(shown.run.folder):
        return ""
    try:
        found = shown.run.samples.get(shown.cell.lm_eval_name, [])
    except UserError as error:
        return str(error).replace(str(shown.run.folder), shown.run.record.run_id)
    if any(place.metric in sample.scores for sample in found):
        return found
    return f"{shown.run.record.run_id}: no samples of {place.label} with {place.metric}"


def _nothing_in_common(pairs: Pairs | None) -> str:
    if pairs is None:
        return "no common sample, although the protocol is the same"
    return f"none of {pairs.unscored} common samples has a finite score of both"


def _is_selected(pairs: Pairs, differ: Differences) -> bool:
    """Whether the common samples are a choice that the tokenizers made: those short enough for both."""
    common = len(pairs.a) + pairs.unscored
    smaller = common + min(pairs.only_a, pairs.only_b)
    return differ.has_other_tokenizer and common < MOST_OTHER_TOKENIZER * smaller


def _group(
    shown: Shown, samples: Sequence[Sample] | str, place: Place, unit: Unit
) -> tuple[Group, Contribution | None]:
    """One side's number, of its samples where it has any."""
    found = None
    if not isinstance(samples, str):
        found = group_of_terms(list(shown.terms(place.metric, unit).values()), unit)
    return found if found is not None else (group_of_score(shown.score), None)


def _unpaired_parts(a: Contribution | None, b: Contribution | None) -> tuple[Contribution, ...] | None:
    """What both sides' groups add to the difference; no group is on both sides."""
    if a is None or b is None:
        return None
    return (
        replace(a, groups=tuple(f"a:{name}" for name in a.groups)),
        Contribution(tuple(f"b:{name}" for name in b.groups), -b.parts, -b.errors, b.weights, False),
    )


def _with_figures(a: Side, b: Side, at: GridPlace, alpha: float) -> TaskComparison:
    """Compare with a published figure, by the binomial error that it must have had."""
    place, unit = at.place, unit_of(at.place.metric)
    notes: list[str] = []
    groups: list[Group] = []
    higher = unit not in ("perplexity", "bits")
    for side, other in ((a, b), (b, a)):
        shown = side.shown(at)
        if shown is not None:
            higher = shown.score.higher_is_better
            groups.append(group_of_score(shown.score))
            continue
        figure = side.figures[place]
        n = _samples_behind(figure, other.shown(at))
        notes.append(f"{side.label}: published in {side.source}, other protocol, unpaired{_assumed(n, unit)}")
        groups.append(Group(figure.value, n, None, n, unit == "share"))
    return TaskComparison(
        place=place,
        unit=unit,
        higher_is_better=higher,
        **compare_groups(groups[0], groups[1], unit, alpha),
        pairing="published",
        notes=tuple(notes),
    )


def _samples_behind(figure: Figure, ours: Shown | None) -> int:
    """How many samples a figure is taken to come from: of a whole data set as many as ours, which is whole too."""
    if figure.n is None and ours is not None and ours.cell.protocol.samples is None:
        return ours.score.n
    return figure.n or ASSUMED


ASSUMED = 500
"""Samples behind a published figure that does not say how many."""


def _assumed(n: int, unit: Unit) -> str:
    if unit != "share":
        return ""
    return f", taken to come from {n:,} samples"
