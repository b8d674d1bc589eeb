"""Two tasks of state tracking: the parity of bits, and arithmetic modulo five.

Both are asked at the end of a row only, at lengths that training did not have (Grazzi et al., arXiv:2411.12537). A
linear recurrence whose transitions have no negative eigenvalue cannot learn parity; one whose erase gate reaches 2 can.

    parity       0 1 1 0 1       -> 1
    arithmetic   3 + 4 * 2 - 1   -> 0        (the product first)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from basis.names import must_be_one_of
from gdn2.train.fields import choice, number
from gdn2.train.synthetic.rows import Rows

MODULUS = 5
PLUS, MINUS, TIMES = MODULUS, MODULUS + 1, MODULUS + 2
KINDS = {"parity": 2, "arithmetic": MODULUS}
"""The languages, and in each the number of answers."""
TOKENS = {"parity": 1 + 2, "arithmetic": 1 + TIMES + 1}
"""Tokens of each; the first one fills what is left of a row."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """Rows of one language.

    Attributes:
        language: `parity` or `arithmetic`.
        length: tokens of the longest row.
        shortest: tokens of the shortest one; lengths in between are equally likely. 0: as long as the longest.
        rows: how many.
        asked: `end`, once behind a row's last token; or `every`, behind each of its tokens from `shortest` on, so that
            one row of `length` tokens has every length in it.
    """

    language: str
    length: int = number(1, 1 << 20)
    shortest: int = number(0, 1 << 20, 0)
    rows: int = number(1, 10**7)
    asked: str = choice("end", "every")

    @property
    def tokens(self) -> int:
        """Tokens that a model must know."""
        return TOKENS[self.language]

    @property
    def label(self) -> str:
        """Its name in tables."""
        lengths = f"{self.shortest}–{self.length}" if self.shortest else f"{self.length}"
        return f"{self.language} @{lengths}" + (", every token" if self.asked == "every" else "")

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / KINDS[self.language]

    def problem(self) -> str | None:
        """What makes such rows impossible; None where nothing does."""
        if self.language not in KINDS:
            return f"language {must_be_one_of(KINDS, self.language)}"
        if self.shortest > self.length:
            return f"shortest must be at most length ({self.length}), got {self.shortest}"
        return None

    def draw(self, rng: np.random.Generator, rows: int | None = None) -> Rows:
        """Draw rows, each filled to `length` with token 0 behind what is asked.

        Args:
            rng: decides everything.
            rows: how many; `rows` of the task by default.
        """
        count, first = rows or self.rows, self.shortest or self.length
        lengths = rng.integers(first, self.length + 1, count)
        if self.language == "parity":
            tokens = rng.integers(0, 2, (count, self.length))
            answers = np.cumsum(tokens, axis=1) % 2
        else:
            tokens, answers = _formulas(rng, count, self.length)
        each = 1 if self.language == "parity" else 2  # a formula ends with a number
        if self.asked == "every":
            places = np.tile(np.arange(first - 1 - (first - 1) % each, self.length, each), (count, 1))
        else:
            places = (lengths - 1 - (lengths - 1) % each)[:, None]
        wanted = np.take_along_axis(answers, places, axis=1)
        tokens = np.where(np.arange(self.length) <= places[:, -1:], 1 + tokens, 0)
        return Rows(tokens, places, 1 + wanted)


def _formulas(rng: np.random.Generator, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and signs in turn, and what each beginning that ends with a number is worth; the product binds first."""
    tokens = rng.integers(0, MODULUS, (rows, length))
    tokens[:, 1::2] = rng.integers(PLUS, TIMES + 1, tokens[:, 1::2].shape)
    worth = np.zeros_like(tokens)
    total, product = np.zeros(rows, dtype=np.int64), tokens[:, 0].copy()
    worth[:, 0] = product
    for place in range(2, length, 2):
        sign, factor = tokens[:, place - 1], tokens[:, place]
        times = sign == TIMES
        total = np.where(times, total, (total + product) % MODULUS)
        product = np.where(times, product * factor, np.where(sign == PLUS, factor, -factor)) % MODULUS
        worth[:, place] = (total + product) % MODULUS
    return tokens, worth
