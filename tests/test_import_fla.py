"""flash-linear-attention's folders: names and fields are written down here a second time, by hand, so that a mistake in
the importer shows. tests/test_import_fla_package.py compares with the package itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model
from safetensors.torch import save_file
from torch import Tensor

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint, is_native, plan_import

QKV = ["q_proj.weight", "k_proj.weight", "v_proj.weight"]
CONV = ["q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"]
OUT = ["o_norm.weight", "o_proj.weight"]
RATES = ["A_log", "dt_bias"]
LOW_RANK = ["f_proj.0.weight", "f_proj.1.weight", "g_proj.0.weight", "g_proj.1.weight", "g_proj.1.bias"]
ATTENTION = [*QKV, "q_norm.weight", "k_norm.weight", "q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.weight"]
MAMBA3 = ["in_proj.weight", "in_proj.bias", "dt_bias", "B_bias", "C_bias", "B_norm.weight", "C_norm.weight", "D"]
MAMBA3 += ["norm.weight", "out_proj.weight", "out_proj.bias"]
MAMBA = ["in_proj.weight", "conv1d.weight", "conv1d.bias", "A_log", "D", "dt_bias", "norm.weight", "out_proj.weight"]
TENSORS: dict[str, list[str]] = {
    "gdn2": [*QKV, *CONV, *OUT, *RATES, *LOW_RANK, "b_proj.weight", "w_proj.weight"],
    "kda": [*QKV, *CONV, *OUT, *RATES, *LOW_RANK, "b_proj.weight"],
    "gated_deltanet": [*QKV, *CONV, *OUT, *RATES, "a_proj.weight", "b_proj.weight", "g_proj.weight"],
    "delta_net": [*QKV, *CONV, *OUT, "b_proj.weight", "g_proj.weight"],
    "gla": [*QKV, *OUT, "gk_proj.0.weight", "gk_proj.1.weight", "gk_proj.1.bias", "g_proj.weight"],
    "attention": ATTENTION,
    "swa": ATTENTION,
    "mamba2": [*MAMBA, "in_proj.bias", "out_proj.bias"],
    "mamba3": MAMBA3,
    "mamba3_mimo": [*MAMBA3, "mimo_x", "mimo_z", "mimo_o"],
}
COMMON: dict[str, Any] = {
    "vocab_size": 420,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "intermediate_size": 64,
    "norm_eps": 1e-5,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "hidden_act": "swish",
    "fuse_norm": True,
    "fuse_swiglu": True,
    "fuse_cross_entropy": True,
    "use_l2warp": False,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.57.0",
}
CONV_OPTIONS = {"use_short_conv": True, "conv_size": 4, "attn_mode": "chunk", "attn": None}
SWA = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "window_size": 16, "rope_theta": 10000.0}
ATTENTION_OF = {"attention_heads": 4, "attention_kv_heads": 2, "attention_head_dim": 8, "attention_bias": True}
MAMBA3_SIZES = {"num_heads": 4, "head_dim": 8, "value_head_dim": 16, "intermediate_size": 0, "ssm_rate": "softplus"}
THEIR_MAMBA3 = {"head_dim": 16, "state_size": 8, "expand": 2, "use_bias": True, "num_heads": 4}
# name: (layers, fields of our config, model_type, fields of theirs)
MODELS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "GDN-2 layers": (
        "gdn2 gdn2 gdn2",
        {"output_gate": "sigmoid"},
        "gdn2",
        {"head_dim": 16, "num_heads": 2, "expand_v": 1, **CONV_OPTIONS},
    ),
    "GDN-2 layers under another name, doubled erase gate, grouped values": (
        "gdn2 gdn2 gdn2",
        {"erase_range": 2.0, "num_value_heads": 4, "value_head_dim": 8, "output_gate": "sigmoid"},
        "gated_deltanet2",
        {"head_dim": 16, "num_heads": 2, "num_v_heads": 4, "expand_v": 0.5, "allow_neg_eigval": True},
    ),
    "kda": ("kda kda kda", {}, "kda", {"head_dim": 16, "num_heads": 2, **CONV_OPTIONS}),
    "kda with a bounded decay, in a hybrid": (
        "kda swa kda",
        {"decay_floor": -5.0, **ATTENTION_OF},
        "kda",
        {"head_dim": 16, "num_heads": 2, "safe_gate": True, "lower_bound": -5.0, "attn": SWA},
    ),
    "gated_deltanet": (
        "gated_deltanet gated_deltanet gated_deltanet",
        {"num_value_heads": 4, "value_head_dim": 32},
        "gated_deltanet",
        {"head_dim": 16, "num_heads": 2, "num_v_heads": 4, "use_gate": True},
    ),
    "gated_deltanet in a hybrid": (
        "gated_deltanet swa attention",
        {"value_head_dim": 16, "output_gate": "sigmoid", **ATTENTION_OF},
        "gated_deltanet",
        {
            "head_dim": 16,
            "num_heads": 2,
            "expand_v": 1.0,
            "output_gate_activation": "sigmoid",
            "attn": [SWA, {**SWA, "layers": [2], "window_size": None}],
        },
    ),
    "delta_net": (
        "delta_net delta_net delta_net",
        {"output_gate": "silu", "erase_range": 2.0},
        "delta_net",
        {"num_heads": 2, "use_gate": True, "allow_neg_eigval": True, "use_beta": True, "use_output_norm": True},
    ),
    "delta_net with other norms": (
        "delta_net delta_net delta_net",
        {"qk_norm": "sum", "qk_activation": "elu"},
        "delta_net",
        {"num_heads": 2, "qk_norm": "sum", "qk_activation": "elu"},
    ),
    "gla": (
        "gla gla gla",
        {"head_dim": 8, "value_head_dim": 16},
        "gla",
        {"num_heads": 2, "expand_k": 0.5, "expand_v": 1.0, "feature_map": None, "clamp_min": None, "conv_size": 4},
    ),
    "gla with its norm unfused": (
        "gla gla gla",
        {"head_dim": 8, "value_head_dim": 16},
        "gla",
        {"num_heads": 2, "fuse_norm": False},
    ),
    "transformer": (
        "attention attention attention",
        ATTENTION_OF,
        "transformer",
        {"num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "window_size": None, "rope_theta": 10000.0},
    ),
    "transformer with windows": (
        "swa swa swa",
        ATTENTION_OF,
        "transformer",
        {"num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "window_size": 16},
    ),
    "mamba2": (
        "mamba2 mamba2 mamba2",
        {"num_heads": 4, "head_dim": 8, "value_head_dim": 16, "ssm_groups": 2, "intermediate_size": 0},
        "mamba2",
        {"head_dim": 16, "state_size": 8, "n_groups": 2, "expand": 2, "conv_kernel": 4, "use_bias": True},
    ),
    "mamba3": (
        "mamba3 mamba3 mamba3",
        {**MAMBA3_SIZES, "ssm_output_norm": True, "ssm_rope_fraction": 1.0},
        "mamba3",
        {**THEIR_MAMBA3, "is_outproj_norm": True, "rope_fraction": 1.0},
    ),
    "mamba3 with several inputs and outputs": (
        "mamba3_mimo mamba3_mimo mamba3_mimo",
        {**MAMBA3_SIZES, "ssm_output_norm": True},
        "mamba3",
        {**THEIR_MAMBA3, "is_outproj_norm": True, "is_mimo": True, "mimo_rank": 3, "A_floor": 0.0001},
    ),
    "transformer with normalised queries": (
        "attention attention attention",
        {**ATTENTION_OF, "attention_qk_norm": True, "norm_eps": 1e-6, "mixer_norm_eps": 1e-5},
        "transformer",
        {"num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "qk_norm": True, "norm_eps": 1e-6},
    ),
}
OF_MAMBA_ALONE = {"norm_eps": 1e-5, "dt_limit": [0.0, float("inf")], "A_init_range": [1, 16], "D_has_hdim": False}


def fla_layout(model: GDN2ForCausalLM, *, fuse_norm: bool = True) -> dict[str, Tensor]:
    """The state dict under their names, written down without the importer's help."""
    ours, config = model.state_dict(), model.config
    if config.layers[0].startswith("mamba"):
        theirs = {
            "backbone.embeddings.weight": ours["model.embed_tokens.weight"],
            "backbone.norm_f.weight": ours["model.norm.weight"],
            "lm_head.weight": ours["lm_head.weight"],
        }
        for index in range(len(config.layers)):
            here = f"backbone.layers.{index}."
            theirs[here + "norm.weight"] = ours[f"model.layers.{index}.mixer_norm.weight"]
            names = TENSORS[config.layers[index]]
            theirs |= {f"{here}mixer.{name}": ours[f"model.layers.{index}.mixer.{name}"] for name in names}
        return theirs
    theirs = {
        "model.embeddings.weight": ours["model.embed_tokens.weight"],
        "model.norm.weight": ours["model.norm.weight"],
        "lm_head.weight": ours["lm_head.weight"],
    }
    for index, kind in enumerate(config.layers):
        here = f"model.layers.{index}."
        theirs[here + "attn_norm.weight"] = ours[here + "mixer_norm.weight"]
        for name in ("mlp_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):
            theirs[f"{here}{name}.weight"] = ours[f"{here}{name}.weight"]
        for name in TENSORS[kind]:
            if f"{here}mixer.{name}" not in ours and name.startswith(("g_proj", "q_norm", "k_norm")):
                continue  # a model without output gate, or without normalised queries
            new = name
            if kind == "gla" and name == "o_norm.weight":
                new = "g_norm_swish_gate.weight" if fuse_norm else "g_norm.weight"
            theirs[f"{here}attn.{new}"] = ours[f"{here}mixer.{name}"]
    return theirs


def save(folder: Path, name: str, **changes: Any) -> GDN2ForCausalLM:
    """Our random model as their folder."""
    layers, ours, model_type, theirs = MODELS[name]
    norms = {"attention_heads": 2, "attention_kv_heads": 2}
    model = small_model(mixer_config(*layers.split(), **{**norms, **ours}))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith(("norm.weight", "bias")):
                parameter.add_(0.2 * torch.randn_like(parameter))
    fields: dict[str, Any] = {"model_type": model_type, **COMMON, **theirs, **changes}
    if model_type.startswith("mamba"):
        fields = {name: value for name, value in fields.items() if name not in ("intermediate_size", "hidden_act")}
        fields |= {**(OF_MAMBA_ALONE if model_type == "mamba2" else {}), **changes}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    tensors = fla_layout(model, fuse_norm=fields["fuse_norm"])
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors")
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_arrives_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = save(tmp_path / "source", name)
    assert not is_native(tmp_path / "source")
    plan = import_checkpoint(tmp_path / "source", tmp_path / "new")
    assert plan.config.layers == model.config.layers
    for field in ("norm_eps", "max_position_embeddings", "erase_range", "decay_floor", "bos_token_id"):
        assert getattr(plan.config, field) == getattr(model.config, field), field
    ids = torch.randint(0, 420, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "new")(ids).logits, model(ids).logits)


def test_a_gate_that_an_earlier_release_left_open_is_not_guessed(tmp_path: Path) -> None:
    """It wrote null and meant sigmoid; null of this release, and a config that does not speak of it, mean SiLU."""
    small_model(mixer_config("gdn2", "gdn2")).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    assert load_checkpoint(tmp_path).model.layers[0].mixer.gate == "silu"
    older = {name: value for name, value in written.items() if name != "mixer_norm_eps"}
    file.write_text(json.dumps(older))
    with pytest.raises(CheckpointError, match=r"config\.json: output_gate is null"):
        load_checkpoint(tmp_path)
    file.write_text(json.dumps({**older, "output_gate": "sigmoid"}))
    assert load_checkpoint(tmp_path).model.layers[0].mixer.gate == "sigmoid"
    del older["output_gate"]
    file.write_text(json.dumps(older))
    assert load_checkpoint(tmp_path).model.layers[0].mixer.gate == "silu"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("kda", {"use_short_conv": False}, "use_short_conv = False is not supported"),
        ("kda", {"attnres_block_size": 4}, "attnres_block_size = 4 is not supported"),
        ("kda", {"hidden_act": "powlu"}, "hidden_act = 'powlu' is not supported"),
        ("kda", {"lower_bound": -5.0}, "lower_bound = -5.0 without safe_gate"),
        ("kda", {"new_option": 1, "conv_bias": True}, "conv_bias = True is not supported.*new_option = 1 is not known"),
        ("kda", {"attn": {**SWA, "sink": 2}}, "sink = 2 is not known"),
        ("kda", {"attn": [SWA, {**SWA, "layers": [2], "num_heads": 2}]}, "different kinds of attention"),
        ("kda", {"num_heads": 4}, "of another shape"),
        ("kda", {"expand_v": 2}, "of another shape"),
        ("gla", {"feature_map": "relu"}, "feature_map = 'relu' is not supported"),
        ("gla", {"num_kv_heads": 1}, "num_kv_heads = 1 is not supported"),
        ("gla", {"use_output_gate": False}, "3 missing: .*g_norm.weight.*6 unknown"),
        ("delta_net", {"use_beta": False}, "use_beta = False is not supported"),
        ("delta_net", {"qk_norm": "max"}, "qk_norm = 'max' is not supported .only 'l2' or 'sum'"),
        ("gated_deltanet", {"output_gate_activation": "gelu"}, "output_gate_activation = 'gelu' is not supported"),
        ("kda", {"safe_gate": True}, "lower_bound = None with safe_gate"),
        ("mamba3", {"A_floor": 0.1}, "A_floor = 0.1 is not supported"),
        ("mamba3", {"rope_fraction": 0.25}, "rope_fraction = 0.25 is not supported"),
        ("mamba2", {"dt_limit": [0.0, 0.5]}, "dt_limit = .* is not supported"),
        ("mamba2", {"D_has_hdim": True}, "D_has_hdim = True is not supported"),
        ("mamba2", {"norm_before_gate": True}, "norm_before_gate = True is not supported"),
    ],
)
def test_options_that_we_do_not_have_are_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    save(tmp_path / "source", name, **change)
    with pytest.raises(CheckpointError, match=message):
        plan_import(tmp_path / "source")
