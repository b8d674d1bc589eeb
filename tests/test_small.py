"""Small steps of training on a CPU, against PyTorch's operations in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from operator_checks import assert_close
from torch import Tensor
from torch.nn.functional import conv1d, silu

from gdn2 import modules
from gdn2.ops import small

FORWARD, BACKWARD = 5e-7, 2e-6
Step = Callable[..., Tensor]


def _drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for shape in shapes]


def _assert_same(ours: Step, theirs: Step, inputs: Sequence[Tensor]) -> None:
    """One step in float32, the other in float64: results and gradients of all inputs."""
    dtypes = (torch.float32, torch.float64)
    leaves, exact = ([x.detach().to(dtype).requires_grad_() for x in inputs] for dtype in dtypes)
    y, expected = ours(*leaves), theirs(*exact)
    assert_close(y, expected, FORWARD)
    (dy,) = _drawn(tuple(y.shape), seed=1)
    found, wanted = torch.autograd.grad(y, leaves, dy), torch.autograd.grad(expected, exact, dy.double())
    for d_ours, d_theirs in zip(found, wanted, strict=True):
        assert d_ours.shape == d_theirs.shape
        assert_close(d_ours, d_theirs, BACKWARD)


def _convolution(x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None, *, activate: bool) -> Tensor:
    y = conv1d(torch.cat([tail, x], 1).transpose(1, 2), weight, bias, groups=len(weight)).transpose(1, 2)
    return silu(y) if activate else y


@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("B", "T", "taps"), [(3, 7, 4), (2, 1, 4), (1, 2, 3), (5, 9, 1)])
def test_the_convolution_is_pytorchs(
    activate: bool, biased: bool, B: int, T: int, taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "CACHED", 2 * T * 6)  # two rows at a time
    inputs = _drawn((B, T, 6), (6, 1, taps), (B, taps - 1, 6), (6,))

    def ours(x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None = None) -> Tensor:
        return small.convolved(x, weight, tail, bias, activate=activate)

    def theirs(x: Tensor, weight: Tensor, tail: Tensor, bias: Tensor | None = None) -> Tensor:
        return _convolution(x, weight, tail, bias, activate=activate)

    _assert_same(ours, theirs, inputs if biased else inputs[:3])


def test_the_norm_and_unit_length_are_those_of_their_definition() -> None:
    x, weight = _drawn((2, 5, 3, 24), (24,))
    _assert_same(
        lambda x, weight: small.normed(x, weight, 1e-5),
        lambda x, weight: x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight,
        [x, weight],
    )
    _assert_same(
        lambda x: small.unit(x, 1e-6), lambda x: x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt(), [x * 1e-2]
    )


def test_what_lies_across_memory_is_read_as_it_lies() -> None:
    x, weight = _drawn((3, 8, 5), (8,))
    _assert_same(
        lambda x, weight: small.normed(x.transpose(1, 2), weight, 1e-5),
        lambda x, weight: (lambda t: t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight)(x.transpose(1, 2)),
        [x, weight],
    )


def _told(step: Step, name: str, taken: list[str]) -> Step:
    def told(*inputs: object, **options: object) -> Tensor:
        taken.append(name)
        return step(*inputs, **options)

    return told


def test_layers_take_these_steps_in_training_and_keep_their_bits_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, tail = _drawn((2, 6, 8), (8, 1, 4), (2, 3, 8))
    norm, taken = modules.RMSNorm(8, 1e-5), list[str]()

    def steps() -> list[Tensor]:
        return [norm(x), modules.unit_length(x), modules.short_convolution(x, weight, tail)]

    with torch.no_grad():
        before = steps()
    for name in ("normed", "unit", "convolved"):
        monkeypatch.setattr(small, name, _told(getattr(small, name), name, taken))
    with torch.no_grad():
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(steps(), before, strict=True))
    assert not taken
    weight.requires_grad_()
    x = x.clone().requires_grad_()
    for ours, theirs in zip(steps(), before, strict=True):
        assert_close(ours.detach(), theirs, FORWARD)
    assert taken == ["normed", "unit", "convolved"]


def test_other_dtypes_autocast_and_mixed_ones_are_left_to_pytorch() -> None:
    x, weight = _drawn((2, 6, 8), (8,))
    x.requires_grad_()
    assert small.learns_on_cpu(x, weight)
    assert not small.learns_on_cpu(x, weight.bfloat16())
    assert not small.learns_on_cpu(x.bfloat16(), weight.bfloat16())
    assert not small.learns_on_cpu(x.detach(), weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not small.learns_on_cpu(x, weight)
    with torch.no_grad():
        assert not small.learns_on_cpu(x, weight)
