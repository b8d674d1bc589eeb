"""The one operator of the family, `gated_delta_rule_2`, and the choice of its backend."""

from __future__ import annotations

import os
from typing import Literal

import torch
from torch import Tensor

from gdn2.ops.checks import check_inputs
from gdn2.ops.chunked import chunked_gated_delta_rule_2
from gdn2.ops.naive import naive_gated_delta_rule_2
from gdn2.ops.packing import pack, unpack

Backend = Literal["auto", "naive", "chunked"]
BACKENDS = {"naive": naive_gated_delta_rule_2, "chunked": chunked_gated_delta_rule_2}
BACKEND_VARIABLE = "GDN2_BACKEND"
SHORT_INPUT = 4  # tokens: below this a loop beats building a chunk (decode is a loop of one)


def resolve_backend(backend: str, num_tokens: int) -> str:
    """The backend that `backend` means for an input of this length: an argument wins over GDN2_BACKEND over "auto"."""
    if backend == "auto":
        backend = os.environ.get(BACKEND_VARIABLE, "auto")
    if backend == "auto":
        return "naive" if num_tokens <= SHORT_INPUT else "chunked"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of auto, {', '.join(BACKENDS)}, got {backend!r}")
    return backend


def gated_delta_rule_2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor | None]:
    """The gated delta rule-2 (arXiv:2605.22791):

        S_t = (I - k_t (b_t * k_t)^T) Diag(exp g_t) S_{t-1} + k_t (w_t * v_t)^T,    o_t = scale * S_t^T q_t

    Args:
        q, k: queries and keys `[B, T, H, d_k]`, used as given (normalising them is the layer's work).
        v: values `[B, T, H, d_v]`.
        g: log-decay (natural log, <= 0) of each key channel `[B, T, H, d_k]`.
        b: erase gate of each key channel `[B, T, H, d_k]`, usually in [0, 1] or [0, 2].
        w: write gate of each value channel `[B, T, H, d_v]`, usually in [0, 1].
        scale: factor of the output, 1 / sqrt(d_k) by default.
        initial_state: `[N, H, d_k, d_v]`, zeros by default; N = B, or the number of packed sequences.
        output_final_state: whether to return the state after each sequence's last token.
        cu_seqlens: int32 or int64 `[N + 1]`, offsets of N sequences packed in one row (then B = 1).
        backend: "auto", "naive" (the specification) or "chunked"; the variable GDN2_BACKEND replaces "auto".

    Returns:
        o `[B, T, H, d_v]` in the dtype of v, and the final state `[N, H, d_k, d_v]` or None. States and sums are
        float32, or float64 when an input or the initial state is float64. A step with k = 0, g = 0 changes nothing.

    Raises:
        ValueError: shapes, dtypes, devices or offsets that do not fit, g > 0, or an unknown backend.
    """
    check_inputs(q, k, v, g, b, w, initial_state, cu_seqlens)
    if cu_seqlens is not None:
        q, k, v, g, b, w = (unpack(x, cu_seqlens) for x in (q, k, v, g, b, w))
    N, T, H, K = q.shape
    dtype = torch.float32
    if any(x is not None and x.dtype == torch.float64 for x in (q, k, v, g, b, w, initial_state)):
        dtype = torch.float64
    if initial_state is None:
        initial_state = q.new_zeros(N, H, K, v.shape[-1], dtype=dtype)
    run = BACKENDS[resolve_backend(backend, T)]
    o, state = run(q, k, v, g, b, w, K**-0.5 if scale is None else scale, initial_state.to(dtype))
    if cu_seqlens is not None:
        o = pack(o, cu_seqlens)
    return o, state if output_final_state else None
