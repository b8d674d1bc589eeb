"""The Triton kernels: correctness first, then time and memory beside flash-linear-attention, in one run.

    python benchmarks/kernels.py [--grid targets|full] [--shapes BxTxHxd ...] [--json FILE] [--without-fla] [--compiled]
    python benchmarks/kernels.py --compare OLD.json [--threshold 0.1] [--measured NEW.json]

Needs a GPU for figures that mean something; without one it runs tiny shapes in Triton's interpreter, to show that it
works. Needs `pip install flash-linear-attention==0.6.0` for the comparison. Times are medians of
`triton.testing.do_bench`; memory is the peak beyond what was allocated before the call; "floor" is the time to read the
inputs and write the outputs once at the measured copy bandwidth. Exits with 1 if a result is wrong, or, with
--compare, if one of our medians takes over 10 % (--threshold) more time than in OLD.json, which was measured on the
same GPU model; with --measured nothing is run, and an earlier file takes the place of the new run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"
if importlib.util.find_spec("transformers") is None:  # the operator needs torch and triton only
    package = types.ModuleType("gdn2")
    package.__path__ = [str(ROOT / "gdn2")]
    sys.modules["gdn2"] = package

import command_line  # noqa: E402
import earlier  # noqa: E402
import triton  # noqa: E402

from basis import children  # noqa: E402
from gdn2.ops import gated_delta_rule_2  # noqa: E402
from gdn2.ops.overwriting import overwriting_states  # noqa: E402

DEVICE = "cuda" if CUDA else "cpu"
IDENTITY = ("shape [B, T, H, d_k, d_v]", "dtype", "decode [N, H, d]")  # what makes two rows the same measurement
TOLERANCES = {torch.bfloat16: (8e-3, 1.3e-2), torch.float16: (3e-3, 6e-3), torch.float32: (2e-6, 5e-6)}
Inputs = tuple[torch.Tensor, ...]
Shape = tuple[int, int, int, int, int]
Job = tuple[str, Shape, torch.dtype]


def make_inputs(B: int, T: int, H: int, K: int, V: int, dtype: torch.dtype, decay: float = 0.1) -> Inputs:
    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, device=DEVICE), dim=-1).to(dtype)

    v, w = torch.randn(B, T, H, V, device=DEVICE).to(dtype), torch.rand(B, T, H, V, device=DEVICE).to(dtype)
    g, b = -decay * torch.rand(B, T, H, K, device=DEVICE), torch.rand(B, T, H, K, device=DEVICE).to(dtype)
    return unit(B, T, H, K), unit(B, T, H, K), v, g, b, w


def median_ms(run: Callable[[], Any]) -> float:
    if CUDA:
        return float(triton.testing.do_bench(run, warmup=25, rep=100, quantiles=[0.5]))
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


def peak_mib(run: Callable[[], Any]) -> float | None:
    if not CUDA:
        return None
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def check(shapes: list[Shape], dtypes: list[torch.dtype]) -> list[dict[str, Any]]:
    """Outputs, states and gradients against the recurrence in float64; two runs to the bit."""
    rows = []
    for dtype in dtypes:
        for shape in shapes:
            for decay in (0.1, 2.0):
                inputs = make_inputs(*shape, dtype, decay)
                B, _, H, K, V = shape
                state, d_state = (torch.randn(B, H, K, V, device=DEVICE) for _ in range(2))
                d_o = torch.randn_like(inputs[2])
                ours, again = (_gradients(inputs, state, d_o, d_state, "triton") for _ in range(2))
                exact = _gradients(tuple(x.double() for x in inputs), state.double(), d_o, d_state, "naive")
                errors = [float((a.double() - e).norm() / e.norm()) for a, e in zip(ours, exact, strict=True)]
                forward, backward = TOLERANCES[dtype]
                same = all(torch.equal(a, x) for a, x in zip(ours, again, strict=True))
                right = max(errors[:2]) <= forward and max(errors[2:]) <= backward and same
                name = f"{str(dtype)[6:]} {list(shape)} decay {decay}"
                print(f"{'ok   ' if right else 'WRONG'} {name}: {max(errors[:2]):.1e} forward, {max(errors[2:]):.1e} "
                      f"gradients, {'same' if same else 'other'} bits again", flush=True)  # fmt: skip
                rows.append({"name": name, "forward": max(errors[:2]), "gradients": max(errors[2:]), "right": right})
    return rows


def _gradients(
    inputs: Inputs, state: torch.Tensor, d_o: torch.Tensor, d_state: torch.Tensor, backend: str
) -> list[torch.Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in (*inputs, state)]
    o, last = gated_delta_rule_2(*leaves[:6], initial_state=leaves[6], output_final_state=True, backend=backend)
    assert last is not None
    torch.autograd.backward([o, last], [d_o.to(o.dtype), d_state.to(last.dtype)])
    return [o.detach(), last.detach(), *cast(list[torch.Tensor], [x.grad for x in leaves])]


def long_operators(fla: Any, d: int = 128) -> dict[str, Callable[..., torch.Tensor]]:
    """What reads long inputs, by name: ours and fla's two settings; beside head sizes other than 128 only the one that
    is faster for long inputs, since compiling the candidates of each takes minutes."""

    def ours(*x: torch.Tensor) -> torch.Tensor:
        return gated_delta_rule_2(*x, backend="triton")[0]

    operators: dict[str, Callable[..., torch.Tensor]] = {"ours": ours}
    for safe in () if not fla else (False, True) if d == 128 else (True,):
        operators[f"fla safe_gate={safe}"] = lambda q, k, v, g, b, w, safe=safe: fla.chunk_gdn2(
            q=q, k=k, v=v, g=g, b=b, w=w, scale=q.shape[-1] ** -0.5, safe_gate=safe
        )[0]
    return operators


def decode_operators(N: int, H: int, d: int, dtype: torch.dtype, fla: Any) -> dict[str, Callable[[], Any]]:
    """A step of N sequences: ours, ours writing the state where it was, and fla's."""
    q, k, v, g, b, w = make_inputs(N, 1, H, d, d, dtype)
    state = torch.randn(N, H, d, d, device=DEVICE)

    def ours() -> Any:
        return gated_delta_rule_2(q, k, v, g, b, w, initial_state=state, output_final_state=True, backend="triton")

    def in_place() -> Any:
        with overwriting_states():
            return ours()

    operators = {"ours": ours, "ours in place": in_place}
    if fla:
        operators["fla"] = lambda: fla.fused_recurrent_gdn2(
            q=q, k=k, v=v, g=g, b=b, w=w, scale=d**-0.5, initial_state=state, output_final_state=True
        )
    return operators


def long_row(shape: Shape, dtype: torch.dtype, fla: Any, bandwidth: float | None) -> dict[str, Any]:
    """Forward, forward and backward, and their memory."""
    inputs = make_inputs(*shape, dtype)
    leaves = [x.clone().requires_grad_() for x in inputs]
    d_o = torch.randn_like(inputs[2])

    def backward_of(operator: Callable[..., torch.Tensor]) -> None:
        operator(*leaves).backward(d_o)
        for leaf in leaves:
            leaf.grad = None

    operators = long_operators(fla, shape[-1])
    row: dict[str, Any] = {"shape [B, T, H, d_k, d_v]": list(shape), "dtype": str(dtype)[6:]}
    if bandwidth:
        row["floor forward ms"] = sum(x.nbytes for x in (*inputs, inputs[2])) / bandwidth * 1e3
    for name, operator in operators.items():
        try:
            with torch.no_grad():
                row[f"{name} forward ms"] = median_ms(lambda o=operator: o(*inputs))  # type: ignore[misc]
                row[f"{name} forward MiB"] = peak_mib(lambda o=operator: o(*inputs))  # type: ignore[misc]
            row[f"{name} forward+backward ms"] = median_ms(lambda o=operator: backward_of(o))  # type: ignore[misc]
            row[f"{name} forward+backward MiB"] = peak_mib(lambda o=operator: backward_of(o))  # type: ignore[misc]
        except Exception as error:  # another package's failure is a cell, not the end of the run
            if name == "ours":
                raise
            row[f"{name} failed"] = f"{type(error).__name__}: {str(error)[:200]}"
    return row


def decode_row(N: int, H: int, d: int, fla: Any, bandwidth: float | None) -> dict[str, Any]:
    """One token for N sequences; eager, and as a CUDA graph."""
    operators = decode_operators(N, H, d, torch.bfloat16 if CUDA else torch.float32, fla)
    row: dict[str, Any] = {"decode [N, H, d]": [N, H, d]}
    with torch.no_grad():
        for name, operator in operators.items():
            row[f"{name} eager us"] = 1000 * median_ms(operator)
            if CUDA:
                row[f"{name} graph us"] = 1000 * float(triton.testing.do_bench_cudagraph(operator))
    if bandwidth:
        row["floor us"] = 2 * N * H * d * d * 4 / bandwidth * 1e6
        row["share of copy bandwidth"] = row["floor us"] / row["ours graph us"]
    return row


def compile_ahead(jobs: list[Job]) -> None:
    """Compile what will be timed in as many processes as there are cores: the compilers keep their work on disk. What
    fla chooses from is compiled, and chosen later, with the GPU to itself."""
    if not CUDA:
        return
    started = time.perf_counter()
    os.environ["FLA_CACHE_RESULTS"] = "0"
    with children.pool(min(len(jobs), os.cpu_count() or 1)) as pool:
        list(pool.map(_compile, *zip(*jobs, strict=True)))
    del os.environ["FLA_CACHE_RESULTS"]
    print(f"compiled in {time.perf_counter() - started:.0f} s", flush=True)


def jobs_of(
    shapes: list[Shape], dtypes: list[torch.dtype], lengths: list[Shape],
    steps: list[tuple[int, int]], fla: Any,
) -> list[Job]:  # fmt: skip
    """Every kind of call that is checked or timed, those that take longest to compile first."""
    long = [(name, shape, torch.bfloat16) for shape in _kinds(lengths) for name in long_operators(fla, shape[-1])]
    decode = [(name, (N, 1, 16, d, d), torch.bfloat16) for name in ("ours", "fla")[: 2 if fla else 1] for N, d in steps]
    checked = [("ours", shape, dtype) for shape in shapes for dtype in dtypes]
    checked += [("ours", shape, torch.bfloat16) for shape in _kinds(lengths, shortest=True)]
    return list(dict.fromkeys([*sorted(long, key=lambda job: job[0] == "ours"), *decode, *checked]))


def _compile(name: str, shape: Shape, dtype: torch.dtype) -> None:
    B, T, H, K, V = shape
    shape = (B, min(T, 20000), H, K, V)
    fla: Any = None
    if name != "ours":
        from fla.ops import gdn2

        fla = gdn2
    with contextlib.suppress(Exception):  # what does not run is said where it is timed
        if T == 1:
            decode_operators(B, H, K, dtype, fla)[name]()
            return
        leaves = [x.requires_grad_() for x in make_inputs(*shape, dtype)]
        operator = long_operators(fla, K)[name]
        with torch.no_grad():
            operator(*leaves)
        operator(*leaves).sum().backward()


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """The targets, with the figures. Ratios are to the faster of fla's two settings."""
    lines = []
    for row in rows:
        if "decode [N, H, d]" in row:
            N = row["decode [N, H, d]"][0]
            if "fla eager us" in row and N == 32:
                lines.append(_line("decode, batch 32", row["fla eager us"] / row["ours eager us"], 3))
            if N == 256 and "share of copy bandwidth" in row:
                lines.append(_line("decode, batch 256, share of copy bandwidth", row["share of copy bandwidth"], 0.8))
            continue
        B, T, H, d, _ = row["shape [B, T, H, d_k, d_v]"]
        for kind, least in (("forward", 3.0 if T <= 2048 else 1.3), ("forward+backward", 1.5)):
            theirs = [row[key] for key in row if key.startswith("fla") and key.endswith(f" {kind} ms")]
            if theirs:
                name = f"{kind}, B={B} T={T} H={H} d={d}"
                lines.append(_line(name, min(theirs) / row[f"ours {kind} ms"], least))
        theirs = [row[key] for key in row if key.startswith("fla") and key.endswith("forward+backward MiB")]
        if theirs:
            share = row["ours forward+backward MiB"] / min(theirs)
            lines.append(f"{'met   ' if share <= 0.5 else 'MISSED'} memory, B={B} T={T} H={H} d={d}: {share:.2f} "
                         "of fla's (at most 0.5)")  # fmt: skip
    return lines


def _line(name: str, ratio: float, least: float) -> str:
    return f"{'met   ' if ratio >= least else 'MISSED'} {name}: {ratio:.2f} (at least {least})"


def compare(record: dict[str, Any], old_file: Path, threshold: float = 0.1) -> list[str]:
    """Print new time over old of each of our medians; returns those that take over `threshold` more time."""

    def is_time(key: str) -> bool | None:
        return False if key.startswith("ours") and key.endswith((" ms", " us")) else None

    return earlier.compare(record, old_file, threshold, _identity, is_time)


def _identity(row: earlier.Row) -> str:
    return " ".join(
        str(row[key]) if key != "decode [N, H, d]" else f"decode {row[key]}" for key in IDENTITY if key in row
    )


def describe(fla_version: str | None) -> dict[str, Any]:
    machine = {"gpu": torch.cuda.get_device_name() if CUDA else "none: Triton's interpreter, says nothing of speed",
               "torch": torch.__version__, "triton": triton.__version__, "flash-linear-attention": fla_version,
               "date": time.strftime("%Y-%m-%d"),
               "command": " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *map(_short, sys.argv[1:])])}  # fmt: skip
    if CUDA:
        machine["driver"] = os.popen("nvidia-smi --query-gpu=driver_version --format=csv,noheader").read().strip()
        source = torch.empty(2**29, device=DEVICE)
        target = torch.empty_like(source)
        machine["copy bytes/s"] = 2 * source.nbytes / median_ms(lambda: target.copy_(source)) * 1e3
    return machine


def _short(argument: str) -> str:
    """An argument without the folders of the machine that it was given on."""
    return Path(argument).name if os.sep in argument else argument


def grid_of(name: str) -> tuple[list[Shape], list[tuple[int, int]]]:
    """Shapes [B, T, H, d_k, d_v] of long inputs and (N, d) of decoding steps."""
    if not CUDA:
        return [(1, 70, 2, 16, 16)], [(1, 16)]
    shapes = [(1, T, 16, 128, 128) for T in (2048, 8192, 32768, 131072)]
    steps = [(N, 128) for N in (1, 32, 256)]
    if name == "full":
        most = {64: 2**21, 128: 2**21, 256: 2**20}  # tokens times heads that fit with what fla keeps for gradients
        for d, B, T in itertools.product((128, 256, 64), (1, 4, 16), (512, 2048, 8192, 32768, 131072)):
            if most[d] >= B * T * 16 and (B, T, 16, d, d) not in shapes:
                shapes.append((B, T, 16, d, d))
        steps += [(N, d) for d in (256, 64) for N in (1, 32, 256)]
    return shapes, steps


def shape_of(text: str) -> Shape:
    """A shape [B, T, H, d, d] as the command line has it, 4x8192x16x128."""
    if len(sizes := [command_line.positive(size) for size in text.split("x")]) != 4:
        raise argparse.ArgumentTypeError(f"must be four numbers, such as 4x8192x16x128, got {text!r}")
    B, T, H, d = sizes
    return B, T, H, d, d


def _kinds(shapes: list[Shape], *, shortest: bool = False) -> list[Shape]:
    """The longest, or shortest, of each head size and number of heads: lengths are not compiled in, but few programs
    and many have kernels of their own."""
    return list({(shape[2:]): shape for shape in sorted(shapes, key=lambda s: s[1], reverse=shortest)}.values())


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--grid", choices=["targets", "full"], default="targets")
    parser.add_argument("--shapes", type=shape_of, nargs="+", metavar="BxTxHxd", help="these instead of a grid")
    parser.add_argument("--json", type=command_line.new_file)
    parser.add_argument("--compare", type=command_line.there, metavar="OLD.json")
    parser.add_argument("--threshold", type=float, default=0.1, help="of --compare: how much slower, as a fraction")
    parser.add_argument(
        "--measured", type=command_line.there, metavar="NEW.json", help="compare this file, measure nothing"
    )
    parser.add_argument("--without-fla", action="store_true")
    parser.add_argument("--compiled", action="store_true", help="everything has been compiled by an earlier run")
    arguments = parser.parse_args()
    if arguments.measured:
        if not arguments.compare:
            parser.error("--measured is compared with the file of --compare OLD.json, which is missing")
        finish(json.loads(arguments.measured.read_text(encoding="utf-8")), arguments)
        return
    fla: Any = None
    version = None
    if CUDA and not arguments.without_fla and importlib.util.find_spec("fla"):
        import fla as fla_package
        from fla.ops import gdn2

        fla = gdn2
        version = fla_package.__version__
    torch.manual_seed(0)
    machine = describe(version)
    print(json.dumps(machine, indent=1), flush=True)
    shapes = [(2, 200, 3, 128, 128), (1, 333, 2, 64, 64), (1, 130, 2, 256, 128)] if CUDA else [(1, 70, 2, 16, 8)]
    dtypes = [torch.bfloat16, torch.float16, torch.float32] if CUDA else [torch.float32]
    lengths, steps = (arguments.shapes, []) if arguments.shapes else grid_of(arguments.grid)
    if not arguments.compiled:
        compile_ahead(jobs_of(shapes, dtypes, lengths, steps, fla))
    checks = check(shapes, dtypes)
    if not all(row["right"] for row in checks):
        sys.exit("results are wrong: nothing was timed")
    rows: list[Any] = []
    bandwidth = machine.get("copy bytes/s")
    record: dict[str, Any] = {"machine": machine, "checks": checks, "rows": rows}
    for measure in (
        *(partial(decode_row, N, 16 if CUDA else 2, d, fla, bandwidth) for N, d in steps),
        *(partial(long_row, s, torch.bfloat16 if CUDA else torch.float32, fla, bandwidth) for s in lengths),
    ):
        rows.append(measure())
        print(json.dumps(rows[-1]), flush=True)
        record["verdicts"] = verdicts(rows)
        if arguments.json:  # after each row: a run that is stopped leaves what it had
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    finish(record, arguments)


def finish(record: dict[str, Any], arguments: argparse.Namespace) -> None:
    """The verdicts and, if asked for, the comparison."""
    print("\n".join(record["verdicts"]))
    slower = compare(record, arguments.compare, arguments.threshold) if arguments.compare else []
    if slower:
        sys.exit("slower than in " + "\n  ".join([f"{arguments.compare}:", *slower]))


if __name__ == "__main__":
    command_line.answer(main)
