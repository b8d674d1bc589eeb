"""Configurations and folders as releases, converters and trainers leave them: imported right, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_checkpoint, small_model
from safetensors.torch import save_file

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import CheckpointError, fingerprint, load_checkpoint
from gdn2.checkpoints.describe import describe
from gdn2.checkpoints.importers import import_checkpoint, is_native, plan_import

HEADS = {"attention_heads": 4, "attention_kv_heads": 2, "attention_head_dim": 8}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 420,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 256,
}
MAMBA2: dict[str, Any] = {
    "model_type": "mamba2",
    "vocab_size": 420,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "head_dim": 16,
    "state_size": 8,
    "expand": 2,
    "num_heads": 4,
    "n_groups": 1,
    "conv_kernel": 4,
    "use_bias": True,
    "use_conv_bias": True,
    "hidden_act": "silu",
    "chunk_size": 256,
    "residual_in_fp32": True,
    "rescale_prenorm_residual": True,
    "fuse_norm": True,
    "fuse_cross_entropy": True,
    "rms_norm": True,
    "time_step_rank": 4,
    "time_step_min": 0.001,
    "time_step_max": 0.1,
    "time_step_floor": 0.0001,
    "time_step_limit": [0.0, float("inf")],
}
IN_BLOCK = {
    "mixer_norm": "input_layernorm",
    "mixer": "self_attn",
    "mlp_norm": "post_attention_layernorm",
    "mlp": "mlp",
}


def llama() -> GDN2ForCausalLM:
    return small_model(mixer_config("attention", "attention", **HEADS))


def llama_names(model: GDN2ForCausalLM) -> dict[str, torch.Tensor]:
    theirs = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if len(parts) > 4:
            parts[3] = IN_BLOCK[parts[3]]
        theirs[".".join(parts)] = tensor.contiguous()
    return theirs


def mamba_names(model: GDN2ForCausalLM) -> dict[str, torch.Tensor]:
    top = {
        "model.embed_tokens.weight": "backbone.embeddings.weight",
        "model.norm.weight": "backbone.norm_f.weight",
        "lm_head.weight": "lm_head.weight",
    }
    renamed = {
        name: top.get(name, name.replace("model.", "backbone.").replace("mixer_norm", "norm"))
        for name in model.state_dict()
    }
    return {renamed[name]: tensor.contiguous() for name, tensor in model.state_dict().items()}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def same(model: GDN2ForCausalLM, folder: Path) -> bool:
    ids = torch.randint(0, 420, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(load_checkpoint(folder)(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"_model_name_or_path": "x", "unk_token_id": 0, "_anything": {"a": 1}},
        {"is_decoder": True, "sep_token_id": None, "tokenizer_class": "LlamaTokenizer", "tf_legacy_loss": False},
        {"pruned_heads": {}, "add_cross_attention": False, "is_encoder_decoder": False, "torchscript": False},
        {"rope_scaling": None, "rope_theta": 10000.0, "mlp_bias": None, "layer_types": ["full_attention"] * 2},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000, "factor": 1.0}},
        {"rope_scaling": {"type": "default"}, "rope_parameters": None},
    ],
)
def test_fields_that_change_nothing_are_no_hindrance(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = llama()
    source = write(tmp_path / "source", LLAMA, llama_names(model), **changes)
    import_checkpoint(source, tmp_path / "new")
    assert same(model, tmp_path / "new")


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kinds", [["full_attention"], ["full_attention", "sliding_attention"]])
def test_rotary_settings_by_kind_of_layer_are_read(tmp_path: Path, key: str, kinds: list[str]) -> None:
    nested = {key: {kind: {"rope_theta": 1e6, "rope_type": "default"} for kind in kinds}}
    source = write(tmp_path / "source", LLAMA, llama_names(llama()), **nested)
    assert plan_import(source).config.rope_theta == 1e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_tehta": 1e6}}, r"rope_parameters\.rope_tehta = 1000000.0 is not known"),
        ({"rope_scaling": {"type": "default", "x": {"y": 1}}}, r"rope_scaling\.x = .* is not known"),
        ({"rope_parameters": {"full_attention": {"theta": 1e6}}}, r"rope_parameters\.full_attention\.theta"),
        ({"rope_parameters": {"full_attenton": {"rope_theta": 1e6}}}, r"rope_parameters\.full_attenton"),
        ({"rope_parameters": {"full_attention": {}, "rope_theta": 1e6}}, r"rope_parameters\.rope_theta = 1000000.0"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}},
            "differ between kinds of layers",
        ),
        ({"rope_parameters": {"rope_theta": 1e6}, "rope_scaling": {"rope_theta": 1e4}}, "rope_parameters .* differ"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, r"rope_parameters\.low_freq_factor is missing"),
        ({"rope_parameters": {"rope_type": "default", "type": "yarn"}}, "contradicts rope_type"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, r"partial_rotary_factor = 0\.5 is not supported"),
        ({"rope_parameters": [1]}, r"rope_parameters = \[1\] must be an object"),
        ({"rope_parameters": {"rope_theta": "1e6"}}, r"rope_parameters\.rope_theta = '1e6' is no number"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder = True"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads = "),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps = '1e-5' is no number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps = nan must be a finite number"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps = inf must be a finite number"),
        ({"attention_bias": "false"}, "attention_bias = 'false' must be true or false"),
        ({"hidden_size": 32.5}, "hidden_size = 32.5 must be a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads = 0 must be a whole number from 1"),
        ({"eos_token_id": "</s>"}, "eos_token_id = '</s>' must be the id of a token"),
        ({"layer_types": "full_attention"}, "layer_types = 'full_attention' must be a list"),
        ({"layer_types": ["sliding_attention"] * 2}, "layer_types = .* is not supported"),
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers = 1000000 must be a whole number from 1 to 10,000"),
        ({"num_hidden_layers": 9_999}, "num_hidden_layers is 9,999, but there are only 21 tensors"),
        ({"vocab_size": 10**30}, "vocab_size = .* must be a whole number"),
    ],
)
def test_what_would_change_a_result_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = write(tmp_path, LLAMA, llama_names(llama()), **changes)
    with pytest.raises(CheckpointError, match=message):
        plan_import(source)


@pytest.mark.parametrize("epsilon", [{"norm_eps": 1e-5}, {"layer_norm_epsilon": 1e-5}])
def test_mamba2_of_older_releases_of_fla(tmp_path: Path, epsilon: dict[str, float]) -> None:
    sizes = {"num_heads": 4, "head_dim": 8, "value_head_dim": 16, "intermediate_size": 0}
    model = small_model(mixer_config("mamba2", "mamba2", **sizes))
    source = write(tmp_path / "source", MAMBA2, mamba_names(model), **epsilon)
    assert import_checkpoint(source, tmp_path / "new").format == "fla mamba2"
    assert same(model, tmp_path / "new")
    for change in ({"rms_norm": False}, {"time_step_limit": [0.0, 0.1]}, {"layer_norm_epsilon": "1e-5"}):
        write(tmp_path / "source", MAMBA2, mamba_names(model), **change)
        with pytest.raises(CheckpointError, match=next(iter(change))):
            plan_import(source)


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path) -> None:
    source = write(tmp_path / "source", LLAMA, llama_names(llama()))
    file = source / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert plan_import(source).config.num_hidden_layers == 2
    native = small_checkpoint(tmp_path / "native")
    (native / "config.json").write_bytes(b"\xef\xbb\xbf" + (native / "config.json").read_bytes())
    assert is_native(native)
    load_checkpoint(native)


def in_a_block(name: str) -> str:
    return name.replace("model.layers.0.", "model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.")


@pytest.mark.parametrize(
    "rename",
    [
        in_a_block,
        lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."),
        lambda name: f"_fsdp_wrapped_module.{name}",
        lambda name: f"model._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"module._orig_mod.module.{name}",
    ],
    ids=["fsdp and checkpointing", "compiled blocks", "fsdp", "a trainer's compiled model", "a trainer's", "several"],
)
def test_names_of_wrappers_are_taken_off_anywhere(tmp_path: Path, rename: Any) -> None:
    model = llama()
    tensors = {rename(name): tensor for name, tensor in llama_names(model).items()}
    import_checkpoint(write(tmp_path / "source", LLAMA, tensors), tmp_path / "new")
    assert same(model, tmp_path / "new")


def test_a_base_models_own_names_stay(tmp_path: Path) -> None:
    """A tied Llama has only names that begin with "model.", which no wrapper has put there."""
    model = small_model(mixer_config("attention", "attention", tie_word_embeddings=True, **HEADS))
    tensors = {name: tensor for name, tensor in llama_names(model).items() if name != "lm_head.weight"}
    import_checkpoint(write(tmp_path / "source", LLAMA, tensors, tie_word_embeddings=True), tmp_path / "new")
    assert same(model, tmp_path / "new")


def test_buffers_are_left_out_and_said(tmp_path: Path) -> None:
    model = llama()
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.layers.1.self_attn.rotary_emb.cos_cached": torch.ones(4, dtype=torch.int8),
        "model.position_ids": torch.arange(5),
    }
    plan = import_checkpoint(write(tmp_path / "source", LLAMA, {**llama_names(model), **buffers}), tmp_path / "new")
    assert sorted(plan.unused) == sorted(buffers)
    assert same(model, tmp_path / "new")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.float8_e4m3fn, torch.bool])
def test_weights_that_are_no_floats_are_refused_by_name(tmp_path: Path, dtype: torch.dtype) -> None:
    name = "model.layers.1.mixer.q_proj.weight"
    native = small_checkpoint(tmp_path / "native")
    weights = {**{key: one.contiguous() for key, one in small_model().state_dict().items()}}
    save_file({**weights, name: weights[name].to(dtype)}, native / "model.safetensors")
    for use in (load_checkpoint, describe):
        with pytest.raises(CheckpointError, match=rf"{name} is of type .*; only floating-point weights fit"):
            use(native)


def test_a_head_that_is_not_stored_is_the_embedding_and_said(tmp_path: Path) -> None:
    model = small_model(mixer_config("attention", "attention", tie_word_embeddings=True, **HEADS))
    tensors = {name: tensor for name, tensor in llama_names(model).items() if name != "lm_head.weight"}
    plan = import_checkpoint(write(tmp_path / "source", LLAMA, tensors), tmp_path / "new")
    assert plan.assumed["tie_word_embeddings"] is True
    assert same(model, tmp_path / "new")


def test_the_index_decides_between_shards_that_hold_one_tensor(tmp_path: Path) -> None:
    model = llama()
    tensors, name = llama_names(model), "model.norm.weight"
    source = write(tmp_path / "source", LLAMA, tensors)
    (source / "model.safetensors").unlink()
    first = {key: tensor for key, tensor in tensors.items() if key != name}
    save_file({**first, name: torch.zeros(32)}, source / "a.safetensors")
    save_file({name: tensors[name]}, source / "b.safetensors")
    index = source / "model.safetensors.index.json"
    places = {**dict.fromkeys(first, "a.safetensors"), name: "b.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    import_checkpoint(source, tmp_path / "new")
    assert same(model, tmp_path / "new")
    for wrong, message in (
        ({**places, "extra": "b.safetensors"}, r"b\.safetensors: does not hold extra, as the index says"),
        ({**places, name: "../b.safetensors"}, r"weight_map\.model\.norm\.weight = .* is no file with weights"),
        ({**places, name: 3}, r"weight_map\.model\.norm\.weight = 3"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(CheckpointError, match=message):
            plan_import(source)


def test_a_repository_of_a_hub_cache_is_its_snapshot(tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--small"
    native = small_checkpoint(repository / "snapshots" / "abc")
    assert is_native(repository)
    assert fingerprint(repository) == fingerprint(native) == describe(repository).sha256
    load_checkpoint(repository)
    (repository / "snapshots" / "def").mkdir()
    with pytest.raises(CheckpointError, match=r"not clear which snapshot is meant \(there are: abc, def\)"):
        is_native(repository)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    assert fingerprint(repository) == fingerprint(native)
    foreign = tmp_path / "models--someone--foreign"
    (foreign / "snapshots").mkdir(parents=True)
    write(foreign / "snapshots" / "1", LLAMA, llama_names(llama()))
    import_checkpoint(foreign, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "import.json").read_text())["source"] == "foreign"


def test_a_folder_of_ours_with_pytorch_weights_is_read_like_any_other(tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path / "native")
    model = load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert same(model, folder)
    assert load_checkpoint(folder, dtype="bfloat16").model.layers[0].mixer.A_log.dtype == torch.float32
    before = fingerprint(folder)
    assert describe(folder).sha256 == before
    torch.save(small_model(seed=1).state_dict(), folder / "pytorch_model.bin")
    assert fingerprint(folder) != before
