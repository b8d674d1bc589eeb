"""Small honest stand-ins: a tokenizer trained on a few lines, and random checkpoints whose memory decays slowly, so
that a token which leaks from padding shows in every score behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.train.tokenizer import END_OF_TEXT, train_tokenizer

TEXT = (
    "The quick brown fox jumps over the lazy dog. A special magic number is hidden within the following text. "
    "What is the special magic number for windy-valley mentioned in the provided text? It is 4071398.\n"
    "Many rivers of the region flow to the north, where they meet the sea; naïve cafés line the shore."
)
SLOW_DECAY = -7.0  # A_log: a channel keeps more than 99.9 % a step


def small_tokenizer(*, adds_bos: bool = False, vocab_size: int = 420) -> PreTrainedTokenizerFast:
    """A byte-level BPE; with `adds_bos` it puts its BOS before every text, as Llama's tokenizer does."""
    tokenizer = train_tokenizer([TEXT] * 20, vocab_size, digits=1)
    if adds_bos:
        bos = (END_OF_TEXT, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{END_OF_TEXT} $A", pair=f"{END_OF_TEXT} $A {END_OF_TEXT} $B", special_tokens=[bos]
        )
    return tokenizer


def small_config(**changes: Any) -> GDN2Config:
    fields: dict[str, Any] = {
        "vocab_size": 420,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_heads": 2,
        "head_dim": 16,
        "intermediate_size": 64,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    return GDN2Config(**{**fields, **changes})


def small_model(config: GDN2Config | None = None, seed: int = 0) -> GDN2ForCausalLM:
    """Random weights, large enough that the logits are far from uniform, and slow decay."""
    torch.manual_seed(seed)
    model = GDN2ForCausalLM(config or small_config(initializer_range=0.2)).eval()
    with torch.no_grad():
        for block in model.model.layers:
            _slow_down(block.mixer)
    return model  # type: ignore[no-any-return]


def mixer_config(*layers: str, **changes: Any) -> GDN2Config:
    """A small configuration of the named layers, in which every option that a mixer has can show."""
    fields: dict[str, Any] = {
        "num_hidden_layers": len(layers),
        "layers": list(layers),
        "initializer_range": 0.2,
        "attention_heads": 4,
        "attention_kv_heads": 2,
        "window_size": 16,
        "ssm_rank": 3,
        "ssm_bias": True,
        "latent_size": 12,
        "latent_key_dim": 10,
        "latent_value_dim": 14,
        "shared_key_dim": 6,
    }
    return small_config(**{**fields, **changes})


def _slow_down(mixer: Any) -> None:
    """Write much and forget little."""
    if hasattr(mixer, "A_log"):
        mixer.A_log.fill_(SLOW_DECAY)
    if hasattr(mixer, "D"):  # Mamba: what is written has the size of the time step
        mixer.dt_bias.fill_(0.0)
    if hasattr(mixer, "gk_proj"):
        mixer.gk_proj[1].bias.fill_(-SLOW_DECAY)
    if hasattr(mixer, "B_bias") and mixer.in_proj.bias is not None:
        start, size = sum(mixer.projections[:5]), mixer.projections[5]
        mixer.in_proj.bias[start : start + size] = -300.0


def small_checkpoint(folder: Path, *, adds_bos: bool = False, seed: int = 0) -> Path:
    """A folder with config, weights and tokenizer."""
    small_model(seed=seed).save_pretrained(folder)
    small_tokenizer(adds_bos=adds_bos).save_pretrained(folder)
    return folder
