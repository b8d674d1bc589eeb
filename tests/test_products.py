"""One input through several layers: their products together are what each gives alone; on a GPU natively."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model
from torch import Tensor, nn

from gdn2 import modules
from gdn2 import products as products_of_layers
from gdn2.mixers import base
from gdn2.modules import Linear
from gdn2.ops import learning
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.products import FLOAT32_RESULTS, SMALL, products, weight_gradient
from gdn2.products import Products

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = (SMALL + 8, 16, SMALL + 16, 24)  # two products of their own, and two together


def layers_of(dtype: torch.dtype = torch.float32) -> list[Linear]:
    torch.manual_seed(0)
    return [Linear(40, size, bias=False, device=DEVICE, dtype=dtype) for size in SIZES]


def relative(ours: Tensor, exact: Tensor) -> float:
    return float(((ours.double() - exact.double()).norm() / exact.double().norm()).detach())


@pytest.mark.parametrize("used", [(0, 1, 2, 3), (1,), (0, 3), (2,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_their_gradients_are_those_of_the_layers(used: tuple[int, ...], dtype: torch.dtype) -> None:
    """Also where some of the products are not used."""
    layers, x = layers_of(), torch.randn(3, 5, 40, device=DEVICE, requires_grad=True)
    weights, found = [layer.weight for layer in layers], []
    seeds = [torch.randn(3, 5, size, device=DEVICE) for size in SIZES]
    for together in (False, True):
        made = products(x, weights, dtype) if together else [layer(x) for layer in layers]
        loss = sum((made[i].float() * seeds[i]).sum() for i in used)
        inputs = [x, *(weights[i] for i in used)]
        found.append([*(made[i] for i in used), *torch.autograd.grad(loss, inputs)])  # type: ignore[arg-type]
        assert not together or all(y.dtype == dtype for y in made)
    for exact, ours in zip(*found, strict=True):
        assert ours.shape == exact.shape
        assert relative(ours, exact) < (1e-6 if dtype == torch.float32 else 2**-7)
    assert all(gradient.dtype == torch.float32 for gradient in found[1][len(used) :])


def test_the_input_is_kept_once_and_frozen_weights_get_no_gradient() -> None:
    layers, x = layers_of(), torch.randn(3, 5, 40, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    layers[1].weight.requires_grad_(False)
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = products(x, [layer.weight for layer in layers], torch.bfloat16)
    assert kept == {t.untyped_storage().data_ptr() for t in (x, *(layer.weight for layer in layers))}
    torch.stack([y.float().sum() for y in made]).sum().backward()
    assert [layer.weight.grad is None for layer in layers] == [False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_of_a_weight_has_its_dtype(dtype: torch.dtype) -> None:
    """From inputs in half precision; on a GPU a float32 one keeps its digits."""
    dy, x = torch.randn(50, 24, device=DEVICE).bfloat16(), torch.randn(50, 40, device=DEVICE).bfloat16()
    ours = weight_gradient(dy, x, dtype)
    assert ours.dtype == dtype
    exact = dtype == torch.float32 and DEVICE == "cuda" and FLOAT32_RESULTS
    assert relative(ours, dy.double().t() @ x.double()) < (1e-5 if exact else 2**-8)


def test_layers_with_a_bias_and_those_behind_the_first_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    first, second, third, last = layers_of()
    biased = nn.Linear(40, 8, device=DEVICE)
    sequence = nn.Sequential(second, nn.Linear(16, 4, device=DEVICE))
    x = torch.randn(3, 40, device=DEVICE)
    for autocast in (False, True):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            read = Products(x, (first, None, sequence, third, biased))
            assert read.has(first) is read.has(second) is autocast
            assert not read.has(biased)
            for layer in (first, sequence, third, biased, last):
                torch.testing.assert_close(read(layer), layer(x), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("kind", "padded"),
    [("gdn2", False), ("kda", True), ("gla", False), pytest.param("swa", True, marks=pytest.mark.gpu)],
)
def test_models_learn_the_same_under_autocast(kind: str, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the products of a layer together and each alone, to the rounding of bfloat16."""
    monkeypatch.setenv(BACKEND_VARIABLE, "chunked")  # the interpreter's products in bfloat16 are none
    monkeypatch.setattr(learning, "can_fuse", lambda *_: True)
    for module in (products_of_layers, modules, base):
        monkeypatch.setattr(module, "reaches_kernels", lambda _: True)
    model: Any = cast(Any, small_model(mixer_config(kind, num_hidden_layers=1))).to(DEVICE).train()
    ids = torch.randint(1, 400, (1, 6), device=DEVICE)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 1 - padded
    found = []
    for together in (False, True):
        model.zero_grad()
        with monkeypatch.context() as patch, torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
            if not together:
                patch.setattr(learning, "halves", lambda *_: False)
            hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
        (hidden.float() * mask[..., None]).pow(3).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert relative(found[1], found[0]) < 0.02
