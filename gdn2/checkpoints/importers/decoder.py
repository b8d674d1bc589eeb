"""What the configurations of transformers' decoders have in common: sizes, rotary embedding, windows."""

from __future__ import annotations

from typing import Any

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.importers.fields import REQUIRED, Fields
from gdn2.config_checks import MAX_LAYERS, MAX_TOKENS

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
ROPE_SECTIONS = ("full_attention", "sliding_attention", "chunked_attention", "linear_attention")


def decoder(
    fields: Fields,
    head_dim: int | None = None,
    rotated: float | None = None,
    inner: Any = REQUIRED,
    *,
    unrotated: bool = False,
) -> dict[str, Any]:
    """Take what Llama and its descendants have in common.

    Args:
        fields: the configuration.
        head_dim: channels of a head where the configuration does not tell; None: width / heads.
        rotated: the share of them that rotates where the configuration does not tell; None: all do, always.
        inner: hidden channels of the SwiGLU where the configuration does not tell.
        unrotated: whether there may be no rotary embedding at all (a base that is null).
    """
    fields.only("hidden_act", "silu", "swish", default="silu")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    size = fields.count("head_dim", None) or head_dim or width // heads
    return {
        "hidden_size": width,
        "vocab_size": fields.count("vocab_size"),
        "num_hidden_layers": fields.count("num_hidden_layers", most=MAX_LAYERS),
        "intermediate_size": fields.count("intermediate_size", inner),
        "norm_eps": fields.number("rms_norm_eps", 1e-6, positive=False),
        "max_position_embeddings": fields.count("max_position_embeddings", most=MAX_TOKENS),
        "attention_heads": heads,
        "attention_kv_heads": fields.count("num_key_value_heads", None) or heads,
        "attention_head_dim": size,
        **_rotary(fields, rotated, unrotated),
    }


def _rotary(fields: Fields, rotated: float | None, unrotated: bool) -> dict[str, Any]:
    """Take `rope_parameters`, or `rope_theta` and `rope_scaling` of older folders; one for all layers."""
    share = _rotated(fields, rotated)
    theta = fields.number("rope_theta", 10000.0, null=unrotated)
    found: list[dict[str, Any]] = []
    for name in ("rope_parameters", "rope_scaling"):
        if name not in fields:
            continue
        rope = fields.inner(name)
        if sections := [kind for kind in ROPE_SECTIONS if kind in rope]:
            found += [_one_rotary(rope.inner(kind), theta, share, unrotated) for kind in sections]
        elif not rope.empty:
            found.append(_one_rotary(rope, theta, share, unrotated))
    if any(one != found[0] for one in found):
        fields.refuse("rope_parameters (or rope_scaling) that differ between kinds of layers are not supported")
    if found:
        return found[0]
    base = None if theta is None else float(theta)
    return {"rope_theta": base, **({} if share is None else {"rope_fraction": share})}


def _one_rotary(rope: Fields, theta: float | None, share: float | None, unrotated: bool) -> dict[str, Any]:
    """Take one description of the rotary embedding."""
    older = rope.take("type", None)
    kind = rope.take("rope_type", older or "default")
    if older is not None and older != kind:
        rope.refuse(f"{rope.inside}type = {shown(older)} contradicts rope_type = {shown(kind)}")
    share = _rotated(rope, share)
    base = rope.number("rope_theta", theta, null=unrotated)
    values: dict[str, Any] = {"rope_theta": None if base is None else float(base)}
    if share is not None:
        values["rope_fraction"] = share
        rope.harmless("mrope_section", "mrope_interleaved")  # of pictures: in a text all three positions are one
    if kind == "llama3":
        values["rope_llama3"] = {name: rope.number(name) for name in LLAMA3}
    elif kind == "default":
        rope.only("factor", 1.0, None, default=None)
        rope.harmless("original_max_position_embeddings")
    else:
        rope.refuse(f"{rope.inside}rope_type = {shown(kind)} is not supported (only 'default' or 'llama3')")
        rope.skip()
    return values


def _rotated(fields: Fields, default: float | None) -> float | None:
    """Take the share of a head's channels that rotates, where a model has one."""
    if default is None:
        fields.only("partial_rotary_factor", 1.0, None, default=1.0)
        return None
    return float(fields.number("partial_rotary_factor", default))


def windows(fields: Fields) -> dict[str, Any]:
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


def all_layers_are(fields: Fields, kind: str) -> None:
    """Refuse `layer_types` that name another kind of layer."""
    types = fields.names("layer_types")
    if types is not None and set(types) != {kind}:
        fields.refuse(f"layer_types = {shown(types)} is not supported (only {kind!r} here)")
