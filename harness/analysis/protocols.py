"""What two cells were asked otherwise: what keeps them from being compared, and what is only to be known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from harness.analysis.sides import Shown
from harness.records.added import UNKNOWN
from harness.records.choice import KEYS, difference_in_words
from harness.records.protocol import TaskProtocol

HARMLESS = ("stops_at_references",)
"""Fields of a task's protocol that change when a generation ends, not what it scores."""
UNSAID = ("seed", "shots", "version", "generator")
"""Fields that are None where a record was added from lm-eval, and does not say."""
OF_THE_MODEL = ("dtype", "lm_eval")
"""Of a run's protocol: what a model may be run in, as its tokenizer is."""


@dataclass(frozen=True)
class Differences:
    """What B was asked otherwise than A.

    Attributes:
        other: what makes it another question: version, seed, generator, examples, data, context prefix, …
        known: what does not, but may move numbers: dtype, version of lm-eval, ends of text.
        has_other_tokenizer: whether samples that are filled to the token have other texts.
    """

    other: tuple[str, ...]
    known: tuple[str, ...]
    has_other_tokenizer: bool


def differences(a: Shown, b: Shown) -> Differences:
    """Compare the protocols of two numbers of one place; each difference in words, B's value first."""
    task, (of_a, of_b) = a.cell.protocol.name, (a.run.record.protocol, b.run.record.protocol)
    names = [item.name for item in fields(TaskProtocol) if item.name not in KEYS]
    said = {
        name: _said(name, getattr(b.cell.protocol, name), getattr(a.cell.protocol, name), task)
        for name in names
        if not (name == "generator" and a.cell.protocol.generator is None)  # an old record does not say
    }
    said["context_prefix"] = _said("context_prefix", b.cell.context_prefix, a.cell.context_prefix, task)
    said["decoding"] = _said("decoding", of_b.decoding, of_a.decoding, task)
    said["data"] = _data(a, b)
    said["max_length"] = _window(a, b)
    known = [said.pop(name) for name in HARMLESS]
    known += [_said(name, getattr(of_b, name), getattr(of_a, name), task) for name in OF_THE_MODEL]
    known += [record.added.remark for record in (a.run.record, b.run.record) if record.added is not None]
    return Differences(
        other=tuple(text for text in said.values() if text is not None),
        known=tuple(text for text in known if text is not None),
        has_other_tokenizer=UNKNOWN not in (of_a.tokenizer_sha256, of_b.tokenizer_sha256)
        and of_a.tokenizer_sha256 != of_b.tokenizer_sha256,
    )


def _said(name: str, have: Any, want: Any, task: str) -> str | None:
    """A difference in words; what a record that was added does not say is none."""
    if UNKNOWN in (have, want) or (name in UNSAID and None in (have, want)):
        return None
    return difference_in_words(name, have, want, task)


def _data(a: Shown, b: Shown) -> str | None:
    of_a, of_b = a.cell.protocol.data, b.cell.protocol.data
    if of_a is None or of_b is None:
        return None
    other = [name for name in sorted({*of_a, *of_b}) if of_a.get(name) != of_b.get(name)]
    return f"other data ({', '.join(other)})" if other else None


def _window(a: Shown, b: Shown) -> str | None:
    """The window of a text without a length is what it is read in; elsewhere it only needs to hold the request."""
    have, want = b.cell.protocol.max_length, a.cell.protocol.max_length
    is_text = a.score.unit in ("perplexity", "bits") and a.cell.protocol.length is None
    is_cut = a.cell.truncated or b.cell.truncated
    is_known = have is not None and want is not None
    return f"window of {have} tokens instead of {want}" if is_known and have != want and (is_text or is_cut) else None
