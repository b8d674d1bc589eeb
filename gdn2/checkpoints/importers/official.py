"""The layout of the GDN-2 training code: one PyTorch file, no config.

    transformer.wte.weight, transformer.h.N.{norm_1,norm_2}.weight, transformer.h.N.attn.*,
    transformer.h.N.mlp.swiglu.{w1,w2,w3}.weight, transformer.ln_f.weight, lm_head.weight

Layers with `attn.q_proj` are Gated DeltaNet-2; layers with `attn.attn` (queries, keys and values in one matrix, group
by group) and `attn.proj` are sliding-window attention. Dimensions are read off the shapes; what shapes do not tell is
assumed and can be set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, Shape
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.checkpoints.tensors import TORCH_SUFFIXES
from gdn2.config import GDN2Config

NAME = "official"
SHOWN = 8  # numbers of layers in an error
WTE = "transformer.wte.weight"
FUSED = "attn.attn.weight"
LAYER = re.compile(r"^transformer\.h\.(\d+)\.(.+)$")
ASSUMED: dict[str, Any] = {
    "output_gate": "silu",  # the paper's section 3.5
    "erase_range": 1.0,
    "norm_eps": 1e-5,
    "mixer_norm_eps": 1e-5,  # its blocks do not pass their epsilon on
    "max_position_embeddings": 4096,
}
ASSUMED_ATTENTION: dict[str, Any] = {
    "rope_theta": 10000.0,
    "rope_fraction": 1.0,
    "condense_ratio": 1.0,
    "window_size": 2048,
}
BLOCK = {"mixer_norm": "norm_1", "mlp_norm": "norm_2"}


def matches(source: Source) -> bool:
    """Say whether this is a PyTorch file, or a folder without a model's config.json, whose tensors have these names."""
    named_by_config = source.model_type and source.path.suffix not in TORCH_SUFFIXES
    return not named_by_config and WTE in source.tensors


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan: dimensions are read off the shapes, the rest is assumed."""
    shapes = {name: stored.shape for name, stored in source.tensors.items()}
    values, assumed = infer(shapes, source, settings)
    down = "w2" if shapes.get("transformer.h.0.mlp.swiglu.w2.weight") == _down(values) else "w3"
    return make_plan(
        source,
        NAME,
        values,
        entries=partial(key_map, down=down),
        assumed=assumed,
        settings=settings,
    )


def infer(
    shapes: Mapping[str, Shape], source: Source, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the dimensions off the shapes.

    Returns:
        The fields that the shapes tell, and those that are assumed.

    Raises:
        CheckpointError: no layers, or tensors without which the dimensions are unknown.
    """
    layers: dict[int, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        if match := LAYER.match(name):
            layers.setdefault(int(match[1][:9]), {})[match[2]] = shape
    if not layers or sorted(layers) != list(range(len(layers))):
        found = listed([str(index) for index in sorted(layers)], SHOWN)
        raise CheckpointError(f"{source.path}: transformer.h.N must be there for N = 0, 1, 2, ...; got [{found}]")
    kinds = ["swa" if FUSED in layers[index] else "gdn2" for index in range(len(layers))]
    if len(shapes[WTE]) != 2:
        raise CheckpointError(f"{source.path}: {WTE} is {list(shapes[WTE])} instead of a matrix")
    vocab_size, width = shapes[WTE]
    values: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "layers": kinds,
        "intermediate_size": _need(source, layers[0], "mlp.swiglu.w1.weight")[0],
    }
    assumed = dict(ASSUMED)
    if "gdn2" in kinds:
        values |= _mixer_fields(source, layers[kinds.index("gdn2")], settings)
    if "swa" in kinds:
        attention = layers[kinds.index("swa")]
        assumed |= ASSUMED_ATTENTION
        head = _size(settings, "attention_head_dim", values.get("head_dim") or 128)
        if "attention_head_dim" not in settings:
            assumed["attention_head_dim"] = head
        queries = _need(source, attention, "attn.proj.weight")[-1]
        values["attention_heads"] = queries // head
        values["attention_kv_heads"] = (_need(source, attention, FUSED)[0] - queries) // 2 // head
    return values, assumed


def key_map(config: GDN2Config, targets: list[str], *, down: str = "w3") -> list[Entry]:
    """Our names to theirs; attention's q, k and v come from one matrix."""
    gate, up = "w1", "w2" if down == "w3" else "w3"
    mlp = {"gate_proj": gate, "up_proj": up, "down_proj": down}
    entries = []
    for name in targets:
        top = {EMBEDDING: WTE, "model.norm.weight": "transformer.ln_f.weight", HEAD: HEAD}
        if name in top:
            entries.append(Entry(top[name], (name,)))
            continue
        _, _, index, part, rest = name.split(".", 4)
        attention = config.layers[int(index)] == "swa"  # type: ignore[index]
        here = f"transformer.h.{index}."
        if part in BLOCK:
            entries.append(Entry(f"{here}{BLOCK[part]}.{rest}", (name,)))
        elif part == "mlp":
            entries.append(Entry(f"{here}mlp.swiglu.{mlp[rest.split('.')[0]]}.weight", (name,)))
        elif not attention:
            entries.append(Entry(f"{here}attn.{rest}", (name,)))
        elif rest == "o_proj.weight":
            entries.append(Entry(f"{here}attn.proj.weight", (name,)))
        elif rest == "q_proj.weight":
            ours = tuple(name.replace("q_proj", part) for part in ("q_proj", "k_proj", "v_proj"))
            entries.append(Entry(here + FUSED, ours, partial(split_groups, config=config)))
    return entries


def split_groups(fused: Tensor, config: GDN2Config) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of a matrix that holds, for each group, its queries, then its key, then its value."""
    groups, size = config.attention_kv_heads, config.attention_head_dim
    parts = fused.unflatten(0, (groups, -1, size))
    return parts[:, :-2].flatten(0, 2), parts[:, -2].flatten(0, 1), parts[:, -1].flatten(0, 1)


def _mixer_fields(source: Source, layer: Mapping[str, Shape], settings: Mapping[str, Any]) -> dict[str, Any]:
    size = 1
    for dimension in _need(source, layer, "attn.A_log"):
        size *= dimension
    heads, value_dim = _size(settings, "num_heads", size), _need(source, layer, "attn.o_norm.weight")[0]
    return {
        "num_heads": heads,
        "head_dim": _need(source, layer, "attn.q_proj.weight")[0] // heads,
        "value_head_dim": value_dim,
        "num_value_heads": _need(source, layer, "attn.v_proj.weight")[0] // value_dim,
        "gate_rank": _need(source, layer, "attn.f_proj.0.weight")[0],
        "conv_size": _need(source, layer, "attn.q_conv1d.weight")[-1],
    }


def _size(settings: Mapping[str, Any], name: str, inferred: int) -> int:
    value = settings.get(name)
    if value is None:
        return inferred
    if type(value) is not int or value < 1:
        raise CheckpointError(f"--set {name}={value}: GDN2Config.{name} must be a positive integer")
    return value


def _need(source: Source, layer: Mapping[str, Shape], name: str) -> Shape:
    if 0 in layer.get(name, (0,)) or not layer[name]:
        raise CheckpointError(
            f"{source.path}: there is no transformer.h.N.{name}, from which dimensions are read; the file is not "
            "whole, or of another layout"
        )
    return layer[name]


def _down(values: Mapping[str, Any]) -> Shape:
    return values["hidden_size"], values["intermediate_size"]


IMPORTER = Importer(NAME, matches, plan)
