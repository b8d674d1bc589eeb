"""Decoding steps: in place, and as CUDA graphs where there is a GPU; the numbers are those of a forward."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model
from operator_checks import DEVICE, rounded

from gdn2.decoding import Decoding, decoding_of, places_for
from gdn2.ops import gated_delta_rule_2
from gdn2.ops.overwriting import overwriting_states

KINDS = [
    "gdn2",
    "kda",
    "gated_deltanet",
    "delta_net",
    "gla",
    "mamba2",
    "mamba3",
    "mamba3_mimo",
    "swa",
    "attention",
    "mla",
]


def test_a_state_is_overwritten_only_where_that_was_allowed() -> None:
    inputs = rounded(2, 1, 3, 16, 8)
    *six, state = inputs

    def step() -> Any:
        return gated_delta_rule_2(*six, initial_state=state, output_final_state=True, backend="triton")

    before = state.clone()
    o, last = step()
    assert torch.equal(state, before)
    with overwriting_states():
        again, overwritten = step()
    assert overwritten.data_ptr() == state.data_ptr()
    assert torch.equal(state, last)
    assert torch.equal(again, o)


def test_few_sizes_of_graphs_waste_little() -> None:
    sizes = [places_for(rows) for rows in range(1, 513)]
    assert all(rows <= size <= max(16, 1.5 * rows) for rows, size in enumerate(sizes, start=1))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 25


@torch.no_grad()
def test_without_graphs_a_step_is_a_forward() -> None:
    model = small_model(mixer_config("gdn2", "attention"))
    start = model.model(torch.tensor([[3, 4, 5], [6, 7, 8]]), use_cache=True).past_key_values
    hidden, state = decoding_of(model.model).step(torch.tensor([9, 10]), start)
    expected = model.model(torch.tensor([[9], [10]]), past_key_values=start, use_cache=True)
    assert torch.equal(hidden, expected.last_hidden_state[:, -1])
    kept = state.select([0, 1])  # without the room for tokens to come
    assert all(torch.equal(a, e) for a, e in zip(kept.tensors(), expected.past_key_values.tensors(), strict=True))
    assert decoding_of(model.model) is decoding_of(model.model)


def test_a_model_is_not_kept_alive() -> None:
    model = small_model()
    decoding_of(model.model)
    gone = weakref.ref(model.model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.gpu
@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_give_what_forwards_give_while_rows_come_and_go(kind: Any) -> None:
    model = cast(Any, small_model(mixer_config(kind, "gdn2"))).to(DEVICE).model
    decoding = Decoding(model)
    assert decoding.uses_graphs
    ids = torch.randint(1, 400, (5, 30), device=DEVICE)
    ours = theirs = model(ids[:, :21], use_cache=True).past_key_values
    for column, rows in zip(range(21, 30), (5,) * 4 + (3,) * 2 + (1,) * 3, strict=True):
        if rows != theirs.batch_size:
            kept = list(range(theirs.batch_size - 1, -1, -1))[:rows]
            ours, theirs = decoding.arrange([(ours, row) for row in kept]), theirs.select(kept)
        tokens = ids[:rows, column]
        hidden, ours = decoding.step(tokens, ours)
        expected = model(tokens[:, None], past_key_values=theirs, use_cache=True)
        theirs = expected.past_key_values
        torch.testing.assert_close(hidden, expected.last_hidden_state[:, -1], atol=1e-4, rtol=1e-4)
        for a, e in zip(ours.select(range(rows)).tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-4)
    assert decoding.uses_graphs, "a capture failed"
