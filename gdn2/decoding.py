"""Decoding steps as CUDA graphs.

A step of a billion parameters is some hundred small kernels, which a GPU runs faster than Python can launch them. A
graph runs on fixed memory: it holds the state of its rows and overwrites it with each step. Which rows those are may
change at any time; then their state is copied in once.
"""

from __future__ import annotations

import logging
import os
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdn2.model import GDN2Model
from gdn2.ops.overwriting import overwriting_states
from gdn2.state import GROWING, LayerState, RecurrentState

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
    """`step(tokens, state)` for one model: as a CUDA graph where that is possible, else as a forward like any other.

    Graphs are taken on a GPU, for models whose state does not grow; a graph that cannot be captured is said once, and
    steps go on without.
    """

    def __init__(self, model: GDN2Model) -> None:
        self._model = weakref.ref(model)
        self.uses_graphs = (
            model.device.type == "cuda"
            and os.environ.get(GRAPHS_VARIABLE, "1") != "0"
            and not any(name in layer.tensors() for layer in model.empty_state(1).layers for name in GROWING)
        )
        self._graphs: dict[int, _Graph] = {}
        self._memory: RecurrentState | None = None
        self._tokens: Tensor | None = None
        self._pool: Any = None  # of memory that graphs share
        self._current: RecurrentState | None = None

    @property
    def model(self) -> GDN2Model:
        """Not kept alive by this object."""
        model = self._model()
        assert model is not None
        return model

    def step(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """Read one token a row.

        Args:
            tokens: ids, int64 [B].
            state: of the B texts so far. With graphs, a state that a step returned holds until the next step; `select`
                copies what shall be kept.

        Returns:
            The model's output [B, D] and the state behind the tokens.
        """
        if self.uses_graphs and not torch.is_grad_enabled():
            try:
                return self._replay(tokens, state)
            except torch.OutOfMemoryError:
                self.forget()
                raise
            except RuntimeError as error:
                log.warning("decoding goes on without CUDA graphs: %s", str(error).splitlines()[0])
                self.forget()
                self.uses_graphs = False
        outputs = self.model(input_ids=tokens[:, None], past_key_values=state, use_cache=True)
        after: RecurrentState = outputs.past_key_values
        return outputs.last_hidden_state[:, -1], after

    def forget(self) -> None:
        """Give the memory of all graphs back. States that steps returned are lost."""
        self._graphs, self._memory, self._tokens, self._pool, self._current = {}, None, None, None, None

    def _replay(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        rows, places = len(tokens), places_for(len(tokens))
        if state is not self._current:
            self._current = None
            self._reserve(places)
        if places not in self._graphs:
            self._graphs[places] = self._capture(places)
        assert self._memory is not None
        assert self._tokens is not None
        if self._current is None:
            for kept, given in zip(self._memory.tensors(), state.tensors(), strict=True):
                kept[:rows].copy_(given)
            self._current = _first_rows(self._memory, rows)
        self._tokens[:rows].copy_(tokens)
        self._graphs[places].graph.replay()
        return self._graphs[places].hidden[:rows].clone(), self._current

    def _reserve(self, places: int) -> None:
        """Memory for so many rows; graphs of less memory are dropped."""
        if self._memory is None or self._memory.batch_size < places:
            self.forget()
            self._memory = self.model.empty_state(places)
            self._tokens = torch.zeros(places, dtype=torch.long, device=self.model.device)

    def _capture(self, places: int) -> _Graph:
        """The graph of one step of the first `places` rows. What their memory holds is lost."""
        assert self._memory is not None
        assert self._tokens is not None
        state, tokens = _first_rows(self._memory, places), self._tokens[:places]
        with torch.cuda.device(self.model.device), overwriting_states():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    self._step_in_place(tokens, state)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                hidden = self._step_in_place(tokens, state)
        self._pool = self._pool or graph.pool()
        return _Graph(graph, hidden)

    def _step_in_place(self, tokens: Tensor, state: RecurrentState) -> Tensor:
        outputs = self.model(input_ids=tokens[:, None], past_key_values=state, use_cache=True)
        after: RecurrentState = outputs.past_key_values
        for kept, new in zip(state.tensors(), after.tensors(), strict=True):
            if new.data_ptr() != kept.data_ptr():
                kept.copy_(new)
        hidden: Tensor = outputs.last_hidden_state
        return hidden[:, -1].contiguous()


def _first_rows(state: RecurrentState, rows: int) -> RecurrentState:
    """A view of the first rows, not a copy."""
    layers = [LayerState(**{name: x[:rows] for name, x in layer.tensors().items()}) for layer in state.layers]
    return RecurrentState(layers, state.lengths[:rows])


_of_models: weakref.WeakKeyDictionary[GDN2Model, Decoding] = weakref.WeakKeyDictionary()


def decoding_of(model: GDN2Model) -> Decoding:
    """The model's `Decoding`, with the graphs that it has captured so far."""
    if model not in _of_models:
        _of_models[model] = Decoding(model)
    return _of_models[model]
