"""What a backward pass makes again, not keeps: the same bits in less memory; on a GPU natively, else interpreted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.modules import Linear
from gdn2.ops import learning, remaking
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.triton import operator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES: dict[str, Any] = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_heads": 2, "head_dim": 16}


@pytest.fixture(autouse=True)
def _by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")


def kept_by(forward: Callable[[], Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
    """A result, and what is kept for its backward pass by address, each storage once."""
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        return forward(), kept


def trained(model: GDN2ForCausalLM, ids: Tensor) -> tuple[list[Tensor], int]:
    """The gradients of all parameters, and the bytes kept for them, parameters left out."""
    model.zero_grad(set_to_none=True)
    hidden, kept = kept_by(lambda: model.model(input_ids=ids, use_cache=False).last_hidden_state)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    count = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in own)
    hidden.float().pow(3).sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None], count


def model_of(mixer: str) -> GDN2ForCausalLM:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        return GDN2ForCausalLM(
            GDN2Config(**SIZES, intermediate_size=48, layers=mixer, output_gate="silu", gate_bias=False)
        )


@pytest.mark.parametrize(
    ("mixer", "saved"),
    [("gdn2", 4), pytest.param("kda", 4, marks=pytest.mark.slow), ("gla", 0), ("delta_net", 1)],
)
def test_the_operators_inputs_are_made_again_to_the_bit(
    mixer: str, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries, keys and values that come from a convolution, and decays a channel, in float32."""
    model, ids = model_of(mixer), torch.randint(0, 32, (2, 40), device=DEVICE)
    with monkeypatch.context() as patch:
        patch.setattr(operator, "recipe_of", lambda _: None)
        expected, whole = trained(model, ids)
    found, less = trained(model, ids)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert whole - less == saved * 2 * 40 * 32 * 4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_under_autocast_no_copy_of_a_weight_and_no_gated_norm_is_kept(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = model_of("gdn2").train(), torch.randint(0, 32, (1, 40), device=DEVICE)
    monkeypatch.setattr("gdn2.ops.products.SMALL", 0)  # as in models of a width
    with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
        with monkeypatch.context() as patch:
            patch.setattr(learning, "recipe_of", lambda _: None)
            expected, _ = trained(model, ids)
            patch.setattr(learning, "halves", lambda *_: False)
            whole = trained(model, ids)[1]
        model.model.gradient_checkpointing = checkpointing
        found, less = trained(model, ids)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
    matrices = [p for name, p in model.model.layers.named_parameters() if p.ndim == 2 and "down_proj" not in name]
    gated = 40 * 32
    assert checkpointing or whole - less == 2 * (sum(p.numel() for p in matrices if p.requires_grad) + gated)


def test_a_linear_layer_is_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(16, 24, bias=False, device=DEVICE), nn.Linear(16, 24, bias=False, device=DEVICE)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 16, device=DEVICE, requires_grad=True)
    with torch.autocast(DEVICE, torch.bfloat16):
        (y, kept), expected = kept_by(lambda: ours(x)), theirs(x)
    assert torch.equal(y, expected)
    assert ours.weight.untyped_storage().data_ptr() in kept
    found = torch.autograd.grad(y.float().sum(), (x, ours.weight))
    wanted = torch.autograd.grad(expected.float().sum(), (x, theirs.weight))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, wanted, strict=True))


def test_a_view_of_other_numbers_and_a_changed_tensor_are_kept_as_they_are() -> None:
    x = torch.randn(4, 6)
    noted = remaking.note(x.sin(), torch.sin, x)
    assert remaking.recipe_of(noted.view(2, 12)) is not None
    assert remaking.recipe_of(noted[1:]) is None
    assert remaking.recipe_of(noted.t()) is None
    assert remaking.recipe_of(noted + 0) is None
    kept, flat = remaking.flattened((noted.view(2, 12), x), (remaking.recipe_of(noted.view(2, 12)), None))
    assert flat[0] is x
    restored = kept.restored(flat)
    assert torch.equal(restored[0], noted.view(2, 12))
    assert restored[1] is x
