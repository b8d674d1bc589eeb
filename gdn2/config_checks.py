"""What the values of a `GDN2Config` may be: their types, their bounds, and transformers' own fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedConfig

from basis.errors import shown
from basis.names import must_be_one_of

# Fields that transformers' base class has, or had in some release, and that no model computes with.
BASE_FIELDS = frozenset(
    {
        "attn_implementation", "auto_map", "bos_token_id", "cls_token_id", "decoder_start_token_id", "eos_token_id",
        "experts_implementation", "finetuning_task", "gradient_checkpointing", "is_decoder", "mask_token_id",
        "model_type", "name_or_path", "num_labels", "output_attentions", "output_hidden_states", "output_scores",
        "pad_token_id", "prefix", "return_dict", "return_dict_in_generate", "sep_token_id", "task_specific_params",
        "tf_legacy_loss", "tokenizer_class", "torch_dtype", "torchscript", "transformers_version", "unk_token_id",
        "use_bfloat16", "use_return_dict",
    }
)  # fmt: skip
# Fields of the base class that change the model, unless they have one of these values.
HARMLESS_VALUES: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False, None),
}
DTYPES = ("float64", "float32", "bfloat16", "float16")
MAX_LAYERS = 10_000
MAX_EXPERTS = 4096  # of a layer
MAX_SIZE = 2**24  # of a dimension: far above every model, and products of two stay below 2**63
MAX_TOKENS = 2**31 - 1
TOKENS = ("window_size", "max_position_embeddings")
WORDS = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "a word",
    "None": "null",
    "list[int]": "a list of whole numbers",
    "list[str]": "a list of words",
    "dict[str, float]": "an object of finite numbers",
}


def is_base_field(name: str, value: Any) -> bool:
    """Say whether a field is transformers' own and changes nothing in what a model computes.

    Args:
        name: the field; all that begin with "_" are transformers' own.
        value: its value; some fields are harmless at some values only.
    """
    if name in HARMLESS_VALUES:
        return any(value == harmless for harmless in HARMLESS_VALUES[name])
    return name.startswith("_") or name in BASE_FIELDS or name in _of_this_release()


def refuse_wrong_types(values: Mapping[str, Any], annotations: Mapping[str, Any]) -> None:
    """Check values against the annotations of their fields.

    Args:
        values: the fields of a config.
        annotations: their types as text, such as "int | None"; "float" means finite, and takes whole numbers too.

    Raises:
        ValueError: a value of another type; the message names the field.
    """
    for name, annotation in annotations.items():
        kinds = str(annotation).split(" | ")
        if name in values and not any(_is(values[name], kind) for kind in kinds) and kinds[0] in WORDS:
            words = " or ".join(WORDS[kind] for kind in kinds)
            raise ValueError(f"GDN2Config.{name} must be {words}, got {shown(values[name])}")


def refuse_impossible_sizes(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Check that sizes are at least 1 and not beyond any model, so that nothing is built that no machine holds.

    Raises:
        ValueError: a size that is not; the message names the field.
    """
    for name in names:
        value = values[name]
        if value is None:
            continue
        counted = {"num_hidden_layers": MAX_LAYERS, "num_experts": MAX_EXPERTS, **dict.fromkeys(TOKENS, MAX_TOKENS)}
        most = counted.get(name, MAX_SIZE)
        if value < 1:
            raise ValueError(f"GDN2Config.{name} must be a positive integer, got {shown(value)}")
        if value > most:
            raise ValueError(f"GDN2Config.{name} must be at most {most:,}, got {shown(value)}")


def refuse_unknown_dtype(dtype: Any) -> None:
    """Check the field `dtype` (or `torch_dtype`), the type in which the weights were written.

    Raises:
        ValueError: neither null nor one of `DTYPES`.
    """
    named = str(dtype).removeprefix("torch.") if isinstance(dtype, str | torch.dtype) else dtype
    if named not in (None, "auto", *DTYPES):
        raise ValueError(f"GDN2Config.dtype {must_be_one_of(DTYPES, dtype)}")


def _is(value: Any, kind: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "None":
        return value is None
    if kind == "int":
        return number and isinstance(value, int)
    if kind == "float":
        return number and abs(value) < 1e300 and math.isfinite(value)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    if kind.startswith("list["):
        return isinstance(value, list | tuple) and all(_is(item, kind[5:-1]) for item in value)
    return isinstance(value, dict) and all(isinstance(key, str) and _is(value[key], "float") for key in value)


def _of_this_release() -> set[str]:
    return {*PreTrainedConfig().to_dict(), *GenerationConfig._get_default_generation_params()}
