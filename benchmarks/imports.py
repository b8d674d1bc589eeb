"""Foreign architectures as imported, beside transformers' own implementation: difference of logits, and speed.

    python benchmarks/imports.py [--kinds llama,bamba] [--tokens 1024] [--repeats 5] [--threads 1] --output imports.json

A random model of each kind (width 256, four layers, a vocabulary of 2048) is written by transformers and imported, and
both are given the same ids: the largest difference of logits between the two in float32, and of either from ours in
float64. Speed: one forward pass over all tokens at batch 1, and `generate` of 64 tokens behind 64 (greedy), in float32;
the two take turns, and a ratio is the median of the turns' ratios. Seconds are CPU time a thread, which a busy machine
changes less than the clock on the wall. Theirs is transformers' torch code, since nothing else runs on a CPU.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import command_line
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from gdn2.checkpoints import load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint
from harness.records.machine import describe

VOCABULARY, COMPARED, PROMPT, WRITTEN = 2048, 256, 64, 64
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "initializer_range": 0.06,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
DECODER: dict[str, Any] = {
    "intermediate_size": 704,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
HYBRID = {**DECODER, "layer_types": ["linear_attention"] * 3 + ["full_attention"]}
DELTA: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "linear_head_dim": 64,
    "linear_num_heads": 4,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "n_shared_experts": 1,
}
MAMBA: dict[str, Any] = {"num_heads": 8, "head_dim": 64, "state_size": 64, "n_groups": 1, "expand": 2}
GRANITE: dict[str, Any] = {
    **DECODER,
    "layer_types": HYBRID["layer_types"],
    "intermediate_size": 256,
    "num_local_experts": 8,
    "shared_intermediate_size": 256,
    "mamba_n_heads": 8,
    "mamba_d_state": 64,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.1,
    "embedding_multiplier": 2.0,
    "logits_scaling": 2.0,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", DECODER),
    "Mistral": ("mistral", {**DECODER, "sliding_window": 128}),
    "Qwen2": ("qwen2", DECODER),
    "Qwen3": ("qwen3", {**DECODER, "head_dim": 64}),
    "Mamba-2": ("mamba2", MAMBA),
    "Qwen3-Next": ("qwen3_next", {**HYBRID, **DELTA, **EXPERTS, "head_dim": 64}),
    "Qwen3.5": ("qwen3_5_text", {**HYBRID, **DELTA, "head_dim": 64}),
    "OLMo Hybrid": ("olmo_hybrid", {**HYBRID, **DELTA, "linear_num_key_heads": 4}),
    "Kimi Linear": ("kimi_linear", {**HYBRID, **LATENT}),
    "Granite 4": ("granitemoehybrid", GRANITE),
    "Bamba": ("bamba", {**DECODER, "attn_layer_indices": [3], "mamba_n_heads": 8, "mamba_d_state": 64}),
}
LAYERS_READ = {
    "mamba2": "Mamba-2",
    "gated_deltanet": "Gated DeltaNet",
    "kda": "KDA",
    "mla": "latent attention",
    "attention": "attention",
    "swa": "attention in a window",
}


def source_model(kind: str, fields: dict[str, Any]) -> Any:
    """A random model in which every norm and bias counts, and whose states last."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**COMMON, **fields})).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", ".D", "norm.weight", "layernorm.weight", "norm_f.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
            if name.endswith("dt_bias"):
                parameter.sub_(3.0)
    return model


def compare(name: str, *, tokens: int, repeats: int) -> dict[str, Any]:
    """One architecture: what is read, how far apart, how fast."""
    kind, fields = KINDS[name]
    source = source_model(kind, fields)
    with tempfile.TemporaryDirectory(prefix="gdn2-imports-") as folder:
        source.save_pretrained(Path(folder) / "source")
        import_checkpoint(Path(folder) / "source", Path(folder) / "new")
        ours: Any = load_checkpoint(Path(folder) / "new")
        exact: Any = load_checkpoint(Path(folder) / "new").double()
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, VOCABULARY, (1, max(tokens, COMPARED)), generator=generator)
    short, prompt = ids[:, :COMPARED], ids[:, :PROMPT]
    theirs_logits, ours_logits, exact_logits = (model(short).logits for model in (source, ours, exact))
    texts = [write(model, prompt) for model in (source, ours)]
    return {
        "name": name,
        "model_type": kind,
        "read": list(dict.fromkeys(LAYERS_READ[layer] for layer in ours.config.layers)),
        "parameters": sum(parameter.numel() for parameter in source.parameters()),
        "logits_std": float(theirs_logits.std()),
        "max_difference": float((ours_logits - theirs_logits).abs().max()),
        "theirs_from_float64": float((theirs_logits - exact_logits).abs().max()),
        "ours_from_float64": float((ours_logits - exact_logits).abs().max()),
        "greedy_tokens_equal": int((texts[0] == texts[1]).sum()),
        "greedy_tokens": WRITTEN,
        "forward": speed(tokens, repeats, lambda: ours(ids[:, :tokens]), lambda: source(ids[:, :tokens])),
        "generate": speed(WRITTEN, repeats, lambda: write(ours, prompt), lambda: write(source, prompt)),
    }


def write(model: Any, prompt: torch.Tensor) -> torch.Tensor:
    """The greedy tokens behind a prompt."""
    mask = torch.ones_like(prompt)
    found: torch.Tensor = model.generate(
        prompt, attention_mask=mask, max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False
    )
    return found[0, prompt.shape[1] :]


def speed(tokens: int, repeats: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> dict[str, float]:
    """Medians of tokens a second of CPU time, and of the ratios of turns; each is called once before."""
    ours(), theirs()
    turns = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return {
        "ours_tokens_per_second": tokens / statistics.median(mine for mine, _ in turns),
        "theirs_tokens_per_second": tokens / statistics.median(other for _, other in turns),
        "ratio": statistics.median(other / mine for mine, other in turns),
    }


def seconds(run: Callable[[], Any]) -> float:
    """Of CPU time, a thread."""
    started = time.process_time()
    run()
    return (time.process_time() - started) / torch.get_num_threads()


def as_row(found: dict[str, Any]) -> str:
    """A row of the table in Markdown."""
    rates = [
        f"{found[part][f'{side}_tokens_per_second']:,.0f}"
        for part in ("forward", "generate")
        for side in ("ours", "theirs")
    ]
    ratios = [f"{found[part]['ratio']:.2f}" for part in ("forward", "generate")]
    cells = [found["name"], ", ".join(found["read"]), f"{found['max_difference']:.1e}"]
    cells += [f"{found['theirs_from_float64']:.1e}, {found['ours_from_float64']:.1e}"]
    return " | ".join(["", *cells, *rates[:2], ratios[0], *rates[2:], ratios[1], ""]).strip()


def main() -> None:
    """Compare, print rows in Markdown, write the JSON."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--kinds", default=",".join(kind for kind, _ in KINDS.values()), help="model types")
    parser.add_argument("--tokens", type=command_line.positive, default=1024)
    parser.add_argument("--repeats", type=command_line.positive, default=5)
    parser.add_argument("--threads", type=command_line.positive, default=1)
    parser.add_argument("--output", type=command_line.new_file, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    chosen, found = args.kinds.split(","), []
    with torch.no_grad():
        for name, (kind, _) in KINDS.items():
            if kind in chosen:
                found.append(compare(name, tokens=args.tokens, repeats=args.repeats))
                print(as_row(found[-1]), flush=True)
    said = {
        "machine": asdict(describe()),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "kernels_of_theirs": [name for name in ("fla", "mamba_ssm", "causal_conv1d") if find_spec(name)],
        "tokens": {"forward": args.tokens, "compared": COMPARED, "prompt": PROMPT, "written": WRITTEN},
        "repeats": args.repeats,
        "kinds": found,
    }
    args.output.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line.answer(main)
