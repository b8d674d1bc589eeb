"""The language model: embedding, blocks of mixer and SwiGLU (or a mixture of experts), head.

It is a Hugging Face model whose cache is a `RecurrentState`.

Letters: B batch, T tokens, D width, N positions with logits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from gdn2.config import ATTENTION_LAYERS, GDN2Config
from gdn2.experts import Experts
from gdn2.mixers import MIXERS, Mixer
from gdn2.modules import Head, RMSNorm, ShortConvolution, SwiGLU
from gdn2.padding import Padding, Positions
from gdn2.state import RINGS, LayerState, RecurrentState


class GDN2Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)); the MLP is a SwiGLU, a mixture of experts, or not there.

    The last sum is left to whoever reads it next, whose norm takes it in one pass: what goes from block to block is x
    and what is to be added to it.

    With attention and `attention_post_norm` it is x + norm(mixer(x)), then x + norm(mlp(x)). What is added is
    multiplied with `residual_scale`.
    """

    def __init__(self, config: GDN2Config, mixer: str, mlp: str) -> None:
        super().__init__()
        D, eps, zero_centred = config.hidden_size, config.norm_eps, config.zero_centred_norms
        self.mixer_norm = RMSNorm(D, eps, zero_centred=zero_centred)
        self.mixer = MIXERS[mixer](config)
        self.residual_scale = config.residual_scale
        self.post_norm = config.attention_post_norm and mixer in ATTENTION_LAYERS
        self.has_mlp = mlp == "experts" or config.intermediate_size > 0
        if self.has_mlp:
            self.mlp_norm = RMSNorm(D, eps, zero_centred=zero_centred)
            self.mlp = Experts(config) if mlp == "experts" else SwiGLU(D, config.intermediate_size)

    def forward(
        self,
        x: Tensor,
        added: Tensor | None,
        state: LayerState,
        padding: Padding | None,
        positions: Positions | None,
    ) -> tuple[Tensor, Tensor, LayerState]:
        """Read x + added [B, T, D], or x where nothing is to be added.

        Returns:
            x and what is to be added to it, and the state after each row's last real token.
        """
        where = (positions,) if self.mixer.uses_positions else ()
        if self.post_norm:
            x = x if added is None else x + added
            mixed, state = self.mixer(x, state, padding, *where)
            added = self.scaled(self.mixer_norm(mixed))
            if self.has_mlp:
                x = x + added
                added = self.scaled(self.mlp_norm(self.mlp(x)))
            return x, added, state
        x, normed = self.mixer_norm.of_sum(x, added)
        mixed, state = self.mixer(normed, state, padding, *where)
        added = self.scaled(mixed)
        if self.has_mlp:
            x, normed = self.mlp_norm.of_sum(x, added)
            added = self.scaled(self.mlp(normed))
        return x, added, state

    def scaled(self, added: Tensor) -> Tensor:
        """What is added to the residual stream [B, T, D], times `residual_scale`."""
        return added if self.residual_scale == 1 else added * self.residual_scale


class GDN2PreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation, by transformers."""

    config_class = GDN2Config
    base_model_prefix = "model"
    _no_split_modules = ["GDN2Block"]  # noqa: RUF012 (transformers' own contract)
    # A decay near 1 does not survive bfloat16.
    _keep_in_fp32_modules_strict = {"A_log", "dt_bias", "D", "B_bias", "C_bias", "choice_bias"}  # noqa: RUF012
    _is_stateful = True  # a state cannot be rolled back to a shorter prefix
    supports_gradient_checkpointing = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=std)
        elif isinstance(module, RMSNorm):
            init.constant_(module.weight, 0.0 if module.zero_centred else 1.0)
        elif isinstance(module, ShortConvolution):
            bound = module.weight.shape[-1] ** -0.5
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, Mixer):
            for name, value in module.initial_values().items():
                parameter = getattr(module, name)
                init.copy_(parameter, value.to(parameter))


class GDN2Model(GDN2PreTrainedModel):
    """Token ids in, normalised hidden states out."""

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = config.layers or ()
        mlps = config.mlps or ["swiglu"] * len(layers)
        self.layers = nn.ModuleList(GDN2Block(config, *names) for names in zip(layers, mlps, strict=True))
        self.uses_positions = any(MIXERS[name].uses_positions for name in layers)
        self.norm = RMSNorm(config.hidden_size, config.norm_eps, zero_centred=config.zero_centred_norms)
        self.gradient_checkpointing = False  # in training a block keeps its input only, and runs again going back
        self.post_init()

    def empty_state(self, batch_size: int) -> RecurrentState:
        """The state before the first token of `batch_size` texts."""
        layers = [block.mixer.empty_state(batch_size) for block in self.layers]  # type: ignore[union-attr, operator]
        return RecurrentState(layers, torch.zeros(batch_size, dtype=torch.long, device=self.device))

    def _passing_state(self, batch_size: int) -> RecurrentState:
        """An empty state for a forward after which none is wanted: the rows of a window share their memory."""
        one, layers = self.empty_state(1), []
        for layer in one.layers:
            rows = {name: x.expand(batch_size, *x.shape[1:]) for name, x in layer.tensors().items()}
            layers.append(replace(layer, **{name: x if name in RINGS else x.contiguous() for name, x in rows.items()}))
        return RecurrentState(layers, one.lengths.repeat(batch_size))

    def state_bytes(self, num_tokens: int) -> int:
        """Bytes of the state of one text of that length; only full attention makes a difference between lengths."""
        empty = self.empty_state(1)
        return empty.num_bytes + empty.num_bytes_a_token * num_tokens

    def operator_heads(self) -> tuple[tuple[int, int], ...]:
        """The sizes (d_k, d_v) at which layers call the operator, each once; none in a model of attention only."""
        matrices = [layer.matrix for layer in self.empty_state(1).layers]
        return tuple(sorted({(m.shape[-2], m.shape[-1]) for m in matrices if m is not None}))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentState | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Read tokens on top of a state.

        Args:
            input_ids: [B, T]; or `inputs_embeds` instead.
            attention_mask: [B, T], 1 for a token and 0 for padding, on the left (at a text's start) or on the right.
            past_key_values: the state of the text so far, for all B rows; it is not changed.
            inputs_embeds: [B, T, D], before `embedding_scale`.
            use_cache: whether to return the new state (config.use_cache by default, True when a state was given).

        Raises:
            ValueError: no or two inputs, one without tokens or of another form, a state of another batch size, or a
                mask that does not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        if input_ids is not None and (input_ids.ndim != 2 or not input_ids.shape[1] or input_ids.is_floating_point()):
            raise ValueError(f"input_ids must be whole numbers [B, T], got {input_ids.dtype} {list(input_ids.shape)}")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        x = x if self.config.embedding_scale == 1 else x * self.config.embedding_scale
        B, T = x.shape[:2]
        keep = use_cache if use_cache is not None else (self.config.use_cache or past_key_values is not None)
        state = past_key_values
        if state is None:
            state = self.empty_state(B) if keep or T == 1 else self._passing_state(B)
        if state.batch_size != B:
            raise ValueError(f"past_key_values holds {state.batch_size} rows but the input has {B}")
        continues = attention_mask is not None and past_key_values is not None and bool((state.lengths > 0).any())
        padding = Padding.from_mask(attention_mask, (B, T), continues=continues)
        fresh = past_key_values is None
        positions = Positions.after(state.lengths, T, padding, fresh=fresh, kept=keep) if self.uses_positions else None
        added: Tensor | None = None
        layers, recomputes = [], self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for block, layer_state in zip(self.layers, state.layers, strict=True):
            run = partial(checkpoint, block, use_reentrant=False) if recomputes else block
            x, added, layer_state = run(x, added, layer_state, padding, positions)
            layers.append(layer_state)
        new_state = RecurrentState(layers, state.lengths + (T if padding is None else padding.lengths))
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm.of_sum(x, added)[1],
            past_key_values=new_state if keep else None,  # type: ignore[arg-type]
        )


class GDN2ForCausalLM(GDN2PreTrainedModel, GenerationMixin):
    """`GDN2Model` with a head over the vocabulary; works with `transformers.generate`."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config)
        self.model = GDN2Model(config)
        self.lm_head = Head(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentState | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Read tokens on top of a state, as `GDN2Model` does, and give logits.

        Args:
            input_ids: [B, T]; or `inputs_embeds` instead.
            attention_mask: [B, T], 1 for a token and 0 for padding.
            past_key_values: the state of the text so far.
            inputs_embeds: [B, T, D].
            labels: [B, T], token ids to predict (shifted inside); -100 is ignored.
            use_cache: whether to return the new state.
            logits_to_keep: logits for the last n positions only, or for the given positions; 0 means all.

        Raises:
            ValueError: as `GDN2Model`, or labels without the logits of every position.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
        )
        hidden = outputs.last_hidden_state
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep else logits_to_keep
        logits = self.lm_head(hidden if isinstance(keep, int) else hidden[:, keep])
        logits = logits if self.config.logits_scale == 1 else logits * self.config.logits_scale
        loss = None
        if labels is not None:
            if logits.shape[1] != labels.shape[1]:
                raise ValueError("labels need the logits of every position; leave logits_to_keep at 0")
            loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=outputs.past_key_values)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # our cache is a RecurrentState, made by the first forward

    def prepare_inputs_for_generation(  # type: ignore[override]  # our cache is no transformers Cache
        self,
        input_ids: Tensor,
        past_key_values: RecurrentState | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        next_sequence_length: int | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The prompt as a whole at first; after that what the state has not read."""
        inputs: dict[str, Any] = {"past_key_values": past_key_values, "use_cache": use_cache}
        if inputs_embeds is not None and past_key_values is None:
            inputs["inputs_embeds"] = inputs_embeds
            num_new = inputs_embeds.shape[1]
        else:
            num_new = input_ids.shape[1]
            if past_key_values is not None:
                num_new = next_sequence_length or max(num_new - past_key_values.get_seq_length(), 1)
            inputs["input_ids"] = input_ids[:, input_ids.shape[1] - num_new :]
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask[:, -num_new:]
        if "logits_to_keep" in kwargs:
            inputs["logits_to_keep"] = kwargs["logits_to_keep"]
        return inputs

    @staticmethod
    def _reorder_cache(state: RecurrentState, beam_idx: Tensor) -> RecurrentState:
        return state.select(beam_idx)
