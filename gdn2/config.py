"""`GDN2Config`: every dimension and choice of a model, checked when it is made."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from basis.errors import shown
from basis.names import or_near, way_out
from gdn2.config_checks import (
    is_base_field,
    refuse_impossible_sizes,
    refuse_unknown_dtype,
    refuse_wrong_types,
)
from gdn2.config_values import (
    ATTENTION_LAYERS,
    CHOICES,
    GROWING_LAYERS,
    LAYERS,
    MLPS,
    OUTPUT_GATES,
    SIZES,
    SSM_LAYERS,
    refuse_impossible_layers,
    refuse_impossible_values,
    written_out,
)
from gdn2.presets import PRESETS

__all__ = ["ATTENTION_LAYERS", "CHOICES", "GROWING_LAYERS", "LAYERS", "OUTPUT_GATES", "SSM_LAYERS", "GDN2Config"]


class GDN2Config(PreTrainedConfig):
    """A language model of the family: Gated DeltaNet-2, a rival, or a hybrid with attention.

    Args:
        vocab_size: rows of the embedding; may be larger than the tokenizer's vocabulary, never smaller.
        hidden_size: width of the residual stream.
        num_hidden_layers: blocks of one mixer and one SwiGLU.
        layers: the mixer of each layer, a name of `LAYERS` each; one name means that mixer everywhere (default
            "gdn2"). config.json holds the whole list.
        hybrid: shorthand "NAME/n": every n-th layer (n, 2n, ...; counted from 1) is NAME instead. Written into
            `layers`, so that config.json holds the list only.
        num_heads: query and key heads, each with one matrix state. In Mamba layers, all heads.
        num_value_heads: value heads, a multiple of `num_heads` (default: the same number). The value heads of a
            group share q and k; in GDN-2 layers the decay and the erase gate as well.
        head_dim: channels of a query or key, d_k; in Mamba layers the state size N.
        value_head_dim: channels of a value, d_v (default: `head_dim`); in Mamba layers the head's size P.
        intermediate_size: hidden channels of the SwiGLU; 0 means blocks without one (as in Mamba-2's own models).
        mlps: the MLP of each layer, "swiglu" or "experts" (a mixture of experts); one name means that one everywhere
            (default: "swiglu").
        num_experts, experts_per_token, expert_size: how many experts there are, how many of them a token goes through,
            and the hidden channels of one.
        expert_weights_sum: whether the weights of a token's experts are divided by their sum.
        expert_weights_scale: what these weights are multiplied with.
        router: of which scores the weights are: "softmax", or "sigmoid" with a bias that counts for the choice only.
        router_groups, router_groups_kept: equal groups of experts, and how many of them a token chooses from: those
            whose two best experts have the largest sum (default: one group).
        shared_expert_size: hidden channels of an expert that every token goes through; 0: there is none.
        shared_expert_gate: whether its output is gated by a sigmoid, one number a token.
        conv_size: taps of the causal depthwise convolution over q, k and v (Mamba-2: x, B and C); in attention layers
            with `attention_conv` only.
        gate_rank: inner width of GDN-2's and KDA's low-rank projections (default: `value_head_dim`).
        gate_bias: whether the low-rank projection of the output gate has a bias.
        output_gate: activation of the gate behind the per-head RMSNorm, "sigmoid", "silu" or "none" (no gate);
            by default what the mixer's paper has (`OUTPUT_GATES`): sigmoid for kda, none for delta_net, else silu.
        erase_range: upper end of the erase gate (KDA, Gated DeltaNet, DeltaNet: of beta): 1.0, or 2.0 to allow
            negative eigenvalues.
        erase_gate, write_gate: GDN-2's gates: "channel", a number a channel; "mean", one a head, the sigmoid of
            the mean over its channels, which keeps every parameter; or "head", one a head of a projection that has no
            more.
        decay_floor: KDA's bounded decay: g = decay_floor * sigmoid(...) in (decay_floor, 0); None: unbounded.
        qk_activation, qk_norm: DeltaNet's choices for q and k: silu, relu, elu (plus 1) or identity; l2 or sum.
        gla_gate_rank, gla_gate_normalizer: g = logsigmoid(W2 W1 x + c) / normalizer, W1 of that rank.
        ssm_groups: groups of heads that share B and C in Mamba layers.
        ssm_bias: whether in_proj and out_proj of Mamba layers have a bias.
        ssm_conv_bias: whether Mamba-2's convolution has a bias.
        ssm_rank: rank R of Mamba-3 MIMO ("mamba3_mimo" layers).
        ssm_rope_fraction: share of the state's channels that Mamba-3 rotates, 0.5 or 1.0.
        ssm_rate: Mamba-3's -A of a projection a: "heavy_tail" (1 + a above 0, 1 / (1 - a) below) or "softplus".
        ssm_output_norm: whether Mamba-3 has a RMSNorm a head before its gate.
        attention_head_dim, attention_heads, attention_kv_heads: sizes of attention layers, "attention" and "swa"
            (default: `head_dim`, hidden_size / attention_head_dim, `attention_heads`).
        attention_conv: whether q, k and v of attention layers pass the same short convolution and SiLU.
        attention_bias, attention_output_bias: whether q, k, v, and whether the output projection have a bias.
        attention_qk_norm: whether q and k of attention layers pass an RMSNorm a head.
        attention_norm_whole: whether that norm is over all heads together.
        attention_norm_eps: its epsilon, and that of the norms of "mla" layers (default: as the norms inside a mixer).
        attention_post_norm: whether the norms of a block with attention are behind its mixer and its MLP.
        attention_gate: whether attention's output is gated by a sigmoid, a channel.
        attention_scale: what q . k is multiplied with in "attention" and "swa" layers; None: d^-1/2.
        latent_size, shared_key_dim: of "mla" layers: channels of the latent that keys and values are made of, and of
            the part of a key that all heads share. There are `attention_heads`.
        latent_key_dim, latent_value_dim: channels of a head's own part of a key, and of a value.
        query_rank: inner width of the queries' low-rank projection in "mla" layers; None: it is one matrix.
        rope_theta: base of the rotary embedding; None for attention without positions.
        rope_fraction: share of a head's channels that rotate, the first ones; channel i turns with channel i + n / 2 of
            these n.
        condense_ratio: positions are divided by it before they become angles.
        rope_llama3: Llama 3's stretching of slow rotations: a dict of factor, low_freq_factor, high_freq_factor and
            original_max_position_embeddings.
        window_size: tokens that a "swa" layer sees, the current one included.
        zero_centred_norms: whether the weights of RMSNorms are stored less 1, except of those behind a recurrent mixer.
        embedding_scale, residual_scale, logits_scale: what embeddings, what each mixer and MLP adds to the residual
            stream, and logits are multiplied with.
        norm_eps: epsilon of every RMSNorm.
        mixer_norm_eps: epsilon of the norms inside a mixer, where it is another (default: `norm_eps`).
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
    layers: list[str] | str | None = None
    hybrid: str | None = None
    num_heads: int = 8
    num_value_heads: int | None = None
    head_dim: int = 128
    value_head_dim: int | None = None
    intermediate_size: int = 2816
    mlps: list[str] | str | None = None
    num_experts: int | None = None
    experts_per_token: int | None = None
    expert_size: int | None = None
    expert_weights_sum: bool = True
    expert_weights_scale: float = 1.0
    router: str = "softmax"
    router_groups: int = 1
    router_groups_kept: int = 1
    shared_expert_size: int = 0
    shared_expert_gate: bool = True
    conv_size: int = 4
    gate_rank: int | None = None
    gate_bias: bool = True
    output_gate: str | None = None
    erase_range: float = 1.0
    erase_gate: str = "channel"
    write_gate: str = "channel"
    decay_floor: float | None = None
    qk_activation: str = "silu"
    qk_norm: str = "l2"
    gla_gate_rank: int = 16
    gla_gate_normalizer: float = 16.0
    ssm_groups: int = 1
    ssm_bias: bool = False
    ssm_conv_bias: bool = True
    ssm_rank: int = 4
    ssm_rope_fraction: float = 0.5
    ssm_rate: str = "heavy_tail"
    ssm_output_norm: bool = False
    attention_head_dim: int | None = None
    attention_heads: int | None = None
    attention_kv_heads: int | None = None
    attention_conv: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    attention_qk_norm: bool = False
    attention_norm_whole: bool = False
    attention_norm_eps: float | None = None
    attention_post_norm: bool = False
    attention_gate: bool = False
    attention_scale: float | None = None
    latent_size: int | None = None
    latent_key_dim: int | None = None
    latent_value_dim: int | None = None
    shared_key_dim: int | None = None
    query_rank: int | None = None
    rope_theta: float | None = 10000.0
    rope_fraction: float = 1.0
    condense_ratio: float = 1.0
    rope_llama3: dict[str, float] | None = None
    window_size: int = 2048
    zero_centred_norms: bool = False
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_scale: float = 1.0
    norm_eps: float = 1e-5
    mixer_norm_eps: float | None = None
    initializer_range: float = 0.02
    max_position_embeddings: int = 4096
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_unknown(kwargs)
        self._check_types(kwargs)
        self._fill_defaults()
        refuse_impossible_values(self)
        self.layers = written_out(self.layers or "gdn2", self, "layers", LAYERS)
        self.hybrid = None
        self.mlps = None if self.mlps is None else written_out(self.mlps, self, "mlps", MLPS)
        refuse_impossible_layers(self, set(self.layers), set(self.mlps or ()))
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> GDN2Config:
        """The configuration of a published model; `changes` replace single fields."""
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; {way_out(name, PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    @property
    def mlp_channels(self) -> int:
        """The hidden channels that a token goes through at most, of a SwiGLU or of its experts together."""
        experts = (self.experts_per_token or 0) * (self.expert_size or 0) + self.shared_expert_size
        return max(self.intermediate_size, experts if "experts" in (self.mlps or ()) else 0)

    @property
    def attention_eps(self) -> float:
        """The epsilon of attention's norms."""
        return self.mixer_eps if self.attention_norm_eps is None else self.attention_norm_eps

    @property
    def mixer_eps(self) -> float:
        """The epsilon of the norms inside a mixer."""
        return self.norm_eps if self.mixer_norm_eps is None else self.mixer_norm_eps

    def _refuse_unknown(self, kwargs: dict[str, Any]) -> None:
        own = {field.name for field in fields(type(self))}
        if kwargs.get("quantization_config") is not None:
            raise ValueError("GDN2Config.quantization_config: quantized weights are not read; give those of before")
        if self.is_encoder_decoder:
            raise ValueError("GDN2Config.is_encoder_decoder must be false, got true")
        for name, value in kwargs.items():
            if not is_base_field(name, value):
                near = or_near(name, own) or "; remove it or correct its name"
                raise ValueError(f"GDN2Config has no field {shown(name)}{near}")

    def _check_types(self, kwargs: dict[str, Any]) -> None:
        """Refuse what is not of its field's type, before anything is computed from it."""
        values = dict(vars(self))
        annotations = {name: kind for name, kind in GDN2Config.__annotations__.items() if name in values}
        refuse_wrong_types(values, annotations)
        refuse_impossible_sizes(values, SIZES)
        for dtype in (self.dtype, kwargs.get("torch_dtype")):
            refuse_unknown_dtype(dtype)

    def _fill_defaults(self) -> None:
        if self.num_value_heads is None:
            self.num_value_heads = self.num_heads
        if self.value_head_dim is None:
            self.value_head_dim = self.head_dim
        if self.gate_rank is None:
            self.gate_rank = self.value_head_dim
        if self.attention_head_dim is None:
            self.attention_head_dim = self.head_dim
        if self.attention_heads is None:
            self.attention_heads = max(self.hidden_size // self.attention_head_dim, 1)
        if self.attention_kv_heads is None:
            self.attention_kv_heads = self.attention_heads
