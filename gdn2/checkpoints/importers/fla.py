"""Folders of flash-linear-attention: GDN-2 layers, kda, gated_deltanet, delta_net, gla, mamba2, mamba3 and transformer.

Each may be alone or have attention in the layers that `attn` names. Fields, defaults and names are those of release
0.6.0, and fields of the releases since 0.1.1 as far as they differ.

The release has a GDN-2 layer but no model around it; a folder counts as one if its blocks are built as in its other
models and its mixers hold the layer's tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from basis.errors import shown
from gdn2.checkpoints.importers import mamba
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, renamed
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.config import CHOICES, GDN2Config
from gdn2.config_checks import MAX_LAYERS, MAX_TOKENS

QUERY_NORM_EPS = 1e-5  # of its attention's q_norm and k_norm, whatever norm_eps is
GDN2_LAYER = re.compile(r"^model\.layers\.\d+\.attn\.w_proj\.weight$")  # no other mixer has a write gate
EVERYWHERE = ("fuse_norm", "fuse_swiglu", "fuse_cross_entropy", "fuse_linear_cross_entropy", "use_l2warp", "attn_mode")
MAMBA = ("mamba2", "mamba3")
TOP = {EMBEDDING: "embeddings.weight", "model.norm.weight": "norm.weight"}
MAMBA_TOP = {EMBEDDING: "embeddings.weight", "model.norm.weight": "norm_f.weight"}


def _kda(fields: Fields) -> dict[str, Any]:
    safe, floor = fields.flag("safe_gate", False), fields.take("lower_bound", None)
    if floor is not None and (isinstance(floor, bool) or not isinstance(floor, int | float) or not -1e9 < floor < 0):
        fields.refuse(f"lower_bound = {shown(floor)} must be a number below 0")
    if safe != (floor is not None):
        fields.refuse(f"lower_bound = {shown(floor)} {'with' if safe else 'without'} safe_gate is not supported")
    sizes = _heads(fields, head_dim=128, num_heads=16, expand_v=1.0)
    return {**sizes, **_conv(fields), "decay_floor": floor, "output_gate": "sigmoid"}


def _gdn2(fields: Fields) -> dict[str, Any]:
    fields.only("safe_gate", False, default=False)
    fields.only("lower_bound", None, default=None)
    return {**_heads(fields, head_dim=128, num_heads=16, expand_v=1.0), **_conv(fields), "output_gate": "sigmoid"}


def _gated_deltanet(fields: Fields) -> dict[str, Any]:
    activation = fields.only("output_gate_activation", "swish", "silu", "sigmoid", default="swish")
    gate = "none" if not fields.flag("use_gate", True) else "sigmoid" if activation == "sigmoid" else "silu"
    return {**_heads(fields, head_dim=256, num_heads=6, expand_v=2.0), **_conv(fields), "output_gate": gate}


def _delta_net(fields: Fields) -> dict[str, Any]:
    fields.only("use_beta", True, default=True)
    fields.only("use_output_norm", True, default=True)
    return {
        **_shares(fields, num_heads=16, expand_k=1.0, expand_v=1.0),
        **_conv(fields),
        "output_gate": "silu" if fields.flag("use_gate", False) else "none",
        "qk_norm": fields.only("qk_norm", *CHOICES["qk_norm"], default="l2"),
        "qk_activation": fields.only("qk_activation", *CHOICES["qk_activation"], default="silu"),
    }


def _gla(fields: Fields) -> dict[str, Any]:
    fields.only("feature_map", None, default=None)
    fields.only("use_short_conv", False, default=False)
    fields.only("clamp_min", None, default=None)
    fields.only("use_gk", True, default=True)
    fields.only("use_gv", False, default=False)
    fields.only("elementwise_affine", True, default=True)
    fields.harmless("conv_size")
    shares = _shares(fields, num_heads=4, expand_k=0.5, expand_v=1.0)
    fields.only("num_kv_heads", None, shares["num_heads"], default=None)
    return {**shares, "output_gate": "silu" if fields.flag("use_output_gate", True) else "none"}


def _transformer(fields: Fields) -> dict[str, Any]:
    fields.only("elementwise_affine", True, default=True)
    heads = fields.count("num_heads", 32)
    norms = {"attention_qk_norm": True, "mixer_norm_eps": QUERY_NORM_EPS} if fields.flag("qk_norm", False) else {}
    window = fields.count("window_size", None, most=MAX_TOKENS)
    return {
        **norms,
        "attention_heads": heads,
        "attention_kv_heads": fields.count("num_kv_heads", None) or heads,
        "attention_bias": fields.flag("qkv_bias", False),
        "rope_theta": float(fields.number("rope_theta", 10000.0)),
        **({"layers": "swa", "window_size": window} if window is not None else {"layers": "attention"}),
    }


KINDS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "gdn2": _gdn2,
    "kda": _kda,
    "gated_deltanet": _gated_deltanet,
    "delta_net": _delta_net,
    "gla": _gla,
    "mamba2": mamba.mamba2,
    "mamba3": mamba.mamba3,
    "transformer": _transformer,
}


def kind_of(source: Source) -> str | None:
    """Which of `KINDS` a folder holds; None if it is not of flash-linear-attention."""
    if not source.config_file or not source.path.is_dir():
        return None
    kind = source.model_type
    if kind == "mamba2":  # transformers has a model of that name with other fields
        return kind if {"norm_eps", "fuse_norm", "fuse_cross_entropy", "dt_limit"} & source.config.keys() else None
    if kind in KINDS and kind not in ("gdn2", "kda"):  # GDN-2 layers may well have a KDA config
        return kind
    if any(GDN2_LAYER.match(name) for name in source.tensors):
        return "gdn2"
    return kind if kind == "kda" else None


def matches(source: Source) -> bool:
    """Say whether config.json names one of its models, or there are GDN-2 layers."""
    return kind_of(source) is not None


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan; every field of config.json is mapped, harmless, or refused."""
    kind = kind_of(source)
    assert kind is not None
    assert source.config_file is not None
    fields = Fields(source.config_file, source.config, "flash-linear-attention")
    values: dict[str, Any] = {"layers": kind}
    values |= KINDS[kind](fields)
    fields.harmless(*EVERYWHERE)
    values |= {"vocab_size": fields.count("vocab_size", 32000), **fields.tokens()}
    assumed: dict[str, Any] = {}
    if kind in MAMBA:
        assumed = mamba.ASSUMED
        values |= mamba.training_length(fields)
    else:
        values |= _block(fields, kind, values)
    fields.finish()
    prefix = "backbone." if kind in MAMBA else "model."
    return make_plan(
        source,
        f"fla {kind}",
        values,
        entries=partial(key_map, prefix=prefix, is_mamba=kind in MAMBA, fused_norm=_fused_norm(source)),
        assumed=assumed,
        settings=settings,
    )


def key_map(config: GDN2Config, targets: list[str], *, prefix: str, is_mamba: bool, fused_norm: bool) -> list[Entry]:
    """Our names to theirs."""
    top = MAMBA_TOP if is_mamba else TOP
    norm = "g_norm_swish_gate" if fused_norm else "g_norm"

    def rename(name: str) -> str:
        if name in top or name == HEAD:
            return prefix + top[name] if name in top else HEAD
        _, _, index, part, rest = name.split(".", 4)
        if is_mamba:
            return f"{prefix}layers.{index}.{'norm' if part == 'mixer_norm' else part}.{rest}"
        if config.layers[int(index)] == "gla" and part == "mixer" and rest == "o_norm.weight":  # type: ignore[index]
            rest = f"{norm}.weight"
        return f"{prefix}layers.{index}.{ {'mixer_norm': 'attn_norm', 'mixer': 'attn'}.get(part, part) }.{rest}"

    return renamed(targets, rename)


def _fused_norm(source: Source) -> bool:
    return bool(source.config.get("fuse_norm", True)) and bool(source.config.get("use_output_gate", True))


def _heads(fields: Fields, *, head_dim: int, num_heads: int, expand_v: float) -> dict[str, Any]:
    """Take the sizes of mixers that are told head_dim."""
    size, heads = fields.count("head_dim", head_dim), fields.count("num_heads", num_heads)
    return {
        "num_heads": heads,
        "num_value_heads": fields.count("num_v_heads", None) or heads,
        "head_dim": size,
        "value_head_dim": int(size * fields.number("expand_v", expand_v)),
    }


def _shares(fields: Fields, *, num_heads: int, expand_k: float, expand_v: float) -> dict[str, Any]:
    """Take the sizes of mixers whose heads divide a share of the width."""
    width, heads = fields.count("hidden_size", 2048), fields.count("num_heads", num_heads)
    return {
        "hidden_size": width,
        "num_heads": heads,
        "head_dim": round(width * fields.number("expand_k", expand_k)) // heads,
        "value_head_dim": round(width * fields.number("expand_v", expand_v)) // heads,
    }


def _conv(fields: Fields) -> dict[str, Any]:
    fields.only("use_short_conv", True, default=True)
    fields.only("conv_bias", False, default=False)
    doubled = fields.flag("allow_neg_eigval", False)
    return {"conv_size": fields.count("conv_size", 4), "erase_range": 2.0 if doubled else 1.0}


def _block(fields: Fields, kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Take what all models but Mamba have: sizes, the SwiGLU, attention in some layers."""
    fields.only("hidden_act", "swish", "silu", default="swish")
    fields.only("attnres_block_size", None, default=None)
    width = values.get("hidden_size") or fields.count("hidden_size", 2048)
    depth = fields.count("num_hidden_layers", {"gated_deltanet": 21}.get(kind, 24), most=MAX_LAYERS)
    ratio, inner = fields.number("hidden_ratio", None) or 4, fields.count("intermediate_size", None)
    if inner is None:
        inner = -(-int(width * ratio * 2 / 3) // 256) * 256
    found = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": inner,
        "norm_eps": fields.number("norm_eps", 1e-6, positive=False),
        "max_position_embeddings": fields.count("max_position_embeddings", 2048, most=MAX_TOKENS),
    }
    if kind == "transformer":
        return {**found, "attention_head_dim": width // values["attention_heads"]}
    return {**found, **_attention(fields, kind, width, depth)}


def _attention(fields: Fields, kind: str, width: int, depth: int) -> dict[str, Any]:
    """Take `attn`: one description, or a list of them, of attention in some layers."""
    layers = [kind] * depth
    found: dict[str, Any] = {}
    for one in fields.inner_list("attn"):
        heads, window = one.count("num_heads"), one.count("window_size", None, most=MAX_TOKENS)
        sizes = {
            "attention_heads": heads,
            "attention_kv_heads": one.count("num_kv_heads", None) or heads,
            "attention_head_dim": width // heads,
            "attention_bias": one.flag("qkv_bias", False),
            "rope_theta": float(one.number("rope_theta", 10000.0)),
            **({"window_size": window} if window is not None else {}),
        }
        for index in _places(one, depth):
            layers[index] = "attention" if window is None else "swa"
        if any(found.get(name, value) != value for name, value in sizes.items()):
            fields.refuse("attn with different kinds of attention is not supported (only one size, one window)")
        found |= sizes
    return {**found, "layers": layers}


def _places(attention: Fields, depth: int) -> list[int]:
    """Take the layers that `attn` names, counted from 0."""
    places = attention.take("layers", [])
    if not isinstance(places, list) or not all(type(place) is int and 0 <= place < depth for place in places):
        attention.refuse(f"attn.layers = {shown(places)} must be a list of layers from 0 to {depth - 1}")
        return []
    return places


IMPORTER = Importer("fla", matches, plan)
