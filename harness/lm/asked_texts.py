"""What a task asks of a generated text, and what of it would make another text than greedy decoding does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from basis.names import or_near
from harness.errors import UserError

DEFAULT_TOKENS = 256  # lm-eval's, when a task does not say
_COUNTS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_READ = frozenset({*_COUNTS, "until", "do_sample", "temperature"})
# They choose among samples, beams or ways to the same text: without these they change nothing.
_IDLE = frozenset(
    ["top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "renormalize_logits"]
    + ["length_penalty", "early_stopping", "use_cache", "cache_implementation"]
)
_NEUTRAL: dict[str, Any] = {  # fields of transformers that change a greedy text, but at this value
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "diversity_penalty": 0,
    "repetition_penalty": 1,
    "encoder_repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "guidance_scale": 1,
    "penalty_alpha": 0,
    "remove_invalid_values": False,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "constraints": None,
    "force_words_ids": None,
    "watermarking_config": None,
    "dola_layers": None,
}


@dataclass(frozen=True, slots=True)
class AskedText:
    """What a greedy text is asked to be.

    Attributes:
        stops: strings that end it, the end of text among them.
        max_tokens: the most tokens to generate.
    """

    stops: tuple[str, ...]
    max_tokens: int


def read_asked(gen_kwargs: Mapping[str, Any], end_of_text: str, task: str = "") -> AskedText:
    """Read a task's `generation_kwargs`.

    Args:
        gen_kwargs: as lm-eval hands them over.
        end_of_text: the tokenizer's, as text; it is one of the stop strings.
        task: who asks, for messages.

    Raises:
        UserError: sampling, beams, a penalty or anything else that makes another text than greedy decoding, a field
            that is not known, or a value of the wrong type.
    """
    where = f"{task}: " if task else ""
    for name in _COUNTS:
        value = gen_kwargs.get(name)
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if value is not None and (isinstance(value, bool) or not str(number).isdecimal()):
            raise UserError(f"{where}generation_kwargs: {name} must be a whole number from 0 on, got {value!r}")
    try:
        float(gen_kwargs.get("temperature", 0.0))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}generation_kwargs: temperature must be a number, got {gen_kwargs['temperature']!r}"
        ) from error
    until = gen_kwargs.get("until")
    stops = [until] if isinstance(until, str) else [] if until is None else until
    if not isinstance(stops, (list, tuple)) or not all(isinstance(stop, str) for stop in stops):
        raise UserError(f"{where}generation_kwargs: until must be a string or a list of strings, got {until!r}")
    if "" in stops:
        raise UserError(
            f"{where}generation_kwargs: until has an empty text, at which lm-eval's HFLM ends every text behind its "
            f"first token, got {until!r}; write until: [] for no stop (without until it is the fewshot_delimiter)"
        )
    kwargs = normalize_gen_kwargs({**gen_kwargs, "until": list(stops)}, DEFAULT_TOKENS)
    if kwargs.get("do_sample"):
        raise UserError(
            f"{where}the model gdn2 generates greedily only; a task asks for sampling: {dict(gen_kwargs)}; "
            "set do_sample: false"
        )
    unknown = _unknown(gen_kwargs)
    if others := [*changes_of_text(gen_kwargs), *(f"{name} = {gen_kwargs[name]!r}" for name in unknown)]:
        near = or_near(unknown[0], sorted(_READ)) if unknown else ""
        raise UserError(
            f"{where}the model gdn2 generates greedily only, without {', '.join(others)}; remove it from "
            f"generation_kwargs, which may have {', '.join(sorted(_READ))}{near}"
        )
    ended = handle_stop_sequences(kwargs["until"], eos=end_of_text)
    return AskedText(tuple(stop for stop in ended if stop), int(kwargs["max_gen_toks"]))


def changes_of_text(fields: Mapping[str, Any]) -> list[str]:
    """The settings of a generation that make another text than greedy decoding, each with its value."""
    return [
        f"{name} = {value!r}"
        for name, value in fields.items()
        if name in _NEUTRAL and value is not None and value != _NEUTRAL[name]
    ]


def _unknown(gen_kwargs: Mapping[str, Any]) -> list[str]:
    known = _READ | _IDLE | _NEUTRAL.keys()
    return [name for name, value in gen_kwargs.items() if name not in known and value is not None]
