"""Inputs of the operator, its definition written out anew, and how near a result is to it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from gdn2.ops import gated_delta_rule_2


def make_inputs(
    B: int, T: int, H: int, K: int, V: int, decay: str = "mild", seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Any]:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    q, k = (torch.nn.functional.normalize(normal(B, T, H, K), dim=-1) for _ in range(2))
    v = normal(B, T, H, V)
    uniform = torch.rand(B, T, H, K, generator=rng, dtype=torch.float64)
    late_channel = torch.zeros(T, H, K, dtype=torch.bool)
    late_channel[T // 2 :, :1, :1] = True
    g = {
        "none": 0 * uniform,
        "mild": -0.1 * uniform,
        "strong": -20 * uniform,
        "mixed": torch.where(uniform < 0.3, -50.0, -0.01 * uniform),
        "extreme": -200 * uniform,
        "uneven": torch.where(late_channel, -5.0, -0.1 * uniform),  # some chunks of one head lose much
    }[decay]
    b, w = normal(B, T, H, K).sigmoid(), normal(B, T, H, V).sigmoid()
    state = normal(B, H, K, V)
    return [x.to(dtype) for x in (q, k, v, g, b, w, state)]


def oracle(q: Any, k: Any, v: Any, g: Any, b: Any, w: Any, state: Any, scale: Any) -> tuple[Tensor, Tensor]:
    """The definition, one matrix product at a time, with nothing shared with the package."""
    B, T, H, K = q.shape
    o, S = torch.zeros_like(v), state.clone()
    for n, h in itertools.product(range(B), range(H)):
        for t in range(T):
            k_t = k[n, t, h]
            transition = torch.eye(K, dtype=q.dtype) - torch.outer(k_t, b[n, t, h] * k_t)
            write = torch.outer(k_t, w[n, t, h] * v[n, t, h])
            S[n, h] = transition @ torch.diag(g[n, t, h].exp()) @ S[n, h] + write
            o[n, t, h] = scale * S[n, h].T @ q[n, t, h]
    return o, S


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    error = (ours.double() - theirs.double()).norm() / theirs.double().norm().clamp_min(1e-30)
    assert error <= tolerance, f"relative L2 error {error:.2e} > {tolerance:.0e}"


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORWARD, BACKWARD = 2e-6, 5e-6
NAMES = ("q", "k", "v", "g", "b", "w", "S")


def rounded(*shape: int, decay: str = "mild", dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Any]:
    """Inputs and a state in the dtype of the test; g and the state at least in float32."""
    B, T, H, K, V = shape
    inputs = [x.to(DEVICE) for x in make_inputs(B, T, H, K, V, decay=decay, seed=seed)]
    return [x.to(torch.float32 if i in (3, 6) else dtype) for i, x in enumerate(inputs)]


def run(inputs: list[Any], backend: str = "triton", **options: Any) -> tuple[Tensor, Tensor]:
    *six, state = inputs
    o, last = gated_delta_rule_2(*six, initial_state=state, output_final_state=True, backend=backend, **options)
    assert last is not None
    return o, last


def exact(inputs: list[Any], **options: Any) -> tuple[Tensor, Tensor]:
    return run([x.double() for x in inputs], backend="naive", **options)


def all_gradients(inputs: list[Any], backend: str, dtype: torch.dtype | None = None, **options: Any) -> list[Any]:
    leaves = [x.detach().to(dtype or x.dtype, copy=True).requires_grad_() for x in inputs]
    o, state = run(leaves, backend, **options)
    rng = torch.Generator().manual_seed(5)
    d_o, d_state = (torch.randn(x.shape, generator=rng, dtype=torch.float64).to(x.device) for x in (o, state))
    ((o * d_o).sum() + (state * d_state).sum()).backward()
    return [x.grad for x in leaves]


def assert_gradients(inputs: list[Any], tolerance: float = BACKWARD, **options: Any) -> None:
    ours = all_gradients(inputs, "triton", **options)
    theirs = all_gradients(inputs, "naive", torch.float64, **options)
    for name, a, e in zip(NAMES, ours, theirs, strict=True):
        size = e.norm().clamp_min(1e-30)
        if name == "g":  # a decay beyond exp(-20) is cut there, and has no gradient
            a, e = (torch.where(inputs[3] < -20, 0, x) for x in (a, e))
            # dg is a sum of terms like q dq, and inherits their rounding: with nearly everything forgotten at each
            # step it is a small difference of almost equal ones.
            size = torch.maximum(e.norm(), (inputs[0] * theirs[0]).norm())
        error = (a.double() - e).norm() / size
        assert error <= tolerance, f"d{name}: {error:.2e}"
