"""Why a model failed, for programs: JSON with everything, CSV with a row a group, or a row a sample of two models."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from harness.analysis.failures import Contrast, Failures, Tally
from harness.analysis.judged_runs import JudgedAnswer
from harness.show.data import in_csv
from tasks.verdicts import VERDICTS

PAIR = ("task", "length", "index", "sample", "verdict_a", "verdict_b", "score_a", "score_b", "answered_a", "answered_b")


def failures_to_json(failures: Sequence[Failures], found: Contrast | None, answers: Sequence[JudgedAnswer] = ()) -> str:
    """Everything as JSON, with these answers as examples."""
    content: dict[str, Any] = {"models": [_model(each) for each in failures]}
    if found is not None:
        content["contrast"] = {
            "a": found.a,
            "b": found.b,
            "alike": found.alike,
            "only_a": found.only_a,
            "only_b": found.only_b,
            "verdicts": [{"a": a, "b": b, "n": count} for (a, b), count in sorted(found.crossed.items())],
            "pairs": [dict(zip(PAIR, _pair(a, b), strict=True)) for a, b in found.pairs],
        }
    if answers:
        content["examples"] = [_example(answer) for answer in answers]
    return json.dumps(content, indent=2) + "\n"


def failures_to_csv(failures: Sequence[Failures], found: Contrast | None) -> str:
    """A row a group of answers; of two models a row a sample that both were asked."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if found is not None:
        writer.writerow(PAIR)
        writer.writerows([in_csv(value) for value in _pair(*pair)] for pair in found.pairs)
        return text.getvalue()
    writer.writerow(["model", "by", "label", "n", "score", "answered", "score_when_answered", *VERDICTS])
    for each in failures:
        groups = [("all", (each.total,)), *each.groups.items()]
        for name, tallies in groups:
            for tally in tallies:
                found_here = _tally(tally)
                numbers = [found_here[key] for key in ("n", "score", "answered", "score_when_answered")]
                numbers += [tally.counts[verdict] for verdict in VERDICTS]
                writer.writerow([in_csv(cell) for cell in (each.model.label, name, tally.label, *numbers)])
    return text.getvalue()


def _model(failures: Failures) -> dict[str, Any]:
    return {
        "model": failures.model.label,
        "notes": list(failures.model.notes),
        "without_verdicts": list(failures.model.unjudged),
        "all": _tally(failures.total),
        "by": {name: [_tally(tally) for tally in tallies] for name, tallies in failures.groups.items()},
    }


def _tally(tally: Tally) -> dict[str, Any]:
    when = tally.score_when_answered
    return {
        "label": tally.label,
        "n": tally.n,
        "score": round(tally.score, 6),
        "answered": round(tally.answered, 6),
        "score_when_answered": None if when is None else round(when, 6),
        "verdicts": dict(tally.counts),
    }


def _pair(a: JudgedAnswer, b: JudgedAnswer) -> tuple[Any, ...]:
    same = a.task, a.length, a.sample.index, a.sample.sample
    return (*same, a.verdict, b.verdict, a.score, b.score, a.sample.answered, b.sample.answered)


def _example(answer: JudgedAnswer) -> dict[str, Any]:
    sample = answer.sample
    return {
        "task": answer.task,
        "length": answer.length,
        "index": sample.index,
        "verdict": answer.verdict,
        "score": answer.score,
        "answered": sample.answered,
        "depth": sample.depth,
        "query": sample.query,
        "references": list(sample.references),
        "answer": sample.answer,
        "excerpt": sample.excerpt,
        "tail": sample.tail,
    }
