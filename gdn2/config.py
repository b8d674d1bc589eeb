"""`GDN2Config`: every dimension and choice of a model, checked when it is made; and the papers' sizes by name."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any, ClassVar

from transformers import GenerationConfig, PreTrainedConfig

# What transformers itself writes into, or passes along with, a config besides its declared fields.
TRANSFORMERS_FIELDS = frozenset(
    {
        "model_type",
        "torch_dtype",
        "name_or_path",
        "num_labels",
        "attn_implementation",
        "experts_implementation",
        "output_attentions",
        "auto_map",
        "quantization_config",
        "_commit_hash",
        "_name_or_path",
        "_attn_implementation",
    }
)
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_heads",
    "num_value_heads",
    "head_dim",
    "value_head_dim",
    "intermediate_size",
    "conv_size",
    "gate_rank",
    "max_position_embeddings",
)

PRESETS: dict[str, dict[str, Any]] = {
    # arXiv:2605.22791, the 1.3B recurrent model: 1,302,638,112 parameters without embedding, head and final norm.
    "gdn2_1.3B": {
        "vocab_size": 32000,
        "hidden_size": 2304,
        "num_hidden_layers": 18,
        "num_heads": 16,
        "head_dim": 128,
        "intermediate_size": 6208,
        "max_position_embeddings": 4096,
    },
}


class GDN2Config(PreTrainedConfig):
    """A Gated DeltaNet-2 language model.

    Args:
        vocab_size: rows of the embedding; may be larger than the tokenizer's vocabulary, never smaller.
        hidden_size: width of the residual stream.
        num_hidden_layers: blocks of one mixer and one SwiGLU.
        num_heads: query and key heads, each with one matrix state.
        num_value_heads: value heads, a multiple of `num_heads` (default: the same number). The value heads of a
            group share q, k, the decay and the erase gate.
        head_dim: channels of a query or key, d_k.
        value_head_dim: channels of a value, d_v (default: `head_dim`).
        intermediate_size: hidden channels of the SwiGLU.
        conv_size: taps of the causal depthwise convolution over q, k and v.
        gate_rank: inner width of the two low-rank projections, decay and output gate (default: `value_head_dim`).
        output_gate: activation of the gate behind the per-head RMSNorm, "sigmoid" or "silu".
        erase_range: upper end of the erase gate: 1.0, or 2.0 to allow negative eigenvalues.
        norm_eps: epsilon of every RMSNorm.
        initializer_range: standard deviation of the initial weights.
        max_position_embeddings: training length in tokens. Nothing in the model limits its context; the field has
            this name because evaluation tools read their default window from it.

    Raises:
        ValueError: a field that does not exist (with the nearest that does) or a value that does not fit.
    """

    model_type = "gdn2"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    vocab_size: int = 32000
    hidden_size: int = 1024
    num_hidden_layers: int = 12
    num_heads: int = 8
    num_value_heads: int | None = None
    head_dim: int = 128
    value_head_dim: int | None = None
    intermediate_size: int = 2816
    conv_size: int = 4
    gate_rank: int | None = None
    output_gate: str = "sigmoid"
    erase_range: float = 1.0
    norm_eps: float = 1e-5
    initializer_range: float = 0.02
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_unknown(kwargs)
        if self.num_value_heads is None:
            self.num_value_heads = self.num_heads
        if self.value_head_dim is None:
            self.value_head_dim = self.head_dim
        if self.gate_rank is None:
            self.gate_rank = self.value_head_dim
        self._check_values()
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> GDN2Config:
        """The configuration of a published model; `changes` replace single fields."""
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; there are: {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def _refuse_unknown(self, kwargs: dict[str, Any]) -> None:
        own = {field.name for field in fields(type(self))}
        known = own | TRANSFORMERS_FIELDS | set(GenerationConfig._get_default_generation_params())
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, own, n=3)
                hint = f"did you mean {' or '.join(near)}?" if near else "remove it or correct its name"
                raise ValueError(f"GDN2Config has no field {name!r}; {hint}")

    def _check_values(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"GDN2Config.{name} must be a positive integer, got {value!r}")
        if self.num_value_heads % self.num_heads:  # type: ignore[operator]
            raise ValueError(
                f"GDN2Config.num_value_heads must be a multiple of num_heads ({self.num_heads}), "
                f"got {self.num_value_heads}"
            )
        if self.output_gate not in ("sigmoid", "silu"):
            raise ValueError(f"GDN2Config.output_gate must be 'sigmoid' or 'silu', got {self.output_gate!r}")
        if self.erase_range not in (1.0, 2.0):
            raise ValueError(f"GDN2Config.erase_range must be 1.0 or 2.0, got {self.erase_range!r}")
