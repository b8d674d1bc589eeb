"""A GGUF file as a folder of transformers would be: the same fields of a configuration, the same names of tensors.

So the importer of transformers' models checks it as it checks a folder: every tensor once, every field known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError
from gdn2.checkpoints.gguf.files import GGUFFile
from gdn2.checkpoints.gguf.tokenizer import write_tokenizer
from gdn2.checkpoints.importers.plan import Source
from gdn2.checkpoints.tensors import Tensors

SUFFIX = ".gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""`general.architecture` of files that can be read; Mistral's say llama too."""
PAIRED = ("llama",)
"""Architectures whose rotary pairs are neighbours, where transformers has them half a head apart."""
FIELDS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
    "attention.key_length": "head_dim",
}
NEEDED = tuple(FIELDS)[:7]
TOKENS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id"}
HARMLESS = {"attention.causal": True, "expert_count": 0, "expert_used_count": 0, "rope.scaling.type": "none"}
"""Keys that change nothing at this value."""
WITHOUT_EFFECT = ("general.", "tokenizer.", "GGUF.", "quantize.", "split.")
"""Beginnings of keys that no weight depends on; the tokenizer's are read apart."""
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROTARY = "rope_freqs.weight"  # Llama 3's stretching, as factors instead of the numbers they come from


class GGUFSource(Source):
    """A GGUF file as found.

    Attributes:
        file: its metadata and tensors.

    Raises:
        CheckpointError: it cannot be read, is of another architecture, or has a key that is not understood.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.file = GGUFFile(path)
        self.config_file = path
        self.config = _config(path, self.file.metadata)
        self.config["tie_word_embeddings"] = "output.weight" not in self.file.names

    @cached_property
    def tensors(self) -> Tensors:
        """The tensors by transformers' names."""
        found = self.file.tensors(_rename, self._change())
        if ROTARY in found:
            raise CheckpointError(
                f"{self.path}: {ROTARY} stretches the rotary embedding by factors (as Llama 3.1's), which are not read "
                "from GGUF files; take the model's folder of transformers"
            )
        return found

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [self.path]

    @property
    def quantised(self) -> str | None:
        """How its tensors are quantised; None if they are not."""
        return self.file.quantised

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer that is in the file.

        Raises:
            CheckpointError: there is none, or one of an unknown kind.
        """
        write_tokenizer(self.path, self.file.metadata, folder)

    def _change(self) -> Callable[[str, Tensor], Tensor]:
        """What a tensor of the file becomes: rows of q and k in transformers' order."""
        if self.model_type not in PAIRED:
            return lambda _, tensor: tensor
        heads = {"attn_q": self.config["num_attention_heads"], "attn_k": self.config["num_key_value_heads"]}

        def change(name: str, tensor: Tensor) -> Tensor:
            part = name.split(".")[-2]
            if part not in heads:
                return tensor
            pairs = tensor.reshape(heads[part], -1, 2, *tensor.shape[1:])
            return pairs.transpose(1, 2).reshape(tensor.shape)

        return change


def _config(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of transformers' configuration; every key of the file is used, harmless at its value, or refused."""
    kind = metadata.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise CheckpointError(f"{path}: general.architecture is {shown(kind)}; known are {', '.join(ARCHITECTURES)}")
    own = {name.removeprefix(f"{kind}."): value for name, value in metadata.items() if name.startswith(f"{kind}.")}
    if missing := [f"{kind}.{name}" for name in NEEDED if name not in own]:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)}; take another conversion of the model")
    config = {FIELDS[name]: _value(path, f"{kind}.{name}", own.pop(name)) for name in FIELDS if name in own}
    heads, width = config["num_attention_heads"], config["hidden_size"]
    if not isinstance(heads, int) or heads < 1 or not isinstance(width, int):
        raise CheckpointError(f"{path}: {kind}.attention.head_count is {shown(heads)}; a number above 0 is needed")
    head_dim = config.setdefault("head_dim", width // heads)
    for name in ("rope.dimension_count", "attention.value_length"):
        if (value := own.pop(name, head_dim)) != head_dim:
            raise CheckpointError(f"{path}: {kind}.{name} is {shown(value)}, but a head has {head_dim} channels")
    unknown = [name for name, value in own.items() if name not in HARMLESS or value != HARMLESS[name]]
    if unknown:
        said = listed([f"{kind}.{name} = {shown(own[name])}" for name in unknown], 3)
        raise CheckpointError(f"{path}: holds options that our model does not have: {said}")
    others = [name for name in metadata if not name.startswith((f"{kind}.", *WITHOUT_EFFECT))]
    if others:
        raise CheckpointError(f"{path}: holds keys that are not understood: {listed(others, 3)}")
    tokens = {ours: metadata.get(f"tokenizer.ggml.{theirs}") for theirs, ours in TOKENS.items()}
    config |= {name: value for name, value in tokens.items() if value is not None}
    if "vocab_size" not in config:
        config["vocab_size"] = len(metadata.get("tokenizer.ggml.tokens", ()))
    return {"model_type": kind, **config}


def _value(path: Path, name: str, value: Any) -> Any:
    """A number as transformers' configuration would have it: no float32 digits, one number for all layers."""
    import numpy as np

    if isinstance(value, list):
        if len(set(value)) != 1:
            raise CheckpointError(f"{path}: {name} differs from layer to layer, which our model does not have")
        value = value[0]
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _rename(name: str) -> str:
    """The name that transformers has; one that it does not have stays as it is, and is refused as unknown."""
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if found is None or found[2] not in NAMES:
        return name
    layer = "" if found[1] is None else f"model.layers.{found[1]}."
    return f"{layer}{NAMES[found[2]]}.{found[3]}"
