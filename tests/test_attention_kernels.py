"""A decoding step of attention as kernels, against float64: on a GPU natively, else interpreted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model
from operator_checks import DEVICE
from torch import Tensor

from gdn2.decoding import Decoding
from gdn2.modules import rotate_halves
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.triton.attention import attend, fits, rotate_and_store

EXACT = 2e-6  # float32: relative L2


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def memory(B: int, S: int, G: int, D: int, seed: int, *, by_head: bool) -> Tensor:
    """Slots [B, S, G, D], those of a head or those of a token next to each other."""
    x = random(B, S, G, D, seed=seed)
    return x.transpose(1, 2).contiguous().transpose(1, 2) if by_head else x


def on_device(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same numbers and the same order in memory."""
    return torch.empty_like(x, dtype=dtype, device=DEVICE).copy_(x)


def exact(q: Tensor, keys: Tensor, values: Tensor, before: Tensor, scale: float) -> Tensor:
    """Row by row and head by head."""
    rows, group = [], q.shape[1] // keys.shape[2]
    for row in range(len(q)):
        count = min(int(before[row]) + 1, keys.shape[1])
        heads = [
            torch.softmax(scale * keys[row, :count, h // group] @ q[row, h], 0) @ values[row, :count, h // group]
            for h in range(q.shape[1])
        ]
        rows.append(torch.stack(heads))
    return torch.stack(rows)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize(
    ("H", "G", "D", "S", "before"),
    [
        (2, 2, 16, 1, [0, 7]),  # a window of one token
        (2, 2, 16, 40, [0, 39, 1000]),  # one part, of which a ring has more than it has slots
        (4, 2, 20, 300, [12, 255, 256, 299]),  # the ends of parts, and heads that are padded
        (6, 1, 32, 700, [699, 5]),
        (3, 3, 64, 600, [601]),
    ],
)
def test_a_query_sees_the_slots_that_are_filled(
    H: int, G: int, D: int, S: int, before: list[int], by_head: bool
) -> None:
    B, places = len(before), torch.tensor(before)
    q, keys, values = random(B, H, D, seed=0), *(memory(B, S, G, D, seed, by_head=by_head) for seed in (1, 2))
    for scale in (None, 0.7):
        found = attend(on_device(q), on_device(keys), on_device(values), places.to(DEVICE), scale)
        assert error(found, exact(q, keys, values, places, scale or D**-0.5)) < EXACT


def test_a_row_gives_the_same_bits_alone_and_among_others_with_room_and_without() -> None:
    places, D = torch.tensor([300, 20, 511]).to(DEVICE), 16
    q, keys, values = (
        on_device(x) for x in (random(3, 4, D, seed=0), random(3, 512, 2, D, seed=1), random(3, 512, 2, D, seed=2))
    )
    together = attend(q, keys, values, places, None)
    for row, slots in ((0, 301), (1, 64), (2, 512)):
        one = slice(row, row + 1)
        assert torch.equal(attend(q[one], keys[one, :slots], values[one, :slots], places[one], None), together[one])


def test_slots_that_are_not_filled_may_hold_anything() -> None:
    places = torch.tensor([10, 300]).to(DEVICE)
    q, keys, values = (
        on_device(x) for x in (random(2, 2, 16, seed=0), random(2, 400, 2, 16, seed=1), random(2, 400, 2, 16, seed=2))
    )
    expected = attend(q, keys, values, places, None)
    for x in (keys, values):
        for row, count in enumerate((11, 301)):
            x[row, count:] = torch.nan
    assert torch.equal(attend(q, keys, values, places, None), expected)


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize(("H", "G", "D", "rotated"), [(3, 3, 16, 16), (9, 3, 20, 8), (2, 1, 64, 0)])
def test_a_key_is_rotated_into_its_slot_and_nothing_else_is_written(
    H: int, G: int, D: int, rotated: int, by_head: bool
) -> None:
    places, S = torch.tensor([0, 6, 7, 1_000_003]), 7
    B = len(places)
    q, k, v = random(B, H, D, seed=0), random(B, G, D, seed=1), random(B, G, D, seed=2)
    keys, values = (memory(B, S, G, D, seed, by_head=by_head) for seed in (3, 4))
    angle = random(B, rotated // 2, seed=5) * 100
    turns = (angle.cos(), angle.sin()) if rotated else None

    def turned(x: Tensor) -> Tensor:
        return torch.cat([rotate_halves(x[..., :rotated], angle[:, None]), x[..., rotated:]], -1) if rotated else x

    rows = torch.arange(B)
    heads, ours, others = [on_device(x) for x in (q, k, v)], on_device(keys), on_device(values)
    at = None if turns is None else (on_device(turns[0]), on_device(turns[1]))
    found = rotate_and_store(heads[0], heads[1], heads[2], ours, others, places.to(DEVICE), turns=at)
    keys[rows, places % S], values[rows, places % S] = turned(k), v
    assert error(found, turned(q)) < EXACT
    assert error(ours, keys) < EXACT
    torch.testing.assert_close(others.cpu(), values.float(), atol=0, rtol=0)


def test_heads_that_there_are_no_kernels_for() -> None:
    assert fits(128, 1)
    assert fits(256, 64)
    assert not fits(512, 1)
    assert not fits(64, 71)


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"window_size": 5},
        {"attention_qk_norm": True, "rope_fraction": 0.5, "attention_gate": True},
        {"rope_theta": None, "attention_scale": 0.3},
        {"attention_conv": True},
    ],
)
def test_steps_of_a_model_by_kernels_are_those_by_pytorch(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = small_model(mixer_config("swa", "attention", **changes)).to(DEVICE).model  # type: ignore[arg-type]
    ids = torch.randint(1, 400, (3, 24), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    states = [model(ids[row : row + 1, : 4 + 5 * row], use_cache=True).past_key_values for row in range(3)]
    found: dict[str, list[Tensor]] = {}
    for backend in ("triton", "chunked"):
        monkeypatch.setenv(BACKEND_VARIABLE, backend)
        decoding, found[backend] = Decoding(model), []
        decoding.uses_graphs = False
        state = decoding.arrange([(one, 0) for one in states])
        for column in range(8):
            hidden, state = decoding.step(ids[:, column], state)
            found[backend].append(hidden)
        found[backend] += state.select([0, 1, 2]).tensors()
    for ours, theirs in zip(found["triton"], found["chunked"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
