"""The one operator of the family, `gated_delta_rule_2`, and the choice of its backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gdn2.ops.backends import resolve_backend
from gdn2.ops.checks import check_inputs
from gdn2.ops.chunked import chunked_gated_delta_rule_2
from gdn2.ops.naive import naive_gated_delta_rule_2
from gdn2.ops.packing import pack, unpack
from gdn2.ops.single import single_gated_delta_rule_2

__all__ = ["gated_delta_rule_2", "resolve_backend"]


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
    """The gated delta rule-2 (arXiv:2605.22791) over whole sequences.

    Per head, with the state S of shape [d_k, d_v]:

        S_t = (I - k_t (b_t * k_t)^T) Diag(exp g_t) S_{t-1} + k_t (w_t * v_t)^T,    o_t = scale * S_t^T q_t

    Args:
        q: queries `[B, T, H, d_k]`, used as given (normalising them is the layer's work).
        k: keys `[B, T, H, d_k]`, likewise.
        v: values `[B, T, H, d_v]`.
        g: log-decay (natural log, <= 0) of each key channel `[B, T, H, d_k]`.
        b: erase gate of each key channel `[B, T, H, d_k]`, usually in [0, 1] or [0, 2].
        w: write gate of each value channel `[B, T, H, d_v]`, usually in [0, 1].
        scale: factor of the output, 1 / sqrt(d_k) by default.
        initial_state: `[N, H, d_k, d_v]`, zeros by default; N = B, or the number of packed sequences.
        output_final_state: whether to return the state after each sequence's last token.
        cu_seqlens: int32 or int64 `[N + 1]`, offsets of N sequences packed in one row (then B = 1). If they are on
            the CPU, reading them does not wait for a GPU.
        backend: "auto", "naive" (the specification), "chunked" (PyTorch) or "triton"; the environment variable
            GDN2_BACKEND replaces "auto", which takes the Triton kernels on CUDA tensors.

    Returns:
        The outputs `[B, T, H, d_v]` in the dtype of v, and the final state `[N, H, d_k, d_v]` or None. States and sums
        are float32, or float64 when an input or the initial state is float64. A step with k = 0 and g = 0 changes
        nothing.

    Raises:
        ValueError: shapes, dtypes, devices or offsets do not fit, g is positive somewhere, or the backend is unknown.
            On a CUDA device the values of g are checked only if GDN2_CHECK_INPUTS=1, since that waits for the GPU;
            without the check the kernels turn g > 0 into NaN.
    """
    offsets = check_inputs(q, k, v, g, b, w, initial_state, cu_seqlens)
    T, K = q.shape[1], q.shape[-1]
    scale = K**-0.5 if scale is None else float(scale)  # an int would be compiled into a kernel
    dtypes = (
        q.dtype,
        k.dtype,
        v.dtype,
        g.dtype,
        b.dtype,
        w.dtype,
        None if initial_state is None else initial_state.dtype,
    )
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    chosen = resolve_backend(backend, T, q.device, dtype, K)
    if chosen == "triton":
        from gdn2.ops.triton import triton_gated_delta_rule_2

        o, state = triton_gated_delta_rule_2(q, k, v, g, b, w, scale, initial_state, offsets)
        return o, state if output_final_state else None
    if offsets is not None:
        q, k, v, g, b, w = (unpack(x, offsets) for x in (q, k, v, g, b, w))
    if initial_state is None:
        initial_state = q.new_zeros(q.shape[0], q.shape[2], K, v.shape[-1], dtype=dtype)
    with _unrounded(q.device.type):
        o, state = _in_pytorch(chosen)(q, k, v, g, b, w, scale, initial_state.to(dtype))
    if offsets is not None:
        o = pack(o, offsets)
    return o, state if output_final_state else None


def _in_pytorch(chosen: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The implementation of that name."""
    if chosen == "single":
        return single_gated_delta_rule_2
    return naive_gated_delta_rule_2 if chosen == "naive" else chunked_gated_delta_rule_2


def _unrounded(kind: str) -> AbstractContextManager[None]:
    """Where sums along a text are not rounded to half precision; what is not on need not be turned off."""
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
