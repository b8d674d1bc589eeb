"""Tensors that need not be kept for a backward pass, since they can be made again from what is kept anyway.

Who makes a tensor notes how (`note`); who would keep it asks (`recipe_of`), keeps the sources instead, and makes it
again. The sources of a note must be tensors that the maker's own backward keeps, so that keeping them costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Remade(NamedTuple):
    """How a tensor is made again.

    Attributes:
        make: gives the same numbers, contiguous, from the sources; it holds no tensor.
        sources: what it takes; None where it takes none.
    """

    make: Callable[..., Tensor]
    sources: tuple[Tensor | None, ...]


class Kept(NamedTuple):
    """Which of several tensors are kept as they are; the tensors themselves lie flat beside it.

    Attributes:
        makes: for each tensor how it is made again, None: it is kept.
        shapes: their shapes.
        counts: how many tensors are kept for each.
    """

    makes: tuple[Callable[..., Tensor] | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    def restored(self, flat: Sequence[Tensor | None]) -> list[Tensor]:
        """The tensors, from what was kept."""
        found, at = [], 0
        for make, shape, count in zip(self.makes, self.shapes, self.counts, strict=True):
            sources = flat[at : at + count]
            at += count
            x = sources[0] if make is None else make(*sources).view(shape)
            assert x is not None
            found.append(x)
        return found


_noted: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # by identity


def note(x: Tensor, make: Callable[..., Tensor], *sources: Tensor | None) -> Tensor:
    """Note how x is made again; returns x."""
    _noted[x] = Remade(make, sources)
    return x


def recipe_of(x: Tensor) -> Remade | None:
    """How x, or the tensor that x is another shape of, is made again; None: that is not known."""
    base = x if x._base is None or x.numel() != x._base.numel() or not x.is_contiguous() else x._base
    found: Remade | None = _noted.get(base)
    return found


def flattened(tensors: Sequence[Tensor], recipes: Sequence[Remade | None]) -> tuple[Kept, list[Tensor | None]]:
    """What to keep of tensors with these recipes, and the tensors that are kept."""
    parts = [(x,) if recipe is None else recipe.sources for x, recipe in zip(tensors, recipes, strict=True)]
    makes = tuple(None if recipe is None else recipe.make for recipe in recipes)
    kept = Kept(makes, tuple(tuple(x.shape) for x in tensors), tuple(len(part) for part in parts))
    return kept, [x for part in parts for x in part]
