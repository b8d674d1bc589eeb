"""What fills a batch's rectangle beside its tokens, parsed once from an attention mask; and where its tokens are."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """Which positions of a batch's rectangle hold no token.

    Attributes:
        is_pad: bool [B, T, 1].
        ends: the index behind each row's last token, int64 [B].
        lengths: the tokens of each row, int64 [B].
    """

    is_pad: Tensor
    ends: Tensor
    lengths: Tensor

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The columns of each row's first token and behind its last one, int64 [B] each."""
        return self.ends - self.lengths, self.ends

    @staticmethod
    def from_mask(mask: Tensor | None, shape: tuple[int, int], *, continues: bool) -> Padding | None:
        """Read an attention mask [B, T] (1 = token, 0 = padding); None means that every position holds a token.

        Padding may be left or right of a row's tokens; left of them only where a text starts, because a
        convolution that continues (`continues`) must find its last inputs directly before its next.

        Raises:
            ValueError: a mask of another shape, with a hole, or with left padding before a continued text.
        """
        if mask is None:
            return None
        if tuple(mask.shape) != shape:
            raise ValueError(f"attention_mask must be [B, T] = {list(shape)}, got {list(mask.shape)}")
        is_token = mask.bool()
        if bool(is_token.all()):
            return None
        lengths = is_token.sum(1)
        position = torch.arange(1, shape[1] + 1, device=mask.device)
        ends = (is_token * position).amax(1)
        starts = ends - lengths
        expected = (position > starts[:, None]) & (position <= ends[:, None])
        if not torch.equal(expected, is_token):
            row = int((expected != is_token).any(1).nonzero()[0])
            raise ValueError(f"attention_mask has a hole in row {row}: padding may only be at the ends of a row")
        if continues and bool(((starts > 0) & (lengths > 0)).any()):
            raise ValueError("left padding cannot follow a carried state; pad on the right when you continue a text")
        return Padding(~is_token[..., None], ends, lengths)


@dataclass(frozen=True)
class Positions:
    """Where the tokens of a forward are in their rows' texts, for mixers that need to know.

    Attributes:
        index: position of each token in its own text, int64 [B, T]; the first token of a text is at 0, and padding
            counts nothing. At padding: some position of the row.
        before: tokens of each row before this forward, int64 [B].
        count: tokens of each row in this forward, int64 [B].
        start: column of each row's first token in this forward, int64 [B].
        padded: whether there is padding.
        fresh: whether it is known that all texts begin with this forward. Without padding nothing here waits for the
            device then.
        kept: whether the state after this forward is wanted.
    """

    index: Tensor
    before: Tensor
    count: Tensor
    start: Tensor
    padded: bool
    fresh: bool = False
    kept: bool = True
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def after(
        lengths: Tensor, num_tokens: int, padding: Padding | None, *, fresh: bool = False, kept: bool = True
    ) -> Positions:
        """The positions of the next `num_tokens` columns behind rows of `lengths` tokens; `fresh`: all are 0."""
        if padding is None:
            index = lengths[:, None] + torch.arange(num_tokens, device=lengths.device)
            count, start = torch.full_like(lengths, num_tokens), torch.zeros_like(lengths)
            return Positions(index, lengths, count, start, False, fresh, kept)
        offsets = (~padding.is_pad[..., 0]).cumsum(1) - 1
        index = (lengths[:, None] + offsets).clamp(min=0)
        return Positions(index, lengths, padding.lengths, padding.ends - padding.lengths, True, fresh, kept)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once a forward: layers that ask with the same key share it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @property
    def is_step(self) -> bool:
        """Whether each row has one new token."""
        return self.index.shape[1] == 1 and not self.padded

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each row after this forward. Waits for the device, unless texts are fresh and without padding."""
        if self.fresh and not self.padded:
            return [self.index.shape[1]] * len(self.before)
        found: list[int] = (self.before + self.count).tolist()
        return found

    @property
    def longest(self) -> int:
        """Tokens of the longest row after this forward. Waits for the device as `lengths` does."""
        return max(self.lengths, default=0)

    @cached_property
    def first(self) -> bool:
        """Whether all texts begin with this forward. Waits for the device, unless they are fresh."""
        return self.fresh or not bool(self.before.any())

    @cached_property
    def aligned(self) -> bool:
        """Whether all rows had the same number of tokens before, and no position is padding. Waits as `first` does."""
        return not self.padded and (self.fresh or bool((self.before == self.before[:1]).all()))
