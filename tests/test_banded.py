"""Attention over runs of tokens as kernels, against float64: on a GPU natively, else interpreted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model
from operator_checks import DEVICE
from torch import Tensor

from gdn2.ops import banded
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.triton.banded import band_forward
from gdn2.ops.triton.banded_backward import band_gradients
from gdn2.padding import Padding, Positions

EXACT = 2e-6  # float32: relative L2


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_device(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same numbers and the same order in memory."""
    return torch.empty_like(x, dtype=dtype, device=DEVICE).copy_(x)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected).norm() / expected.norm().clamp(min=1))


def exact(q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float, first: int = 0) -> Tensor:
    """One row's queries [T, H, D], the first of which is at place `first` of its keys [S, G, D]."""
    group = q.shape[1] // k.shape[1]
    i, j = first + torch.arange(len(q))[:, None], torch.arange(len(k))
    seen = (j <= i) & (j > i - (window or len(k) + len(q)))
    scores = scale * torch.einsum("thd,shd->hts", q, k.repeat_interleave(group, 1))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hts,shd->thd", weights, v.repeat_interleave(group, 1))


def tokens(B: int, T: int, H: int, G: int, D: int) -> list[Any]:
    return [random(B, T, heads, D, seed=seed) for seed, heads in enumerate((H, G, G))]


def forward(qkv: Any, window: int | None, scale: float, **options: Any) -> tuple[Tensor, Any]:
    q, k, v = qkv
    return band_forward(q, k, v, window, scale, **options)


def gradients(do: Tensor, qkv: Any, results: Any, window: int | None, scale: float, **options: Any) -> list[Tensor]:
    (q, k, v), (o, lse) = qkv, results
    return list(band_gradients(do, q, k, v, o, lse, window=window, scale=scale, **options))


SHAPES = [  # B, T, H, G, D, window
    (2, 1, 1, 1, 16, 5),
    (1, 70, 2, 2, 20, None),
    (2, 130, 2, 1, 16, 7),
    (1, 200, 1, 1, 64, 64),
    (1, 150, 4, 2, 32, 149),
    (1, 97, 1, 1, 128, 40),
    (1, 50, 2, 1, 256, 33),
    (1, 300, 1, 1, 16, 100),
]


@pytest.mark.parametrize(("B", "T", "H", "G", "D", "window"), SHAPES)
def test_a_run_of_tokens_and_its_gradients(B: int, T: int, H: int, G: int, D: int, window: int | None) -> None:
    leaves, do = tokens(B, T, H, G, D), random(B, T, H, D, seed=3)
    q, k, v = (x.requires_grad_() for x in leaves)
    scale = 1.7 * D**-0.5
    expected = torch.stack([exact(q[row], k[row], v[row], window, scale) for row in range(B)])
    exact_gradients = torch.autograd.grad(expected, leaves, do)
    ours: list[Any] = [on_device(x.detach()) for x in leaves]
    o, lse = forward(ours, window, scale, with_lse=True)
    assert error(o, expected.detach()) < EXACT
    found = gradients(on_device(do), ours, (o, lse), window, scale)
    for got, wanted in zip(found, exact_gradients, strict=True):
        assert got.shape == wanted.shape
        assert error(got, wanted) < EXACT


@pytest.mark.parametrize("window", [None, 50])
def test_padding_and_strides_change_no_tokens_result_and_no_gradient(window: int | None) -> None:
    """Rows padded left, right, not at all and altogether, in heads that are parts of a joint projection."""
    B, T, H, D, lengths = 4, 90, 1, 16, (60, 75, 90, 0)
    mask = torch.zeros(B, T, dtype=torch.bool)
    for row, places in enumerate((slice(30, 90), slice(0, 75), slice(0, 90), slice(0, 0))):
        mask[row, places] = True
    positions = positions_of(torch.zeros(B, dtype=torch.long), mask)
    joint, do = on_device(random(B, T, 3 * H * D, seed=0)), on_device(random(B, T, H, D, seed=1))
    q, k, v = (part.unflatten(-1, (H, D)) for part in joint.split(H * D, dim=-1))
    o, lse = forward((q, k, v), window, 0.3, positions=positions, with_lse=True)
    found = gradients(do, (q, k, v), (o, lse), window, 0.3, positions=positions)
    for row, length in enumerate(lengths):
        alone: list[Any] = [x[row][mask[row].to(DEVICE)][None].contiguous() for x in (q, k, v)]
        o_alone, lse_alone = forward(alone, window, 0.3, with_lse=True)
        expected = [o_alone]
        if length:
            do_alone = do[row][mask[row].to(DEVICE)][None]
            expected += gradients(do_alone, alone, (o_alone, lse_alone), window, 0.3)
        for got, wanted in zip((o, *found), expected, strict=False):
            torch.testing.assert_close(got[row][mask[row].to(DEVICE)], wanted[0], atol=3e-5, rtol=1e-4)
            assert float(got[row][~mask[row].to(DEVICE)].abs().sum()) == 0


def positions_of(before: Tensor, mask: Tensor) -> Positions:
    mask, before = mask.to(DEVICE), before.to(DEVICE)
    return Positions.after(before, mask.shape[1], Padding.from_mask(mask, tuple(mask.shape), continues=False))  # type: ignore[arg-type]


@pytest.mark.parametrize("T", [1, 20, 140])
@pytest.mark.parametrize("window", [7, 70])
def test_a_run_behind_a_ring_continues_its_text(T: int, window: int) -> None:
    """Rings that are empty, half full, full, and that have wrapped many times."""
    lengths, H, G, D = [0, 5, 70, 1000], 2, 1, 16
    whole = [random(1, n + T, heads, D, seed=n + heads) for n in lengths for heads in (H, 1, 1)]
    rows = [whole[i : i + 3] for i in range(0, len(whole), 3)]
    q, k, v = (torch.cat([row[part][:, -T:] for row in rows]) for part in range(3))
    ring = [torch.zeros(len(rows), window, G, D, dtype=torch.float64) for _ in range(2)]
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        for position in range(max(length - window, 0), length):
            for memory, source in zip(ring, row[1:], strict=True):
                memory[i, position % window] = source[0, position]
    positions = positions_of(torch.tensor(lengths), torch.ones(len(rows), T))
    ours: list[Any] = [on_device(x) for x in (q, k, v, *ring)]
    o, _ = forward(ours[:3], window, D**-0.5, positions=positions, ring=(ours[3], ours[4]))
    for i, ((_, keys, values), length) in enumerate(zip(rows, lengths, strict=True)):
        assert error(o[i], exact(q[i], keys[0], values[0], window, D**-0.5, length)) < EXACT
        alone = positions_of(torch.tensor(lengths[i : i + 1]), torch.ones(1, T))
        one: list[Any] = [x[i : i + 1] for x in ours]
        again, _ = forward(one[:3], window, D**-0.5, positions=alone, ring=(one[3], one[4]))
        assert torch.equal(again[0], o[i])


def test_a_run_over_a_cache_of_different_lengths_continues_each_text() -> None:
    """With room behind the longest, and padding right of the run."""
    before, T, H, G, D = [0, 3, 64, 130], 40, 4, 2, 16
    counts = [40, 12, 40, 1]
    mask = torch.arange(T) < torch.tensor(counts)[:, None]
    q, keys, values = random(4, T, H, D, seed=0), random(4, 180, G, D, seed=1), random(4, 180, G, D, seed=2)
    positions = positions_of(torch.tensor(before), mask)
    ours: list[Any] = [on_device(x) for x in (q, keys, values)]
    o, _ = forward(ours, None, 0.3, positions=positions, cached=True)
    for row, (first, count) in enumerate(zip(before, counts, strict=True)):
        end = first + count
        expected = exact(q[row, :count], keys[row, :end], values[row, :end], None, 0.3, first)
        assert error(o[row, :count], expected) < EXACT


@pytest.mark.parametrize("dtype", [pytest.param(torch.bfloat16, marks=pytest.mark.gpu), torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    leaves: list[Any] = [x.to(dtype).double().requires_grad_() for x in tokens(1, 150, 2, 1, 32)]
    do = random(1, 150, 2, 32, seed=3)
    q, k, v = (x[0] for x in leaves)
    expected = exact(q, k, v, 60, 0.2)[None]
    exact_gradients = torch.autograd.grad(expected, leaves, do)
    ours: list[Any] = [on_device(x.detach(), dtype) for x in leaves]
    o, lse = forward(ours, 60, 0.2, with_lse=True)
    found = gradients(on_device(do), ours, (o, lse), 60, 0.2)
    for got, wanted in zip((o, *found), (expected.detach(), *exact_gradients), strict=True):
        assert got.dtype == dtype
        assert error(got, wanted) < 1e-2


@pytest.mark.parametrize("window", [None, 30])
def test_a_row_gives_the_same_bits_alone_and_among_others(window: int | None) -> None:
    q, k, v, do = (on_device(random(2, 80, heads, 16, seed=heads)) for heads in (2, 1, 1, 2))
    together, lse = forward((q, k, v), window, 0.25, with_lse=True)
    all_gradients = gradients(do, (q, k, v), (together, lse), window, 0.25)
    for row in range(2):
        one: list[Any] = [x[row : row + 1] for x in (q, k, v)]
        alone, lse_alone = forward(one, window, 0.25, with_lse=True)
        found = gradients(do[row : row + 1], one, (alone, lse_alone), window, 0.25)
        for got, wanted in zip((alone, *found), (together, *all_gradients), strict=True):
            assert torch.equal(got[0], wanted[row])


@pytest.fixture
def by_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Attention by kernels where there are any, and a line for each time that a run went through them."""
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    used: list[str] = []
    attend = banded.attend

    def counted(*arguments: Any, **options: Any) -> Tensor:
        used.append(", ".join(name for name in ("ring", "cached") if options.get(name)) or "own")
        return attend(*arguments, **options)

    monkeypatch.setattr(banded, "attend", counted)
    return used


@torch.no_grad()
def test_a_model_reads_the_same_by_kernels(by_kernels: list[str]) -> None:
    """Texts that begin with padding, and go on in runs of different lengths, over full attention and windows."""
    model: Any = small_model(mixer_config("swa", "attention"))
    exact_model = small_model(mixer_config("swa", "attention")).double()
    model.to(DEVICE)
    ids = torch.randint(1, 400, (3, 70), generator=torch.Generator().manual_seed(0))
    left, right = torch.ones(3, 40), torch.ones(3, 30)
    left[0, :25], left[2, :39], right[1, 3:], right[2, 20:] = 0, 0, 0, 0
    state: Any = None
    expected_state: Any = None
    for part, mask in ((ids[:, :40], left), (ids[:, 40:], right), (ids[:, :20], None)):
        on = [None if x is None else x.to(DEVICE) for x in (part, mask)]
        out = model.model(on[0], attention_mask=on[1], past_key_values=state, use_cache=True)
        exact_out = exact_model.model(part, attention_mask=mask, past_key_values=expected_state, use_cache=True)
        state, expected_state = out.past_key_values, exact_out.past_key_values
        kept = torch.ones(part.shape, dtype=torch.bool) if mask is None else mask.bool()
        assert error(out.last_hidden_state.cpu()[kept], exact_out.last_hidden_state[kept]) < 1e-5
    assert by_kernels == ["own", "own", "ring", "cached", "ring", "cached"]


@pytest.mark.parametrize("padded", [False, True])
def test_a_model_learns_the_same_by_kernels(by_kernels: list[str], padded: bool) -> None:
    found = []
    ids = torch.randint(1, 400, (2, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 40)
    mask[0, :7] = 0
    for dtype, device in ((torch.float64, "cpu"), (torch.float32, DEVICE)):
        model: Any = small_model(mixer_config("swa", "attention"))
        model.to(device, dtype)
        hidden = model.model(ids.to(device), attention_mask=mask.to(device) if padded else None).last_hidden_state
        (hidden * random(*hidden.shape, seed=1).to(hidden) * mask[..., None].to(hidden)).sum().backward()
        found.append([p.grad.double().cpu() for p in model.model.parameters() if p.grad is not None])
    for exact_gradient, gradient in zip(*found, strict=True):
        assert error(gradient, exact_gradient) < 1e-5
    assert by_kernels == ["own", "own"] if padded else ["own"]
