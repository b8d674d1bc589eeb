"""transformers' hybrids against their import: the same logits, the same greedy text; what does not fit by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.describe import describe
from gdn2.checkpoints.importers import import_checkpoint, plan_import

TOLERANCE = 4e-5  # of logits with a standard deviation of about 1; either side is off by half of it from float64
IDS = torch.randint(1, 97, (2, 37), generator=torch.Generator().manual_seed(3))
COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "intermediate_size": 56,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
DELTA: dict[str, Any] = {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 16,
}
OLMO: dict[str, Any] = {key: value for key, value in DELTA.items() if key != "head_dim"}
KIMI: dict[str, Any] = {
    "num_key_value_heads": 4,
    "linear_head_dim": 16,
    "linear_num_heads": 2,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 12,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 2,
}
BAMBA: dict[str, Any] = {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_state": 16}
GRANITE: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_state": 16,
    "num_local_experts": 6,
    "intermediate_size": 24,
    "shared_intermediate_size": 40,
    "embedding_multiplier": 2.5,
    "residual_multiplier": 0.6,
    "attention_multiplier": 0.2,
    "logits_scaling": 1.5,
}
HALF_ROTATED = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3-Next": ("qwen3_next", {**DELTA, "num_experts": 0}),
    "Qwen3-Next with biases, half rotated": (
        "qwen3_next",
        {**DELTA, "num_experts": 0, "attention_bias": True, "rope_parameters": HALF_ROTATED},
    ),
    "Qwen3-Next with experts": ("qwen3_next", {**DELTA, **EXPERTS}),
    "Qwen3-Next with experts in some layers": (
        "qwen3_next",
        {**DELTA, **EXPERTS, "mlp_only_layers": [1], "norm_topk_prob": False},
    ),
    "OLMo Hybrid": ("olmo_hybrid", OLMO),
    "OLMo Hybrid without positions": (
        "olmo_hybrid",
        {**OLMO, "rope_parameters": {"rope_type": "default", "rope_theta": None}, "linear_allow_neg_eigval": False},
    ),
    "OLMo Hybrid as published": ("olmo_hybrid", {"attention_bias": True, "num_key_value_heads": None}),
    "Kimi Linear": ("kimi_linear", KIMI),
    "Kimi Linear with groups, low-rank queries": (
        "kimi_linear",
        {**KIMI, "q_lora_rank": 12, "n_group": 4, "topk_group": 2, "norm_topk_prob": False, "attention_bias": True},
    ),
    "Bamba": ("bamba", BAMBA),
    "Bamba with groups and biases": (
        "bamba",
        {**BAMBA, "mamba_n_groups": 2, "attention_bias": True, "mamba_proj_bias": True, "mamba_conv_bias": False},
    ),
    "Granite 4": ("granitemoehybrid", GRANITE),
    "Granite 4 without experts, with positions": (
        "granitemoehybrid",
        {**GRANITE, "num_local_experts": 0, "position_embedding_type": "rope", "attention_bias": True},
    ),
    "Qwen3.5": ("qwen3_5_text", DELTA),
    "Qwen3.5 with experts": ("qwen3_5_moe_text", {**DELTA, **EXPERTS}),
}


def source_model(kind: str, fields: dict[str, Any]) -> Any:
    """A random model in which every bias and norm counts, and whose states last."""
    torch.manual_seed(0)
    fields = {**COMMON, **fields}
    if kind == "bamba":  # it has a field of its own for that
        del fields["layer_types"]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight", "layernorm.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
            if name.endswith("dt_bias"):
                parameter.sub_(3.0)  # what decays at once leaves an output of rounding errors to be normalised
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.add_(0.3 * torch.randn_like(buffer))
    return model


def write_published_olmo(folder: Path, source: Any) -> None:
    """With a value head twice as wide as a key head, and the norms' published names.

    What transformers writes itself has the convolutions cut into three equal parts, whatever their widths.
    """
    weights = load_file(folder / "model.safetensors")
    for name, fused in source.state_dict().items():
        if name.endswith("conv1d.weight"):
            for part, rows in zip("qkv", fused.split([24, 24, 48]), strict=True):
                weights[name.replace("conv1d", f"{part}_conv1d")] = rows.contiguous()
    theirs = "model.layers.1.feedforward_layer_norm.weight"
    weights["model.layers.1.post_attention_layernorm.weight"] = weights.pop(theirs)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_an_import_computes_what_the_source_computes(tmp_path: Path, name: str) -> None:
    source = source_model(*MODELS[name])
    source.save_pretrained(tmp_path / "source")
    if name.endswith("as published"):
        write_published_olmo(tmp_path / "source", source)
    import_checkpoint(tmp_path / "source", tmp_path / "new")
    model: Any = load_checkpoint(tmp_path / "new")
    with torch.no_grad():
        theirs, ours = source(IDS).logits, model(IDS).logits
        difference, spread = float((ours - theirs).abs().max()), float(theirs.std())
        print(f"{name}: largest difference {difference:.1e} of logits with standard deviation {spread:.2f}")
        assert spread > 0.7
        assert difference < TOLERANCE
        written = source.generate(IDS, max_new_tokens=12, do_sample=False)
        assert torch.equal(model.generate(IDS, max_new_tokens=12, do_sample=False), written)
    biases = sum(b.numel() for name, b in source.named_buffers() if name.endswith("e_score_correction_bias"))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in source.parameters()) + biases


def test_inspect_describes_layers_gates_and_experts(tmp_path: Path) -> None:
    source_model(*MODELS["Qwen3-Next with experts in some layers"]).save_pretrained(tmp_path)
    found = describe(tmp_path)
    assert [(run.first, run.last, run.mixer) for run in found.layers] == [
        (0, 0, "gated_deltanet"),
        (1, 1, "attention"),
        (2, 2, "gated_deltanet"),
    ]
    assert (
        found.layers[0].what
        == "4 heads of 16 x 8 in groups of 2, silu gate; 2 of 6 experts of 24 and a shared one of 16"
    )
    assert found.layers[1].what.endswith("rotary base 10,000 in 25% of the channels, sigmoid gate")
    delta, tails, keys = 4 * 16 * 8, 3 * (2 * 32 + 32), 2 * 2 * 16
    assert found.state["floats"] == 2 * (delta + tails)
    assert found.state["token_floats"] == keys


def test_a_model_of_pictures_and_text_gives_its_text_model(tmp_path: Path) -> None:
    """With the decoder inside, stacked experts, and what predicts several tokens or sees pictures left out."""
    source = source_model(*MODELS["Qwen3.5 with experts"])
    source.save_pretrained(tmp_path / "plain")
    import_checkpoint(tmp_path / "plain", tmp_path / "expected")
    inside = {name.replace("model.", "model.language_model.", 1): part for name, part in source.state_dict().items()}
    inside |= {"mtp.norm.weight": torch.ones(3), "model.visual.patch_embed.weight": torch.ones(3)}
    (tmp_path / "pictures").mkdir()
    save_file({name: part.contiguous() for name, part in inside.items()}, tmp_path / "pictures" / "model.safetensors")
    text = json.loads((tmp_path / "plain" / "config.json").read_text())
    outer = {"model_type": "qwen3_5_moe", "text_config": text, "vision_config": {"depth": 2}, "image_token_id": 5}
    (tmp_path / "pictures" / "config.json").write_text(json.dumps(outer))
    plan = import_checkpoint(tmp_path / "pictures", tmp_path / "new")
    assert sorted(plan.unused) == ["model.visual.patch_embed.weight", "mtp.norm.weight"]
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "new"))
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen3-Next with experts": {
        "full_attention_interval": 4,
        "rope_theta": 1e4,
        "rope_scaling": None,
        "partial_rotary_factor": 0.25,
        "use_sliding_window": False,
        "rope_parameters": None,
    },
    "Qwen3.5": {
        "full_attention_interval": 4,
        "attn_output_gate": True,
        "mamba_ssm_dtype": "float32",
        "mlp_only_layers": [],
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [1, 1, 0],
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.25,
        },
    },
    "OLMo Hybrid without positions": {"rope_theta": None, "rope_parameters": None},
    "Granite 4": {
        "layer_types": ["mamba", "attention", "mamba"],
        "position_embedding_type": "nope",
        "rope_theta": 10000,
        "rope_scaling": None,
        "rope_parameters": None,
        "init_method": "mup",
        "normalization_function": "rmsnorm",
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_of_published_folders_say_the_same_as_those_transformers_writes(tmp_path: Path, name: str) -> None:
    source_model(*MODELS[name]).save_pretrained(tmp_path)
    expected = plan_import(tmp_path).config
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **PUBLISHED[name]}))
    assert plan_import(tmp_path).config.to_dict() == expected.to_dict()


def test_kimi_linear_as_published_is_the_same_model(tmp_path: Path) -> None:
    """Whose layers are counted from 1 in an object, and whose first MLP has its own name."""
    source_model(*MODELS["Kimi Linear"]).save_pretrained(tmp_path / "plain")
    import_checkpoint(tmp_path / "plain", tmp_path / "expected")
    weights = load_file(tmp_path / "plain" / "model.safetensors")
    dense = "model.layers.0.block_sparse_moe."
    weights = {name.replace(dense, "model.layers.0.mlp."): part for name, part in weights.items()}
    (tmp_path / "published").mkdir()
    save_file(weights, tmp_path / "published" / "model.safetensors")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    for name in ("layer_types", "mlp_layer_types", "linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim"):
        del config[name]
    places = {"full_attn_layers": [2], "kda_layers": [1, 3]}
    config |= {"first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_router_activation_func": "sigmoid"}
    config |= {"mla_use_nope": True, "use_grouped_topk": True, "rope_theta": 10000.0, "rope_scaling": None}
    config["linear_attn_config"] = {**places, "head_dim": 16, "num_heads": 2, "short_conv_kernel_size": 4}
    (tmp_path / "published" / "config.json").write_text(json.dumps(config))
    import_checkpoint(tmp_path / "published", tmp_path / "new")
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("expected", "new"))
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    configs = [(tmp_path / name / "config.json").read_text() for name in ("expected", "new")]
    assert configs[0] == configs[1]


def test_inspect_describes_latent_attention_and_counts_its_latents(tmp_path: Path) -> None:
    source_model(*MODELS["Kimi Linear"]).save_pretrained(tmp_path)
    found = describe(tmp_path)
    assert found.layers[1].mixer == "mla"
    latent, mixture = "4 heads over a latent of 20, keys 10 + 6 shared, values 12, no positions", "2 of 8 experts of 24"
    assert found.layers[1].what == f"{latent}; {mixture} and a shared one of 48"
    assert found.state["token_floats"] == 20 + 6
    assert found.state["floats"] == 2 * (2 * 16 * 16 + 3 * 3 * 32)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Qwen3-Next", {"layer_types": ["linear_attention"] * 3}, r"missing: .*unknown: .*layers\.1\.self_attn"),
        ("Qwen3-Next", {"layer_types": ["mamba"] * 3}, "layer_types 'mamba' are not supported"),
        ("Qwen3-Next", {"layer_types": ["full_attention"] * 2}, "names 2 layers but num_hidden_layers is 3"),
        ("Qwen3-Next", {"num_experts": 6, "num_experts_per_tok": 7}, "experts_per_token must be at most num_experts"),
        ("Qwen3-Next", {"num_experts": 2, "num_experts_per_tok": 2}, r"missing: model\.layers\.0\.mlp\.experts"),
        ("Qwen3-Next", {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ("Qwen3-Next", {"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ("Qwen3-Next", {"magic": 3}, "magic = 3 is not known"),
        ("Qwen3-Next", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_type = 'yarn' is not"),
        ("Qwen3-Next", {"linear_key_head_dim": 8}, r"of another shape: .*conv1d\.weight"),
        ("Qwen3-Next with experts", {"mlp_only_layers": "all"}, "mlp_only_layers = 'all' must be a list"),
        ("Qwen3-Next with experts", {"num_experts": 4}, r"unknown: model\.layers\.0\.mlp\.experts\.4"),
        ("OLMo Hybrid", {"layer_types": ["full_attention"] * 3}, r"missing: .*layers\.0\..*unknown: .*linear_attn"),
        ("Bamba", {"attn_layer_indices": [0, 1]}, r"missing: .*layers\.0\.self_attn.*unknown: .*layers\.0\.mamba"),
        ("Bamba", {"attn_layer_indices": [3]}, r"attn_layer_indices = \[3\] must be a list of layers from 0 to 2"),
        ("Bamba", {"attn_rotary_emb": 8}, "attn_rotary_emb = 8 is not supported"),
        ("Bamba", {"mamba_d_head": 4}, "mamba_d_head = 4 is not supported"),
        ("Bamba", {"time_step_limit": [0.0, 0.1]}, "time_step_limit = .* is not supported"),
        ("Granite 4", {"mamba_n_groups": 2}, "mamba_n_groups = 2 is not supported .only 1"),
        ("Granite 4", {"layer_types": ["mamba"] * 3}, r"missing: .*layers\.1\.mamba.*unknown: .*layers\.1\.self_attn"),
        ("Granite 4", {"residual_multiplier": 0}, "residual_multiplier = 0 must be a finite number above 0"),
        ("Granite 4", {"num_local_experts": 0}, r"unknown: model\.layers\.0\.block_sparse_moe"),
        ("Granite 4", {"position_embedding_type": "alibi"}, "position_embedding_type = 'alibi' is not supported"),
        ("OLMo Hybrid", {"layer_types": []}, "layer_types names 0 layers but num_hidden_layers is 3"),
        ("Kimi Linear", {"layer_types": []}, "layer_types names 0 layers but num_hidden_layers is 3"),
        ("Qwen3-Next with experts", {"num_experts": False}, "num_experts = False must be a whole number"),
        (
            "Qwen3-Next with experts",
            {"num_experts": 2**24},
            "num_experts = 16777216 must be a whole number from 0 to 4,096",
        ),
        ("Kimi Linear", {"num_experts": 2**24}, "num_experts = 16777216 must be a whole number from 1 to 4,096"),
        ("Qwen3.5", {"attn_output_gate": False}, "attn_output_gate = False is not supported"),
        ("Qwen3.5", {"mlp_only_layers": [1]}, r"mlp_only_layers = \[1\] is not supported"),
        ("OLMo Hybrid", {"rope_parameters": None}, "rope_parameters = None is read in two ways"),
        ("OLMo Hybrid", {"rope_parameters": {"rope_theta": -1.0}}, "rope_theta = -1.0 must be a finite number"),
        ("Qwen3-Next", {"rope_parameters": {"rope_theta": None}}, "rope_theta = None is no number"),
        ("Kimi Linear", {"mla_use_nope": False}, "mla_use_nope = False is not supported"),
        ("Kimi Linear", {"num_key_value_heads": 2}, "num_key_value_heads = 2 is not supported"),
        ("Kimi Linear", {"moe_router_activation_func": "softmax"}, "moe_router_activation_func = 'softmax' is not"),
        ("Kimi Linear", {"mlp_layer_types": ["sparse"] * 3}, r"missing: model\.layers\.0"),
        ("Kimi Linear", {"mlp_layer_types": ["wide"] * 3}, "mlp_layer_types: 'wide' is not supported"),
        ("Kimi Linear", {"topk_group": 2}, "router_groups_kept must be at most router_groups"),
        (
            "Kimi Linear",
            {"layer_types": None, "linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1, 2]}},
            "must name every layer once",
        ),
        ("Qwen3.5", {"num_experts": 4}, "num_experts = 4 is not known"),
    ],
)
def test_what_contradicts_or_is_not_there_is_named(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    source_model(*MODELS[name]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        plan_import(tmp_path)


def test_experts_without_a_router_are_named(tmp_path: Path) -> None:
    source_model(*MODELS["Qwen3-Next with experts"]).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if n != "model.layers.1.mlp.gate.weight"}, tmp_path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"1 missing: model\.layers\.1\.mlp\.gate\.weight"):
        plan_import(tmp_path)


def test_a_hybrid_config_beside_another_model_is_refused(tmp_path: Path) -> None:
    source_model(*MODELS["Qwen3-Next"]).save_pretrained(tmp_path)
    config = AutoConfig.for_model("llama", **{key: value for key, value in COMMON.items() if key != "layer_types"})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"do not fit the format 'transformers qwen3_next': .* missing: .*linear_attn"
    ):
        plan_import(tmp_path / "other")
