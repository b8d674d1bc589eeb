"""Variable tracking as NVIDIA's scripts and lm-eval draw it: a chain of assignments in noise, behind one example.

Source of the algorithm: NVIDIA/RULER scripts/data/synthetic/variable_tracking.py, and its older form.
"""

from __future__ import annotations

import random
import string

import numpy as np

from tasks.ruler.official.drawn import Count, Drawn
from tasks.ruler.templates import HOPS, VARIABLES
from tasks.text.haystack import NOISE

EXAMPLE_BUDGET = 500
EXAMPLE_STEP = 5
EXAMPLE_VALUE = 12345
NAME_LENGTH, EXAMPLE_NAME_LENGTH = 5, 3


class Variables:
    """Draws of variable tracking. With `older`, as the older generator and lm-eval have it."""

    def __init__(self, rng: random.Random, values: np.random.RandomState, *, step: int, older: bool = False) -> None:
        self._rng = rng
        self._values = values
        self._older = older
        self._prefix = VARIABLES.answer_prefix
        if older:  # a slip of the pen that models were asked with
            self._prefix = self._prefix.replace("assigned", "assgined")
        self.step = step
        self.generated_tokens = VARIABLES.generated_tokens
        self.is_example = False
        self.example = ""
        """The text before the prompt, with the example's own names and value; set once it is drawn."""

    def ask(self, index: int) -> None:
        """Samples do not depend on their number."""

    def draw(self, size: int) -> Drawn:
        """A chain in `size` blocks of noise, behind the example if there is one."""
        names, chain, value = self._chain()
        context, chain = self._in_noise(size, chain)
        prefix = self._prefix.format(count=HOPS + 1, query=value)
        body = VARIABLES.prompt.format(context=context, query=value) + prefix
        example = self._renamed_example() if self.example and not self._older else ""
        return Drawn(
            prompt=example + body,
            prefix=prefix,
            outputs=tuple(names),
            evidence=tuple(line.strip() for line in chain),
            facts={"query": value},
        )

    def solved(self, drawn: Drawn, end: str) -> str:
        """The example as it is put before a prompt: answered by its names, then `end`."""
        return f"{drawn.prompt} {' '.join(drawn.outputs)}{end}"

    def _chain(self) -> tuple[list[str], list[str], str]:
        """Names, lines and value. Raises IndexError where a name came up twice, as the originals do."""
        length = EXAMPLE_NAME_LENGTH if self.is_example else NAME_LENGTH
        names = [self._name(length) for _ in range(HOPS + 1)]
        while len(set(names)) < HOPS + 1:
            names.append(self._name(length))
        value = str(EXAMPLE_VALUE)
        if self._older or not self.is_example:
            value = str(self._values.randint(10000, 99999))
        lines = [f"VAR {names[0]} = {value}"]
        lines += [f"VAR {names[hop + 1]} = VAR {names[hop]} " for hop in range(HOPS)]
        if len(names) > HOPS + 1:
            if self._older or not self.is_example:
                self._values.randint(10000, 99999)
            raise IndexError("a name came up twice")
        return names, lines, value

    def _in_noise(self, size: int, chain: list[str]) -> tuple[str, list[str]]:
        blocks = [NOISE + "\n" if self._older else NOISE] * size
        if self._older and size <= len(chain):
            parts = [part for block in blocks for part in block.split(".")]
            blocks = [part + "." if part.strip() else part for part in parts]
            chain = chain if len(blocks) > len(chain) else chain[: len(blocks) - 1]
        places = sorted(self._rng.sample(range(len(blocks)), len(chain)))
        for number, (place, line) in enumerate(zip(places, chain, strict=True)):
            blocks.insert(place + number, line)
        return (" " if self._older else "\n").join(blocks).replace(". \n", ".\n"), chain

    def renamed(self, example: str) -> str:
        """The example with new names for the last words of it, which are its answers."""
        names = example.split()[-(HOPS + 1) :]
        for name in names:
            example = example.replace(name, self._name(len(name)))
        return example

    def _renamed_example(self) -> str:
        example = self.renamed(self.example)
        return example.replace(str(EXAMPLE_VALUE), str(self._values.randint(10000, 99999))) + "\n"

    def _name(self, length: int) -> str:
        return "".join(self._rng.choices(string.ascii_uppercase, k=length))


def nvidia_example(family: Variables, count: Count) -> None:
    """Draw the example as NVIDIA's present generator does, and put it before all further draws."""
    from tasks.ruler.official.search import binary_size, shrinking_samples

    family.is_example, family.step, family.generated_tokens, step = True, EXAMPLE_STEP, 0, family.step
    size = binary_size(family, count, EXAMPLE_BUDGET)
    drawn, _ = next(shrinking_samples(family, count, EXAMPLE_BUDGET, size, name="vt: its example"))
    family.is_example, family.step, family.generated_tokens = False, step, VARIABLES.generated_tokens
    family.example = family.solved(drawn, "\n")
