"""The tokenizer inside a GGUF file as a folder's tokenizer.json.

Built here by what the file says. How a text is cut before merges stands in `tokenizer.ggml.pre`; the converter of
transformers does not know that of SmolLM2, which cuts digits apart: two spaces before a number became other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from basis.errors import shown
from gdn2.checkpoints.errors import CheckpointError, first_line

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # kinds of tokens in tokenizer.ggml.token_type
LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": LETTERS + r"\p{N}" + SIGNS, "llama-bpe": LETTERS + r"\p{N}{1,3}" + SIGNS}
"""By what a text is cut before merges, by `tokenizer.ggml.pre`."""
PLAIN_PRE = ("gpt-2", "gpt2", "default")
DIGIT_PRE = ("smollm", "starcoder", "refact", "command-r", "exaone")
SPACE = "▁"  # SentencePiece's
SPECIAL = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def write_tokenizer(path: Path, metadata: Mapping[str, Any], folder: Path) -> None:
    """Write the tokenizer of a GGUF file into a folder.

    Args:
        path: the file, for messages.
        metadata: its keys.
        folder: gets tokenizer.json and tokenizer_config.json.

    Raises:
        CheckpointError: there is no tokenizer, or one of an unknown kind; says that --tokenizer gives another.
    """
    kind, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    makers = {"gpt2": _byte_level, "llama": _sentencepiece}
    if not isinstance(tokens, list) or kind not in makers:
        said = f"a tokenizer of the kind {shown(kind)}" if isinstance(tokens, list) else "no tokenizer"
        raise CheckpointError(f"{path}: holds {said}; give the model's with --tokenizer DIR")
    try:
        made = makers[kind](path, metadata)
        _finish(made, metadata, tokens, kind).save_pretrained(folder)
    except CheckpointError:
        raise
    except Exception as error:  # what the package tokenizers raises has no type of its own
        raise CheckpointError(
            f"{path}: its tokenizer cannot be used ({first_line(error)}); give the model's with --tokenizer DIR"
        ) from error


def _finish(made: Any, metadata: Mapping[str, Any], tokens: Sequence[str], kind: str) -> Any:
    """The tokenizer with its special tokens, its chat template, and the BOS that it puts before a text."""
    from transformers import PreTrainedTokenizerFast

    ids = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for key, name in SPECIAL.items()}
    special = {name: tokens[i] for name, i in ids.items() if isinstance(i, int) and 0 <= i < len(tokens)}
    if metadata.get("tokenizer.ggml.add_bos_token", kind == "llama") and "bos_token" in special:
        _put_before(made, special["bos_token"], ids["bos_token"])
    fast = PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **special)
    fast.chat_template = metadata.get("tokenizer.chat_template")
    return fast


def _byte_level(path: Path, metadata: Mapping[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    pre = metadata.get("tokenizer.ggml.pre", "default")
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"))
    made.pre_tokenizer = _cut(path, pre)
    made.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        made.normalizer = normalizers.NFC()
    for kind in (CONTROL, USER_DEFINED):
        added = [token for token, own in zip(tokens, kinds, strict=True) if own == kind]
        made.add_tokens([AddedToken(token, normalized=False, special=kind == CONTROL) for token in added])
    return made


def _cut(path: Path, pre: str) -> Any:
    """What cuts a text before merges."""
    from tokenizers import Regex, pre_tokenizers

    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in PLAIN_PRE:
        return whole
    if pre in DIGIT_PRE:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    if pre in PATTERNS:
        cut = pre_tokenizers.Split(Regex(PATTERNS[pre]), behavior="isolated")
        return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    known = ", ".join((*PLAIN_PRE, *DIGIT_PRE, *PATTERNS))
    raise CheckpointError(
        f"{path}: tokenizer.ggml.pre is {shown(pre)}; known are {known}; give the model's tokenizer "
        "with --tokenizer DIR"
    )


def _sentencepiece(path: Path, metadata: Mapping[str, Any]) -> Any:  # noqa: ARG001 (as the other)
    """SentencePiece's BPE, in which the piece of the best score is merged first, as merges in that order."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    scores = dict(zip(tokens, metadata["tokenizer.ggml.scores"], strict=True))
    vocab = {token: index for index, token in enumerate(tokens)}
    pieces = {token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL}
    merges = [
        (token[:at], token[at:])
        for token in sorted(pieces, key=lambda token: (-scores[token], vocab[token]))
        for at in range(1, len(token))
        if token[:at] in pieces and token[at:] in pieces
    ]
    unknown = tokens[metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    model = models.BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    made = Tokenizer(model)
    has_space = metadata.get("tokenizer.ggml.add_space_prefix", True)
    first = [normalizers.Prepend(SPACE)] if has_space else []
    made.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    last = [decoders.Strip(" ", 1, 0)] if has_space else []
    joined = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    made.decoder = decoders.Sequence(joined)
    for kind in (CONTROL, USER_DEFINED):
        added = [token for token, own in zip(tokens, kinds, strict=True) if own == kind]
        made.add_tokens([AddedToken(token, normalized=False, special=kind == CONTROL) for token in added])
    return made


def _put_before(made: Any, token: str, token_id: Any) -> None:
    """Let a tokenizer put its BOS before every text."""
    from tokenizers import processors

    made.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, token_id)]
    )
