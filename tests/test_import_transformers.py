"""transformers' own models against their import: the same logits, the same greedy text; unsupported options by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint, plan_import

TOLERANCE = 1e-4  # of logits with a standard deviation above 1, both sides in float32
COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
DECODER: dict[str, Any] = {
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MAMBA: dict[str, Any] = {"num_heads": 8, "head_dim": 8, "state_size": 16, "expand": 2, "n_groups": 2, "chunk_size": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba2": ("mamba2", MAMBA),
    "mamba2 with biases, one group": ("mamba2", {**MAMBA, "n_groups": 1, "use_bias": True, "use_conv_bias": False}),
    "mamba2 tied": ("mamba2", {**MAMBA, "tie_word_embeddings": True}),
    "llama": ("llama", DECODER),
    "llama with biases and wide heads": ("llama", {**DECODER, "attention_bias": True, "head_dim": 12}),
    "llama 3": ("llama", {**DECODER, "rope_parameters": LLAMA3, "rms_norm_eps": 1e-5}),
    "llama tied": ("llama", {**DECODER, "tie_word_embeddings": True, "num_key_value_heads": 4}),
    "mistral": ("mistral", {**DECODER, "sliding_window": 7}),
    "mistral without a window": ("mistral", {**DECODER, "sliding_window": None}),
    "qwen2": ("qwen2", DECODER),
    "qwen3": ("qwen3", {**DECODER, "head_dim": 16}),
    "qwen3 with windows": (
        "qwen3",
        {**DECODER, "head_dim": 16, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
}


def source_model(kind: str, fields: dict[str, Any], seed: int = 0) -> Any:
    """A random model in which every bias and norm counts."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**COMMON, **fields})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", ".D", "norm.weight", "norm_f.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_an_import_computes_what_the_source_computes(tmp_path: Path, name: str) -> None:
    source = source_model(*MODELS[name])
    source.save_pretrained(tmp_path / "source")
    plan = import_checkpoint(tmp_path / "source", tmp_path / "new")
    model = load_checkpoint(tmp_path / "new")
    ids = torch.randint(1, 97, (2, 37), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs, ours = source(ids).logits, model(ids).logits
        difference = float((ours - theirs).abs().max())
        print(
            f"{name}: largest difference {difference:.1e} of logits with standard deviation {float(theirs.std()):.2f}"
        )
        assert theirs.std() > 1
        assert difference < TOLERANCE
        written = source.generate(ids, max_new_tokens=12, do_sample=False)
        assert torch.equal(cast(Any, model).generate(ids, max_new_tokens=12, do_sample=False), written)
    assert len(plan.entries) == len(plan.shapes)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in source.parameters())


def test_a_pickled_folder_in_shards_is_read_too(tmp_path: Path) -> None:
    source = source_model("llama", DECODER)
    source.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    weights = source.state_dict()
    names = sorted(weights)
    parts = {"a.bin": names[:9], "b.bin": names[9:]}
    for file, held in parts.items():
        torch.save({name: weights[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    import_checkpoint(tmp_path, tmp_path / "new")
    ids = torch.randint(1, 97, (1, 9))
    with torch.no_grad():
        assert (load_checkpoint(tmp_path / "new")(ids).logits - source(ids).logits).abs().max() < TOLERANCE
    (tmp_path / "b.bin").unlink()
    with pytest.raises(CheckpointError, match=r"names files that are not there: b\.bin"):
        plan_import(tmp_path)


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    source_model("llama", DECODER).to(torch.bfloat16).save_pretrained(tmp_path / "source")
    import_checkpoint(tmp_path / "source", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["dtype"] == "bfloat16"
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("source", "new")]
    assert abs(sizes[0] - sizes[1]) < 2000


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("llama", {"mlp_bias": True}, "mlp_bias = True is not supported"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type = 'yarn' is not supported"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2}}, "rope_type = 'linear' is not supported"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = .* is not known"),
        ("llama", {"magic": 3}, "magic = 3 is not known"),
        ("llama", {"hidden_size": "wide"}, "hidden_size = 'wide' is no number"),
        ("llama", {"intermediate_size": 57}, "9 of another shape"),
        ("llama", {"num_hidden_layers": 2}, r"9 unknown: model\.layers\.2"),
        ("llama", {"num_hidden_layers": 4}, r"9 missing: model\.layers\.3"),
        ("llama", {"tie_word_embeddings": True}, "tie_word_embeddings is true but lm_head.weight differs"),
        ("llama", {"model_type": "gpt2"}, "of no known format .model_type 'gpt2'"),
        ("mamba2", {"time_step_limit": [0.0, 0.1]}, "time_step_limit = .* is not supported"),
        ("mamba2", {"state_size": 8}, "of another shape: .*in_proj.weight"),
        (
            "qwen3",
            {"layer_types": ["chunked_attention"] * 3, "use_sliding_window": True, "sliding_window": 5},
            "'chunked_attention' are not",
        ),
    ],
)
def test_what_we_do_not_have_and_what_contradicts_is_named(
    tmp_path: Path, kind: str, change: dict[str, Any], message: str
) -> None:
    source_model(kind, MAMBA if kind == "mamba2" else DECODER).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    if "rope_scaling" in change:
        del config["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        import_checkpoint(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_cut_file_and_a_broken_config_are_named(tmp_path: Path) -> None:
    source_model("llama", DECODER).save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is cut short"):
        plan_import(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json:1: not JSON"):
        plan_import(tmp_path)
