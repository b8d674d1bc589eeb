"""Folders of transformers' own models: Mamba-2, and Llama with those that differ from it by an option: Mistral (a
sliding window), Qwen2 (a bias on q, k and v), Qwen3 (q and k normalised)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.fla import ASSUMED_OF_MAMBA, training_length, unlimited_steps
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, renamed
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.config import GDN2Config

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
BLOCK = {"mixer_norm": "input_layernorm", "mixer": "self_attn", "mlp_norm": "post_attention_layernorm", "mlp": "mlp"}
MAMBA_TRAINING = ("time_step_rank", "time_step_min", "time_step_max", "time_step_floor", "rescale_prenorm_residual")
NOT_READ = ("residual_in_fp32", "chunk_size", "rms_norm", "norm_before_gate", "expand")  # or of no effect on results


def _mamba2(fields: Fields) -> dict[str, Any]:
    fields.only("hidden_act", "silu", "swish", default="silu")
    unlimited_steps(fields, "time_step_limit")
    fields.harmless(*MAMBA_TRAINING, *NOT_READ)
    return {
        "layers": "mamba2",
        "hidden_size": fields.number("hidden_size", 4096),
        "vocab_size": fields.number("vocab_size", 32768),
        "num_hidden_layers": fields.number("num_hidden_layers", 64),
        "norm_eps": fields.number("layer_norm_epsilon", 1e-5),
        "intermediate_size": 0,
        "num_heads": fields.number("num_heads", 128),
        "head_dim": fields.number("state_size", 128),
        "value_head_dim": fields.number("head_dim", 64),
        "ssm_groups": fields.number("n_groups", 8),
        "conv_size": fields.number("conv_kernel", 4),
        "ssm_bias": bool(fields.take("use_bias", False)),
        "ssm_conv_bias": bool(fields.take("use_conv_bias", True)),
    }


def _llama(fields: Fields) -> dict[str, Any]:
    bias = bool(fields.take("attention_bias", False))
    fields.only("mlp_bias", False, default=False)
    fields.only("pretraining_tp", 1, None, default=1)
    return {**_decoder(fields), "layers": "attention", "attention_bias": bias, "attention_output_bias": bias}


def _mistral(fields: Fields) -> dict[str, Any]:
    window = fields.number("sliding_window", None)
    windowed = {"layers": "swa", "window_size": window} if window is not None else {"layers": "attention"}
    return {**_decoder(fields), **windowed}


def _qwen2(fields: Fields) -> dict[str, Any]:
    return {**_decoder(fields), **_windows(fields), "attention_bias": True}


def _qwen3(fields: Fields) -> dict[str, Any]:
    bias = bool(fields.take("attention_bias", False))
    normed = {"attention_bias": bias, "attention_output_bias": bias, "attention_qk_norm": True}
    return {**_decoder(fields, head_dim=128), **_windows(fields), **normed}


KINDS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "mamba2": _mamba2,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}


def matches(source: Source) -> bool:
    """A folder whose config.json names one of these models. (flash-linear-attention's mamba2 is asked before.)"""
    return source.config_file is not None and source.model_type in KINDS


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Every field of config.json is mapped, harmless, or refused."""
    kind = source.model_type
    assert source.config_file is not None
    fields = Fields(source.config_file, source.config, f"transformers ({kind})")
    values = {**KINDS[kind](fields), **fields.tokens()}
    if kind == "mamba2":
        values |= training_length(fields)
    fields.finish()
    return make_plan(
        source,
        f"transformers {kind}",
        values,
        entries=partial(key_map, mamba=kind == "mamba2"),
        unused=lambda name: name.endswith("rotary_emb.inv_freq"),
        assumed=ASSUMED_OF_MAMBA if kind == "mamba2" else {},
        settings=settings,
    )


def key_map(config: GDN2Config, targets: list[str], *, mamba: bool) -> list[Entry]:  # noqa: ARG001 (as the others)
    """Our names to theirs."""
    top = {EMBEDDING: "backbone.embeddings.weight", "model.norm.weight": "backbone.norm_f.weight"} if mamba else {}

    def rename(name: str) -> str:
        if name in top or name == HEAD or name.count(".") < 4:
            return top.get(name, name)
        _, _, index, part, rest = name.split(".", 4)
        if mamba:
            return f"backbone.layers.{index}.{'norm' if part == 'mixer_norm' else part}.{rest}"
        return f"model.layers.{index}.{BLOCK[part]}.{rest}"

    return renamed(targets, rename)


def _decoder(fields: Fields, head_dim: int | None = None) -> dict[str, Any]:
    """What Llama and its descendants have in common."""
    fields.only("hidden_act", "silu", "swish", default="silu")
    width, heads = fields.number("hidden_size"), fields.number("num_attention_heads")
    size = fields.number("head_dim", None) or head_dim or width // heads
    return {
        "hidden_size": width,
        "vocab_size": fields.number("vocab_size"),
        "num_hidden_layers": fields.number("num_hidden_layers"),
        "intermediate_size": fields.number("intermediate_size"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "max_position_embeddings": fields.number("max_position_embeddings"),
        "attention_heads": heads,
        "attention_kv_heads": fields.number("num_key_value_heads", None) or heads,
        "attention_head_dim": size,
        **_rotary(fields),
    }


def _rotary(fields: Fields) -> dict[str, Any]:
    """`rope_parameters`, or `rope_theta` and `rope_scaling` of older folders."""
    theta = fields.number("rope_theta", 10000.0)
    scaling = {**(fields.take("rope_scaling", None) or {}), **(fields.take("rope_parameters", None) or {})}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    values: dict[str, Any] = {"rope_theta": float(scaling.get("rope_theta", theta))}
    if kind == "llama3" and all(name in scaling for name in LLAMA3):
        values["rope_llama3"] = {name: scaling[name] for name in LLAMA3}
    elif kind != "default":
        fields.refuse(f"rope_type = {kind!r} is not supported (only 'default' or 'llama3')")
    if scaling.get("partial_rotary_factor", 1.0) != 1.0 or fields.take("partial_rotary_factor", 1.0) != 1.0:
        fields.refuse("partial_rotary_factor is not supported (only 1.0)")
    return values


def _windows(fields: Fields) -> dict[str, Any]:
    """Qwen's: a window in the layers from `max_window_layers` on, if asked for."""
    window, used = fields.number("sliding_window", None), bool(fields.take("use_sliding_window", False))
    first, types = fields.number("max_window_layers", 28), fields.take("layer_types", None)
    if not used or window is None:
        if types is not None and set(types) != {"full_attention"}:
            fields.refuse(f"layer_types = {types!r} without use_sliding_window is not supported")
        return {"layers": "attention"}
    if types is None:
        fields.refuse(f"use_sliding_window without layer_types is not supported (max_window_layers = {first})")
        return {}
    names = {"full_attention": "attention", "sliding_attention": "swa"}
    if unknown := sorted(set(types) - names.keys()):
        fields.refuse(f"layer_types {', '.join(map(repr, unknown))} are not supported")
    return {"layers": [names.get(kind, "attention") for kind in types], "window_size": window}


IMPORTER = Importer("transformers", matches, plan)
