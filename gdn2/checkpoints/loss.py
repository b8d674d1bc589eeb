"""The mean next-token loss of a stream of tokens, cut into windows as training does it.

Windows of L tokens follow each other; window i predicts tokens i L + 1 to i L + L from the tokens i L to i L + L - 1
and nothing before them. So every token but the first of the stream is predicted once, and no state passes between
windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gdn2.model import GDN2ForCausalLM

POSITIONS = 1024  # whose logits exist at the same time, in a row


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` (exclusive) are read; each but the first is predicted."""

    start: int
    stop: int

    @property
    def num_predicted(self) -> int:
        """How many of its tokens are predicted."""
        return self.stop - self.start - 1


@dataclass(frozen=True)
class Loss:
    """A sum of losses in nats, and how many tokens were predicted."""

    nats: float
    num_tokens: int

    @property
    def mean(self) -> float:
        """Nats a token."""
        return self.nats / self.num_tokens


def windows(num_tokens: int, length: int) -> list[Window]:
    """The windows of a stream; the last one may be shorter.

    Raises:
        ValueError: fewer than two tokens, or a length below 1.
    """
    if num_tokens < 2 or length < 1:
        raise ValueError(f"a loss needs two tokens and windows of at least one, got {num_tokens} and {length}")
    return [Window(start, min(start + length + 1, num_tokens)) for start in range(0, num_tokens - 1, length)]


@torch.inference_mode()
def mean_loss(
    model: GDN2ForCausalLM,
    ids: Sequence[int],
    cut: Sequence[Window],
    *,
    batch_size: int = 1,
    done: Callable[[int], None] = lambda _: None,
) -> Loss:
    """Measure the loss over windows of the stream `ids`; logits are compared in float32.

    Args:
        model: the model.
        ids: the tokens of the stream.
        cut: its windows.
        batch_size: windows read together (of equal length); the result does not depend on it.
        done: told how many tokens were predicted, after each batch.
    """
    stream = torch.as_tensor(ids, dtype=torch.long)
    nats, count = 0.0, 0
    for batch in _batches(cut, batch_size):
        rows = torch.stack([stream[window.start : window.stop] for window in batch]).to(model.device)
        hidden = model.model(input_ids=rows[:, :-1], use_cache=False).last_hidden_state
        nats += sum(_nats(model, hidden[row], rows[row, 1:]) for row in range(len(batch)))
        predicted = rows[:, 1:].numel()
        count += predicted
        done(predicted)
    return Loss(nats, count)


def _nats(model: GDN2ForCausalLM, hidden: Tensor, targets: Tensor) -> float:
    """Of one row: hidden [T, D], targets [T]."""
    pieces = zip(hidden.split(POSITIONS), targets.split(POSITIONS), strict=True)
    return sum(float(cross_entropy(model.lm_head(h).float(), t, reduction="sum").double()) for h, t in pieces)


def _batches(cut: Sequence[Window], size: int) -> list[list[Window]]:
    found: list[list[Window]] = []
    for window in cut:
        if found and len(found[-1]) < size and found[-1][0].num_predicted == window.num_predicted:
            found[-1].append(window)
        else:
            found.append([window])
    return found
