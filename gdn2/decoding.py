"""Decoding steps as CUDA graphs.

A step of a billion parameters is some hundred small kernels, which a GPU runs faster than Python can launch them. A
graph runs on fixed memory: it holds the state of its rows and overwrites it with each step. Which rows those are may
change at any time: then new ones are copied in, and the others stay where they are.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdn2.decoding_memory import DecodingMemory
from gdn2.model import GDN2Model
from gdn2.ops.overwriting import overwriting_slots, overwriting_states
from gdn2.state import SLOTTED, LayerState, Place, RecurrentState

GRAPHS_VARIABLE = "GDN2_CUDA_GRAPHS"  # 0: steps are launched one kernel after the other
WARM_UPS = 2  # steps before a capture: kernels are compiled, and libraries take their workspaces

log = logging.getLogger("gdn2")


def places_for(rows: int) -> int:
    """Round a number of rows up to that of a captured graph: few sizes, little waste."""
    if rows <= 8:
        return 1 << max(rows - 1, 0).bit_length()
    step = 8 if rows <= 64 else 32
    return -(-rows // step) * step


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    hidden: Tensor  # [places, D], written by each replay


class Decoding:
    """`step(tokens, state)` for one model, in memory of its own that steps overwrite.

    On a GPU a step is a CUDA graph where that is possible, else a forward like any other; a graph that cannot be
    captured is said once, and steps go on without.
    """

    def __init__(self, model: GDN2Model) -> None:
        self._model = weakref.ref(model)
        self.uses_graphs = model.device.type == "cuda" and os.environ.get(GRAPHS_VARIABLE, "1") != "0"
        self._memory: DecodingMemory | None = None
        self._graphs: dict[int, _Graph] = {}
        self._graphs_of = 0  # the memory's number of moves when they were captured
        self._tokens: Tensor | None = None
        self._pool: Any = None  # of memory that graphs share

    @property
    def model(self) -> GDN2Model:
        """Not kept alive by this object."""
        model = self._model()
        assert model is not None
        return model

    def arrange(self, places: Sequence[Place], *, rows: int = 0, most_slots: int = 0) -> RecurrentState:
        """Take in the rows that the next steps are for, in their order, in place as far as that is possible.

        Args:
            places: rows of the state that the last call gave, which lie where they are or move, and of other states,
                which are copied. All else is lost.
            rows: the most that there will be, if that is known.
            most_slots: the tokens that the longest row will have at the end, if that is known.

        Returns:
            The state of these rows, which holds until the next call.
        """
        if self._memory is None:
            self._memory = DecodingMemory(self.model.empty_state, everything=self.uses_graphs)
        return self._memory.arrange(places, rows=rows or places_for(len(places)), most_slots=most_slots)

    def step(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one token a row.

        Args:
            tokens: ids, int64 [B].
            state: of the B texts so far; one that the last call did not give is copied first.

        Returns:
            The model's output [B, D] and the state behind the tokens. The state holds until the next call; `select`
            copies what shall be kept.
        """
        if torch.is_grad_enabled():
            return self._forward(tokens, state)
        if self._memory is None or state is not self._memory.state:
            self.arrange([(state, row) for row in range(len(tokens))])
        assert self._memory is not None
        assert self._memory.state is not None
        self._memory.make_room()
        if self.uses_graphs:
            try:
                return self._replay(tokens, self._memory)
            except torch.OutOfMemoryError:
                self._drop_graphs()
                raise
            except RuntimeError as error:
                log.warning("decoding goes on without CUDA graphs: %s", str(error).splitlines()[0])
                self._drop_graphs()
                self._memory.keep_slots_only()
                self.uses_graphs = False
        with overwriting_slots():
            hidden, after = self._forward(tokens, self._memory.state)
        self._memory.stepped(after)
        return hidden, after

    def forget(self) -> None:
        """Give all memory back. States that calls returned are lost."""
        self._drop_graphs()
        self._memory = None

    def _forward(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        outputs = self.model(input_ids=tokens[:, None], past_key_values=state, use_cache=True)
        after: RecurrentState = outputs.past_key_values
        return outputs.last_hidden_state[:, -1], after

    def _drop_graphs(self) -> None:
        self._graphs, self._tokens, self._pool = {}, None, None

    def _replay(self, tokens: Tensor, memory: DecodingMemory) -> tuple[Tensor, RecurrentState]:
        assert memory.state is not None
        rows, places = len(tokens), min(places_for(len(tokens)), memory.rows)
        if self._graphs_of != memory.moves:
            self._drop_graphs()
            self._graphs_of = memory.moves
        if self._tokens is None:
            self._tokens = torch.zeros(memory.rows, dtype=torch.long, device=self.model.device)
        if places not in self._graphs:
            self._graphs[places] = self._capture(self._tokens[:places], memory.first_rows(places))
        self._tokens[:rows].copy_(tokens)
        self._graphs[places].graph.replay()
        memory.stepped()
        return self._graphs[places].hidden[:rows].clone(), memory.state

    def _capture(self, tokens: Tensor, state: RecurrentState) -> _Graph:
        """The graph of one step of a state's memory. What the memory holds stays."""
        with torch.cuda.device(self.model.device), overwriting_states():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._warm_up(tokens, state)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                hidden = self._step_in_place(tokens, state)
        self._pool = self._pool or graph.pool()
        return _Graph(graph, hidden)

    def _warm_up(self, tokens: Tensor, state: RecurrentState) -> None:
        """Steps before a capture: they write slots that the next step writes again, and nothing else of the state."""
        layers = [
            LayerState(**{name: x if name in SLOTTED else torch.zeros_like(x) for name, x in layer.tensors().items()})
            for layer in state.layers
        ]
        scratch = RecurrentState(layers, state.lengths.clone())
        for _ in range(WARM_UPS):
            self._step_in_place(tokens, scratch)
            scratch.lengths.copy_(state.lengths)

    def _step_in_place(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        hidden, after = self._forward(tokens, state)
        for kept, new in zip(state.tensors(), after.tensors(), strict=True):
            if new.data_ptr() != kept.data_ptr():
                kept.copy_(new)
        return hidden.contiguous()


_of_models: weakref.WeakKeyDictionary[GDN2Model, Decoding] = weakref.WeakKeyDictionary()


def decoding_of(model: GDN2Model) -> Decoding:
    """The model's `Decoding`, with the graphs that it has captured so far."""
    if model not in _of_models:
        _of_models[model] = Decoding(model)
    return _of_models[model]
