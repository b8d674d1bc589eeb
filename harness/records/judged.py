"""What lm-eval's samples say of an answer beyond its score: its verdict, and what a reader needs of the prompt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.families import wanted_by
from tasks.verdicts import TAIL, Verdict, excerpt, is_cut, judge

if TYPE_CHECKING:
    from harness.records.record import Cell


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the verdict on one generated answer says; the fields of a `Sample`."""

    verdict: Verdict | None = None
    answered: bool | None = None
    excerpt: tuple[str, ...] | None = None
    tail: str | None = None


NOT_JUDGED = Judged()


def prompt_rooms(cells: Iterable[Cell]) -> dict[str, int]:
    """The tokens that a prompt may have, by lm-eval's name of each task of which requests were cut."""
    found = {}
    for cell in cells:
        tokens, window = cell.protocol.generation.get("max_gen_toks"), cell.protocol.max_length
        if cell.truncated and isinstance(tokens, int) and window is not None:
            found[cell.lm_eval_name] = window - tokens
    return found


def judged(row: Mapping[str, Any], room: int | None) -> Judged:
    """Judge a sample of lm-eval's.

    Args:
        row: as lm-eval's result or its sample file has it, with the prompt.
        room: tokens that a prompt may have; None where nothing was cut.

    Returns:
        `NOT_JUDGED` for what is no generated answer to a question about values, or has no score.
    """
    doc, prompt, score = row["doc"], _prompt(row.get("arguments")), _share(row)
    wanted = wanted_by(doc) if isinstance(doc, Mapping) else None
    if wanted is None or prompt is None or score is None:
        return NOT_JUDGED
    answer = row["filtered_resps"][0]
    found = judge(wanted, answer, score, prompt=prompt, is_cut=is_cut(doc, room))
    return Judged(
        verdict=found.verdict,
        answered=found.answered,
        excerpt=excerpt(wanted, prompt, answer),
        tail=prompt[-TAIL:],
    )


def _prompt(arguments: Any) -> str | None:
    """What the model read, from a row in memory or in a file."""
    first = arguments.get("gen_args_0", {}) if isinstance(arguments, Mapping) else (arguments or [()])[0]
    text = first.get("arg_0") if isinstance(first, Mapping) else first[0] if first else None
    return text if isinstance(text, str) else None


def _share(row: Mapping[str, Any]) -> float | None:
    """The score of a row by its main metric, from 0 to 1; of a pair its second number."""
    names = [name for name in ("acc", "contains", *row["metrics"]) if name in row and name in row["metrics"]]
    score = row[names[0]] if names else None
    score = score[1] if isinstance(score, (list, tuple)) and len(score) == 2 else score
    if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0 <= score <= 1:
        return None
    return float(score)
