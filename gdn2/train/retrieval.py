"""Retrieval documents for training: facts planted in a haystack, then one or several questions about them.

The questions of RULER's needle tasks are among the wordings (the card of a checkpoint says so); the keys are pairs of
words drawn from the training text, the values are random, and the haystack is training text or repeated filler.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."


@dataclass(frozen=True)
class Wording:
    """How a document speaks of its facts; with the fields {kind}, {kinds}, {key} and {value}.

    Attributes:
        opening: the text at its beginning.
        fact: states a fact.
        question: asks for it.
        lead: the beginning of the answer; " {value}" follows.
    """

    opening: str
    fact: str
    question: str
    lead: str


RULER_ONE = Wording(
    "A special magic {kind} is hidden within the following text. Make sure to memorize it. "
    "I will quiz you about the {kind} afterwards.",
    "One of the special magic {kinds} for {key} is: {value}.",
    "What is the special magic {kind} for {key} mentioned in the provided text?",
    " The special magic {kind} for {key} mentioned in the provided text is",
)
WORDINGS = (
    RULER_ONE,
    Wording("Remember every {kind}.", "The {kind} of {key} is {value}.", "Which {kind}?", " The {kind} of {key} is"),
    Wording("Read the notes.", "Note: {key} has the {kind} {value}.", "", "Note: {key} has the {kind}"),
    Wording("", "{key}: {value}.", "", "{key}:"),
)


@dataclass(frozen=True)
class Part:
    """A piece of a document.

    Attributes:
        text: the piece.
        is_answer: whether the model is trained to produce it.
    """

    text: str
    is_answer: bool


def draw_document(
    rng: random.Random,
    budget: int,
    max_keys: int,
    key_words: Sequence[str],
    sentences: Sequence[str],
    count_tokens: Callable[[str], int],
) -> list[Part]:
    """Draw a document of about so many tokens; the caller draws again if it came out longer.

    Args:
        rng: where every choice comes from.
        budget: tokens.
        max_keys: facts in the document, at most; `key_words` make at least so many pairs.
        key_words: words that keys are made of, at least one.
        sentences: haystack sentences of the training text, at least one.
        count_tokens: tokens of a text.

    Returns:
        The document's pieces in order.
    """
    wording = RULER_ONE if rng.random() < 0.5 else rng.choice(WORDINGS)
    kind, draw_value = _draw_kind(rng)
    names = {"kind": kind, "kinds": kind + "s"}
    num_keys = rng.randint(1, max_keys) if rng.random() < 0.7 else 1
    keys = _distinct_keys(rng, num_keys, key_words)
    facts = {key: draw_value(rng) for key in keys}

    needles = [wording.fact.format(key=key, value=value, **names) for key, value in facts.items()]
    opening = wording.opening.format(**names)
    used = count_tokens(opening + " ".join(needles)) + 4
    asked: list[tuple[str, str]] = []
    for key in rng.sample(keys, rng.randint(1, num_keys)):
        start = "." if asked else ""
        start += "\n" if asked or wording.question else " "
        question = start + (wording.question + wording.lead).format(key=key, **names)
        cost = count_tokens(question + " " + facts[key]) + 2
        if asked and used + cost > budget * 0.7:
            break
        used += cost
        asked.append((question, f" {facts[key]}"))

    context = _haystack(rng, budget - used, needles, sentences, count_tokens)
    parts = [Part(f"{opening}\n{context}" if opening else context, is_answer=False)]
    for question, answer in asked:
        parts += [Part(question, is_answer=False), Part(answer, is_answer=True)]
    return parts


def _draw_kind(rng: random.Random) -> tuple[str, Callable[[random.Random], str]]:
    if rng.random() < 0.92:
        return "number", lambda r: str(r.randint(1_000_000, 9_999_999))
    return "uuid", draw_uuid


def draw_uuid(rng: random.Random) -> str:
    """A random uuid of version 4."""
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], rng.choice("89ab") + digits[17:20], digits[20:]))


def _distinct_keys(rng: random.Random, count: int, key_words: Sequence[str]) -> list[str]:
    keys: list[str] = []
    while len(keys) < count:
        key = f"{rng.choice(key_words)}-{rng.choice(key_words)}"
        if key not in keys:
            keys.append(key)
    return keys


def _haystack(
    rng: random.Random,
    budget: int,
    needles: Sequence[str],
    sentences: Sequence[str],
    count_tokens: Callable[[str], int],
) -> str:
    """Needles at random places between filler lines (half of the documents) or sentences of the training text."""
    pieces: list[str] = []
    separator = "\n" if rng.random() < 0.5 else " "
    position = rng.randrange(len(sentences))
    while budget > 0:
        piece = FILLER if separator == "\n" else sentences[(position + len(pieces)) % len(sentences)]
        cost = count_tokens(piece) + (separator == "\n")
        if cost > budget:
            break
        pieces.append(piece)
        budget -= cost
    for needle in needles:
        pieces.insert(rng.randint(0, len(pieces)), needle)
    return separator.join(pieces)
