"""What a checkpoint is, from its config and the headers of its files: layers, parameters, state.

No weights are read, except to hash the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.fingerprints import fingerprint
from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.importers import is_native, plan_import
from gdn2.checkpoints.importers.keymap import HEAD, problems, renamed
from gdn2.checkpoints.importers.plan import Source
from gdn2.checkpoints.importers.writing import IMPORT_FILE, content_key
from gdn2.checkpoints.loading import read_config
from gdn2.checkpoints.precision import stored_dtypes
from gdn2.checkpoints.shapes import model_shapes
from gdn2.checkpoints.tensors import Tensors, read_json
from gdn2.checkpoints.variants import GATED
from gdn2.config import ATTENTION_LAYERS, SSM_LAYERS, GDN2Config
from gdn2.matching import state_floats
from gdn2.model import GDN2ForCausalLM
from gdn2.state import LayerState

NATIVE = "gdn2"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # in which state sizes are given


@dataclass(frozen=True)
class LayerRun:
    """Equal layers that follow each other, counted from 0.

    Attributes:
        mixer_parameters, mlp_parameters: of one layer, its norms included.
        state_floats: of one layer's matrix or window, as papers count; 0 for full attention.
        token_floats: what full attention adds with every token.
    """

    first: int
    last: int
    mixer: str
    what: str
    mixer_parameters: int
    mlp_parameters: int
    state_floats: int
    token_floats: int


@dataclass(frozen=True)
class Description:
    """A checkpoint, in numbers that need no weights.

    Attributes:
        format: "gdn2", or the foreign format that it would be imported from.
        parameters: "total", "embedding", "head" (0 if it is the embedding), "blocks", "final_norm".
        state: for one text: "matrix_floats" (matrices and windows), "floats" (everything), "token_floats" (what full
            attention adds a token), and bytes by the dtype of the model, "bytes" and "token_bytes".
        stored: "dtypes" (parameters by dtype), "files", "bytes".
        quantised: how the weights are or were quantised; None if they are not.
        assumed: fields that a foreign source does not tell.
        imported: what import.json says, of a checkpoint that was imported.
        sha256: of config and weights.
    """

    path: str
    format: str
    config: dict[str, Any]
    layers: tuple[LayerRun, ...]
    parameters: dict[str, int]
    state: dict[str, Any]
    stored: dict[str, Any]
    quantised: str | None
    assumed: dict[str, Any]
    imported: dict[str, Any]
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def describe(path: Path) -> Description:
    """Describe a folder of this project, or a foreign checkpoint as it would be imported.

    Raises:
        CheckpointError: it cannot be read, or its tensors do not fit its config.
    """
    if is_native(path):
        path = checkpoint_folder(path)
        source, kind, assumed = Source(path), NATIVE, {}
        config = read_config(path)
        shapes = model_shapes(config, source.tensors, source.folder / "config.json")
        if config.tie_word_embeddings:
            del shapes[HEAD]
        found = problems(renamed(shapes, str), source.tensors, shapes)
        if found:
            raise CheckpointError(f"{path}: the tensors do not fit config.json: {'; '.join(found)}")
        sha256 = fingerprint(path)
    else:
        plan = plan_import(path)
        source, kind, assumed, config = plan.source, plan.format, plan.assumed, plan.config
        sha256 = content_key(source.files, None)
    with torch.device("meta"):
        model = GDN2ForCausalLM(config)
    file = source.folder / IMPORT_FILE
    imported = read_json(file) if kind == NATIVE and file.is_file() else {}
    return Description(
        path=str(path),
        format=kind,
        config={name: value for name, value in config.to_dict().items() if name != "hybrid"},
        layers=tuple(_runs(config, model)),
        parameters=_parameters(config, model),
        state=_state(model),
        stored=_stored(source.tensors),
        assumed=assumed,
        quantised=imported.get("quantised", source.quantised),
        imported=imported,
        sha256=sha256,
    )


def what_it_is(config: GDN2Config, mixer: str) -> str:
    """A layer's sizes and choices, in words."""
    if mixer == "mla":
        sizes = f"keys {config.latent_key_dim} + {config.shared_key_dim} shared, values {config.latent_value_dim}"
        return f"{config.attention_heads} heads over a latent of {config.latent_size}, {sizes}, no positions"
    if mixer in ATTENTION_LAYERS:
        heads, groups = config.attention_heads, config.attention_kv_heads
        grouped = f", {groups} for keys and values" if groups != heads else ""
        window = f", window {config.window_size:,}" if mixer == "swa" else ""
        rotary = f", rotary base {config.rope_theta:,.0f}" if config.rope_theta else ", no positions"
        if config.rope_theta and config.rope_fraction < 1:
            rotary += f" in {config.rope_fraction:.0%} of the channels"
        gate = ", sigmoid gate" if config.attention_gate else ""
        convolved = f", convolution over {config.conv_size} tokens" if config.attention_conv else ""
        return f"{heads} heads of {config.attention_head_dim}{grouped}{window}{rotary}{convolved}{gate}"
    group: int = config.num_value_heads // config.num_heads  # type: ignore[operator]
    grouped = f" in groups of {group}" if group > 1 else ""
    sizes = f"{config.num_value_heads} heads of {config.head_dim} x {config.value_head_dim}{grouped}"
    if mixer in SSM_LAYERS:
        shared = f", {config.ssm_groups} groups share B and C" if config.ssm_groups > 1 else ""
        return sizes + shared + (f", rank {config.ssm_rank}" if mixer == "mamba3_mimo" else "")
    chosen = config.output_gate or GATED.get(mixer, "none")
    gate = f", {chosen} gate" if chosen != "none" else ", no gate"
    doubled = ", erase gate up to 2" if config.erase_range == 2 and mixer != "gla" else ""
    return sizes + gate + doubled


def what_mlp(config: GDN2Config, mlp: str) -> str:
    """The sizes of a mixture of experts in words, to stand behind a mixer's; nothing for a SwiGLU."""
    if mlp != "experts":
        return ""
    shared = f" and a shared one of {config.shared_expert_size:,}" if config.shared_expert_size else ""
    return f"; {config.experts_per_token} of {config.num_experts:,} experts of {config.expert_size:,}{shared}"


def _runs(config: GDN2Config, model: GDN2ForCausalLM) -> Iterator[LayerRun]:
    names = list(config.layers or [])
    floats = state_floats(config)
    position = 0
    for (name, mlp), equal in groupby(zip(names, config.mlps or ["swiglu"] * len(names), strict=True)):
        count = len(list(equal))
        block: Any = model.model.layers[position]
        mixer = sum(p.numel() for p in (*block.mixer.parameters(), *block.mixer_norm.parameters()))
        total = sum(p.numel() for p in block.parameters())
        yield LayerRun(
            first=position,
            last=position + count - 1,
            mixer=name,
            what=what_it_is(config, name) + what_mlp(config, mlp),
            mixer_parameters=mixer,
            mlp_parameters=total - mixer,
            state_floats=floats[position] or 0,
            token_floats=_token_floats(config, name),
        )
        position += count


def _parameters(config: GDN2Config, model: GDN2ForCausalLM) -> dict[str, int]:
    embedding = config.vocab_size * config.hidden_size
    head = 0 if config.tie_word_embeddings else embedding
    blocks = sum(parameter.numel() for parameter in model.model.layers.parameters())
    return {
        "total": embedding + head + blocks + config.hidden_size,
        "embedding": embedding,
        "head": head,
        "blocks": blocks,
        "final_norm": config.hidden_size,
    }


def _state(model: GDN2ForCausalLM) -> dict[str, Any]:
    config: GDN2Config = model.config  # type: ignore[assignment]
    per_token = sum(_token_floats(config, name) for name in config.layers or [])
    sizes = {}
    for name, dtype in DTYPES.items():
        layers = model.to(dtype).model.empty_state(1).layers  # type: ignore[arg-type]
        sizes[name] = sum(tensor.nbytes for layer in layers for tensor in layer.tensors().values())
    return {
        "matrix_floats": sum(size or 0 for size in state_floats(config)),
        "floats": sum(_floats(layer) for layer in model.model.empty_state(1).layers),
        "token_floats": per_token,
        "bytes": sizes,
        "token_bytes": {name: per_token * dtype.itemsize for name, dtype in DTYPES.items()},
    }


def _floats(layer: LayerState) -> int:
    return sum(tensor.numel() for tensor in layer.tensors().values())


def _token_floats(config: GDN2Config, mixer: str) -> int:
    if mixer == "mla":
        return config.latent_size + config.shared_key_dim  # type: ignore[operator]
    size: int = config.attention_kv_heads * config.attention_head_dim  # type: ignore[operator]
    return 2 * size if mixer == "attention" else 0


def _stored(tensors: Tensors) -> dict[str, Any]:
    sizes = [file.stat().st_size for file in tensors.files]
    return {"dtypes": stored_dtypes(tensors), "files": len(sizes), "bytes": sum(sizes)}
