"""Associative recall with several queries, and its overwriting variant.

A row of multi-query associative recall (MQAR; Arora et al., arXiv:2312.04927) writes pairs of a key and a value, then
asks each key once; the model is to say the value at the key's second occurrence. With more writes than keys some keys
are written again with another value, and the last one counts. With two keys and three writes in twelve tokens:

    tokens   k1 v1 k2 v2 k1 v3  .  . k2  . k1  .
    answers                           v2    v3

Keys come from the lower half of the vocabulary and values from the upper one; a key's value is another in each row.
Questions follow the last write at distances of a power law, so that most are near, and keys are asked in an even order
(the published code asks those that were written first mostly first). Token 0 fills what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gdn2.train.fields import number
from gdn2.train.synthetic.rows import Rows

POWER = 0.01
"""Exponent of the density of distances, x^(POWER - 1), as published."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Rows of one size and difficulty.

    Attributes:
        length: tokens of a row.
        keys: different keys, each of which is asked once.
        writes: pairs that are written; each key at least once. As many as keys: plain recall.
        rows: how many.
        vocab_size: even; keys from 1 to half of it, values from there.
    """

    length: int = number(4, 1 << 20)
    keys: int = number(1, 1 << 19)
    writes: int = number(0, 1 << 19, 0)
    rows: int = number(1, 10**7)
    vocab_size: int = number(4, 1 << 24, 8192)

    @property
    def pairs(self) -> int:
        """Pairs that are written."""
        return self.writes or self.keys

    @property
    def tokens(self) -> int:
        """Tokens that a model must know."""
        return self.vocab_size

    @property
    def label(self) -> str:
        """Its name in tables: `64 pairs @256`, or `16 keys, 64 writes @256`."""
        said = f"{self.keys} pairs" if self.pairs == self.keys else f"{self.keys} keys, {self.pairs} writes"
        return f"{said} @{self.length}"

    def problem(self) -> str | None:
        """What makes such rows impossible; None where nothing does."""
        half = self.vocab_size // 2
        if self.vocab_size % 2:
            return f"vocab_size must be even, got {self.vocab_size}"
        if self.writes and self.writes < self.keys:
            return f"writes must be at least keys ({self.keys}), got {self.writes}"
        if self.keys > half - 1 or self.pairs > half:
            return f"{self.keys} keys and {self.pairs} values do not fit into a vocabulary of {self.vocab_size}"
        if 2 * (self.pairs + self.keys) > self.length:
            return f"length must be at least 2 * (writes + keys) = {2 * (self.pairs + self.keys)}, got {self.length}"
        return None

    def draw(self, rng: np.random.Generator, rows: int | None = None) -> Rows:
        """Draw rows.

        Args:
            rng: decides everything.
            rows: how many; `rows` of the task by default.
        """
        count, half, written = rows or self.rows, self.vocab_size // 2, 2 * self.pairs
        keys = 1 + _distinct(rng, count, half - 1, self.keys)
        values = half + _distinct(rng, count, half, self.pairs)
        order = self._order(rng, count)
        tokens = np.zeros((count, self.length), dtype=np.int64)
        tokens[:, 0:written:2] = np.take_along_axis(keys, order, axis=1)
        tokens[:, 1:written:2] = values
        last = np.zeros((count, self.keys), dtype=np.int64)
        for write in range(self.pairs):
            last[np.arange(count), order[:, write]] = values[:, write]
        slots = (self.length - written) // 2
        weights = POWER * np.arange(1, slots + 1, dtype=np.float64) ** (POWER - 1)
        gaps = _weighted(rng, count, weights, self.keys)
        asked = np.argsort(rng.random((count, self.keys)), axis=1)
        places = written + 2 * gaps
        np.put_along_axis(tokens, places, np.take_along_axis(keys, asked, axis=1), axis=1)
        return Rows(tokens, places, np.take_along_axis(last, asked, axis=1))

    def _order(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Which key each write is of, [count, pairs]: every key once, the others at random, shuffled."""
        more = rng.integers(0, self.keys, (count, self.pairs - self.keys))
        order = np.concatenate([np.broadcast_to(np.arange(self.keys), (count, self.keys)), more], axis=1)
        return rng.permuted(order, axis=1)


def _distinct(rng: np.random.Generator, rows: int, size: int, count: int) -> np.ndarray:
    """In each row `count` different numbers below `size`, in random order.

    Numbers are drawn with repetition and those that occur before are drawn again, which gives every arrangement the
    same chance; many of few are taken from the front of a shuffled range.
    """
    if count * 4 > size:
        return np.argsort(rng.random((rows, size)), axis=1)[:, :count]
    drawn = rng.integers(0, size, (rows, count))
    while len(bad := np.flatnonzero(_repeats(drawn).any(axis=1))):
        again = drawn[bad]
        mask = _repeats(again)
        again[mask] = rng.integers(0, size, int(mask.sum()))
        drawn[bad] = again
    return drawn


def _repeats(drawn: np.ndarray) -> np.ndarray:
    """Where a number has occurred before in its row."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, axis=1)
    same = np.zeros_like(drawn, dtype=bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    found = np.zeros_like(same)
    np.put_along_axis(found, order, same, axis=1)
    return found


def _weighted(rng: np.random.Generator, rows: int, weights: np.ndarray, count: int) -> np.ndarray:
    """In each row `count` different places, drawn one after the other by their weights, ascending.

    The places with the largest log weight plus Gumbel noise are such a draw (Vieira 2014).
    """
    noise = rng.gumbel(size=(rows, len(weights))) + np.log(weights)
    return np.sort(np.argpartition(-noise, count - 1, axis=1)[:, :count], axis=1)
