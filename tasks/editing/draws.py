"""What a memory-editing document says, before any token is counted.

That is its keys, values, edits and question, and what each answer would mean.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.editing.spec import EditSpec
from tasks.subset import text_hash
from tasks.text import haystack
from tasks.text.kinds import SIMPLE, Corpus, draw_distinct
from tasks.text.planting import Frame

OPENING = (
    "Special magic {kind}s are hidden within the following text. Some of them change later in the text. "
    "Make sure to memorize the latest ones. I will quiz you about them afterwards.\n"
)
STATE = "The special magic {kind} for {key} is {value}."
REWRITE = "The special magic {kind} for {key} has changed, it is now {value}."
WITHDRAW = "The special magic {kind} for {key} has been withdrawn, it is void."
QUESTION = "\nWhat is the latest special magic {kind} for {key} mentioned in the provided text?"
VOID = " If it has been withdrawn, answer none."
ANSWER_PREFIX = "The latest special magic {kind} for {key} mentioned in the provided text is"
PAIR = "{key}: {value}."
WITHHELD = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class EditDraw:
    """What chance decides in one sample."""

    spec: EditSpec
    index: int
    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    """The values of each key, in the order in which it takes them."""
    edits: tuple[int, ...]
    """Key of each edit, in order."""
    first: tuple[int, ...]
    """Keys in the order in which their first values are stated."""
    asked: tuple[int, ...]
    """The key asked; for `recall` the keys asked before it as well, which the prompt answers."""
    places: tuple[float, ...]
    """Where in the context each statement is put, from 0 to 1."""
    gap: float
    """A random number from 0 to 1 that decides the distance of `recall`."""
    start_unit: int

    @property
    def anchor(self) -> int:
        """Index of the statement from which the distance counts: the asked key's last edit, or the last of all."""
        if self.spec.probe != "overwrite":
            return len(self.places) - 1
        return self.spec.keys + max(i for i, key in enumerate(self.edits) if key == self.asked[-1])

    def statements(self) -> list[str]:
        """The statements in order: first values, then edits; for `recall` one block of pairs."""
        if self.spec.probe == "recall":
            return [" ".join(PAIR.format(key=self.keys[key], value=self.values[key][0]) for key in self.first)]
        names = {"kind": self.spec.value_name}
        texts = [STATE.format(key=self.keys[key], value=self.values[key][0], **names) for key in self.first]
        done = dict.fromkeys(range(self.spec.keys), 0)
        for key in self.edits:
            done[key] += 1
            if self.spec.probe == "forget":
                texts.append(WITHDRAW.format(key=self.keys[key], **names))
            else:
                texts.append(REWRITE.format(key=self.keys[key], value=self.values[key][done[key]], **names))
        return texts

    def frame(self) -> Frame:
        """The texts around the context; for `recall` the keys asked before, with their values."""
        *earlier, asked = self.asked
        if self.spec.probe == "recall":
            lines = [PAIR.format(key=self.keys[key], value=self.values[key][0]) + "\n" for key in earlier]
            return Frame(head="", tail="\n" + "".join(lines), answer_prefix=f"{self.keys[asked]}:")
        names = {"key": self.keys[asked], "kind": self.spec.value_name}
        tail = QUESTION + (VOID if self.spec.probe == "forget" else "")
        return Frame(
            head=OPENING.format(**names), tail=tail.format(**names), answer_prefix=ANSWER_PREFIX.format(**names)
        )

    def outputs(self) -> list[str]:
        """The right answer."""
        return [WITHHELD] if self.question == "forget_withdrawn" else [self.values[self.asked[-1]][-1]]

    @property
    def question(self) -> str:
        """A key of `tasks.editing.scoring.OUTCOMES`: the probe, and which of its two questions."""
        if self.spec.probe != "forget":
            return self.spec.probe
        return "forget_kept" if self.index % 2 else "forget_withdrawn"

    def facts(self) -> dict[str, Any]:
        """What the document says about itself: every value of its text with its key and role, and its coordinates."""
        given = [(key, position) for key, own in enumerate(self.values) for position in range(len(own))]
        return {
            "outputs": self.outputs(),
            "question": self.question,
            "values": [self.values[key][position] for key, position in given],
            "roles": [self._role(key, position) for key, position in given],
            "keys": [self.keys[key] for key, _ in given],
            "query": self.keys[self.asked[-1]],
            "pair": self.index // 2,
            "cluster": text_hash(str(self.start_unit), *self.keys, *(value for own in self.values for value in own)),
            "task": self.spec.task,
            "length": self.spec.length,
            "index": self.index,
            "seed": self.spec.seed,
            "generator": "exact",
        }

    def _role(self, key: int, position: int) -> str:
        """What it means to answer with value `position` of `key`."""
        if key == self.asked[-1]:
            if self.question == "forget_withdrawn":
                return "leaked"
            return "right" if position == len(self.values[key]) - 1 else "stale"
        if self.spec.probe == "retention":
            return "edited" if key < self.spec.num_edited else "scrambled"
        return "swapped"


def draw(spec: EditSpec, index: int) -> EditDraw:
    """Everything random about sample `index`; raises DataNotStaged without its haystack."""
    group = index // (2 if spec.probe == "forget" else spec.queries)
    rng, own = _rng(spec, f"{group}"), _rng(spec, f"{index}|question")
    corpora = [_corpus(spec.haystack)]
    rewrites = 0 if spec.probe == "forget" else spec.updates
    per_key = [1 + (rewrites if key < spec.num_edited else 0) for key in range(spec.keys)]
    keys = draw_distinct(rng, SIMPLE[spec.key], spec.keys, what=spec.key, absent_from=corpora)
    pool = iter(draw_distinct(rng, SIMPLE[spec.value], sum(per_key), what=spec.value, absent_from=corpora, taken=keys))
    values = tuple(tuple(next(pool) for _ in range(count)) for count in per_key)
    edits = [key for key in range(spec.num_edited) for _ in range(spec.updates)]
    rng.shuffle(edits)
    count = 1 if spec.probe == "recall" else spec.keys + len(edits)
    return EditDraw(
        spec=spec,
        index=index,
        keys=tuple(keys),
        values=values,
        edits=tuple(edits),
        first=tuple(rng.sample(range(spec.keys), spec.keys)),
        asked=_asked(spec, rng.sample(range(spec.keys), spec.queries), own, index),
        places=tuple(sorted(rng.random() for _ in range(count))),
        gap=own.random(),
        start_unit=rng.randrange(len(haystack.load(spec.haystack).units)),
    )


def _asked(spec: EditSpec, drawn: Sequence[int], own: random.Random, index: int) -> tuple[int, ...]:
    """The key asked in this document, after those asked before it."""
    if spec.probe == "recall":
        return tuple(drawn[: index % spec.queries + 1])
    if spec.probe == "overwrite":
        return (drawn[0],)
    if spec.probe == "forget" and index % 2 == 0:
        return (own.randrange(spec.num_edited),)
    return (own.randrange(spec.num_edited, spec.keys),)


def _rng(spec: EditSpec, which: str) -> random.Random:
    identity = f"{spec.task}|{spec.length}|{spec.seed}|{which}"
    return random.Random(hashlib.sha256(identity.encode()).digest())


@lru_cache(maxsize=4)
def _corpus(kind: haystack.HaystackKind) -> Corpus:
    return Corpus(" ".join(haystack.load(kind).units))
