"""Count tokens word by word, where that provably gives the tokens of the whole text.

A tokenizer whose vocabulary has no token in which a space follows another character cannot join anything across the
space in front of a word: its tokens are those of the words, each with its space. Most are of this kind (byte-level BPE,
SentencePiece); a text is then counted by looking its words up. What does not pass is counted as a whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from tasks.text.tokenizers import TokenCounter

SPACES = frozenset(" \u2581\u0120")
"""How vocabularies write a space: plainly, as SentencePiece, as byte-level BPE."""
MODELS = ("BPE", "Unigram", "WordPiece", "WordLevel")
PROBE = (
    "The grass is green. The sky is blue.\nOne of the special magic numbers for wide-eyed-café is: 1234567.\n\n"
    'Document 12:\nJalapeño \u2014 the 3rd, U.S. "quoted" (it\'s) http://x.org/a?b=1&c=2 ... VAR ABCDE = VAR XYZ; '
    "ce5a1b2c-0d3e-4f5a-8b6c-7d8e9f0a1b2c. 31. word 32.  word \n Question:   What? Answer: they are: "
)
MAX_WORDS = 200_000
_RUN = re.compile(" +")


@lru_cache(maxsize=4)
def piece_counter(tokenizer: Any) -> PieceCounter:
    """The counter of a tokenizer, which keeps what words cost as long as the process lives."""
    return PieceCounter(tokenizer)


class PieceCounter:
    """Counts and locates tokens of texts without special tokens; `adds_up` says whether words are added up."""

    def __init__(self, tokenizer: Any) -> None:
        self._whole = TokenCounter(tokenizer)
        base = self._whole.count(PROBE[0])
        self._pieces = _Costs(lambda piece: self._whole.count(PROBE[0] + piece) - base)
        self._words = _Costs(lambda word: self._pieces[f" {word}"])
        self._last: tuple[str, list[int]] = "", []
        """The text counted last, with what `_ends` found."""
        self._lines: dict[str, tuple[str, int]] = {}
        self._lists: dict[int, tuple[list[str], list[int], int]] = {}
        self.adds_up = _no_token_crosses_a_space(tokenizer)
        self.adds_up = self.verified(PROBE)

    def count(self, text: str) -> int:
        """Number of tokens of the whole text."""
        ends = self._ends(text)
        return ends[-1] if ends else self._whole.count(text)

    def _ends(self, text: str) -> list[int]:
        """Tokens up to the end of each word, the spaces in front of it and behind the last included.

        There are none where words do not add up, or where the text begins with a space.
        """
        if text != self._last[0]:
            first, *words = text.split(" ")
            ends: list[int] = []
            if self.adds_up and first:
                costs = map(self._words.__getitem__, words if "" not in words else _with_spaces(words))
                ends = list(itertools.accumulate(costs, initial=self._whole.count(first)))
            self._last = text, ends
        return self._last[1]

    def verified(self, text: str) -> bool:
        """Whether words add up, seen at this text as well; if they do not, texts are counted as a whole from now on."""
        if self.adds_up and self._whole.count(text) != self.count(text):
            self.adds_up = False
            self._last = "", []
        return self.adds_up

    def shortened(self, line: str) -> tuple[str, int]:
        """A line without its inner words, and their tokens: what a text loses when it holds the line in this form.

        Only where words add up. The first and the last word stay, for they may touch what is around the line.
        """
        known = self._lines.get(line)
        if known is None:
            if len(self._lines) >= MAX_WORDS:
                self._lines.clear()
            words = line.split(" ")
            if len(words) < 3 or "" in words:
                known = line, 0
            else:
                known = f"{words[0]} {words[-1]}", sum(map(self._words.__getitem__, words[1:-1]))
            self._lines[line] = known
        return known

    def word_cost(self, word: str) -> int:
        """Tokens that a word, given with its leading separator, adds to a text. An estimate unless words add up."""
        return self._pieces[word]

    def word_costs(self, words: list[str]) -> tuple[list[int], int]:
        """`word_cost` of each, and their sum; remembered for this very list, which must not change."""
        known = self._lists.get(id(words))
        if known is None:
            if len(self._lists) >= MAX_WORDS:
                self._lists.clear()
            costs = list(map(self._pieces.__getitem__, words))
            # The list is kept, so that no other can come to have its id.
            known = self._lists[id(words)] = words, costs, sum(costs)
        return known[1], known[2]

    def positions(self, text: str, characters: Iterable[int]) -> list[int]:
        """Index of the token that covers each character of `text`."""
        places = list(characters)
        starts = [len(text[: text.rfind(" ", 0, place) + 1].rstrip(" ")) for place in places]
        ends = self._ends(text)
        if not ends or min(starts, default=1) < 1:
            return self._whole.positions(text, places)
        found = []
        for place, start in zip(places, starts, strict=True):
            end = text.find(" ", place)
            piece = PROBE[0] + text[start : end if end > 0 else len(text)]
            within = self._whole.positions(piece, [1 + place - start])[0] - self._whole.count(PROBE[0])
            found.append(ends[len(_RUN.findall(text, 0, start))] + within)
        return found


class _Costs(dict[str, int]):
    """Tokens of words, counted when first asked for, and forgotten when there are too many."""

    def __init__(self, count: Callable[[str], int]) -> None:
        super().__init__()
        self._count = count

    def __missing__(self, word: str) -> int:
        if len(self) >= MAX_WORDS:
            self.clear()
        cost = self[word] = self._count(word)
        return cost


def _with_spaces(words: list[str]) -> list[str]:
    """Words of a text that was split at every space: further spaces in front of a word are part of it."""
    merged, spaces = [], ""
    for word in words[:-1]:
        if word:
            merged.append(spaces + word)
            spaces = ""
        else:
            spaces += " "
    return [*merged, spaces + words[-1]]


def _no_token_crosses_a_space(tokenizer: Any) -> bool:
    if not getattr(tokenizer, "is_fast", False):
        return False
    backend = tokenizer.backend_tokenizer
    if type(backend.model).__name__ not in MODELS:
        return False
    added = set(tokenizer.get_added_vocab())
    return not any(
        after in SPACES and before not in SPACES
        for token in backend.get_vocab(with_added_tokens=True)
        if token not in added
        for before, after in itertools.pairwise(token)
    )
