"""Prefill and decoding of whole models with random weights in bfloat16, as the engine runs them, in milliseconds.

    python benchmarks/decode.py [--presets gdn2_1.3B swa_gdn2_1.3B smollm2] [--rows 1 32 256] [--context 4096]
                                [--json FILE] [--compare OLD.json [--threshold 0.1]] [--profile]
    python benchmarks/decode.py --generate 128 --presets smollm2 --context 8064

A prefill reads 8192 tokens by segments, in memory that they overwrite. A decoding step continues so many rows behind a
context, one CUDA graph a step, which is how `gdn2.decoding.Decoding` does it; with "head" the next token is chosen as
well. Times are medians over groups of steps; memory is the peak beyond the weights, beside that of the rows' states.
`--generate N` has the engine continue N prompts of that context by 128 tokens within its own limits instead, and says
whether it fits. It needs torch, triton and transformers only. Without a GPU a tiny model shows that it works, and says
nothing of speed. `--compare` exits with 1 if one of the times is over 10 % longer than in a file of the same GPU model.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import torch

from gdn2 import GDN2Config, GDN2ForCausalLM, RecurrentState
from gdn2.decoding import Decoding
from gdn2.ops.overwriting import overwriting_slots
from gdn2.state import Place

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
PREFILL, SEGMENT = (8192, 8192) if CUDA else (48, 16)
GROUPS, STEPS = (7, 16) if CUDA else (3, 2)
TAKEN_IN = 8  # rows that are copied into the memory at a time
GENERATED = 128
IDENTITY = ("preset", "what", "rows", "context")
TIMES = ("ms", "with head ms", "s")
SMOLLM2: dict[str, Any] = {
    "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30, "layers": ["attention"] * 30, "num_heads": 9,
    "attention_heads": 9, "attention_kv_heads": 3, "attention_head_dim": 64, "intermediate_size": 1536,
    "rope_theta": 100000.0, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
TINY: dict[str, Any] = {
    "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "layers": ["gdn2", "swa"], "num_heads": 2,
    "head_dim": 16, "attention_heads": 2, "window_size": 16, "intermediate_size": 64, "max_position_embeddings": 256,
}  # fmt: skip
PRESETS: dict[str, Callable[[], GDN2Config]] = {
    "gdn2_1.3B": lambda: GDN2Config.from_preset("gdn2_1.3B"),
    "swa_gdn2_1.3B": lambda: GDN2Config.from_preset("swa_gdn2_1.3B"),
    "smollm2": lambda: GDN2Config(**SMOLLM2),
    "tiny": lambda: GDN2Config(**TINY),
}


def random_model(config: GDN2Config) -> GDN2ForCausalLM:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = GDN2ForCausalLM(config).eval().requires_grad_(False)
    kept = {name: x.data.clone() for name, x in model.named_parameters() if name.endswith(("A_log", "dt_bias", ".D"))}
    model = model.to(torch.bfloat16)
    for name, value in kept.items():  # decays stay in float32, as in a checkpoint that is loaded
        model.get_parameter(name).data = value
    return model  # type: ignore[no-any-return]


def seconds(run: Callable[[], Any]) -> float:
    """Of a call, to its end on the device."""
    if CUDA:
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def read(model: GDN2ForCausalLM, ids: torch.Tensor) -> RecurrentState:
    """The state behind tokens [B, T], read by segments in memory with room for all of them."""
    state = RecurrentState.gather([(model.model.empty_state(1), 0)] * len(ids), slots=ids.shape[1])
    with overwriting_slots():
        for start in range(0, ids.shape[1], SEGMENT):
            part = ids[:, start : start + SEGMENT]
            state = model.model(part, past_key_values=state, use_cache=True).past_key_values
    return state


class Peak:
    """The most memory since it was made, beyond what there was."""

    def __init__(self) -> None:
        self.before = 0
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def mib(self) -> float | None:
        return round((torch.cuda.max_memory_allocated() - self.before) / 2**20, 1) if CUDA else None


def prefill(model: GDN2ForCausalLM, tokens: int = PREFILL, groups: int = GROUPS) -> dict[str, Any]:
    ids = torch.randint(1, 200, (1, tokens), device=DEVICE)
    read(model, ids)
    peak = Peak()
    taken = statistics.median(seconds(lambda: read(model, ids)) for _ in range(groups))
    return {"ms": 1e3 * taken, "tokens/s": tokens / taken, "peak MiB": peak.mib()}


def decode(model: GDN2ForCausalLM, rows: int, context: int) -> dict[str, Any]:
    """Steps behind a context that all rows have in common; that changes nothing for the time."""
    peak, decoding = Peak(), Decoding(model.model)
    held: list[Place] = []
    one, room = read(model, torch.randint(1, 200, (1, context), device=DEVICE)), context + STEPS * (2 * GROUPS + 4)
    while len(held) < rows:
        new = [(one, 0)] * min(TAKEN_IN, rows - len(held))
        state = decoding.arrange([*held, *new], rows=rows, most_slots=room)
        held = [(state, row) for row in range(len(held) + len(new))]
    del one, held, new
    tokens, at = torch.randint(1, 200, (rows,), device=DEVICE), [state]
    row: dict[str, Any] = {"state MiB": round(state.num_bytes / 2**20, 1)}
    del state

    def steps(*, head: bool) -> None:
        chosen = tokens
        for _ in range(STEPS):
            hidden, at[0] = decoding.step(chosen, at[0])
            if head:
                chosen = model.lm_head(hidden).argmax(-1)

    for name, head in (("ms", False), ("with head ms", True)):
        steps(head=head)
        row[name] = 1e3 * statistics.median(seconds(lambda head=head: steps(head=head)) for _ in range(GROUPS)) / STEPS  # type: ignore[misc]
    graphs = decoding.uses_graphs
    return {**row, "tokens/s": 1e3 * rows / row["ms"], "peak MiB": peak.mib(), "graphs": graphs}


def generate(model: GDN2ForCausalLM, prompts: int, context: int) -> dict[str, Any]:
    """The engine on prompts that share nothing, within limits of its own."""
    from harness.engine.engine import Engine
    from harness.engine.executor import LocalExecutor
    from harness.engine.memory import limits_of
    from harness.engine.meter import NullProgress
    from harness.engine.requests import GenerateRequest
    from harness.engine.stops import StopRule

    limits = limits_of(model)
    engine = Engine(LocalExecutor(model, limits, StopRule(None)), NullProgress())
    ids = torch.randint(1, 200, (prompts, context)).tolist()
    asked = [GenerateRequest(row, GENERATED if CUDA else 4, frozenset()) for row in ids]
    peak = Peak()
    taken = seconds(lambda: engine.generate(asked, lambda *_: None))
    used = engine.executor.describe()
    row = {"s": taken, "peak MiB": peak.mib(), "rows a step": limits.rows, "tokens a step": limits.tokens}
    return {**row, "rows at the end": used["batch_rows"], "tokens at the end": used["batch_tokens"]}


@torch.inference_mode()
def measured(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return what()
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
    return {"fails": "out of memory"}


def rows_of(args: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for preset in args.presets:
        model = random_model(PRESETS[preset]())
        jobs: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]
        if args.generate:
            said = {"what": "generate", "rows": args.generate, "context": args.context}
            jobs = [(said, lambda model=model: generate(model, args.generate, args.context))]  # type: ignore[misc]
        else:
            jobs = [({"what": "prefill", "rows": 1, "context": PREFILL}, lambda model=model: prefill(model))]  # type: ignore[misc]
            for rows in args.rows:
                said = {"what": "decode", "rows": rows, "context": args.context}
                jobs.append((said, lambda model=model, rows=rows: decode(model, rows, args.context)))  # type: ignore[misc]
        for said, job in jobs:
            found.append({"preset": preset, **said, **measured(job)})
            print(json.dumps(found[-1]), flush=True)
        if args.profile:
            profile(model, args)
        del model, jobs, job
    return found


def profile(model: GDN2ForCausalLM, args: argparse.Namespace) -> None:
    """Print where the time of the last number of rows goes, by kernel."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    with profiler(activities=activities) as found:
        measured(lambda: decode(model, args.rows[-1], args.context))
    by = "self_cuda_time_total" if CUDA else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=60), flush=True)


def compare(new: dict[str, Any], file: Path, threshold: float) -> list[str]:
    """Print new time over old of each row; returns those that take over `threshold` more time.

    Exits where there is nothing to compare: another GPU model, or no row in common.
    """
    old = json.loads(file.read_text(encoding="utf-8"))
    if old["machine"]["device"] != new["machine"]["device"]:
        sys.exit(f"{file} was measured on {old['machine']['device']}, not on {new['machine']['device']}")
    known = {tuple(row[key] for key in IDENTITY): row for row in old["rows"]}
    slower, compared = [], 0
    for row in new["rows"]:
        before = known.get(tuple(row[key] for key in IDENTITY), {})
        for key in (key for key in TIMES if key in before and key in row):
            ratio, compared = row[key] / before[key], compared + 1
            line = f"{' '.join(str(row[name]) for name in IDENTITY)} {key}: {before[key]:.4g} -> {row[key]:.4g}"
            print(f"  {line}, {ratio:.2f} times")
            slower += [line] if not ratio <= 1 + threshold else []
    if not compared:
        sys.exit(f"nothing to compare: {file} has none of these rows")
    return slower


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    default = ["gdn2_1.3B", "swa_gdn2_1.3B"] if CUDA else ["tiny"]
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=default)
    parser.add_argument("--rows", nargs="+", type=command_line.positive, default=[1, 32, 256] if CUDA else [1, 3])
    parser.add_argument(
        "--context", type=command_line.positive, default=4096 if CUDA else 40, help="tokens in front of the steps"
    )
    parser.add_argument("--generate", type=command_line.positive, metavar="N", help="N prompts by the engine instead")
    parser.add_argument("--json", type=command_line.new_file)
    parser.add_argument("--compare", type=command_line.there)
    parser.add_argument("--threshold", type=float, default=0.1, help="of --compare: how much slower, as a fraction")
    parser.add_argument("--profile", action="store_true", help="also where the time of the last number of rows goes")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    device = torch.cuda.get_device_name() if CUDA else "none: a CPU, says nothing of speed"
    machine = {"device": device, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    record = {"machine": machine, "dtype": "bfloat16", "rows": rows_of(args)}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    slower = compare(record, args.compare, args.threshold) if args.compare else []
    if slower:
        sys.exit("slower: " + "; ".join(slower))


if __name__ == "__main__":
    command_line.answer(main)
