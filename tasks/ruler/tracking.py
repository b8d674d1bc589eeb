"""Variable tracking for `exact`: a chain of assignments in noise, behind one solved example."""

from __future__ import annotations

import copy
import random
import string

from tasks.ruler.problem import HaystackProblem, first_that_fits
from tasks.ruler.spec import RulerSpec
from tasks.ruler.templates import DEPTHS, HOPS, VARIABLES
from tasks.text import haystack
from tasks.text.haystack import NOISE, Stretch
from tasks.text.pieces import PieceCounter

EXAMPLE_TOKENS = 500
EXAMPLE_BLOCKS = (20, 15, 10, 5)
"""Noise blocks of the example: the first that has at most EXAMPLE_TOKENS and a quarter of the length, or the last; a
length that does not hold that one has no example."""


class ChainProblems:
    """The problems of variable tracking."""

    def __init__(self, spec: RulerSpec, counter: PieceCounter, room: int) -> None:
        most = min(EXAMPLE_TOKENS, spec.length // 4)
        fitting = (n for n in EXAMPLE_BLOCKS if counter.count(_example(random.Random(0), n)) <= most)
        self._blocks = next(fitting, EXAMPLE_BLOCKS[-1])
        self._haystack = haystack.load("noise")
        self._counter, self._room = counter, room

    def problem(self, index: int, rng: random.Random) -> HaystackProblem:  # noqa: ARG002
        """A draw of the example, the chain and the depths of its lines."""
        forms = (self._draw(copy.copy(rng), blocks) for blocks in (self._blocks, 0))
        return first_that_fits(forms, self._counter, self._room)

    def _draw(self, rng: random.Random, blocks: int) -> HaystackProblem:
        example = _example(rng, blocks) if blocks else ""
        names, chain, value = _chain(rng, 5)
        depths = sorted(rng.sample(DEPTHS, len(chain)))
        prefix = VARIABLES.answer_prefix.format(count=len(names), query=value)

        def prompt(stretch: Stretch, lines: list[str]) -> str:
            return (
                example + VARIABLES.prompt.format(context=stretch.context(chain, depths, lines), query=value) + prefix
            )

        return HaystackProblem(
            stretch=lambda: Stretch(self._haystack, 0),
            prompt=prompt,
            prefix=prefix,
            outputs=names,
            evidence=chain,
            two=True,
            depths=[depth / 100 for depth in depths],
            lines_before=lambda num_lines: [num_lines * depth // 100 for depth in depths],
            facts={"query": value, "example": bool(blocks)},
        )


def _example(rng: random.Random, num_blocks: int) -> str:
    """A prompt with its answer, of names of three letters."""
    names, chain, value = _chain(rng, 3)
    lines = [NOISE] * num_blocks
    for place, line in sorted(zip(sorted(rng.sample(range(num_blocks), len(chain))), chain, strict=True), reverse=True):
        lines.insert(place, line)
    prefix = VARIABLES.answer_prefix.format(count=len(names), query=value)
    return VARIABLES.prompt.format(context="\n".join(lines), query=value) + prefix + f"{' '.join(names)}\n\n"


def _chain(rng: random.Random, length: int) -> tuple[list[str], list[str], str]:
    """Distinct names of so many letters, their assignments, and the value of all."""
    names: list[str] = []
    while len(names) < HOPS + 1:
        name = "".join(rng.choices(string.ascii_uppercase, k=length))
        if name not in names and name != "VAR":
            names.append(name)
    value = str(rng.randint(10000, 99999))
    lines = [f"VAR {name} = {f'VAR {names[hop - 1]}' if hop else value}" for hop, name in enumerate(names)]
    return names, lines, value
