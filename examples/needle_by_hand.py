"""A needle by hand: the beginning of a text is read once, and its state goes on in two texts with different needles.

    python examples/needle_by_hand.py

The state of a recurrent model has one size whatever it has read, and a forward pass does not change the state it is
given: `fork` makes as many rows of it as there are continuations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoTokenizer

from gdn2 import GDN2ForCausalLM, RecurrentState
from harness.paths import ZOO

OPENING = "A special magic number is hidden within the following text. Make sure to memorize it.\n"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
NEEDLE = "One of the special magic numbers for distant-river is: {number}.\n"
QUESTION = "What is the special magic number for distant-river mentioned in the provided text?"
ANSWER = " The special magic number for distant-river mentioned in the provided text is"
NUMBERS = ("4071958", "8213366")
NUM_TOKENS = 6  # of an answer


def main() -> list[str]:
    """Read, fork, go on, ask, and print what came back."""
    tokenizer = AutoTokenizer.from_pretrained(ZOO / "gdn2-tiny")
    model = GDN2ForCausalLM.from_pretrained(ZOO / "gdn2-tiny", dtype=torch.float32).eval()
    opening = tokenizer(OPENING + NOISE * 8, return_tensors="pt").input_ids
    texts = [NEEDLE.format(number=number) + NOISE * 8 + QUESTION + ANSWER for number in NUMBERS]
    rest = tokenizer(texts, return_tensors="pt").input_ids  # of one length: the numbers have as many digits

    with torch.no_grad():
        state = model(opening, use_cache=True).past_key_values
        print(f"{opening.shape[1]} tokens read once, into a state of {state.num_bytes:,} bytes")
        answers = tokenizer.batch_decode(generate(model, rest, state.fork(len(NUMBERS))))
    for number, answer in zip(NUMBERS, answers, strict=True):
        print(f"planted {number}, answered{answer}")
    return answers


def generate(model: GDN2ForCausalLM, input_ids: Tensor, state: RecurrentState) -> Tensor:
    """The likeliest tokens behind `input_ids` [B, T], which are read on top of a state: [B, NUM_TOKENS]."""
    tokens = []
    for _ in range(NUM_TOKENS):
        out = model(input_ids, past_key_values=state, logits_to_keep=1)
        state, input_ids = out.past_key_values, out.logits[:, -1:].argmax(dim=-1)
        tokens.append(input_ids)
    return torch.cat(tokens, dim=1)


if __name__ == "__main__":
    main()
