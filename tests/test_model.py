"""The model against itself: segments, padding, forks, generation, and the Hugging Face contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fakes import small_checkpoint, small_config, small_model
from transformers import AutoConfig, AutoModelForCausalLM

from gdn2 import GDN2Config, GDN2ForCausalLM, RecurrentState
from gdn2.checkpoints import CheckpointError, fingerprint, load_checkpoint

TOLERANCE = 1e-4  # float32, logits of order 10


@pytest.fixture(
    scope="module",
    params=[{}, {"num_value_heads": 4, "erase_range": 2.0, "output_gate": "silu", "value_head_dim": 8}],
    ids=["plain", "grouped values"],
)
def model(request: pytest.FixtureRequest) -> GDN2ForCausalLM:
    return small_model(small_config(initializer_range=0.2, **request.param))


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 420, (3, 75), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("preset", "expected"), [("gdn2_1.3B", 1_302_638_112), ("swa_gdn2_1.3B", 1_300_314_384)])
def test_presets_have_the_published_number_of_parameters(preset: str, expected: int) -> None:
    with torch.device("meta"):
        model = GDN2ForCausalLM(GDN2Config.from_preset(preset))
    outside = ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")
    assert sum(p.numel() for name, p in model.named_parameters() if name not in outside) == expected


def test_config_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no field 'hiden_size'; did you mean 'hidden_size'"):
        GDN2Config(hiden_size=64)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="multiple of num_heads"):
        GDN2Config(num_heads=4, num_value_heads=6)
    with pytest.raises(ValueError, match="output_gate"):
        GDN2Config(output_gate="tanh")
    with pytest.raises(ValueError, match=r"did you mean .gdn2_1\.3B"):
        GDN2Config.from_preset("gdn2_7B")


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(1,), (3, 4, 40), (32,), (74,)])
def test_segments_equal_one_shot(model: GDN2ForCausalLM, ids: torch.Tensor, cuts: tuple[int, ...]) -> None:
    whole = model(ids)
    state, parts = None, []
    for start, end in zip((0, *cuts), (*cuts, ids.shape[1]), strict=True):
        out = model(ids[:, start:end], past_key_values=state, use_cache=True)
        state = out.past_key_values
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, atol=TOLERANCE, rtol=0)
    assert state is not None
    assert_states_equal(state, whole.past_key_values)


@torch.no_grad()
def test_decode_equals_prefill(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    whole = model(ids[:, :12])
    state, parts = model.model.empty_state(3), []
    for t in range(12):
        out = model(ids[:, t : t + 1], past_key_values=state)
        state = out.past_key_values
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole.logits, atol=TOLERANCE, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model: GDN2ForCausalLM, ids: torch.Tensor, side: str) -> None:
    lengths = [75, 40, 1]
    padded, mask = torch.randint(1, 420, (3, 80)), torch.zeros(3, 80, dtype=torch.long)
    places = [slice(80 - n, 80) if side == "left" else slice(0, n) for n in lengths]
    for row, place in enumerate(places):
        padded[row, place], mask[row, place] = ids[row, : lengths[row]], 1
    out = model(padded, attention_mask=mask)
    assert out.past_key_values.lengths.tolist() == lengths
    for row, (place, n) in enumerate(zip(places, lengths, strict=True)):
        alone = model(ids[row : row + 1, :n])
        torch.testing.assert_close(out.logits[row, place], alone.logits[0], atol=TOLERANCE, rtol=0)
        assert_states_equal(out.past_key_values.select([row]), alone.past_key_values)


@torch.no_grad()
def test_a_dropped_mask_would_show(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    """The tests above can fail: with this model one stray token moves the logits far beyond their tolerance."""
    stray = torch.cat([torch.full((3, 1), 7), ids], 1)
    assert (model(stray).logits[:, 1:] - model(ids).logits).abs().max() > 0.05


@torch.no_grad()
def test_masks_that_make_no_sense_are_refused(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    hole = torch.ones_like(ids)
    hole[1, 5] = 0
    with pytest.raises(ValueError, match="hole in row 1"):
        model(ids, attention_mask=hole)
    left = torch.ones_like(ids)
    left[0, 0] = 0
    with pytest.raises(ValueError, match="left padding cannot follow"):
        model(ids, attention_mask=left, past_key_values=model(ids).past_key_values)
    with pytest.raises(ValueError, match=r"must be \[B, T\] = \[3, 75\]"):
        model(ids, attention_mask=left[:, :5])
    with pytest.raises(ValueError, match="holds 2 rows but the input has 3"):
        model(ids, past_key_values=model.model.empty_state(2))


@torch.no_grad()
def test_a_state_is_a_value(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    state = model(ids[:, :50]).past_key_values
    before = [layer.matrix.clone() for layer in state.layers]
    forked = state.fork(2)
    assert forked.lengths.tolist() == [50] * 6
    tails = torch.cat([ids[:, 50:], ids[:, 50:].flip(1)], 1).view(6, 25)
    out = model(tails, past_key_values=forked)
    assert all(torch.equal(old, layer.matrix) for old, layer in zip(before, state.layers, strict=True))
    for row in range(6):
        alone = model(torch.cat([ids[row // 2, :50], tails[row]])[None])
        torch.testing.assert_close(out.logits[row], alone.logits[0, 50:], atol=TOLERANCE, rtol=0)
    joined = RecurrentState.concat([state.select([2]), state.select([0, 1])])
    assert_states_equal(joined, state.select([2, 0, 1]))
    assert_states_equal(state.to("cpu"), state)


@torch.no_grad()
def test_state_size_does_not_grow(model: GDN2ForCausalLM) -> None:
    sizes = {model(torch.ones(1, n, dtype=torch.long)).past_key_values.num_bytes for n in (1, 2, 64, 500)}
    assert len(sizes) == 1


@torch.no_grad()
def test_generate_equals_repeated_forwards(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = ids
    for _ in range(12):
        expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], 1)
    full = torch.ones_like(ids)
    generate = cast(Any, model).generate
    assert torch.equal(generate(ids, attention_mask=full, **options), expected)
    state = model(ids[:, :40]).past_key_values
    continued = generate(ids, attention_mask=full, past_key_values=state, **options)
    assert torch.equal(continued, expected)
    padded = torch.cat([torch.full((3, 9), 7), ids], 1)
    mask = torch.cat([torch.zeros(3, 9, dtype=torch.long), full], 1)
    assert torch.equal(generate(padded, attention_mask=mask, **options)[:, 9:], expected)
    out = generate(ids, attention_mask=full, return_dict_in_generate=True, **options)
    assert isinstance(out.past_key_values, RecurrentState)


@torch.no_grad()
def test_beam_search_reorders_states(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    """Each beam's score must be the log-probability of its own text."""
    out = cast(Any, model).generate(
        ids[:1],
        attention_mask=torch.ones_like(ids[:1]),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    logprobs = model(out.sequences).logits[:, 74:-1].log_softmax(-1)
    scores = logprobs.gather(-1, out.sequences[:, 75:, None]).sum((1, 2))
    torch.testing.assert_close(out.sequences_scores, scores, atol=1e-3, rtol=0)


@torch.no_grad()
def test_auto_classes_load_what_was_saved(tmp_path: Path, ids: torch.Tensor) -> None:
    for tied in (False, True):
        model = small_model(small_config(tie_word_embeddings=tied, initializer_range=0.2))
        model.save_pretrained(tmp_path / str(tied))
        assert isinstance(AutoConfig.from_pretrained(tmp_path / str(tied)), GDN2Config)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / str(tied))
        assert torch.equal(loaded(ids).logits, model(ids).logits)


@torch.no_grad()
def test_decay_parameters_stay_in_float32(tmp_path: Path, ids: torch.Tensor) -> None:
    small_model().save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    mixer = loaded.model.layers[0].mixer
    assert (mixer.A_log.dtype, mixer.dt_bias.dtype) == (torch.float32, torch.float32)
    assert mixer.q_proj.weight.dtype == torch.bfloat16
    out = loaded(ids)
    assert out.logits.dtype == torch.bfloat16
    assert out.past_key_values.layers[0].matrix.dtype == torch.float32


def test_embeddings_can_be_found_and_resized() -> None:
    model = small_model(small_config(tie_word_embeddings=True))
    assert model.get_input_embeddings() is model.model.embed_tokens
    assert model.get_output_embeddings() is model.lm_head
    model.resize_token_embeddings(500)
    assert model(torch.tensor([[499]])).logits.shape == (1, 1, 500)


def test_loss_and_gradients_reach_every_parameter(model: GDN2ForCausalLM, ids: torch.Tensor) -> None:
    out = model(ids, labels=ids)
    expected = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(out.loss, expected)
    out.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    model.zero_grad()


class TestBadCheckpoints:
    """Each fault is named in one line, with the file."""

    @pytest.fixture
    def folder(self: Any, tmp_path: Path) -> Any:
        return small_checkpoint(tmp_path / "model")

    def test_fingerprint_changes_with_a_weight(self, folder: Any) -> None:
        before = fingerprint(folder)
        small_model(seed=1).save_pretrained(folder)
        assert fingerprint(folder) != before

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no such folder"):
            load_checkpoint(tmp_path / "nothing")

    def test_missing_files(self, folder: Any) -> None:
        (folder / "model.safetensors").rename(folder / "weights")
        with pytest.raises(CheckpointError, match=r"no weights in it \(\*\.safetensors"):
            load_checkpoint(folder)
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"no config\.json"):
            load_checkpoint(folder)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"hidden_size"', '"hiden_size"', "no field 'hiden_size'"),
            ('"model_type": "gdn2"', '"model_type": "llama"', "model_type is 'llama'"),
            ('"hidden_size": 32', '"hidden_size": 48', "another shape"),
            ('"num_hidden_layers": 2', '"num_hidden_layers": 3', "names 2 layers but num_hidden_layers is 3"),
            ('"layers": [\n    "gdn2"', '"layers": [\n    "gated_deltanet"', "lacks tensors"),
            ('"output_gate": null', '"output_gate": "none"', "does not know"),
            ("{", "", r"config\.json:2: not JSON"),
        ],
    )
    def test_config(self, folder: Any, old: str, new: str, message: str) -> None:
        file = folder / "config.json"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)

    def test_damaged_weights(self, folder: Any) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: is cut short, damaged"):
            load_checkpoint(folder)

    def test_not_a_number(self, folder: Any) -> None:
        model = small_model()
        with torch.no_grad():
            model.lm_head.weight[3, 5] = float("nan")
        model.save_pretrained(folder)
        with pytest.raises(CheckpointError, match=r"lm_head\.weight holds 1 values that are NaN"):
            load_checkpoint(folder)

    def test_dtype_and_device(self, folder: Any) -> None:
        with pytest.raises(CheckpointError, match="dtype must be one of"):
            load_checkpoint(folder, dtype="int8")
        with pytest.raises(CheckpointError, match="device 'nonsense'"):
            load_checkpoint(folder, device="nonsense")


def assert_states_equal(left: RecurrentState, right: RecurrentState) -> None:
    assert left.lengths.tolist() == right.lengths.tolist()
    for a, b in zip(left.layers, right.layers, strict=True):
        torch.testing.assert_close(a.matrix, b.matrix, atol=TOLERANCE, rtol=1e-4)
        torch.testing.assert_close(a.conv, b.conv, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize("wrong", ["one text", "no tokens", "numbers"])
def test_what_is_no_batch_of_token_ids_is_named(wrong: str) -> None:
    ids = torch.ones(2, 5, dtype=torch.long)
    given = {"one text": ids[0], "no tokens": ids[:, :0], "numbers": ids.float()}[wrong]
    with pytest.raises(ValueError, match=r"input_ids must be whole numbers \[B, T\], got torch"):
        small_model()(given)
