"""Which values the fields of a `GDN2Config` may have together: choices, bounds, and sizes that fit the layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from basis.errors import shown
from basis.names import must_be_one_of, way_out
from gdn2.config_checks import MAX_SIZE, refuse_impossible_sizes

if TYPE_CHECKING:
    from gdn2.config import GDN2Config

ATTENTION_LAYERS = ("attention", "swa")
SSM_LAYERS = ("mamba2", "mamba3", "mamba3_mimo")
LAYERS = ("gdn2", "kda", "gated_deltanet", "delta_net", "gla", *SSM_LAYERS, *ATTENTION_LAYERS, "mla")
GROWING_LAYERS = ("attention", "mla")  # whose state grows with every token
LATENT = ("latent_size", "latent_key_dim", "latent_value_dim", "shared_key_dim")
UNGROUPED = ("delta_net", "gla", *SSM_LAYERS)  # as many value heads as heads
MLPS = ("swiglu", "experts")
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_heads",
    "num_value_heads",
    "head_dim",
    "value_head_dim",
    "conv_size",
    "gate_rank",
    "gla_gate_rank",
    "ssm_groups",
    "ssm_rank",
    "attention_head_dim",
    "attention_heads",
    "attention_kv_heads",
    "window_size",
    "num_experts",
    "experts_per_token",
    "expert_size",
    "router_groups",
    "router_groups_kept",
    "latent_size",
    "latent_key_dim",
    "latent_value_dim",
    "shared_key_dim",
    "query_rank",
    "max_position_embeddings",
)
SIZES_OR_NONE = {"intermediate_size": "no SwiGLU", "shared_expert_size": "no shared expert"}  # what 0 means
OUTPUT_GATES = {"gdn2": "silu", "kda": "sigmoid", "gated_deltanet": "silu", "delta_net": "none", "gla": "silu"}
SCALES = ("attention_scale", "embedding_scale", "residual_scale", "logits_scale", "expert_weights_scale")
POSITIVE = ("gla_gate_normalizer", "rope_theta", "rope_fraction", "condense_ratio", *SCALES)
LLAMA3_ROPE = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}
CHOICES: dict[str, tuple[Any, ...]] = {
    "output_gate": (None, "sigmoid", "silu", "none"),
    "erase_range": (1.0, 2.0),
    "erase_gate": ("channel", "mean", "head"),
    "write_gate": ("channel", "mean", "head"),
    "qk_activation": ("silu", "relu", "elu", "identity"),
    "qk_norm": ("l2", "sum"),
    "ssm_rope_fraction": (0.5, 1.0),
    "ssm_rate": ("heavy_tail", "softplus"),
    "router": ("softmax", "sigmoid"),
}


def refuse_impossible_values(config: GDN2Config) -> None:
    """Check every field but `layers` and `mlps`.

    Raises:
        ValueError: a value out of its bounds, or two that do not fit; the message names the field.
    """
    values = vars(config)
    refuse_impossible_sizes(values, SIZES)
    for name, none in SIZES_OR_NONE.items():
        if not 0 <= values[name] <= MAX_SIZE:
            raise ValueError(
                f"GDN2Config.{name} must be 0 ({none}) or more, at most {MAX_SIZE:,}, got {shown(values[name])}"
            )
    for name, allowed in CHOICES.items():
        if values[name] not in allowed:
            said = must_be_one_of((value for value in allowed if value is not None), values[name])
            raise ValueError(f"GDN2Config.{name} {said}")
    for name, of in (("num_value_heads", "num_heads"), ("attention_heads", "attention_kv_heads")):
        if values[name] % values[of]:
            raise ValueError(f"GDN2Config.{name} must be a multiple of {of} ({values[of]}), got {values[name]}")
    _refuse_impossible_numbers(config)


def written_out(named: list[str] | str, config: GDN2Config, field: str, known: tuple[str, ...]) -> list[str]:
    """`layers` or `mlps` as one name a layer.

    Args:
        named: one name for all layers, or a name of each.
        config: for the number of layers, and for `hybrid`, which belongs to `layers`.
        field: which of the two it is.
        known: the names that there are.

    Raises:
        ValueError: another number of names than of layers, a name that does not exist, or a `hybrid` that is none.
    """
    names = [named] * config.num_hidden_layers if isinstance(named, str) else list(named)
    if len(names) != config.num_hidden_layers:
        raise ValueError(
            f"GDN2Config.{field} names {len(names)} layers but num_hidden_layers is {config.num_hidden_layers}"
        )
    if field == "layers" and config.hybrid is not None:
        match = re.fullmatch(r"(\w+)/([1-9]\d{0,8})", config.hybrid, re.ASCII)
        if match is None:
            raise ValueError(f"GDN2Config.hybrid must be NAME/n, for example 'swa/2', got {shown(config.hybrid)}")
        every = min(int(match[2]), len(names) + 1)
        names[every - 1 :: every] = [match[1]] * len(names[every - 1 :: every])
    what = "mixer" if field == "layers" else "MLP"
    for name in names:
        if name not in known:
            raise ValueError(f"GDN2Config.{field}: there is no {what} {shown(name)}; {way_out(name, known)}")
    return names


def refuse_impossible_layers(config: GDN2Config, layers: set[str], mlps: set[str]) -> None:
    """Check the sizes that only some mixers and MLPs ask for.

    Raises:
        ValueError: a size that a layer of the model cannot have; the message names the field.
    """
    for name in sorted(layers & set(UNGROUPED)):
        if config.num_value_heads != config.num_heads:
            raise ValueError(f"GDN2Config.num_value_heads must be num_heads ({config.num_heads}) in {name} layers")
    if layers & set(SSM_LAYERS) and config.num_heads % config.ssm_groups:
        raise ValueError(
            f"GDN2Config.num_heads must be a multiple of ssm_groups ({config.ssm_groups}), got {config.num_heads}"
        )
    if layers & {"mamba3", "mamba3_mimo"} and (
        config.head_dim % 2 or int(config.head_dim * config.ssm_rope_fraction) < 2
    ):
        raise ValueError(f"GDN2Config.head_dim must be even and at least 4 in mamba3 layers, got {config.head_dim}")
    rotated = int(config.attention_head_dim * config.rope_fraction)  # type: ignore[operator]
    if layers & set(ATTENTION_LAYERS) and config.rope_theta is not None and (rotated % 2 or not rotated):
        raise ValueError(
            "GDN2Config.attention_head_dim * rope_fraction must be even to be rotated, got "
            f"{config.attention_head_dim} * {config.rope_fraction}"
        )
    if "mla" in layers and (missing := [name for name in LATENT if getattr(config, name) is None]):
        raise ValueError(f"GDN2Config.{missing[0]} must be given in mla layers")
    if "experts" in mlps:
        _refuse_impossible_experts(config)


def _refuse_impossible_experts(config: GDN2Config) -> None:
    for name in ("num_experts", "experts_per_token", "expert_size"):
        if getattr(config, name) is None:
            raise ValueError(f"GDN2Config.{name} must be given where mlps has experts")
    if config.experts_per_token > config.num_experts:  # type: ignore[operator]
        raise ValueError(
            f"GDN2Config.experts_per_token must be at most num_experts ({config.num_experts}), "
            f"got {config.experts_per_token}"
        )
    groups, kept, experts = config.router_groups, config.router_groups_kept, config.num_experts
    if experts % groups or (groups > 1 and experts // groups < 2):  # type: ignore[operator]
        raise ValueError(
            f"GDN2Config.router_groups must divide num_experts ({experts}) into twos or more, got {groups}"
        )
    if kept > groups or kept * (experts // groups) < config.experts_per_token:  # type: ignore[operator]
        raise ValueError(
            f"GDN2Config.router_groups_kept must be at most router_groups ({groups}) and leave experts_per_token "
            f"({config.experts_per_token}) experts, got {kept}"
        )


def _refuse_impossible_numbers(config: GDN2Config) -> None:
    for name in ("norm_eps", "mixer_norm_eps", "attention_norm_eps", "initializer_range"):
        value = getattr(config, name)
        if value is not None and value < 0:
            raise ValueError(f"GDN2Config.{name} must not be negative, got {value!r}")
    for name in POSITIVE:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"GDN2Config.{name} must be positive, got {value!r}")
    if config.rope_fraction > 1:
        raise ValueError(f"GDN2Config.rope_fraction must be at most 1, got {config.rope_fraction!r}")
    if config.decay_floor is not None and not config.decay_floor < 0:
        raise ValueError(f"GDN2Config.decay_floor must be negative (a log-decay) or None, got {config.decay_floor!r}")
    if config.rope_llama3 is not None:
        if set(config.rope_llama3) != LLAMA3_ROPE:
            raise ValueError(f"GDN2Config.rope_llama3 must have {', '.join(sorted(LLAMA3_ROPE))} and nothing else")
        low, high = config.rope_llama3["low_freq_factor"], config.rope_llama3["high_freq_factor"]
        if min(config.rope_llama3.values()) <= 0 or low >= high:
            raise ValueError("GDN2Config.rope_llama3: all must be positive, low_freq_factor below high_freq_factor")
