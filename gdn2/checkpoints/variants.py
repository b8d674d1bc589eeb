"""Models that differ from a checkpoint by one mistake that imports make.

Such mistakes are another activation, a swapped matrix, another order of channels. If one of these models reproduces the
loss that training reported, the mistake is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gdn2.config import ATTENTION_LAYERS, GROWING_LAYERS, OUTPUT_GATES, GDN2Config
from gdn2.model import GDN2ForCausalLM

Weights = dict[str, Tensor]
GATED = {mixer: gate for mixer, gate in OUTPUT_GATES.items() if gate != "none"}  # and the gate by default
ERASING = ("gdn2", "kda", "gated_deltanet", "delta_net")


@dataclass(frozen=True)
class ModelVariant:
    """A possible mistake.

    Attributes:
        name: what is different, for a reader.
        remedy: what to do if this is it.
        changes: fields of the config.
        weights: other weights.
    """

    name: str
    remedy: str
    changes: dict[str, Any] = field(default_factory=dict)
    weights: Callable[[Weights], Weights] | None = None


def variants(config: GDN2Config) -> Iterator[ModelVariant]:
    """The variants that make sense for a model, the likeliest first."""
    layers = set(config.layers or ())
    for mixer in sorted(layers & GATED.keys()):
        gate = "silu" if (config.output_gate or GATED[mixer]) == "sigmoid" else "sigmoid"
        if config.output_gate != "none":
            yield _field("output_gate", gate)
            break
    if layers & set(ERASING):
        yield _field("erase_range", 1.0 if config.erase_range == 2 else 2.0)
    if config.intermediate_size and "swiglu" in (config.mlps or ("swiglu",)):
        yield ModelVariant(
            "SwiGLU's gate and up matrices swapped",
            "the source calls them the other way round; swap them before importing",
            weights=lambda weights: swapped(weights, "mlp.gate_proj.weight", "mlp.up_proj.weight"),
        )
    if "gdn2" in layers and config.num_value_heads == config.num_heads and config.head_dim == config.value_head_dim:
        yield ModelVariant(
            "erase and write projections swapped",
            "the source calls them the other way round; swap b_proj and w_proj before importing",
            weights=lambda weights: swapped(weights, "mixer.b_proj.weight", "mixer.w_proj.weight"),
        )
    if layers - {*ATTENTION_LAYERS, *GROWING_LAYERS} - {"gla"}:
        yield ModelVariant(
            "taps of the convolutions reversed",
            "the source orders taps from the newest token to the oldest; flip them before importing",
            weights=reversed_taps,
        )
    if layers & {"mamba3", "mamba3_mimo"}:
        yield _field("ssm_rate", "softplus" if config.ssm_rate == "heavy_tail" else "heavy_tail")
    if layers & set(ATTENTION_LAYERS):
        yield from _of_attention(config, layers)
    yield _field("norm_eps", 1e-6 if config.norm_eps > 3e-6 else 1e-5)


def with_variant(model: GDN2ForCausalLM, variant: ModelVariant) -> GDN2ForCausalLM:
    """The model of a variant. It shares all weights that are not different, so there is no second copy."""
    config = GDN2Config(**{**model.config.to_dict(), **variant.changes})
    with torch.device("meta"):
        other = GDN2ForCausalLM(config)
    weights: Weights = dict(model.state_dict())
    other.load_state_dict(variant.weights(weights) if variant.weights else weights, assign=True)
    other.train(False)
    return other


def swapped(weights: Weights, one: str, other: str) -> Weights:
    """The tensors whose names end with `one` and `other` exchanged, layer by layer."""
    names = {name: name[: -len(one)] + other for name in weights if name.endswith(one)}
    names |= {value: key for key, value in names.items()}
    return {name: weights[names.get(name, name)] for name in weights}


def reversed_taps(weights: Weights) -> Weights:
    """Convolutions with their taps from the last to the first."""
    return {name: w.flip(-1) if re.search(r"conv1d\.weight$", name) else w for name, w in weights.items()}


def interleaved(weights: Weights, config: GDN2Config) -> Weights:
    """For a source that rotates channels 2i and 2i + 1 together: rows of q and k in the order 0, 2, ..., 1, 3, ..."""
    size: int = config.attention_head_dim  # type: ignore[assignment]
    order = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
    attention = [index for index, name in enumerate(config.layers or []) if name in ATTENTION_LAYERS]
    changed = dict(weights)
    for index in attention:
        for name in ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias", "q_norm.weight", "k_norm.weight"):
            key = f"model.layers.{index}.mixer.{name}"
            if key in changed:
                changed[key] = changed[key].unflatten(0, (-1, size))[:, order.to(changed[key].device)].flatten(0, 1)
    return changed


def _of_attention(config: GDN2Config, layers: set[str]) -> Iterator[ModelVariant]:
    if config.rope_theta is not None:
        yield ModelVariant(
            "rotary pairs of neighbouring channels",
            "the source rotates channels 2i and 2i + 1 together; reorder the rows of q and k of each head",
            weights=lambda weights: interleaved(weights, config),
        )
        yield _field("rope_theta", 500000.0 if config.rope_theta < 1e5 else 10000.0)
        yield _field("rope_theta", None)
    if "swa" in layers:
        names = ["attention" if name == "swa" else name for name in config.layers or []]
        yield ModelVariant(
            "full attention instead of a window", "import again with a larger --set window_size=N", {"layers": names}
        )


def _field(name: str, value: Any) -> ModelVariant:
    text = "null" if value is None else value
    return ModelVariant(f"{name} = {text}", f"import again with --set {name}={text}", {name: value})
