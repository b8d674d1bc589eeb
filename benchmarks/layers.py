"""One GDN-2 layer as a user meets it, projections to output, beside flash-linear-attention's with the same weights.

    python benchmarks/layers.py [--json FILE] [--without-fla] [--without-model] [--profile]

Correctness first: both layers in bfloat16 against our layer in float64 on the CPU. Then the time of reading a prompt
and of one decoding step (eager, and for ours as a CUDA graph), medians of `triton.testing.do_bench`, and the same of a
whole 1.3B model of random weights, ours alone. `--profile` adds where the model's time goes, by kernel. Needs a GPU for
figures that mean something; without one it runs a tiny layer to show that it works. Exits with 1 if our layer is wrong.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import command_line
import kernels

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.decoding import Decoding
from gdn2.mixers import MIXERS

CUDA, DEVICE = kernels.CUDA, kernels.DEVICE
TOLERANCE = 3e-2  # bfloat16 weights, inputs and projections: relative L2 of the layer's output
WIDTH, HEADS = (2048, 16) if CUDA else (32, 2)
DIM = 128 if CUDA else 16


def config(**fields: Any) -> GDN2Config:
    sizes = {"hidden_size": WIDTH, "num_heads": HEADS, "head_dim": DIM, "num_hidden_layers": 1, "vocab_size": 256}
    return GDN2Config(**(sizes | fields))


def our_layer() -> Any:
    """A mixer with weights as a fresh model has them, but for larger projections: gates that are not all alike."""
    torch.manual_seed(0)
    layer = GDN2ForCausalLM(config(initializer_range=1.5 * WIDTH**-0.5)).model.layers[0].mixer
    return layer.requires_grad_(False).eval()


def in_bfloat16(layer: Any) -> Any:
    """On the device; decays stay in float32."""
    kept = {name: getattr(layer, name).data.clone() for name in ("A_log", "dt_bias")}
    layer = layer.to(DEVICE, torch.bfloat16)
    for name, value in kept.items():
        getattr(layer, name).data = value.to(DEVICE)
    return layer


def their_layer(ours: Any) -> Any:
    from fla.layers.gdn2 import GatedDeltaNet2

    layer = GatedDeltaNet2(hidden_size=WIDTH, head_dim=DIM, num_heads=HEADS, layer_idx=0, norm_eps=ours.o_norm.eps)
    layer.load_state_dict(ours.state_dict())
    return in_bfloat16(layer.requires_grad_(False).eval())


def check(ours: Any, theirs: Any | None) -> bool:
    """Both layers against ours in float64: a prompt, then decoding steps."""
    exact = MIXERS["gdn2"](config()).double()
    exact.load_state_dict({name: value.double().cpu() for name, value in ours.state_dict().items()})
    x = torch.randn(2, 204, WIDTH).to(torch.bfloat16)
    with torch.no_grad():
        expected = exact(x.double(), exact.empty_state(2), None)[0]
        results = {"ours": _in_steps(ours, x.to(DEVICE))}
        if theirs is not None:
            results["fla"] = torch.cat([theirs(x[:, :200].to(DEVICE))[0], _their_steps(theirs, x.to(DEVICE))], dim=1)
    right = True
    for name, found in results.items():
        error = float((found.cpu().double() - expected).norm() / expected.norm())
        ok = error <= TOLERANCE
        right = right and (ok or name != "ours")
        print(f"{'ok   ' if ok else 'WRONG'} {name}: {error:.1e} against float64", flush=True)
    return right


def _in_steps(layer: Any, x: torch.Tensor) -> torch.Tensor:
    outputs, state = [], layer.empty_state(len(x))
    for part in [x[:, :200], *x[:, 200:].split(1, dim=1)]:
        y, state = layer(part, state, None)
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def _their_steps(layer: Any, x: torch.Tensor) -> torch.Tensor:
    cache = _their_cache()
    layer(x[:, :200], past_key_values=cache, use_cache=True)
    return torch.cat([layer(part, past_key_values=cache, use_cache=True)[0] for part in x[:, 200:].split(1, dim=1)], 1)


def _their_cache() -> Any:
    from fla.models.utils import Cache

    return Cache()


def layer_rows(ours: Any, theirs: Any | None) -> list[dict[str, Any]]:
    rows: list[Any] = []
    for B, T in [(1, 2048), (1, 8192), (1, 32768), (8, 4096)] if CUDA else [(2, 70)]:
        x = torch.randn(B, T, WIDTH, device=DEVICE, dtype=torch.bfloat16)
        start = ours.empty_state(B)
        row: dict[str, Any] = {"layer, prompt [B, T]": [B, T]}
        _measure(row, "ours", lambda x=x, start=start: ours(x, start, None))  # type: ignore[misc]
        if theirs is not None:
            _measure(row, "fla", lambda x=x: theirs(x, past_key_values=_their_cache(), use_cache=True))  # type: ignore[misc]
        _keep(rows, row)
    for B in (1, 32, 256) if CUDA else (1,):
        x = torch.randn(B, 1, WIDTH, device=DEVICE, dtype=torch.bfloat16)
        start = ours(x, ours.empty_state(B), None)[1]
        row = {"layer, decode [B]": B}
        _measure(row, "ours", lambda x=x, start=start: ours(x, start, None), graph=True)  # type: ignore[misc]
        if theirs is not None:
            cache = _their_cache()
            theirs(x, past_key_values=cache, use_cache=True)
            _measure(row, "fla", lambda x=x, cache=cache: theirs(x, past_key_values=cache, use_cache=True))  # type: ignore[misc]
        _keep(rows, row)
    return rows


def model_rows(profile: bool) -> list[dict[str, Any]]:
    """The 1.3B model of the paper with random weights."""
    torch.manual_seed(0)
    settings = GDN2Config.from_preset("gdn2_1.3B") if CUDA else config(intermediate_size=32, num_hidden_layers=2)
    with torch.device(DEVICE):
        model = GDN2ForCausalLM(settings).eval().requires_grad_(False)
    model = model.to(torch.bfloat16)
    rows: list[Any] = []
    for B, T in [(1, 8192), (8, 4096)] if CUDA else [(2, 70)]:
        ids = torch.randint(0, 200, (B, T), device=DEVICE)
        row: dict[str, Any] = {"model, prompt [B, T]": [B, T]}
        _measure(row, "ours", lambda ids=ids: model(ids, logits_to_keep=1, use_cache=True))  # type: ignore[misc]
        row["ours tokens/s"] = B * T / row["ours ms"] * 1000
        _keep(rows, row)
        if profile:
            _profile(lambda ids=ids: model(ids, logits_to_keep=1, use_cache=True), f"prompt {B} x {T}")  # type: ignore[misc]
    for B in (1, 32, 256) if CUDA else (1,):
        ids = torch.randint(0, 200, (B, 1), device=DEVICE)
        state = model(ids, use_cache=True).past_key_values
        row = {"model, decode [B]": B}
        _measure(row, "ours", lambda ids=ids, state=state: model(ids, past_key_values=state, use_cache=True))  # type: ignore[misc]
        decoding = Decoding(model.model)
        _measure(row, "ours, as the engine does it,", _stepper(decoding, ids[:, 0], state))
        row["ours tokens/s"] = B / row["ours, as the engine does it, ms"] * 1000
        _keep(rows, row)
        if profile:
            _profile(lambda ids=ids, state=state: model(ids, past_key_values=state, use_cache=True), f"decode {B}")  # type: ignore[misc]
    return rows


def _keep(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    if "fla ms" in row:
        row["ratio"] = row["fla ms"] / row["ours ms"]
    rows.append(row)
    print(json.dumps(row), flush=True)


def _stepper(decoding: Decoding, tokens: torch.Tensor, state: Any) -> Callable[[], Any]:
    """A step that goes on from the one before."""
    held = [state]

    def step() -> None:
        _, held[0] = decoding.step(tokens, held[0])

    return step


def _measure(row: dict[str, Any], name: str, run: Callable[[], Any], *, graph: bool = False) -> None:
    with torch.no_grad():
        row[f"{name} ms"] = kernels.median_ms(run)
        row[f"{name} MiB"] = kernels.peak_mib(run)
        if graph and CUDA:
            row[f"{name} graph ms"] = float(kernels.triton.testing.do_bench_cudagraph(run))


def _profile(run: Callable[[], Any], title: str) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if CUDA else [])]
    with torch.no_grad(), profiler(activities=activities) as found:
        run()
    by = "self_cuda_time_total" if CUDA else "self_cpu_time_total"
    print(f"--- {title}\n" + found.key_averages().table(sort_by=by, row_limit=22, max_name_column_width=60), flush=True)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--json", type=command_line.new_file)
    parser.add_argument("--without-fla", action="store_true")
    parser.add_argument("--without-model", action="store_true")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    version = None
    if CUDA and not arguments.without_fla and importlib.util.find_spec("fla"):
        version = importlib.import_module("fla").__version__
    ours = our_layer()
    theirs = their_layer(ours) if version else None
    ours = in_bfloat16(ours)
    if not check(ours, theirs):
        sys.exit("our layer is wrong: nothing was timed")
    rows = layer_rows(ours, theirs)
    rows += [] if arguments.without_model else model_rows(arguments.profile)
    if arguments.json:
        record = {"machine": kernels.describe(version), "rows": rows}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command_line.answer(main)
