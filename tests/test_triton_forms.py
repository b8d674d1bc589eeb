"""The forms in which a chunk can go from `prepare` to the scan, and the ways to add up and invert, agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_checks import BACKWARD, DEVICE, FORWARD, assert_close, exact, rounded

from gdn2.ops.triton import kernel_set, triton_gated_delta_rule_2
from gdn2.ops.triton.choice import tile_for
from gdn2.ops.triton.forms import FORMS, MAPS, Form
from gdn2.ops.triton.kernel_set import KernelSet
from gdn2.ops.triton.tiles import Tile
from gdn2.ops.triton.variants import Variant

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="benchmarks/kernel_forms.py checks what it measures on a GPU")


def kernels(form: Form, K: int, V: int, **fields: int) -> KernelSet:
    def choose(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
        tile = tile_for(variant, KP, VP, precision, device)
        if variant.kernel == "key_gradients":
            return tile | {"PRODUCTS": 3 * fields.get("PRODUCTS", 0)}
        return tile | fields if variant.kernel == "prepare" and not variant.by_level else tile

    return KernelSet(K, V, "tf32x3", torch.device("cpu"), form=form, choose_tile=choose)


def assert_exact(inputs: list[Any], chosen: KernelSet) -> None:
    q, k, v, g, b, w, state = inputs
    ours = triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, state, kernels=chosen)
    for a, e in zip(ours, exact(inputs), strict=True):
        assert_close(a, e, FORWARD)


@pytest.mark.parametrize("decay", ["mild", "uneven"])
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_every_form_computes_the_recurrence(form: Form, decay: str) -> None:
    assert_exact(rounded(2, 75, 1, 16, 24, decay=decay), kernels(form, 16, 24))


@pytest.mark.parametrize("form", [FORMS["maps"], FORMS["late"], FORMS["writes_by_value"]], ids=lambda form: form.name)
def test_the_inverse_may_stay_in_registers(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = rounded(1, 70, 2, 16, 16)
    assert_exact(inputs, kernels(form, 16, 16, KEPT=1))
    monkeypatch.setitem(kernel_set.CHUNK_SIZE, "tf32x3", 64)
    assert_exact(inputs, kernels(form, 16, 16, KEPT=1))


def test_gradients_do_not_depend_on_the_form_or_on_where_the_inverse_is() -> None:
    found = []
    for chosen in (kernels(MAPS, 16, 16), kernels(FORMS["late"], 16, 16, KEPT=1, PRODUCTS=1)):
        leaves = [x.requires_grad_() for x in rounded(1, 70, 1, 16, 16)]
        q, k, v, g, b, w, state = leaves
        o, last = triton_gated_delta_rule_2(q, k, v, g, b, w, 0.25, state, kernels=chosen)
        (o.square().sum() + last.square().sum()).backward()
        found.append([x.grad for x in leaves])
    for a, e in zip(*found, strict=True):
        assert_close(a, e, BACKWARD)


@pytest.mark.parametrize("decay", ["mild", "uneven"])
def test_sums_over_a_chunk_may_be_products(decay: str) -> None:
    inputs = rounded(2, 75, 1, 16, 24, decay=decay)
    assert_exact(inputs, kernels(MAPS, 16, 24, PRODUCTS=1))
    assert_exact(inputs, kernels(FORMS["late"], 16, 24, PRODUCTS=1, KEPT=1))


def test_segments_may_be_of_any_size() -> None:
    chosen = KernelSet(16, 16, "tf32x3", torch.device("cpu"), form=FORMS["late"], token_heads=64)
    assert_exact(rounded(1, 150, 1, 16, 16), chosen)
