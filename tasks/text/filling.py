"""Find how many haystack words fill a prompt to the token. Knows costs and a measure; never a tokenizer or a task.

Costs of single words predict the prompt's length up to a small constant, which the first full measurement corrects.
When no number of words hits the target (the next word costs two tokens and one is left), some more words are taken and
one of the last, which costs exactly the surplus, is left out. If that fails as well, costly words near the end (a URL
of thirty tokens) are left out too, or, on request, two words; and at last as few of the last words as add up to the
surplus.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MAX_MEASUREMENTS = 16
EXTRA_WORDS = 64
_TAIL_WORDS = 80
_COSTLY_TOKENS = 4
_MOST_SURPLUS = 64

Choice = tuple[int, tuple[int, ...]]
"""How many of the first words are taken, and the indices of those among them that are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """The first `num_words` words without those of `omitted` (ascending) make a prompt of `num_tokens` tokens."""

    num_words: int
    omitted: tuple[int, ...]
    num_tokens: int


def fill(
    *,
    costs: Sequence[int],
    unit_starts: Sequence[int],
    frame_tokens: int,
    budget: int,
    measure: Callable[[int, tuple[int, ...]], int],
    two: bool = False,
) -> Filling | None:
    """Choose words so that the prompt has `budget` tokens, or as near below as can be found.

    Args:
        costs: estimated tokens of each word; more words than can be needed, by EXTRA_WORDS.
        unit_starts: indices of words that open a unit; these are left out only when no other will do.
        frame_tokens: tokens of the prompt without haystack.
        budget: tokens wanted.
        measure: true tokens of the prompt with the first n words, some of them left out.
        two: leave out two words where one does not do; for haystacks whose words are long, such as UUIDs.

    Returns:
        The best filling found that does not exceed the budget; None if there is none.
    """
    best: Filling | None = None
    cumulative = [0, *itertools.accumulate(costs)]
    opens = frozenset(unit_starts)
    correction = frame_tokens
    measured: set[Choice] = set()
    while len(measured) < MAX_MEASUREMENTS:
        choices = _choices(costs, cumulative, opens, budget - correction, two)
        choice = next((choice for choice in choices if choice not in measured), None)
        if choice is None:
            break
        measured.add(choice)
        num_words, omitted = choice
        num_tokens = measure(num_words, omitted)
        if num_tokens <= budget and (best is None or num_tokens > best.num_tokens):
            best = Filling(num_words=num_words, omitted=omitted, num_tokens=num_tokens)
        if num_tokens == budget:
            break
        correction = num_tokens - cumulative[num_words] + sum(costs[index] for index in omitted)
    return best


def _choices(
    costs: Sequence[int], cumulative: Sequence[int], opens: frozenset[int], wanted: int, two: bool
) -> Iterator[Choice]:
    """Ways to reach `wanted` tokens by estimate, simplest first; at the end the nearest numbers of words below."""
    at_most = max(0, bisect.bisect_right(cumulative, wanted) - 1)
    yield from _leaving_out_one(costs, range(len(costs)), cumulative, opens, wanted)
    tail = at_most - _TAIL_WORDS
    kept = [i for i, cost in enumerate(costs) if i < tail or cost < _COSTLY_TOKENS or i in opens]
    of_kept = [0, *itertools.accumulate(costs[index] for index in kept)]
    yield from _leaving_out_one(costs, kept, of_kept, opens, wanted)
    if two:
        yield from _leaving_out_two(costs, cumulative, at_most, wanted)
    yield from _leaving_out_few(costs, cumulative, opens, at_most, wanted)
    for num_words in range(at_most, max(-1, at_most - MAX_MEASUREMENTS), -1):
        yield num_words, ()


def _leaving_out_one(
    costs: Sequence[int], kept: Sequence[int], cumulative: Sequence[int], opens: frozenset[int], wanted: int
) -> Iterator[Choice]:
    """Ways to reach `wanted` tokens with the `kept` words: all up to some word, or all but one of the last."""
    at_most = max(0, bisect.bisect_right(cumulative, wanted) - 1)

    def choice(count: int, *more: int) -> Choice:
        num_words = kept[count - 1] + 1 if count else 0
        if num_words == count:
            return num_words, more
        return num_words, tuple(sorted(set(range(num_words)) - set(kept[:count]) | set(more)))

    if cumulative[at_most] == wanted:
        yield choice(at_most)
    for leave_out_openers in (False, True):
        for count in range(at_most + 1, min(at_most + 1 + EXTRA_WORDS, len(kept) + 1)):
            surplus = cumulative[count] - wanted
            for position in range(count - 2, max(-1, count - _TAIL_WORDS), -1):
                index = kept[position]
                if costs[index] == surplus and (index in opens) == leave_out_openers:
                    yield choice(count, index)


def _leaving_out_two(costs: Sequence[int], cumulative: Sequence[int], at_most: int, wanted: int) -> Iterator[Choice]:
    """Ways to reach `wanted` tokens without two of the last words."""
    for count in range(at_most + 1, min(at_most + 1 + EXTRA_WORDS, len(costs) + 1)):
        surplus = cumulative[count] - wanted
        seen: dict[int, int] = {}
        for index in range(count - 2, max(-1, count - _TAIL_WORDS), -1):
            if (other := seen.get(surplus - costs[index])) is not None:
                yield count, (index, other)
                break
            seen.setdefault(costs[index], index)


def _leaving_out_few(
    costs: Sequence[int], cumulative: Sequence[int], opens: frozenset[int], at_most: int, wanted: int
) -> Iterator[Choice]:
    """Ways to reach `wanted` tokens without as few of the last words as can be, none of which opens a unit."""
    for count in range(at_most + 1, min(at_most + 1 + EXTRA_WORDS, len(costs) + 1)):
        surplus = cumulative[count] - wanted
        if surplus > _MOST_SURPLUS:
            break
        ways: dict[int, tuple[int, ...]] = {0: ()}
        for index in range(count - 2, max(-1, count - _TAIL_WORDS), -1):
            for total, chosen in list(ways.items()) if index not in opens else ():
                more = total + costs[index]
                if more <= surplus and len(ways.get(more, costs)) > len(chosen) + 1:
                    ways[more] = (index, *chosen)
        if surplus in ways:
            yield count, ways[surplus]
