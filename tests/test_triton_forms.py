"""The forms in which a chunk can go from `prepare` to the scan, and the places of the inverse, agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_checks import BACKWARD, DEVICE, FORWARD, assert_close, exact, rounded

from gdn2.ops.triton import kernel_set, layout, triton_gated_delta_rule_2
from gdn2.ops.triton.choice import tile_for
from gdn2.ops.triton.forms import FORMS, LATE, MAPS, WRITES, Form, form_for
from gdn2.ops.triton.kernel_set import FEW_PROGRAMS, KernelSet, kernels_for
from gdn2.ops.triton.tiles import Tile, tiles_for
from gdn2.ops.triton.variants import VARIANTS, Variant

HERE = torch.device(DEVICE, 0) if DEVICE == "cuda" else torch.device("cpu")
IN_FLOAT32 = pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU float32 takes maps and the inverse in memory")


def kernels(form: Form, K: int, V: int, few: int = FEW_PROGRAMS, kept: int = 0) -> KernelSet:
    def choose(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
        tile = tile_for(variant, KP, VP, precision, device)
        return tile | {"KEPT": kept} if variant.kernel == "prepare" and not variant.by_level else tile

    return KernelSet(K, V, "tf32x3", HERE, form=form, choose_tile=choose, few_programs=few)


def result(inputs: list[Any], chosen: KernelSet | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v, g, b, w, state = inputs
    return triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, state, kernels=chosen)


def assert_exact(inputs: list[Any], chosen: KernelSet | None, tolerance: float = FORWARD) -> None:
    for a, e in zip(result(inputs, chosen), exact(inputs), strict=True):
        assert_close(a, e, tolerance)


@IN_FLOAT32
@pytest.mark.parametrize("decay", ["mild", "uneven"])
@pytest.mark.parametrize("few", [FEW_PROGRAMS, 0], ids=["few", "many"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_computes_the_recurrence(form: Form, few: int, decay: str) -> None:
    assert_exact(rounded(2, 75, 1, 12, 24, decay=decay), kernels(form, 12, 24, few=few))


@pytest.mark.gpu
@pytest.mark.parametrize("few", [FEW_PROGRAMS, 0], ids=["few", "many"])
@pytest.mark.parametrize("d", [64, 100, 128, 256])
def test_in_bfloat16_any_decay_and_no_state_are_as_exact_as_rounding_on_a_gpu(d: int, few: int) -> None:
    chosen = KernelSet(d, d, "bf16", HERE, few_programs=few)
    for decay in ("mild", "strong", "uneven"):
        inputs = rounded(1, 301, 2, d, d, decay=decay, dtype=torch.bfloat16)
        assert_exact(inputs, chosen, 8e-3)
        without = [*inputs[:6], torch.zeros_like(inputs[6])]
        for a, e in zip(result([*inputs[:6], None], chosen), exact(without), strict=True):
            assert_close(a, e, 8e-3)


@IN_FLOAT32
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_inverse_may_stay_in_registers(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = rounded(1, 70, 2, 16, 16)
    assert_exact(inputs, kernels(form, 16, 16, kept=1))
    monkeypatch.setitem(kernel_set.CHUNK_SIZE, "tf32x3", 64)
    assert_exact(inputs, kernels(form, 16, 16, kept=1))


@IN_FLOAT32
def test_gradients_do_not_depend_on_the_form_or_on_where_the_inverse_is() -> None:
    found = []
    for chosen in (kernels(MAPS, 16, 16), kernels(LATE, 16, 16, kept=1)):
        leaves = [x.requires_grad_() for x in rounded(1, 70, 1, 16, 16)]
        o, last = result(leaves, chosen)
        (o.square().sum() + last.square().sum()).backward()
        found.append([x.grad for x in leaves])
    for a, e in zip(*found, strict=True):
        assert_close(a, e, BACKWARD)


@pytest.mark.gpu
@pytest.mark.parametrize("d", [64, 128, 256])
def test_few_and_many_sequences_give_the_same_bits_on_a_gpu(d: int) -> None:
    inputs = rounded(2, 700, 2, d, d, decay="uneven", dtype=torch.bfloat16)
    few, many = (result(inputs, KernelSet(d, d, "bf16", HERE, few_programs=few)) for few in (1 << 30, 0))
    assert all(map(torch.equal, few, many))


def test_only_what_was_measured_to_be_faster_differs_from_maps() -> None:
    assert form_for(128, 128, "bf16", 90) == LATE
    assert form_for(256, 256, "bf16", 90) == WRITES
    for case in ((64, 64, "bf16", 90), (128, 256, "bf16", 90), (128, 128, "tf32x3", 90), (128, 128, "tf32", 90),
                 (128, 128, "bf16", 80), (256, 256, "bf16", 100), (128, 128, "bf16", 120)):  # fmt: skip
        assert form_for(*case) == MAPS
    assert {v.name for v in VARIANTS.values() if not LATE.uses(v)} == {"scan_output", "scan_output_wide"}
    assert {v.name for v in VARIANTS.values() if not MAPS.uses(v)} == {"scan_writes", "scan_writes_wide"}
    for KP, precision, arch in ((128, "tf32", 90), (128, "bf16", 80), (128, "bf16", 100), (32, "bf16", 90)):
        assert all("KEPT" not in tile for tile in tiles_for(VARIANTS["prepare"], KP, KP, precision, arch))


def test_small_heads_take_longer_segments_where_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SEGMENT_TOKEN_HEADS", 64)
    layout.segments_of.cache_clear()
    inputs = rounded(1, 150, 1, 16, 16)
    assert kernels_for(*inputs[:6]).times(1, 150, learning=False) == 2
    assert KernelSet(128, 64, "bf16", HERE).times(1, 150, learning=False) == 1
    launched: list[str] = []
    chosen = KernelSet(16, 16, "tf32x3", HERE, on_launch=lambda variant, *_: launched.append(variant.name))
    assert_exact(inputs, chosen)
    inputs[0].requires_grad_()
    result(inputs, chosen)
    layout.segments_of.cache_clear()
    assert launched.count("prepare") == 2 + 3
