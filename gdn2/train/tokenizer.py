"""A byte-level BPE tokenizer in Hugging Face format, trained on the recipe's own text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NUMBER_REPEATS = 20_000  # so often that every group of digits becomes a token
END_OF_TEXT = "<|endoftext|>"  # between documents; beginning and end of text in one, as in GPT-2


def train_tokenizer(texts: Iterable[str], vocab_size: int, digits: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer that adds nothing of its own to a text.

    Numbers are cut from the left in groups of at most `digits`, each of which is one token, so that a
    number looks the same wherever it is.

    Args:
        texts: what it is trained on.
        vocab_size: tokens, at most.
        digits: digits of a group.

    Returns:
        The tokenizer; its one special token begins, ends and pads a text.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"\p{{N}}{{1,{digits}}}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    groups = " ".join(f"{number:0{digits}d}" for number in range(10**digits))
    tokenizer.train_from_iterator(chain(texts, repeat(groups, NUMBER_REPEATS)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
