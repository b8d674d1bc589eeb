"""transformers' OLMo Hybrid: Gated DeltaNet, and attention whose norms are behind it.

Queries and keys are normalised over all heads together. Recurrent layers have their norms in front. Folders name these
norms as the model's code or as its published weights do; both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdn2.checkpoints.importers.decoder import decoder
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.hybrids import convolutions, layer_kinds
from gdn2.checkpoints.importers.keymap import Entry, block_by_block
from gdn2.checkpoints.importers.plan import Source
from gdn2.config import GDN2Config

O_NORM_EPS = 1e-5  # of the norm behind the recurrence, whatever rms_norm_eps is
TRAINING = ("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor")
NORMS: dict[str, dict[str, tuple[str, ...]]] = {  # ours: theirs, the first that is stored
    "gated_deltanet": {
        "mixer_norm": ("attention_layer_norm", "input_layernorm"),
        "mlp_norm": ("feedforward_layer_norm", "post_attention_layernorm"),
    },
    "attention": {
        "mixer_norm": ("post_attention_layernorm", "feedforward_layer_norm"),
        "mlp_norm": ("post_feedforward_layernorm",),
    },
}
MIXER = {"attention": "self_attn", "gated_deltanet": "linear_attn"}


def read(fields: Fields) -> dict[str, Any]:
    """Take the configuration."""
    if fields.is_null("rope_parameters") and "rope_theta" not in fields:
        fields.refuse(
            "rope_parameters = None is read in two ways, as no positions and as a base of 10000; write "
            '{"rope_theta": null} for none, or the base'
        )
    values = decoder(fields, unrotated=True)
    depth, heads, width = values["num_hidden_layers"], values["attention_heads"], values["hidden_size"]
    layers = layer_kinds(fields, depth)
    if "attention" not in layers:
        layers[-1] = "attention"  # what their code does with few layers; layer_types without attention is no model
    fields.harmless(*TRAINING)
    bias = fields.flag("attention_bias", False)
    key_heads = fields.count("linear_num_key_heads", None) or heads
    key_dim = fields.count("linear_key_head_dim", None) or int(0.75 * width / key_heads)
    return {
        **values,
        "layers": layers,
        "num_heads": key_heads,
        "num_value_heads": fields.count("linear_num_value_heads", None) or heads,
        "head_dim": key_dim,
        "value_head_dim": fields.count("linear_value_head_dim", None) or 2 * key_dim,
        "conv_size": fields.count("linear_conv_kernel_dim", 4),
        "erase_range": 2.0 if fields.flag("linear_allow_neg_eigval", True) else 1.0,
        "output_gate": "silu",
        "mixer_norm_eps": O_NORM_EPS,
        "attention_norm_eps": values["norm_eps"],
        "attention_bias": bias,
        "attention_output_bias": bias,
        "attention_qk_norm": True,
        "attention_norm_whole": True,
        "attention_post_norm": True,
    }


def key_map(config: GDN2Config, targets: list[str], *, source: Source) -> list[Entry]:
    """Our names to theirs."""

    def of_block(name: str, index: int, part: str, rest: str) -> Entry:
        mixer, block = config.layers[index], f"model.layers.{index}."  # type: ignore[index]
        return _of_block(config, name, block, mixer, (part, rest), source.tensors)

    return block_by_block(targets, of_block)


def _of_block(
    config: GDN2Config, name: str, block: str, mixer: str, inside: tuple[str, str], stored: Mapping[str, Any]
) -> Entry:
    part, rest = inside
    if part == "mlp":
        return Entry(f"{block}mlp.{rest}", (name,))
    if part == "mixer":
        fused = f"{block}linear_attn.conv1d.weight"
        if rest.endswith("_conv1d.weight") and fused in stored:
            return convolutions(config, fused, name.removesuffix(rest))
        return Entry(f"{block}{MIXER[mixer]}.{rest}", (name,))
    candidates = [f"{block}{theirs}.{rest}" for theirs in NORMS[mixer][part]]
    return Entry(next((one for one in candidates if one in stored), candidates[0]), (name,))
