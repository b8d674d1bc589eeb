"""The Mamba configurations of flash-linear-attention, and what its Mamba-2 shares with transformers'."""

from __future__ import annotations

from typing import Any

from basis.errors import shown
from gdn2.checkpoints.importers.fields import Fields
from gdn2.config import CHOICES
from gdn2.config_checks import MAX_LAYERS, MAX_TOKENS

MAMBA_TRAINING = ("dt_min", "dt_max", "dt_init_floor", "rescale_prenorm_residual")
MAMBA2_TRAINING = ("conv_init", "A_init_range", "time_step_min", "time_step_max", "time_step_floor")
ASSUMED: dict[str, Any] = {"max_position_embeddings": 2048}  # its configs do not tell the training length
INFINITE = (float("inf"), "Infinity", {"__float__": "Infinity"})


def mamba2(fields: Fields) -> dict[str, Any]:
    """Read Mamba-2 of releases up to 0.4.2 and from 0.5.0 on, which call some fields otherwise."""
    fields.only("D_has_hdim", False, default=False)
    fields.only("rmsnorm", True, default=True)
    fields.only("rms_norm", True, default=True)
    fields.only("norm_before_gate", False, default=False)
    unlimited_steps(fields, "dt_limit")
    unlimited_steps(fields, "time_step_limit")
    fields.harmless(*MAMBA2_TRAINING)
    older = fields.number("layer_norm_epsilon", 1e-5, positive=False)
    return {
        **_ssm(fields),
        "norm_eps": fields.number("norm_eps", older, positive=False),
        "conv_size": fields.count("conv_kernel", 4),
        "ssm_conv_bias": fields.flag("use_conv_bias", True),
    }


def mamba3(fields: Fields) -> dict[str, Any]:
    """Read Mamba-3; that code computes the rate with softplus."""
    fields.only("A_floor", 1e-4, default=1e-4)
    several = fields.flag("is_mimo", False)
    return {
        **_ssm(fields),
        "layers": "mamba3_mimo" if several else "mamba3",
        "norm_eps": fields.number("norm_eps", 1e-5, positive=False),
        "ssm_rank": fields.count("mimo_rank", 4),
        "ssm_rope_fraction": fields.only("rope_fraction", *CHOICES["ssm_rope_fraction"], default=0.5),
        "ssm_rate": "softplus",
        "ssm_output_norm": fields.flag("is_outproj_norm", False),
    }


def unlimited_steps(fields: Fields, name: str) -> None:
    """Refuse limits of Mamba-2's time step, which our model does not have."""
    limits = fields.take(name, (0.0, float("inf")))
    if not isinstance(limits, list | tuple) or len(limits) != 2 or limits[0] != 0 or limits[1] not in INFINITE:
        fields.refuse(f"{name} = {shown(limits)} is not supported (only 0 to infinity)")


def training_length(fields: Fields) -> dict[str, Any]:
    """The training length, where a Mamba-2 config has one."""
    length = fields.count("max_position_embeddings", None, most=MAX_TOKENS)
    return {} if length is None else {"max_position_embeddings": length}


def _ssm(fields: Fields) -> dict[str, Any]:
    """Take what Mamba-2 and Mamba-3 have in common."""
    fields.only("hidden_act", "silu", "swish", default="silu")
    fields.harmless("residual_in_fp32", "chunk_size", "time_step_rank", *MAMBA_TRAINING)
    width, size = fields.count("hidden_size", 2048), fields.count("head_dim", 64)
    heads = max(int(fields.number("expand", 2) * width / size), 1)
    fields.only("num_heads", heads, None, default=None, why="expand * hidden_size / head_dim")
    return {
        "hidden_size": width,
        "num_hidden_layers": fields.count("num_hidden_layers", 48, most=MAX_LAYERS),
        "intermediate_size": 0,
        "num_heads": heads,
        "head_dim": fields.count("state_size", 128),
        "value_head_dim": size,
        "ssm_groups": fields.count("n_groups", 1),
        "ssm_bias": fields.flag("use_bias", False),
    }
