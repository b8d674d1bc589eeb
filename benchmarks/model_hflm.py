"""lm-eval's HFLM beside the engine on one model in memory: `benchmarks/model.py` runs it where lm-eval is installed."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from gdn2 import GDN2ForCausalLM

ZOO = Path(__file__).resolve().parent.parent / "gdn2" / "zoo" / "gdn2-tiny"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def beside_hflm(model: GDN2ForCausalLM, device: str, prompts: int) -> dict[str, Any]:
    """Seconds of both for prompts of some 100 tokens with 32 to generate, greedily, and their ratio; medians of three.

    The tokenizer is the shipped checkpoint's, which has no more tokens than any of the models.
    """
    from engine import beside
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from harness.lm.model import GDN2LM

    dtype = str(model.dtype).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for name in TOKENIZER:
            shutil.copy(ZOO / name, folder)
        given: dict[str, Any] = {"pretrained": folder, "device": device, "dtype": dtype, "max_length": 512}
        ours, theirs = GDN2LM(**given), HFLM(batch_size=min(prompts, 8), **given)
        arguments = [("one two " * (40 + i), {"until": [], "max_gen_toks": 32}) for i in range(prompts)]
        asked = [Instance("generate_until", {}, argument, i) for i, argument in enumerate(arguments)]
        return beside("generate", asked, ours, theirs, 3, time.perf_counter)
