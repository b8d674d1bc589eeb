"""A token at a time on a CPU: what is done differently there for speed gives what runs of tokens give."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d, silu

from gdn2.modules import convolve


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_a_token_is_convolved_as_in_a_run(dtype: torch.dtype, taps: int, bias: bool) -> None:
    """Summed up in float32 at least and rounded once; the next state is of its own memory."""
    torch.manual_seed(0)
    x, tail = torch.randn(3, 1, 24).to(dtype), torch.randn(3, taps - 1, 24).to(dtype)
    weight, offset = torch.randn(24, 1, taps).to(dtype), torch.randn(24).to(dtype) if bias else None
    y, after = convolve(x, weight, offset, tail, None)
    inputs, eps = torch.cat([tail, x], dim=1), torch.finfo(dtype).eps
    exact = conv1d(inputs.double().mT, weight.double(), None if offset is None else offset.double(), groups=24).mT
    torch.testing.assert_close(y.double(), silu(exact), rtol=2 * eps, atol=2 * eps)
    assert torch.equal(after, inputs[:, 1:])
    assert after.untyped_storage().nbytes() == after.numel() * after.element_size()
