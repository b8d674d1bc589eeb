"""One token a row through what stands around the operator, by kernels of their own (gdn2/ops/triton/stepping.py).

Letters: B batch, R channels of a low-rank projection, C channels of its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from gdn2.modules import L2_EPS, RMSNorm, ShortConvolution
from gdn2.ops.fused import fuses, reaches_kernels
from gdn2.ops.overwriting import may_overwrite
from gdn2.padding import Padding
from gdn2.products import Products

if TYPE_CHECKING:
    from gdn2.ops.triton.stepping import LowRankDecay

MOST_ROWS = 32  # beyond it low-rank matrices, which the kernels read for every row, are better read by a product
MOST_RANK = 512


def steps(read: Products, padding: Padding | None, tail: Tensor | None) -> bool:
    """Whether this is one token for each of a few rows, in front of a state for which there is a kernel."""
    B, T, _ = read.x.shape
    if T != 1 or padding is not None or not 0 < B <= MOST_ROWS or tail is None:
        return False
    return tail.dtype == read.x.dtype and tail.is_contiguous() and fuses(read.x, tail)


def low_rank_decay(read: Products, layers: nn.Module, A_log: Tensor, dt_bias: Tensor) -> LowRankDecay | None:
    """What the kernel makes the decay of, where it can; `layers` are a low-rank projection without bias."""
    from gdn2.ops.triton.stepping import LowRankDecay

    down, up = layers.children()
    assert isinstance(up, nn.Linear)
    if up.in_features > MOST_RANK or up.weight.dtype != read.x.dtype or not fuses(up.weight, A_log, dt_bias):
        return None
    return LowRankDecay(read(down), up.weight, A_log, dt_bias)


def project_step(
    read: Products, layers: list[nn.Linear], convolutions: list[ShortConvolution], tail: Tensor,
    heads: tuple[int, int], decay: LowRankDecay | None, *, activate: bool, unit: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:  # fmt: skip
    """Queries, keys and values of one token, convolved, and the convolution's new last inputs.

    The decay is made on the way and left in `read.decay`.
    """
    from gdn2.ops.triton.stepping import step_inputs

    q, k, v = (read(layer) for layer in layers)
    of_q, of_k, of_v = (convolution.weight for convolution in convolutions)
    found, after, read.decay = step_inputs(
        (q, k, v), (of_q, of_k, of_v), tail, heads, decay,
        activate=activate, unit_length=unit, eps=L2_EPS, overwrite=may_overwrite(),
    )  # fmt: skip
    return found, after


def gate_step(norm: RMSNorm, o: Tensor, read: Products, layers: nn.Module, activation: str) -> Tensor | None:
    """`norm.gated` of one token's o [B, 1, H, d] by a low-rank projection of x; None: there is no kernel for it."""
    B, T = o.shape[:2]
    if T != 1 or not reaches_kernels(o):
        return None
    if not 0 < B <= MOST_ROWS or not isinstance(layers, nn.Sequential) or norm.groups > 1:
        return None
    down, up = layers.children()
    assert isinstance(up, nn.Linear)
    same = up.weight.dtype == o.dtype == read.x.dtype
    if not same or up.in_features > MOST_RANK or not fuses(o, norm.weight, up.weight, up.bias):
        return None
    from gdn2.ops.triton.stepping import step_output

    return step_output(o, norm.scale, norm.eps, read(down), up.weight, up.bias, activation=activation)
