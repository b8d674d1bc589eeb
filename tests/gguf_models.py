"""Small GGUF files, written by the package `gguf` from random models of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from fakes import small_tokenizer

CONFIGS = {
    "llama": transformers.LlamaConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def random_model(kind: str, *, tied: bool = False) -> Any:
    """A random model of transformers with grouped heads and norms that are not one."""
    torch.manual_seed(0)
    config = CONFIGS[kind](
        vocab_size=420,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        rope_theta=5000.0,
        rms_norm_eps=1e-5,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write_gguf(
    file: Path,
    model: Any,
    dtype: str = "F32",
    *,
    keys: Mapping[str, Any] | None = None,
    without: tuple[str, ...] = (),
    more: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """Write a model and the small tokenizer.

    Args:
        file: the new file.
        model: of transformers; with a quantised `dtype` its weights become what the file holds of them.
        dtype: of matrices; norms and biases are F32.
        keys: further metadata; a value of None leaves a key out.
        without: tensors and keys to leave out.
        more: further tensors.
    """
    kind, config = model.config.model_type, model.config
    writer = gguf.GGUFWriter(file, kind)
    fields = {
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.attention.key_length": 16,
        f"{kind}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{kind}.rope.freq_base": 5000.0,
        f"{kind}.rope.dimension_count": 16,
        f"{kind}.vocab_size": 420,
        **_tokenizer(),
        **(keys or {}),
    }
    for name, value in fields.items():
        if value is not None and name not in without:
            _add(writer, name, value)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parts = name.removeprefix("model.layers.").split(".", 1)
            place, rest = (f"blk.{parts[0]}.", parts[1]) if name.startswith("model.layers.") else ("", name)
            stem, suffix = rest.rsplit(".", 1)
            ours = f"{place}{NAMES[stem]}.{suffix}"
            if ours not in without:
                parameter.copy_(_write(writer, ours, parameter, dtype, kind, config))
    for name, array in (more or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write(writer: Any, name: str, parameter: torch.Tensor, dtype: str, kind: str, config: Any) -> torch.Tensor:
    """Write one tensor; returns what the file holds of it, in transformers' order."""
    values = parameter.numpy().astype(np.float32)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2], 0)
    swapped = kind == "llama" and heads > 0
    if swapped:  # rotary pairs become neighbours, as llama.cpp has them
        values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    chosen = gguf.GGMLQuantizationType[dtype if parameter.ndim == 2 else "F32"]
    packed = gguf.quantize(np.ascontiguousarray(values), chosen)
    writer.add_tensor(name, packed, raw_dtype=chosen)
    kept = gguf.dequantize(packed, chosen).reshape(values.shape)
    if swapped:
        kept = kept.reshape(heads, -1, 2, *kept.shape[1:]).swapaxes(1, 2).reshape(kept.shape)
    return torch.from_numpy(np.array(kept, dtype=np.float32))


@lru_cache(maxsize=1)
def _tokenizer() -> dict[str, Any]:
    described = json.loads(small_tokenizer().backend_tokenizer.to_str())
    vocab = sorted(described["model"]["vocab"], key=described["model"]["vocab"].__getitem__)
    special = {token["content"] for token in described["added_tokens"]}
    merges = described["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": vocab,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in vocab],
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }


def _add(writer: Any, name: str, value: Any) -> None:
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    adders.get(type(value), writer.add_array)(name, value)
