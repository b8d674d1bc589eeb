"""The part `attention` of engine.py: an attention model beside transformers' own code, step by step and as texts."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from workloads import texts

from gdn2.decoding import decoding_of
from harness.lm.model import GDN2LM

ROWS, CONTEXT, GENERATED = 4, 800, 48
MANY, SHORTEST, LONGEST, MORE = 32, 20, 200, 64  # prompts of so many tokens, and what is generated behind each
STEPS = 24


@torch.inference_mode()
def steps(ours: Any, theirs: Any, clock: Callable[[], float]) -> dict[str, Any]:
    """Decoding steps of both in turn, behind the same tokens."""
    ids = torch.randint(5, 4000, (ROWS, CONTEXT), generator=torch.Generator().manual_seed(0)).to(ours.device)
    state = ours.model(ids, use_cache=True).past_key_values
    cache = theirs(ids, use_cache=True, logits_to_keep=1).past_key_values
    decoding, at = decoding_of(ours.model), [state, cache]
    tokens = ids[:, 0]

    def mine() -> torch.Tensor:
        hidden, at[0] = decoding.step(tokens, at[0])
        return ours.lm_head(hidden)  # type: ignore[no-any-return]

    def other() -> torch.Tensor:
        out = theirs(tokens[:, None], past_key_values=at[1], use_cache=True)
        at[1] = out.past_key_values
        return out.logits[:, -1]  # type: ignore[no-any-return]

    apart = float((mine() - other()).abs().max())
    taken = [(seconds(mine, clock), seconds(other, clock)) for _ in range(STEPS)]
    return {
        "part": f"attention: a step of {ROWS} rows behind {CONTEXT} tokens",
        "requests": STEPS,
        "agreement": f"logits {apart:.1e} apart at most",
        "ours_seconds": statistics.median(mine for mine, _ in taken),
        "hflm_seconds": statistics.median(theirs for _, theirs in taken),
        "ratio": statistics.median(theirs / mine for mine, theirs in taken),
    }


def workloads(tokenizer: Any) -> dict[str, list[Instance]]:
    """Prompts that share nothing: a few long ones with short answers, and many of different lengths."""
    rng = random.Random(0)
    lengths = [rng.randint(SHORTEST, LONGEST) for _ in range(MANY)]
    few = texts(tokenizer, CONTEXT, ROWS, seed=4)
    many = [texts(tokenizer, length, 1, seed=i)[0] for i, length in enumerate(lengths)]
    return {
        f"{ROWS} prompts of {CONTEXT}, {GENERATED} generated": _asked(few, GENERATED),
        f"{MANY} prompts of {SHORTEST} to {LONGEST}, {MORE} generated": _asked(many, MORE),
    }


def _asked(prompts: list[str], tokens: int) -> list[Instance]:
    pairs = [(prompt, {"until": [], "max_gen_toks": tokens}) for prompt in prompts]
    return [Instance("generate_until", {}, pair, i) for i, pair in enumerate(pairs)]


def models(native: str, foreign: str, common: dict[str, Any], batch: int) -> tuple[GDN2LM, HFLM]:
    """Ours on the imported checkpoint, HFLM on the one that it was imported from."""
    given = {name: value for name, value in common.items() if name != "pretrained"}
    return GDN2LM(pretrained=native, **given), HFLM(pretrained=foreign, batch_size=batch, **given)


def seconds(run: Callable[[], torch.Tensor], clock: Callable[[], float]) -> float:
    """Of a call by a clock, to its end on the device."""
    started = clock()
    run()[0, 0].item()
    return clock() - started
