"""Every mixer in a model: cutting, padding, batching, decoding and saving change nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM

from gdn2 import GDN2Config, GDN2ForCausalLM, RecurrentState
from gdn2.config import GROWING_LAYERS, LAYERS
from gdn2.mixers import MIXERS
from gdn2.ops.backends import BACKEND_VARIABLE, triton_is_installed

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}  # logits of order 10
CONSTANT = [name for name in LAYERS if name not in GROWING_LAYERS]
VARIANTS: dict[str, GDN2Config] = {
    **{name: mixer_config(name, name) for name in LAYERS},
    "kda grouped": mixer_config("kda", num_value_heads=4, erase_range=2.0, decay_floor=-0.01, value_head_dim=8),
    "gated_deltanet grouped": mixer_config("gated_deltanet", num_value_heads=4, erase_range=2.0, output_gate="none"),
    "delta_net relu sum": mixer_config("delta_net", qk_activation="relu", qk_norm="sum", output_gate="silu"),
    "delta_net elu": mixer_config("delta_net", qk_activation="elu"),
    "mamba2 groups": mixer_config("mamba2", num_heads=4, ssm_groups=2, value_head_dim=8, intermediate_size=0),
    "mamba3 groups": mixer_config("mamba3", num_heads=4, ssm_groups=2, value_head_dim=8, ssm_output_norm=True),
    "mamba3_mimo norm": mixer_config("mamba3_mimo", ssm_output_norm=True, ssm_rope_fraction=1.0),
    "attention plain": mixer_config("attention", rope_theta=None, attention_qk_norm=True, attention_bias=True),
    "gdn2 grouped": mixer_config("gdn2", num_value_heads=4, erase_range=2.0, value_head_dim=8),
    "gated_deltanet + gated attention, experts": mixer_config(
        "gated_deltanet",
        "attention",
        attention_gate=True,
        attention_qk_norm=True,
        zero_centred_norms=True,
        rope_fraction=0.25,
        mlps=["experts", "swiglu"],
        num_experts=4,
        experts_per_token=2,
        expert_size=24,
        shared_expert_size=16,
    ),
    "kda + mla, sigmoid router": mixer_config(
        "kda",
        "mla",
        mlps=["swiglu", "experts"],
        num_experts=6,
        experts_per_token=2,
        expert_size=24,
        router="sigmoid",
        router_groups=3,
        router_groups_kept=2,
        query_rank=8,
        gate_bias=False,
    ),
    "gated_deltanet + attention normed behind": mixer_config(
        "gated_deltanet", "attention", attention_post_norm=True, attention_qk_norm=True, attention_norm_whole=True
    ),
    "mamba2 + attention, scaled": mixer_config(
        "mamba2", "attention", embedding_scale=3.0, residual_scale=0.4, logits_scale=0.25, attention_scale=0.1
    ),
    "attention convolved": mixer_config("attention", attention_conv=True),
    "swa convolved + gdn2": mixer_config("swa", "gdn2", attention_conv=True, attention_bias=True, conv_size=3),
    "gdn2 + attention": mixer_config("gdn2", "attention", "gdn2", "attention"),
    "mamba3_mimo + swa": mixer_config("mamba3_mimo", "swa"),
    "kda + swa + attention": mixer_config("kda", "swa", "attention"),
}


@pytest.fixture(scope="module", params=list(VARIANTS))
def model(request: pytest.FixtureRequest) -> GDN2ForCausalLM:
    return small_model(VARIANTS[request.param]).double()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 420, (3, 75), generator=torch.Generator().manual_seed(1))


def test_every_name_has_a_mixer() -> None:
    assert tuple(MIXERS) == LAYERS


@torch.no_grad()
def test_segments_equal_one_shot(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    whole = model(ids)
    state, parts = None, []
    cuts = (0, 1, 2, 5, 40, 41, 74, 75)
    for start, end in pairwise(cuts):
        out = model(ids[:, start:end], past_key_values=state, use_cache=True)
        state = out.past_key_values
        parts.append(out.logits)
    assert_close(torch.cat(parts, 1), whole.logits)
    assert state is not None
    assert_states_equal(state, whole.past_key_values)


@torch.no_grad()
def test_decode_equals_prefill(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    whole = model(ids[:, :19])
    state, parts = model.model.empty_state(3), []
    for t in range(19):
        out = model(ids[:, t : t + 1], past_key_values=state)
        state = out.past_key_values
        parts.append(out.logits)
    assert_close(torch.cat(parts, 1), whole.logits)
    assert_states_equal(state, whole.past_key_values)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model: GDN2ForCausalLM, ids: torch.Tensor, side: str) -> None:
    lengths = [75, 40, 1]
    padded, mask = _rectangle(ids, lengths, 80, side)
    out = model(padded, attention_mask=mask)
    assert out.past_key_values.lengths.tolist() == lengths
    assert bool(out.logits.isfinite().all())
    for row, n in enumerate(lengths):
        alone = model(ids[row : row + 1, :n])
        place = slice(80 - n, 80) if side == "left" else slice(0, n)
        assert_close(out.logits[row, place], alone.logits[0])
        assert_states_equal(out.past_key_values.select([row]), alone.past_key_values)


@torch.no_grad()
def test_rows_of_different_lengths_go_on_together(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    """Left padding at the start, right padding in the middle (with rows that get nothing), then single tokens."""
    first, second = [30, 0, 17], [4, 25, 0]
    padded, mask = _rectangle(ids, first, 33, "left")
    state = model(padded, attention_mask=mask).past_key_values
    rest = torch.stack([ids[row].roll(-n) for row, n in enumerate(first)])
    padded, mask = _rectangle(rest, second, 28, "right")
    out = model(padded, attention_mask=mask, past_key_values=state)
    lengths = [a + b for a, b in zip(first, second, strict=True)]
    assert out.past_key_values.lengths.tolist() == lengths
    token = torch.tensor([[5], [6], [7]])
    last = model(token, past_key_values=out.past_key_values)
    for row, n in enumerate(lengths):
        alone = model(torch.cat([ids[row, :n], token[row]])[None])
        assert_close(out.logits[row, : second[row]], alone.logits[0, first[row] : n])
        assert_close(last.logits[row, 0], alone.logits[0, -1])
        assert_states_equal(last.past_key_values.select([row]), alone.past_key_values)


@torch.no_grad()
def test_eight_rows_equal_eight_batches_of_one(model: GDN2ForCausalLM) -> None:
    ids = torch.randint(1, 420, (8, 40), generator=torch.Generator().manual_seed(2))
    together = model(ids).logits
    for row in range(8):
        assert_close(together[row], model(ids[row : row + 1]).logits[0])


@torch.no_grad()
def test_a_dropped_mask_would_show(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    """The tests above can fail: a stray first token still moves the last logits of rows that a window has room for."""
    stray = torch.cat([torch.full((3, 1), 7), ids[:, :14]], 1)
    assert (model(stray).logits[:, -1] - model(ids[:, :14]).logits[:, -1]).abs().max() > 1e-3


@torch.no_grad()
def test_states_are_values_that_can_be_joined_and_saved(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    state = model(ids[:, :20]).past_key_values
    before = {name: tensor.clone() for name, tensor in state.to_tensors().items()}
    short = model(ids[:1, :7]).past_key_values
    joined = RecurrentState.concat([short, state.select([2, 0]), short])
    assert joined.lengths.tolist() == [7, 20, 20, 7]
    out = model(ids[:, 20:24].repeat(2, 1)[:4], past_key_values=joined.fork(1))
    for row, prefix in enumerate([ids[0, :7], ids[2, :20], ids[0, :20], ids[0, :7]]):
        alone = model(torch.cat([prefix, ids[row % 3, 20:24]])[None])
        assert_close(out.logits[row], alone.logits[0, -4:])
        assert_states_equal(out.past_key_values.select([row]), alone.past_key_values)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.to_tensors().items())
    for kept in (joined, model.model.empty_state(2)):
        loaded = RecurrentState.from_tensors(load(save(kept.to_tensors())))
        assert sorted(loaded.to_tensors()) == sorted(kept.to_tensors())
        assert all(torch.equal(a, b) for a, b in zip(loaded.tensors(), kept.tensors(), strict=True))
        assert kept.num_bytes == sum(tensor.nbytes for tensor in kept.tensors())


@torch.no_grad()
def test_a_state_keeps_alive_no_more_than_it_holds(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    for n in (1, 60):
        for tensor in model(ids[:1, :n]).past_key_values.tensors():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


@torch.no_grad()
@pytest.mark.parametrize("name", CONSTANT)
def test_state_size_does_not_grow(name: str) -> None:
    model = small_model(mixer_config(name))
    sizes = {model(torch.ones(1, n, dtype=torch.long)).past_key_values.num_bytes for n in (1, 2, 64, 300)}
    assert sizes == {model.model.empty_state(1).num_bytes}


@torch.no_grad()
def test_full_attention_keeps_every_token_and_no_more() -> None:
    model = small_model(mixer_config("attention"))
    state = model(torch.ones(2, 50, dtype=torch.long)).past_key_values
    (layer,) = state.layers
    assert layer.keys.shape == layer.values.shape == (2, 50, 2, 16)
    _, mask = _rectangle(torch.ones(2, 50, dtype=torch.long), [50, 9], 60, "right")
    out = model(torch.ones(2, 60, dtype=torch.long), attention_mask=mask).past_key_values
    assert out.layers[0].keys.shape[1] == 50
    assert bool(out.layers[0].keys[1, :9].any(-1).all())
    assert not bool(out.layers[0].keys[1, 9:].any())
    assert out.select([1]).layers[0].keys.shape[1] == 9


def test_tensors_that_are_no_state_are_refused() -> None:
    state = small_model(mixer_config("gdn2", "swa")).model.empty_state(2)
    tensors = state.to_tensors()
    for changes, message in (
        ({"lengths": None}, "no 'lengths'"),
        (
            {"layers.0.matrices": tensors["layers.0.matrix"]},
            "no tensor 'layers.0.matrices'; fields of a layer are angle",
        ),
        ({"layers.0.conv": tensors["layers.0.conv"][:1]}, r"layers\.0\.conv has 1 rows but lengths has 2"),
        ({"layers.3.conv": tensors["layers.0.conv"]}, r"layers 0, 1, 2, \.\.\.; got \[0, 1, 3\]"),
    ):
        changed = {name: tensor for name, tensor in {**tensors, **changes}.items() if tensor is not None}
        with pytest.raises(ValueError, match=message):
            RecurrentState.from_tensors(changed)
    with pytest.raises(ValueError, match="states of different models"):
        RecurrentState.concat([state, small_model(mixer_config("gdn2", "gla")).model.empty_state(1)])
    with pytest.raises(ValueError, match="numbers of layers differ"):
        RecurrentState.concat([state, small_model(mixer_config("gdn2")).model.empty_state(1)])


@torch.no_grad()
@pytest.mark.skipif(not triton_is_installed(), reason="needs triton")
@pytest.mark.parametrize(
    "name", ["gdn2", "gdn2 grouped", "kda grouped", "gated_deltanet", "mamba2", "mamba3_mimo norm"]
)
def test_the_kernels_take_what_mixers_give_them(name: str, ids: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates that are expanded views, padding, the state handed on: Triton (here interpreted) against PyTorch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = cast(Any, small_model(VARIANTS[name])).to(device)
    padded, mask = (x.to(device) for x in _rectangle(ids, [25, 7, 18], 26, "right"))
    found = []
    for backend in ("triton", "naive"):
        monkeypatch.setenv(BACKEND_VARIABLE, backend)
        out = model(padded, attention_mask=mask)
        token = model(padded[:, :1], past_key_values=out.past_key_values)
        found.append([out.logits[mask.bool()], token.logits, *token.past_key_values.tensors()])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", [*LAYERS, "gdn2 + attention"])
def test_generate_equals_repeated_forwards(name: str, ids: torch.Tensor) -> None:
    model = small_model(VARIANTS[name])
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = ids[:, :30]
    for _ in range(8):
        expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], 1)
    padded, mask = _rectangle(ids, [30, 30, 30], 35, "left")
    generate = cast(Any, model).generate
    assert torch.equal(generate(padded, attention_mask=mask, **options)[:, 5:], expected)
    beams = generate(ids[:1, :30], num_beams=2, **options)
    assert beams.shape == (1, 38)


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_auto_classes_load_what_was_saved(name: str, tmp_path: Path, ids: torch.Tensor) -> None:
    model = small_model(VARIANTS[name])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.layers == [name, name]
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    decay = {"A_log", "dt_bias", "D", "B_bias", "C_bias"}
    for parameter_name, parameter in half.named_parameters():
        wanted = torch.float32 if parameter_name.rpartition(".")[2] in decay else torch.bfloat16
        assert parameter.dtype == wanted, parameter_name
    out = half(ids)
    assert out.logits.dtype == torch.bfloat16
    assert bool(out.logits.isfinite().all())
    matrices = [layer.matrix for layer in out.past_key_values.layers if layer.matrix is not None]
    assert all(matrix.dtype == torch.float32 for matrix in matrices)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_every_parameter(name: str, ids: torch.Tensor) -> None:
    model = GDN2ForCausalLM(VARIANTS[name])
    model(ids, labels=ids).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def _rectangle(ids: torch.Tensor, lengths: list[int], width: int, side: str) -> tuple[torch.Tensor, torch.Tensor]:
    padded = torch.randint(1, 420, (len(lengths), width), generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, n in enumerate(lengths):
        place = slice(width - n, width) if side == "left" else slice(0, n)
        padded[row, place], mask[row, place] = ids[row, :n], 1
    return padded, mask


def assert_close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, atol=TOLERANCE[left.dtype], rtol=0)


def assert_states_equal(left: RecurrentState, right: RecurrentState) -> None:
    ours, theirs = left.to_tensors(), right.to_tensors()
    assert list(ours) == list(theirs)
    for name in ours:
        a, b = ours[name], theirs[name]
        if name.endswith(".angle"):  # 0 and 2 pi are one angle
            a, b = torch.polar(torch.ones_like(a), a), torch.polar(torch.ones_like(b), b)
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
