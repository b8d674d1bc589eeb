"""Folders of transformers' own models: Mamba-2, Llama, and those that differ from Llama by an option.

These are Mistral (a sliding window), Qwen2 (a bias on q, k and v) and Qwen3 (q and k normalised).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gdn2.checkpoints.importers import bamba, granite, hybrids, kimi_linear, mamba, olmo_hybrid
from gdn2.checkpoints.importers.decoder import all_layers_are, decoder, windows
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, renamed
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.config import GDN2Config
from gdn2.config_checks import MAX_LAYERS, MAX_TOKENS

BLOCK = {"mixer_norm": "input_layernorm", "mixer": "self_attn", "mlp_norm": "post_attention_layernorm", "mlp": "mlp"}
MAMBA_TRAINING = ("time_step_rank", "time_step_min", "time_step_max", "time_step_floor", "rescale_prenorm_residual")
NOT_READ = ("residual_in_fp32", "chunk_size", "rms_norm", "norm_before_gate", "expand")  # or of no effect on results


def _mamba2(fields: Fields) -> dict[str, Any]:
    fields.only("hidden_act", "silu", "swish", default="silu")
    mamba.unlimited_steps(fields, "time_step_limit")
    fields.harmless(*MAMBA_TRAINING, *NOT_READ)
    return {
        "layers": "mamba2",
        "hidden_size": fields.count("hidden_size", 4096),
        "vocab_size": fields.count("vocab_size", 32768),
        "num_hidden_layers": fields.count("num_hidden_layers", 64, most=MAX_LAYERS),
        "norm_eps": fields.number("layer_norm_epsilon", 1e-5, positive=False),
        "intermediate_size": 0,
        "num_heads": fields.count("num_heads", 128),
        "head_dim": fields.count("state_size", 128),
        "value_head_dim": fields.count("head_dim", 64),
        "ssm_groups": fields.count("n_groups", 8),
        "conv_size": fields.count("conv_kernel", 4),
        "ssm_bias": fields.flag("use_bias", False),
        "ssm_conv_bias": fields.flag("use_conv_bias", True),
    }


def _llama(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    fields.only("mlp_bias", False, None, default=False)
    fields.only("pretraining_tp", 1, None, default=1)
    all_layers_are(fields, "full_attention")
    return {**decoder(fields), "layers": "attention", "attention_bias": bias, "attention_output_bias": bias}


def _mistral(fields: Fields) -> dict[str, Any]:
    window = fields.count("sliding_window", 4096, most=MAX_TOKENS, null=True)
    all_layers_are(fields, "full_attention" if window is None else "sliding_attention")
    windowed = {"layers": "swa", "window_size": window} if window is not None else {"layers": "attention"}
    return {**decoder(fields), **windowed}


def _qwen2(fields: Fields) -> dict[str, Any]:
    return {**decoder(fields), **windows(fields), "attention_bias": True}


def _qwen3(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
    normed = {"attention_bias": bias, "attention_output_bias": bias, "attention_qk_norm": True}
    return {**decoder(fields, head_dim=128), **windows(fields), **normed}


KINDS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "mamba2": _mamba2,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    **hybrids.KINDS,
    "olmo_hybrid": olmo_hybrid.read,
    "kimi_linear": kimi_linear.read,
    "bamba": bamba.read,
    "granitemoehybrid": granite.read,
}
KEY_MAPS: dict[str, Callable[..., list[Entry]]] = {
    **dict.fromkeys(hybrids.KINDS, hybrids.key_map),
    "olmo_hybrid": olmo_hybrid.key_map,
    "kimi_linear": kimi_linear.key_map,
    "bamba": bamba.key_map,
    "granitemoehybrid": granite.key_map,
}


def matches(source: Source) -> bool:
    """Say whether config.json names one of these models; flash-linear-attention is asked before."""
    return source.config_file is not None and source.model_type in KINDS


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan; every field of config.json is mapped, harmless, or refused."""
    kind = source.model_type
    assert source.config_file is not None
    config = hybrids.text_config(source) if kind in hybrids.KINDS else source.config
    fields = Fields(source.config_file, config, f"transformers ({kind})")
    values = {**KINDS[kind](fields), **fields.tokens()}
    if kind == "mamba2":
        values |= mamba.training_length(fields)
    fields.finish()
    is_hybrid = kind in KEY_MAPS
    map_names = partial(KEY_MAPS[kind], source=source) if is_hybrid else partial(key_map, is_mamba=kind == "mamba2")
    return make_plan(
        source,
        f"transformers {kind}",
        values,
        entries=map_names,
        not_read=hybrids.NOT_READ if is_hybrid else (),
        assumed=mamba.ASSUMED if kind == "mamba2" else {},
        settings=settings,
    )


def key_map(config: GDN2Config, targets: list[str], *, is_mamba: bool) -> list[Entry]:  # noqa: ARG001 (as the others)
    """Our names to theirs."""
    top = {EMBEDDING: "backbone.embeddings.weight", "model.norm.weight": "backbone.norm_f.weight"} if is_mamba else {}

    def rename(name: str) -> str:
        if name in top or name == HEAD or name.count(".") < 4:
            return top.get(name, name)
        _, _, index, part, rest = name.split(".", 4)
        if is_mamba:
            return f"backbone.layers.{index}.{'norm' if part == 'mixer_norm' else part}.{rest}"
        return f"model.layers.{index}.{BLOCK[part]}.{rest}"

    return renamed(targets, rename)


IMPORTER = Importer("transformers", matches, plan)
