"""transformers' Bamba: Mamba-2 layers, and attention that rotates half of a head's channels, each with a SwiGLU."""

from __future__ import annotations

from typing import Any

from basis.errors import shown
from gdn2.checkpoints.importers import mamba
from gdn2.checkpoints.importers.decoder import decoder
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.keymap import HEAD, Entry, renamed
from gdn2.checkpoints.importers.plan import Source
from gdn2.config import GDN2Config

HALF = 0.5  # of a head's channels; their code sets it, whatever the folder says at the top
HOW_IT_RUNS = ("mamba_chunk_size", "num_logits_to_keep", "z_loss_coefficient")
MIXER = {"mamba2": "mamba", "attention": "self_attn"}
BLOCK = {"mixer_norm": "input_layernorm", "mlp_norm": "pre_ff_layernorm", "mlp": "feed_forward"}


def read(fields: Fields) -> dict[str, Any]:
    """Take the configuration."""
    fields.only("mlp_bias", False, None, default=False)
    fields.only("partial_rotary_factor", HALF, None, default=None)
    fields.harmless(*HOW_IT_RUNS)
    values = decoder(fields, rotated=HALF)
    fields.only("attn_rotary_emb", values["attention_head_dim"] // 2, None, default=None)
    bias = fields.flag("attention_bias", False)
    return {
        **values,
        **ssm(fields, values["hidden_size"]),
        "layers": _layers(fields, values["num_hidden_layers"]),
        "attention_bias": bias,
        "attention_output_bias": bias,
    }


def ssm(fields: Fields, width: int) -> dict[str, Any]:
    """Take the sizes of Mamba-2 layers, as Bamba and Granite name them."""
    mamba.unlimited_steps(fields, "time_step_limit")
    heads = fields.count("mamba_n_heads", 128)
    size = fields.count("mamba_expand", 2) * width // heads
    fields.only("mamba_d_head", size, "auto", default="auto", why="mamba_expand * hidden_size / mamba_n_heads")
    return {
        "num_heads": heads,
        "head_dim": fields.count("mamba_d_state", 256),
        "value_head_dim": size,
        "conv_size": fields.count("mamba_d_conv", 4),
        "ssm_groups": fields.count("mamba_n_groups", 1),
        "ssm_bias": fields.flag("mamba_proj_bias", False),
        "ssm_conv_bias": fields.flag("mamba_conv_bias", True),
    }


def key_map(config: GDN2Config, targets: list[str], *, source: Source) -> list[Entry]:  # noqa: ARG001 (as the others)
    """Our names to theirs."""

    def rename(name: str) -> str:
        if name == "model.norm.weight":
            return "model.final_layernorm.weight"
        if name == HEAD or name.count(".") < 4:
            return name
        _, _, index, part, rest = name.split(".", 4)
        inside = MIXER[config.layers[int(index)]] if part == "mixer" else BLOCK[part]  # type: ignore[index]
        return f"model.layers.{index}.{inside}.{rest}"

    return renamed(targets, rename)


def _layers(fields: Fields, depth: int) -> list[str]:
    """Take which layers are attention, counted from 0; by default none is."""
    places, types = fields.take("attn_layer_indices", None) or [], fields.names("layer_types")
    if not isinstance(places, list) or not all(type(place) is int and 0 <= place < depth for place in places):
        fields.refuse(f"attn_layer_indices = {shown(places)} must be a list of layers from 0 to {depth - 1}")
        places = []
    kinds = ["full_attention" if layer in places else "linear_attention" for layer in range(depth)]
    if types is not None and types != kinds:
        fields.refuse(f"layer_types = {shown(types)} contradicts attn_layer_indices = {shown(places)}")
    return ["attention" if kind == "full_attention" else "mamba2" for kind in kinds]
