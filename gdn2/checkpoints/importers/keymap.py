"""Which tensor of a foreign checkpoint becomes which of ours.

A map is checked as a whole before anything is read: every tensor of the source is used once, every tensor of the model
is made, and the shapes fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from basis.names import listed
from gdn2.checkpoints.tensors import Stored

SHOWN = 4  # names listed in an error
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One tensor of the source and what it becomes.

    Attributes:
        source: its name.
        targets: our names.
        split: makes the targets' tensors of it, in their order; None: it is the only target, in another shape at most.
        shape: what the source must have; None: the rows of its targets together.
    """

    source: str
    targets: tuple[str, ...]
    split: Callable[[Tensor], Sequence[Tensor]] | None = None
    shape: Shape | None = None

    def expected(self, shapes: Mapping[str, Shape]) -> Shape:
        """The shape that the source must have."""
        if self.shape is not None:
            return self.shape
        first, *rest = (shapes[name] for name in self.targets)
        return (first[0] + sum(shape[0] for shape in rest), *first[1:])

    def make(self, tensor: Tensor, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
        """The targets' tensors."""
        parts = [tensor] if self.split is None else self.split(tensor)
        return {name: part.reshape(shapes[name]) for name, part in zip(self.targets, parts, strict=True)}


def renamed(targets: Iterable[str], rename: Callable[[str], str]) -> list[Entry]:
    """Entries of tensors that only have another name; `rename` takes our name and returns the source's."""
    return [Entry(rename(name), (name,)) for name in targets]


def block_by_block(
    targets: Iterable[str],
    of_block: Callable[[str, int, str, str], Entry],
    outside: Callable[[str], str] = lambda name: name,
) -> list[Entry]:
    """Entries of a decoder's tensors, each once although it may make several of ours.

    Args:
        targets: our names.
        of_block: the entry that makes a tensor inside a block, given our name, the block's number, its part (`mixer`,
            `mlp`, a norm) and what the name has behind that.
        outside: takes our name of a tensor outside of blocks and returns the source's; by default the same.
    """
    entries: list[Entry] = []
    made: set[str] = set()
    for name in targets:
        if name in made:
            continue
        if name == HEAD or name.count(".") < 4:
            entry = Entry(outside(name), (name,))
        else:
            _, _, index, part, rest = name.split(".", 4)
            entry = of_block(name, int(index), part, rest)
        entries.append(entry)
        made.update(entry.targets)
    return entries


def problems(
    entries: Sequence[Entry], stored: Mapping[str, Stored], shapes: Mapping[str, Shape], unused: Iterable[str] = ()
) -> list[str]:
    """Say all that does not fit, a phrase a kind.

    Args:
        entries: the map.
        stored: the tensors of the source.
        shapes: the shapes of the model's tensors.
        unused: names of the source that hold nothing the model needs (buffers).

    Returns:
        The phrases; none when every tensor of both sides is used once and all shapes fit.
    """
    sources = [entry.source for entry in entries]
    made = [name for entry in entries for name in entry.targets]
    assert len(set(sources)) == len(sources), "a source is used twice"
    assert sorted(made) == sorted(shapes), "the map makes other tensors than the model has"
    found = []
    if missing := sorted(name for name in sources if name not in stored):
        found.append(f"{len(missing)} missing: {listed(missing, SHOWN)}")
    if unknown := sorted(set(stored) - set(sources) - set(unused)):
        found.append(f"{len(unknown)} unknown: {listed(unknown, SHOWN)}")
    wrong = []
    for entry in entries:
        if entry.source in stored:
            has, needs = stored[entry.source].shape, entry.expected(shapes)
            if _essential(has) != _essential(needs):
                wrong.append(f"{entry.source} is {list(has)} instead of {list(needs)}")
    if wrong:
        found.append(f"{len(wrong)} of another shape: {listed(wrong, SHOWN)}")
    return found


def _essential(shape: Shape) -> Shape:
    """Without dimensions of size 1: [1, 1, H, 1] is [H]."""
    return tuple(size for size in shape if size != 1)
