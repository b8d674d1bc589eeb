"""`RecurrentState`: everything a model remembers of the tokens it has read, as a value.

Letters: B batch, H heads, K key dim, V value dim (of all value heads of a group together), W taps of the convolution,
C channels of what is convolved, S slots for tokens (all tokens read, or a window), d channels of an attention head,
R rank, A angles.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

import torch
from torch import Tensor

LENGTHS = "lengths"
GROWING = ("keys", "values", "latents")  # the fields of a layer that have a slot for every token
RINGS = ("window_keys", "window_values")  # those that have one for each of the last tokens
SLOTTED = (*GROWING, *RINGS)  # where a new token changes its slot and nothing else

Place = tuple["RecurrentState", int]
"""A state and one of its rows."""


@dataclass(frozen=True)
class LayerState:
    """What one layer carries; what its mixer does not use is None. Every tensor has a row of the batch first.

    Attributes:
        matrix: the operator's state [B, H, K, V], at least float32.
        conv: the last inputs of the convolution [B, W - 1, C], zeros where a text is shorter.
        keys, values: of full attention [B, S, H, d]: the token at position p is in slot p, and S is the length of the
            longest row, or more where there is room for tokens to come. Slots behind a row's end are 0.
        latents: of latent attention [B, S, C]: what keys and values are made of, in slots as those of `keys`.
        window_keys, window_values: of attention to a window of S tokens, a ring buffer [B, S, H, d]: the token at
            position p is in slot p modulo S. Slots that no token has taken yet are 0.
        previous_key, previous_value: Mamba-3's last rotated key [B, R, H, K] and last value [B, H, V].
        angle: Mamba-3's rotation so far [B, H, A], in [0, 2 pi).
    """

    matrix: Tensor | None = None
    conv: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    latents: Tensor | None = None
    window_keys: Tensor | None = None
    window_values: Tensor | None = None
    previous_key: Tensor | None = None
    previous_value: Tensor | None = None
    angle: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by field name."""
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in found if tensor is not None}


class RecurrentState:
    """The state of a whole model after some tokens.

    Forwards return a new one and never change the one they got, so one prefix can be continued many times. Its size is
    constant unless a layer has full attention.

    Attributes:
        layers: one `LayerState` a layer.
        lengths: tokens that each row has read, int64 [B]; padding does not count.
    """

    is_compileable = False  # asked by `transformers.generate`

    def __init__(self, layers: Sequence[LayerState], lengths: Tensor) -> None:
        self.layers = tuple(layers)
        self.lengths = lengths

    @property
    def batch_size(self) -> int:
        """How many rows there are."""
        return self.lengths.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors: without full attention the same after 10 tokens and after a million."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    @property
    def grows(self) -> bool:
        """Whether there is a layer with a slot for every token."""
        return any(name in layer.tensors() for layer in self.layers for name in GROWING)

    @property
    def num_bytes_a_token(self) -> int:
        """Bytes that a row grows by with each token: 0 without full attention."""
        named = (item for layer in self.layers for item in layer.tensors().items())
        return sum(t.element_size() * t.shape[2:].numel() for name, t in named if name in GROWING)

    def tensors(self) -> list[Tensor]:
        """Every tensor of the state."""
        return [self.lengths, *(tensor for layer in self.layers for tensor in layer.tensors().values())]

    def to_tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, "lengths" and "layers.N.FIELD", as a safetensors file takes them."""
        named = {LENGTHS: self.lengths.contiguous()}
        for index, layer in enumerate(self.layers):
            named |= {f"layers.{index}.{name}": tensor.contiguous() for name, tensor in layer.tensors().items()}
        return named

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> RecurrentState:
        """The state that `to_tensors` gave.

        Raises:
            ValueError: lengths are missing, a name is unknown, or a layer or a row is missing.
        """
        if LENGTHS not in tensors:
            raise ValueError(f"these tensors are no state: there is no {LENGTHS!r} among them")
        known = {field.name for field in fields(LayerState)}
        by_layer: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name == LENGTHS:
                continue
            prefix, _, rest = name.partition(".")
            index, _, field = rest.partition(".")
            if prefix != "layers" or not index.isdecimal() or field not in known:
                raise ValueError(f"a state has no tensor {name!r}; fields of a layer are {', '.join(sorted(known))}")
            if tensor.shape[0] != tensors[LENGTHS].shape[0]:
                raise ValueError(f"{name} has {tensor.shape[0]} rows but lengths has {tensors[LENGTHS].shape[0]}")
            by_layer.setdefault(int(index), {})[field] = tensor
        if sorted(by_layer) != list(range(len(by_layer))):
            raise ValueError(f"a state has the layers 0, 1, 2, ...; got {sorted(by_layer)}")
        return RecurrentState([LayerState(**by_layer[index]) for index in range(len(by_layer))], tensors[LENGTHS])

    def select(self, rows: Tensor | Sequence[int]) -> RecurrentState:
        """The given rows, in the given order; a row may be taken more than once."""
        chosen = torch.as_tensor(rows, dtype=torch.long).tolist()
        return RecurrentState.gather([(self, row) for row in chosen]) if chosen else self.rows(0, 0)

    def rows(self, start: int, end: int) -> RecurrentState:
        """A view of the rows from `start` to before `end`, not a copy."""
        part = slice(start, end)
        layers = [LayerState(**{name: x[part] for name, x in layer.tensors().items()}) for layer in self.layers]
        return RecurrentState(layers, self.lengths[part])

    def fork(self, copies: int) -> RecurrentState:
        """Each row `copies` times, copies of a row next to each other: one context, many continuations."""
        if copies < 1:
            raise ValueError(f"copies must be at least 1, got {copies}")
        return self.select([row for row in range(self.batch_size) for _ in range(copies)])

    @staticmethod
    def concat(states: Sequence[RecurrentState]) -> RecurrentState:
        """One state with the rows of all, which may be of different lengths; they must come from the same model.

        Raises:
            ValueError: no state, or states of different models.
        """
        return RecurrentState.gather([(state, row) for state in states for row in range(state.batch_size)])

    @staticmethod
    def gather(
        places: Sequence[Place], *, slots: int = 0, device: torch.device | None = None, leave: Container[str] = ()
    ) -> RecurrentState:
        """Copy rows of states of one model, which may be of different lengths, into one.

        Args:
            places: the rows, in their order.
            slots: full attention gets at least so many; as many as the longest row needs in any case.
            device: where they come to lie; where the first state is by default.
            leave: fields of layers that are not copied.

        Raises:
            ValueError: no rows, or states of different models.
        """
        parts = parts_of(places)
        device = device or places[0][0].lengths.device
        lengths = torch.empty(len(places), dtype=torch.long, device=device)
        for part in parts:
            part.copy(part.state.lengths, lengths)
        first = places[0][0]
        slots = max(slots, *(part.filled for part in parts)) if first.grows else 0
        layers = []
        for index, layer in enumerate(first.layers):
            tensors = {}
            for name, tensor in layer.tensors().items():
                if name in leave:
                    continue
                grows = name in GROWING
                shape = (len(places), *((slots, *tensor.shape[2:]) if grows else tensor.shape[1:]))
                tensors[name] = tensor.new_empty(shape, device=device)
                for part in parts:
                    part.copy(part.state.layers[index].tensors()[name], tensors[name], grows=grows)
            layers.append(LayerState(**tensors))
        return RecurrentState(layers, lengths)

    def to(self, device: torch.device | str) -> RecurrentState:
        """Copy the state to a device."""
        layers = [
            LayerState(**{name: tensor.to(device) for name, tensor in layer.tensors().items()}) for layer in self.layers
        ]
        return RecurrentState(layers, self.lengths.to(device))

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 (transformers' signature)
        """Tokens of the longest row, the name under which `transformers.generate` asks for it."""
        return int(self.lengths.max()) if self.batch_size else 0


@dataclass
class StateRows:
    """Rows of one state on their way into other memory.

    Attributes:
        state: where they come from.
        rows: their numbers in it.
        targets: the rows that they become.
        filled: tokens of the longest of them.
    """

    state: RecurrentState
    rows: list[int]
    targets: list[int]
    filled: int = 0
    _indices: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, repr=False)

    def copy(self, source: Tensor, memory: Tensor, *, grows: bool = False) -> None:
        """Copy the rows of one of the state's tensors into other memory, straight from where they lie.

        Of a tensor that `grows` the filled slots are copied, and those behind them become 0.
        """
        if grows:
            for _, targets in self._spans(memory):
                memory[targets, self.filled :] = 0
            source, memory = source[:, : self.filled], memory[:, : self.filled]
        rows, learns = self._index("rows", source.device), torch.is_grad_enabled() and source.requires_grad
        direct = source.device == memory.device and source.dtype == memory.dtype and not learns
        for part, targets in self._spans(memory):
            if direct and isinstance(targets, slice):
                torch.index_select(source, 0, rows[part], out=memory[targets])
            else:
                memory[targets] = source.index_select(0, rows[part]).to(memory)

    def move(self, memory: Tensor, *, grows: bool = False) -> None:
        """Bring the rows to their places where `memory` is the tensor that they lie in."""
        if self.rows:
            filled = memory[:, : self.filled] if grows else memory
            taken = StateRows(self.state, list(range(len(self.rows))), self.targets, self.filled)
            taken.copy(filled.index_select(0, self._index("rows", memory.device)), memory, grows=grows)

    def moving(self) -> StateRows:
        """Those of the rows that become others."""
        moves = [(row, to) for row, to in zip(self.rows, self.targets, strict=True) if row != to]
        return StateRows(self.state, [row for row, _ in moves], [to for _, to in moves], self.filled)

    def _spans(self, memory: Tensor) -> list[tuple[slice, slice | Tensor]]:
        """Runs of rows whose targets follow one another, and these; on a GPU one of all rows: launches cost more."""
        starts = [at for at, to in enumerate(self.targets) if not at or to != self.targets[at - 1] + 1]
        if memory.is_cuda and len(starts) > 1:
            return [(slice(None), self._index("targets", memory.device))]
        spans = pairwise([*starts, len(self.targets)])
        return [(slice(at, end), slice(self.targets[at], self.targets[at] + end - at)) for at, end in spans]

    def _index(self, name: str, device: torch.device) -> Tensor:
        """`rows` or `targets` on a device, brought there once for all tensors."""
        if (name, device) not in self._indices:
            self._indices[name, device] = torch.tensor(getattr(self, name), dtype=torch.long, device=device)
        return self._indices[name, device]


def parts_of(places: Sequence[Place]) -> list[StateRows]:
    """Rows by the states that they come from.

    Raises:
        ValueError: no rows, or states of different models.
    """
    if not places:
        raise ValueError("a state needs at least one row")
    parts: dict[int, StateRows] = {}
    for target, (state, row) in enumerate(places):
        part = parts.setdefault(id(state), StateRows(state, [], []))
        part.rows.append(row)
        part.targets.append(target)
    first = places[0][0]
    for part in parts.values():
        lengths = part.state.lengths.tolist()
        part.filled = max(lengths[row] for row in part.rows)
        if len(part.state.layers) != len(first.layers):
            raise ValueError("states of different models cannot be joined: their numbers of layers differ")
        for ours, others in zip(first.layers, part.state.layers, strict=True):
            if ours.tensors().keys() != others.tensors().keys():
                names = f"{tuple(ours.tensors())} and {tuple(others.tensors())}"
                raise ValueError(f"states of different models cannot be joined: a layer holds {names}")
    return list(parts.values())
