"""Folders of transformers' own models: Mamba-2, Llama, and those that differ from Llama by an option.

These are Mistral (a sliding window), Qwen2 (a bias on q, k and v) and Qwen3 (q and k normalised).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gdn2.checkpoints.errors import listed
from gdn2.checkpoints.importers import mamba
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, renamed
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.config import GDN2Config
from gdn2.config_checks import MAX_LAYERS, MAX_TOKENS, shown

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
BLOCK = {"mixer_norm": "input_layernorm", "mixer": "self_attn", "mlp_norm": "post_attention_layernorm", "mlp": "mlp"}
MAMBA_TRAINING = ("time_step_rank", "time_step_min", "time_step_max", "time_step_floor", "rescale_prenorm_residual")
ROPE_SECTIONS = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")
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
    _all_layers_are(fields, "full_attention")
    return {**_decoder(fields), "layers": "attention", "attention_bias": bias, "attention_output_bias": bias}


def _mistral(fields: Fields) -> dict[str, Any]:
    window = fields.count("sliding_window", 4096, most=MAX_TOKENS, null=True)
    _all_layers_are(fields, "full_attention" if window is None else "sliding_attention")
    windowed = {"layers": "swa", "window_size": window} if window is not None else {"layers": "attention"}
    return {**_decoder(fields), **windowed}


def _qwen2(fields: Fields) -> dict[str, Any]:
    return {**_decoder(fields), **_windows(fields), "attention_bias": True}


def _qwen3(fields: Fields) -> dict[str, Any]:
    bias = fields.flag("attention_bias", False)
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
    """Say whether config.json names one of these models; flash-linear-attention is asked before."""
    return source.config_file is not None and source.model_type in KINDS


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan; every field of config.json is mapped, harmless, or refused."""
    kind = source.model_type
    assert source.config_file is not None
    fields = Fields(source.config_file, source.config, f"transformers ({kind})")
    values = {**KINDS[kind](fields), **fields.tokens()}
    if kind == "mamba2":
        values |= mamba.training_length(fields)
    fields.finish()
    return make_plan(
        source,
        f"transformers {kind}",
        values,
        entries=partial(key_map, is_mamba=kind == "mamba2"),
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


def _decoder(fields: Fields, head_dim: int | None = None) -> dict[str, Any]:
    """Take what Llama and its descendants have in common."""
    fields.only("hidden_act", "silu", "swish", default="silu")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    size = fields.count("head_dim", None) or head_dim or width // heads
    return {
        "hidden_size": width,
        "vocab_size": fields.count("vocab_size"),
        "num_hidden_layers": fields.count("num_hidden_layers", most=MAX_LAYERS),
        "intermediate_size": fields.count("intermediate_size"),
        "norm_eps": fields.number("rms_norm_eps", 1e-6, positive=False),
        "max_position_embeddings": fields.count("max_position_embeddings", most=MAX_TOKENS),
        "attention_heads": heads,
        "attention_kv_heads": fields.count("num_key_value_heads", None) or heads,
        "attention_head_dim": size,
        **_rotary(fields),
    }


def _rotary(fields: Fields) -> dict[str, Any]:
    """Take `rope_parameters`, or `rope_theta` and `rope_scaling` of older folders; one for all layers."""
    fields.only("partial_rotary_factor", 1.0, None, default=1.0)
    theta = fields.number("rope_theta", 10000.0)
    found: list[dict[str, Any]] = []
    for name in ("rope_parameters", "rope_scaling"):
        if name not in fields:
            continue
        rope = fields.inner(name)
        if sections := [kind for kind in ROPE_SECTIONS if kind in rope]:
            found += [_one_rotary(rope.inner(kind), theta) for kind in sections]
        elif not rope.empty:
            found.append(_one_rotary(rope, theta))
    if any(one != found[0] for one in found):
        fields.refuse("rope_parameters (or rope_scaling) that differ between kinds of layers are not supported")
    return found[0] if found else {"rope_theta": float(theta)}


def _one_rotary(rope: Fields, theta: float) -> dict[str, Any]:
    """Take one description of the rotary embedding."""
    older = rope.take("type", None)
    kind = rope.take("rope_type", older or "default")
    if older is not None and older != kind:
        rope.refuse(f"{rope.inside}type = {shown(older)} contradicts rope_type = {shown(kind)}")
    rope.only("partial_rotary_factor", 1.0, None, default=1.0)
    values: dict[str, Any] = {"rope_theta": float(rope.number("rope_theta", theta))}
    if kind == "llama3":
        values["rope_llama3"] = {name: rope.number(name) for name in LLAMA3}
    elif kind == "default":
        rope.only("factor", 1.0, None, default=None)
        rope.harmless("original_max_position_embeddings")
    else:
        rope.refuse(f"{rope.inside}rope_type = {shown(kind)} is not supported (only 'default' or 'llama3')")
        rope.skip()
    return values


def _windows(fields: Fields) -> dict[str, Any]:
    """Take Qwen's windows: in the layers from `max_window_layers` on, if asked for."""
    window = fields.count("sliding_window", 4096, most=MAX_TOKENS, null=True)
    used = fields.flag("use_sliding_window", False)
    first, types = fields.take("max_window_layers", 28), fields.names("layer_types")
    if not used or window is None:
        if types is not None and set(types) != {"full_attention"}:
            fields.refuse(f"layer_types = {shown(types)} without use_sliding_window is not supported")
        return {"layers": "attention"}
    if types is None:
        fields.refuse(f"use_sliding_window without layer_types is not supported (max_window_layers = {shown(first)})")
        return {}
    names = {"full_attention": "attention", "sliding_attention": "swa"}
    if unknown := sorted(set(types) - names.keys()):
        fields.refuse(f"layer_types {listed([shown(kind) for kind in unknown], 3)} are not supported")
    return {"layers": [names.get(kind, "attention") for kind in types], "window_size": window}


def _all_layers_are(fields: Fields, kind: str) -> None:
    types = fields.names("layer_types")
    if types is not None and set(types) != {kind}:
        fields.refuse(f"layer_types = {shown(types)} is not supported (only {kind!r} here)")


IMPORTER = Importer("transformers", matches, plan)
