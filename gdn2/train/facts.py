"""Retrieval documents in words of their own: facts in running text, some of them rewritten, and questions behind it.

No wording of an evaluation is among them. Statements and questions are drawn from lists each and combined freely, kinds
and keys are words of the training text, values are numbers, words or uuids, and the haystack is training text. A
document is put together of token ids, since text that is encoded again for every batch would keep a GPU waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gdn2.train.retrieval import draw_uuid

if TYPE_CHECKING:
    from gdn2.train.corpus import Corpus

IGNORED, TEXT, ANSWER = range(3)  # what a position's target is

OPENINGS = (
    "", "", "", "Read this and keep in mind what it says.", "Notes:", "Below is a report. Questions come at its end.",
    "Some entries in this passage matter.", "Archive of the day.", "Please study the page.", "From the files:",
)  # fmt: skip
STATED = (
    "The {kind} of {key} is {value}.",
    "{key} has the {kind} {value}.",
    "For {key} the {kind} is {value}.",
    "Note that {value} is the {kind} of {key}.",
    "It was written that the {kind} belonging to {key} is: {value}.",
    "Someone gave {key} the {kind} {value}.",
    "Entry: {kind} of {key} = {value}.",
    "As for {key}, its {kind} reads {value}.",
    "One {kind} here is for {key}: {value}.",
    "Among other things, the {kind} assigned to {key} was {value}.",
    "Keep the {kind} {value} for {key}.",
    "In the list, {key} stands with the {kind} {value}.",
)
REWRITTEN = (
    "The {kind} of {key} was replaced by {value}.",
    "From now on the {kind} of {key} is {value}.",
    "{key} received a new {kind}: {value}.",
    "Correction: for {key} the {kind} is {value}.",
    "Later the {kind} belonging to {key} became {value}.",
    "An update gives {key} the {kind} {value}.",
    "{key} no longer keeps its old {kind} but has {value}.",
    "Instead, the {kind} for {key} reads {value}.",
)
ASKED = (
    "\nWhich {kind} does {key} have? {key} has the {kind}",
    "\nQuestion: what is the {kind} of {key}?\nAnswer:",
    "\nThe {kind} of {key} is",
    " The {kind} of {key}, as stated above, is",
    "\nTell me the {kind} of {key}. The {kind} that was given for {key} is",
    "\nName the {kind} for {key}.\nThe {kind} for {key} according to this passage is",
    "\n{key} and its {kind}? It is",
    "\nFind the {kind} belonging to {key}: the {kind} belonging to {key} that we read of is",
    "\nQ: {kind} of {key}\nA:",
    "\nWhat do the lines say about the {kind} of {key}? The {kind} of {key} found in the lines is",
    "\nRecall the {kind} which {key} has now. At present the {kind} of {key} in this page is",
    "\nIn summary, for {key} the {kind} written down here is",
    "\nThe {kind} of {key} {aside} is",
    "\nThe {kind} for {key} {aside} is",
    "\nWhat {kind} is for {key} {aside}? The {kind} for {key} {aside} is",
    "\nSay the {kind} of {key} {aside}. The {kind} of {key} {aside} reads",
)
ASIDES = (
    "shown here", "in the text", "from the page above", "given in these lines", "that the report has", "told before",
    "found further up", "as the notes have it", "in all of this", "that you have read", "written somewhere above",
)  # fmt: skip
NOUNS = (
    "number", "code", "score", "badge", "ticket", "price", "reading", "label", "mark", "sign", "level", "account",
    "name", "index", "weight", "colour", "tag", "seat", "room", "serial", "password", "address", "rank", "symbol",
)  # fmt: skip
MOST_ASKED = 4
SHORTEST = 128  # tokens of a document, unless its row is shorter
ROOM = 0.8  # share of a document that statements and questions may fill


class Document(NamedTuple):
    """A document as tokens.

    Attributes:
        ids: uint16 [N].
        kinds: what each is as a target, int8 [N]: IGNORED, TEXT or ANSWER.
    """

    ids: np.ndarray
    kinds: np.ndarray


class FactDocuments:
    """Draws such documents.

    Args:
        corpus: the words of kinds and keys, and the haystack.
        tokens: of the vocabulary, by id, as byte-level BPE writes them.
        end: the id between documents.
        encode: the ids of a text.
    """

    def __init__(self, corpus: Corpus, tokens: Sequence[str], end: int, encode: Callable[[str], list[int]]) -> None:
        self.words, self.stream, self.encode = corpus.key_words, corpus.stream, encode
        self.end, (self.newline,) = end, encode("\n")
        ends = np.array([token[-1:] in (".", "!", "?") for token in tokens])
        begins = np.array([token[:1] == "Ġ" and token[1:2].isupper() for token in tokens])
        begins[end] = True
        self.sentences = np.append(0, np.flatnonzero(ends[self.stream[:-1]] & begins[self.stream[1:]]) + 1)

    def draw(self, rng: random.Random, size: int, max_keys: int) -> Document | None:
        """Draw a document of at most so many tokens; None where statements and questions left too little for text."""
        kind, draw_key, draw_value = self._kind(rng), self._keys(rng), self._values(rng)
        keys = _distinct(draw_key, rng.randint(1, max_keys) if rng.random() < 0.7 else 1)
        rewrites = rng.random() < 0.4
        order = [key for key in keys for _ in range(1 + (rng.randint(0, 3) if rewrites else 0))]
        rng.shuffle(order)
        last, statements = dict[str, str](), list[list[int]]()
        stated, rewritten, asked = rng.choice(STATED), rng.choice(REWRITTEN), rng.choice(ASKED)
        for key in order:
            wording, last[key] = (rewritten if key in last else stated), draw_value()
            statements.append(self.encode(" " + wording.format(kind=kind, key=key, value=last[key])))
        opening, stop = rng.choice(OPENINGS), rng.choice((".", ""))
        head = self.encode(opening) if opening else []
        tail: list[tuple[list[int], int]] = []
        aside = rng.choice(ASIDES) if rng.random() < 0.7 else " ".join(rng.choices(self.words, k=rng.randint(1, 5)))
        for key in rng.sample(keys, rng.randint(1, min(len(keys), MOST_ASKED))):
            question = (stop if tail else "") + asked.format(kind=kind, key=key, aside=aside)
            tail += [(self.encode(question), IGNORED), (self.encode(f" {last[key]}"), ANSWER)]
        used = len(head) + sum(map(len, statements)) + sum(len(ids) for ids, _ in tail)
        if used > min(ROOM * size, size - 1):
            return None
        return _joined([(head, IGNORED), *self._context(rng, statements, size - used), *tail])

    def _context(
        self, rng: random.Random, statements: Sequence[list[int]], room: int
    ) -> list[tuple[Sequence[int] | np.ndarray, int]]:
        """Statements between sentences, all at one place in a quarter of the documents."""
        haystack, breaks, kind = self._haystack(rng, room)
        one = rng.choice(breaks)
        places = [one] * len(statements) if rng.random() < 0.25 else sorted(rng.choices(breaks, k=len(statements)))
        parts: list[tuple[Sequence[int] | np.ndarray, int]] = []
        start = 0
        for place, statement in zip(places, statements, strict=True):
            parts += [(haystack[start:place], kind), (statement, IGNORED)]
            start = place
        return [*parts, (haystack[start:], kind)]

    def _haystack(self, rng: random.Random, room: int) -> tuple[np.ndarray, list[int], int]:
        """Training text with the places where its sentences begin or end; or, a few times of a hundred, one repeated.

        Text that repeats itself is no text to learn from.
        """
        repeated = rng.random() < 0.15
        index = rng.randrange(max(int(np.searchsorted(self.sentences, len(self.stream) - room)), 1))
        start = int(self.sentences[index])
        stop = int(np.searchsorted(self.sentences, start + room, side="right"))
        stop = min(stop, index + rng.randint(2, 4)) if repeated else stop
        breaks = [int(place) - start for place in self.sentences[index:stop]]
        text = self.stream[start : start + (breaks[-1] or room)]
        text = np.where(text == self.end, self.newline, text).astype(np.uint16)
        if not repeated:
            return text, breaks if breaks[-1] else [0, len(text)], TEXT
        times = max(room // len(text), 1)
        return np.tile(text, times), [len(text) * i for i in range(times)], IGNORED

    def _kind(self, rng: random.Random) -> str:
        noun = rng.choice(NOUNS) if rng.random() < 0.85 else rng.choice(self.words)
        return " ".join([*rng.choices(self.words, k=rng.choice((0, 0, 1, 1, 2))), noun])

    def _keys(self, rng: random.Random) -> Callable[[], str]:
        """What draws keys of one shape."""
        words, choice = self.words, rng.random()
        if choice < 0.35:
            return lambda: rng.choice(words)
        if choice < 0.7:
            return lambda: f"{rng.choice(words)}-{rng.choice(words)}"
        if choice < 0.85:
            return lambda: f"{rng.choice(words)} {rng.choice(words)}".title()
        low = 10 ** rng.randint(2, 5)
        return lambda: str(rng.randrange(low, 10 * low))

    def _values(self, rng: random.Random) -> Callable[[], str]:
        """What draws values of one shape."""
        words, choice = self.words, rng.random()
        if choice < 0.5:
            low = 10 ** (6 if choice < 0.35 else rng.randint(2, 8))
            return lambda: str(rng.randrange(low, 10 * low))
        if choice < 0.65:
            return lambda: draw_uuid(rng)
        if choice < 0.8:
            return lambda: rng.choice(words)
        mark, titled = rng.choice(" -"), rng.random() < 0.5
        return lambda: mark.join((w.title() if titled else w) for w in rng.choices(words, k=2))


def _distinct(draw: Callable[[], str], count: int) -> list[str]:
    """So many different ones, or as many as there are."""
    return list(dict.fromkeys(draw() for _ in range(count)))


def _joined(parts: Sequence[tuple[Sequence[int] | np.ndarray, int]]) -> Document:
    ids = np.concatenate([np.asarray(ids, dtype=np.uint16) for ids, _ in parts])
    kinds = np.repeat(np.array([kind for _, kind in parts], dtype=np.int8), [len(ids) for ids, _ in parts])
    return Document(ids, kinds)
