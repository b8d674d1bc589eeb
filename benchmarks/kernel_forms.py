"""Kernels beside those that ship: forms of a chunk, tiles and segments, each checked, timed alone and in whole calls.

    python benchmarks/kernel_forms.py [--dims 128 256 64] [--backward 128] [--seconds 240] [--json FILE]
    python benchmarks/kernel_forms.py --ahead [--arch 90]

First every plan is compiled, one process a core, and checked on small inputs: against the recurrence in float64, with
mild and strong decay, and two runs to the bit. Then the kernels are timed alone at one shape, tile by tile, and whole
forward passes of the best of them, form by form and with segments of several sizes, beside today's; last, the backward
pass. What is over after --seconds is left out, and said. --ahead needs no GPU: registers, spills and shared memory of
everything that would be timed. Without a GPU a tiny shape runs in Triton's interpreter.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if "--ahead" in sys.argv:  # compiled, where `kernels` would ask for the interpreter
    import triton.language

from kernels import CUDA, DEVICE, Shape, describe, make_inputs

import torch  # isort: skip
import triton  # isort: skip

if "--ahead" in sys.argv:
    os.environ.pop("TRITON_INTERPRET", None)

from gdn2.ops.naive import naive_gated_delta_rule_2
from gdn2.ops.triton import choice, triton_gated_delta_rule_2
from gdn2.ops.triton.aot.binaries import disassemble
from gdn2.ops.triton.aot.instructions import unwritten_registers
from gdn2.ops.triton.forms import FORMS
from gdn2.ops.triton.kernel_set import FEW_PROGRAMS, KernelSet
from gdn2.ops.triton.layout import SEGMENT_TOKEN_HEADS
from gdn2.ops.triton.tiles import Tile
from gdn2.ops.triton.variants import (
    KEY_GRADIENTS,
    PREPARE,
    PREPARE_BACKWARD,
    SCAN_FORMS,
    SCAN_FORMS_WIDE,
    SCAN_OUTPUT,
    SCAN_OUTPUT_WIDE,
    Variant,
)

Tiles = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # by the name of a variant; items, so that they can be keys
TOLERANCE, GRADIENTS = 8e-3, 1.5e-2
PATIENCE = 170.0  # seconds for the compilation and check of all plans
SIZES = (SEGMENT_TOKEN_HEADS, SEGMENT_TOKEN_HEADS // 2, SEGMENT_TOKEN_HEADS // 4, SEGMENT_TOKEN_HEADS * 2)
FORMS_OF = {128: list(FORMS), 256: ["maps", "writes", "late"], 64: ["maps", "maps_by_value", "late"]}
SHAPES: dict[int, list[Shape]] = {
    128: [(1, 8192, 16, 128, 128), (1, 32768, 16, 128, 128), (1, 131072, 16, 128, 128), (4, 8192, 16, 128, 128)],
    256: [(1, 8192, 16, 256, 256), (4, 8192, 16, 256, 256)],
    64: [(1, 8192, 16, 64, 64), (4, 8192, 16, 64, 64), (16, 2048, 16, 64, 64)],
}


@dataclass(frozen=True)
class Plan:
    """One way to run the operator.

    Attributes:
        form: a key of FORMS.
        token_heads: of a segment.
        few: up to so many programs the narrow scan runs.
        tiles: of the variants that do not have those that ship.
    """

    form: str = "maps"
    token_heads: int = SEGMENT_TOKEN_HEADS
    few: int = FEW_PROGRAMS
    tiles: Tiles = ()

    def kernels(self, K: int, V: int, on_launch: Any = None) -> KernelSet:
        chosen = {name: dict(tile) for name, tile in self.tiles}

        def choose(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
            return chosen.get(variant.name) or choice.tile_for(variant, KP, VP, precision, device)

        return KernelSet(
            K, V, "bf16" if CUDA else "tf32x3", torch.device(DEVICE, 0) if CUDA else torch.device("cpu"),
            choose_tile=choose, few_programs=self.few, form=FORMS[self.form], token_heads=self.token_heads,
            on_launch=on_launch,
        )  # fmt: skip

    def with_tile(self, variant: Variant, tile: Tile) -> Plan:
        return replace(self, tiles=(*self.tiles, (variant.name, tuple(tile.items()))))

    def __str__(self) -> str:
        tiles = "; ".join(f"{name} {short(dict(tile))}" for name, tile in self.tiles)
        return f"{self.form}, segments {self.token_heads // 1024}K, few {self.few}" + (f"; {tiles}" if tiles else "")


def short(tile: Tile) -> str:
    names = {"num_warps": "w", "num_stages": "s", "maxnreg": "r", "PRODUCTS": "sums", "KEPT": "kept"}
    return " ".join(f"{names.get(name, name)}{value}" for name, value in tile.items())


def prepare_tiles(d: int) -> list[Tile]:
    """Tiles of `prepare`, for any form: the one that ships, what is new in it, and more programs a multiprocessor."""
    if not CUDA and d == 16:
        return [{"BK": 16, "BN": 16, "BT": 16, "num_warps": 4, "num_stages": 1, "KEPT": 1, "PRODUCTS": 1}]
    BN = 64 if d == 64 else 128
    base = {"BK": 32, "BN": BN, "BT": 64, "num_warps": 4, "num_stages": 2}
    if d == 256:
        less = base | {"KEPT": 1, "BN": 64}
        tiles = [base, base | {"KEPT": 1}, base | {"KEPT": 1, "PRODUCTS": 1}, less | {"maxnreg": 168}]
        return [*tiles, less | {"PRODUCTS": 1, "BK": 16, "maxnreg": 168}, less | {"maxnreg": 128}]
    kept, sums = {"KEPT": 1}, {"KEPT": 1, "PRODUCTS": 1}
    narrow = base | {"BK": 16, "BN": 64}
    tiles = [base | {"maxnreg": 168}, base | kept | {"maxnreg": 168}]
    tiles += [base | sums | {"maxnreg": 168}, base | sums, narrow | sums | {"BN": BN, "maxnreg": 168}]
    tiles += [narrow | fields | {"maxnreg": 128} for fields in (kept, sums)]
    tiles += [base | fields | {"BN": 64, "maxnreg": 128} for fields in ({}, kept)]
    tiles += [base | {"PRODUCTS": 1, "maxnreg": 168}, base | sums | {"num_stages": 3, "maxnreg": 168}]
    if d == 64:
        tiles += [narrow | sums | {"maxnreg": 96}, narrow | kept | {"maxnreg": 96}]
    return tiles


def scan_tiles(form: str, d: int) -> list[Tile]:
    """Tiles of the scan that fit a form and a head size."""
    if not CUDA and d == 16:
        return [{"BV": 16, "num_warps": 4, "num_stages": 1}]
    by_value = FORMS[form].value_first
    if d == 256:
        found = {"maps": [(32, 8, 1), (16, 8, 1)], "writes": [(32, 8, 2), (32, 4, 2)], "late": [(64, 8, 1), (16, 8, 2)]}
        return [dict(zip(("BV", "num_warps", "num_stages"), tile, strict=True)) for tile in found[form]]
    if by_value:
        found_any = [(64, 4, 3), (64, 4, 2)] + ([(64, 4, 4)] if d == 64 else [])
    else:
        found_any = [(16, 4, 3), (32, 4, 3), (64, 4, 3), (64, 8, 3)] + ([(16, 4, 4)] if form != "late" else [])
        found_any += [(32, 4, 4), (64, 4, 2)] if d == 64 else []
    return [dict(zip(("BV", "num_warps", "num_stages"), tile, strict=True)) for tile in found_any]


def scans_of(form: str) -> tuple[Variant, Variant]:
    return (SCAN_OUTPUT, SCAN_OUTPUT_WIDE) if form == "maps" else (SCAN_FORMS, SCAN_FORMS_WIDE)


def parts(d: int) -> list[tuple[Plan, Variant, Tile]]:
    """Every kernel to be timed alone, with the plan that runs it."""
    found = []
    for form in FORMS_OF[d] if CUDA or d != 16 else list(FORMS):
        first, tiles = scan_tiles(form, d)[0], prepare_tiles(d)
        narrow, wide = scans_of(form)
        plan = Plan(form) if form == "maps" else Plan(form).with_tile(narrow, first).with_tile(wide, first)
        for tile in tiles[: len(tiles) if form in ("maps", "late") else 6 if d == 256 else 3]:
            found.append((plan.with_tile(PREPARE, tile), PREPARE, tile))
        for tile in scan_tiles(form, d):
            plan = Plan(form, few=1 << 30).with_tile(narrow, tile)
            found.append((plan, narrow, tile))
    return found


def backward_plans(d: int) -> list[Plan]:
    """The backward pass with sums as products and the inverse in registers."""
    plan, device = Plan(), torch.device("cuda", 0)
    base = choice.tile_for(PREPARE_BACKWARD, d, d, "bf16", device)
    keys = choice.tile_for(KEY_GRADIENTS, d, d, "bf16", device)
    tiles = [base | {"KEPT": 1}, base | {"KEPT": 1, "PRODUCTS": 1}, base | {"KEPT": 1, "PRODUCTS": 1, "maxnreg": 168}]
    found = [plan, *(plan.with_tile(PREPARE_BACKWARD, tile) for tile in tiles)]
    narrow = keys | {"BK": 32}
    tiles = [keys | {"PRODUCTS": 1}, keys | {"PRODUCTS": 2}, narrow, narrow | {"PRODUCTS": 2}, narrow | {"PRODUCTS": 3}]
    found += [plan.with_tile(KEY_GRADIENTS, tile) for tile in tiles]
    return list(dict.fromkeys(found))


def run(plan: Plan, inputs: Iterable[torch.Tensor], kernels: KernelSet | None = None, state: Any = None) -> Any:
    q, k, v, g, b, w = inputs
    kernels = kernels or plan.kernels(q.shape[-1], v.shape[-1])
    return triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, state, kernels=kernels)


def gradients(plan: Plan, inputs: Iterable[torch.Tensor], backend: Callable[..., Any]) -> list[torch.Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    o, last = backend(plan, leaves)
    rng = torch.Generator().manual_seed(1)
    torch.autograd.backward([o, last], [torch.randn(x.shape, generator=rng).to(x) for x in (o, last)])
    return [x.grad for x in leaves if x.grad is not None]


def forward_and_backward(plan: Plan, leaves: list[torch.Tensor], kernels: KernelSet, d_o: torch.Tensor) -> None:
    run(plan, leaves, kernels)[0].backward(d_o)
    for leaf in leaves:
        leaf.grad = None


def exactly(plan: Plan, inputs: Iterable[torch.Tensor], state: Any = None) -> Any:
    del plan
    q, k, v, g, b, w = (x.double() for x in inputs)
    state = q.new_zeros(len(q), q.shape[2], q.shape[3], v.shape[3]) if state is None else state.double()
    return naive_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, state)


def fault_of(plan: Plan, d: int, backward: bool = False) -> str:
    """What is wrong with a plan on small inputs; empty if nothing is. Compiles its kernels."""
    kernels = plan.kernels(d, d)
    try:
        for decay, with_state in ((0.1, True), (2.0, False), *(() if backward else ((6.0, True),))):
            torch.manual_seed(0)
            inputs = make_inputs(
                2, 200 if CUDA else 40, 3 if CUDA else 1, d, d, torch.bfloat16 if CUDA else torch.float32, decay
            )
            state = torch.randn(2, inputs[0].shape[2], d, d, device=DEVICE) if with_state else None
            if backward:
                ours, again = (gradients(plan, inputs, partial(run, kernels=kernels)) for _ in range(2))
                exact, most = gradients(plan, [x.double() for x in inputs], exactly), GRADIENTS
            else:
                with torch.no_grad():
                    ours, again = (run(plan, inputs, kernels, state) for _ in range(2))
                    exact, most = exactly(plan, inputs, state), TOLERANCE
            errors = [float((a.double() - e).norm() / e.norm()) for a, e in zip(ours, exact, strict=True)]
            if not max(errors) <= most:  # NaN is not
                return f"wrong by {max(errors):.1e} at decay {decay}"
            if not all(map(torch.equal, ours, again)):
                return f"other bits in a second run at decay {decay}"
    except Exception as error:  # a plan that does not compile is a result
        return f"{type(error).__name__}: {str(error)[:160]}"
    return unwritten(kernels)


def unwritten(kernels: KernelSet) -> str:
    """Says whether a binary reads registers that nothing wrote, a fault of some compilers; empty if not."""
    for launcher, _ in kernels._launchers.values():
        if launcher.compiled is not None and torch.cuda.get_device_capability() == (9, 0):
            found = unwritten_registers(disassemble(launcher.compiled.asm["cubin"])[1])
            if found:
                return f"{launcher.kernel.__name__} reads what nothing wrote: {', '.join(found)}"
    return ""


Job = tuple[Plan, int, bool]


def faults(jobs: list[Job]) -> dict[Job, str]:
    """The faults of every plan, found in one process a core; what failed beside a broken plan is tried once more."""
    if not CUDA:
        return {job: fault_of(*job) for job in jobs}
    found = in_processes(jobs, None)
    again = [job for job, fault in found.items() if "CUDA" in fault]
    return found | (in_processes(again, 1) if again else {})


def in_processes(jobs: list[Job], tasks: int | None) -> dict[Job, str]:
    """Runs `fault_of`; each process ends after so many `tasks`. What takes too long is a fault."""
    end = time.monotonic() + PATIENCE
    workers = min(len(jobs), os.cpu_count() or 1, 14)
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=tasks) as pool:
        pending = {job: pool.apply_async(fault_of, job) for job in jobs}
        return {job: result_in_time(result, end) for job, result in pending.items()}


def result_in_time(result: Any, end: float) -> str:
    try:
        return str(result.get(timeout=max(0.1, end - time.monotonic())))
    except multiprocessing.TimeoutError:
        return f"nothing after {PATIENCE:.0f} s"


def milliseconds(call: Callable[[], Any], rep: int = 40) -> float:
    if CUDA:
        return float(triton.testing.do_bench(call, warmup=10, rep=rep, quantiles=[0.5]))
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def alone(plan: Plan, variant: Variant, inputs: tuple[torch.Tensor, ...]) -> float:
    """Milliseconds of one kernel of a plan at the launch that a whole call makes of it."""
    seen: list[Callable[[], None]] = []

    def record(launched: Variant, slots: int, arguments: tuple[Any, ...], flags: dict[str, bool]) -> None:
        if launched == variant and not seen:
            seen.append(partial(kernels.launch, launched, slots, *arguments, **flags))

    kernels = plan.kernels(inputs[0].shape[-1], inputs[2].shape[-1], record)
    with torch.no_grad():
        run(plan, inputs, kernels)
    return milliseconds(seen[0])


class Timed(NamedTuple):
    """A kernel of a form with a tile, and its milliseconds alone."""

    form: str
    variant: Variant
    tile: Tile
    ms: float


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() > self.end


def plans_of(d: int, times: list[Timed]) -> list[Plan]:
    """Whole calls: each form with its fastest `prepare`, its three fastest scans, and segments of several sizes."""
    found = [Plan(), *(Plan(token_heads=size) for size in SIZES[1:])]
    for form in FORMS_OF.get(d, list(FORMS)):
        of_form = sorted((row for row in times if row.form == form), key=lambda row: row.ms)
        prepares = [row.tile for row in of_form if row.variant == PREPARE]
        scans = [row.tile for row in of_form if row.variant != PREPARE]
        if not prepares or not scans:
            continue
        narrow, wide = scans_of(form)
        plan = Plan(form).with_tile(PREPARE, prepares[0]).with_tile(narrow, scans[0])
        found += [
            replace(plan.with_tile(wide, tile), token_heads=size) for tile, size in itertools.product(scans[:3], SIZES)
        ]
    return list(dict.fromkeys(found))


def measure(d: int, wrong: dict[Job, str], clock: Clock, record: dict[str, Any], save: Callable[[], None]) -> None:
    """All of one head size: kernels alone, whole forward passes, and the backward pass."""
    shapes = SHAPES[d] if CUDA else [(1, 70, 1, d, d)]
    jobs, backward = parts(d), [plan for plan, size, gradients in wrong if gradients and size == d]
    print(f"d = {d}", flush=True)
    rows: list[dict[str, Any]] = record.setdefault(f"d = {d}", [])
    for (plan, size, of_gradients), fault in wrong.items():
        if fault and size == d:
            print(f"  LEFT OUT {'backward, ' if of_gradients else ''}{plan}: {fault}", flush=True)
            rows.append({"plan": str(plan), "fault": fault})
    dtype = torch.bfloat16 if CUDA else torch.float32
    inputs = make_inputs(*shapes[0], dtype)
    times: list[Timed] = []
    for variant in (PREPARE, SCAN_OUTPUT_WIDE if d == 256 else SCAN_OUTPUT):
        us = 1000 * alone(Plan(), variant, inputs)
        print(f"  alone, today: {variant.name:<18} {us:7.1f} us", flush=True)
        rows.append({"alone": variant.name, "plan": "today", "us": us})
    for plan, variant, tile in jobs:
        if not wrong[plan, d, False] and not clock.is_over():
            times.append(Timed(plan.form, variant, tile, alone(plan, variant, inputs)))
            rows.append({"alone": variant.name, "form": plan.form, "tile": tile, "us": 1000 * times[-1].ms})
    for row in sorted(times, key=lambda row: (row.form, row.variant.name, row.ms)):
        print(f"  alone: {row.form:<16} {row.variant.name:<14} {1000 * row.ms:7.1f} us  {short(row.tile)}", flush=True)
    save()
    del inputs
    whole(d, shapes, plans_of(d, times), dtype, clock, rows)
    save()
    for plan in backward:
        if not wrong[plan, d, True] and not clock.is_over():
            leaves = [x.requires_grad_() for x in make_inputs(*shapes[0], dtype)]
            kernels, d_o = plan.kernels(d, d), torch.randn_like(leaves[2])
            ms = milliseconds(partial(forward_and_backward, plan, leaves, kernels, d_o))
            print(f"  forward+backward {list(shapes[0])}: {ms:.3f} ms  {plan}", flush=True)
            rows.append({"shape": list(shapes[0]), "plan": str(plan), "forward+backward ms": ms})
    save()


def whole(
    d: int, shapes: list[Shape], plans: list[Plan], dtype: torch.dtype, clock: Clock, rows: list[dict[str, Any]]
) -> None:
    """Whole forward passes; of shapes beyond the second only the plans that did best so far, and today's."""
    scores: dict[Plan, float] = {}
    for i, shape in enumerate(shapes):
        inputs = make_inputs(*shape, dtype)
        with torch.no_grad():
            expected, table = run(Plan(), inputs), []
            few = sorted(scores, key=lambda plan: scores[plan])[:8]
            for plan in plans if i < 2 else [plans[0], *(plan for plan in few if plan != plans[0])]:
                if clock.is_over():
                    print("  out of time", flush=True)
                    break
                kernels = plan.kernels(d, d)
                found = run(plan, inputs, kernels)
                error = max(
                    float((a - e).float().norm() / e.float().norm()) for a, e in zip(found, expected, strict=True)
                )
                ms = milliseconds(partial(run, plan, inputs, kernels))
                table.append((ms, error, plan))
                rows.append({"shape": list(shape), "plan": str(plan), "forward ms": ms, "from today's": error})
        today = next((ms for ms, _, plan in table if plan == plans[0]), float("nan"))
        for ms, _, plan in table:
            scores[plan] = scores.get(plan, 1.0) * ms / today
        for ms, error, plan in sorted(table, key=lambda row: row[0])[: 10 if i else 14] + [
            row for row in table if row[2] == plans[0]
        ]:
            verdict = "" if error <= 2 * TOLERANCE else f"  WRONG by {error:.1e}"
            print(f"  {list(shape)[:4]}: {ms:7.3f} ms, {today / ms:4.2f} of today's speed  {plan}{verdict}", flush=True)
        del inputs, expected


def ahead(dims: list[int], arch: int) -> None:
    """What the assembler says of everything that would be timed."""
    import warnings

    from gdn2.ops.triton.aot.binaries import KernelSource, compile_source
    from gdn2.ops.triton.tiles import shared_memory_limit

    warnings.simplefilter("ignore")
    print(f"Triton {triton.__version__}, sm_{arch}; shared memory up to {shared_memory_limit(arch)} bytes")
    seen = set()
    for d in dims:
        for plan, variant, tile in parts(d):
            source = KernelSource(variant, arch, d, d, "bf16", tuple(tile.items()), form=plan.form)
            if source.key in seen:
                continue
            seen.add(source.key)
            name = f"{d} {plan.form:<16} {variant.name:<14} {short(tile):<44}"
            try:
                c = compile_source(source)
            except Exception as error:  # a tile that does not compile is a result
                print(f"{name} {type(error).__name__}: {str(error)[:100]}", flush=True)
                continue
            marks = "" if c.fits else "  TOO LARGE"
            marks += f"  UNWRITTEN {c.unwritten}" if c.unwritten else ""
            print(f"{name} {c.registers:3} registers {c.spilled_bytes:4} spilled {c.shared_bytes:6} shared "
                  f"{c.wgmma:3} wgmma{marks}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 256, 64] if CUDA else [16])
    parser.add_argument("--backward", type=int, nargs="*", default=[128], help="of --dims: also the backward pass")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ahead", action="store_true")
    parser.add_argument("--arch", type=int, default=90)
    arguments = parser.parse_args()
    if arguments.ahead:
        ahead(arguments.dims, arguments.arch)
        return
    record: dict[str, Any] = {"machine": describe(None)}
    clock = Clock(arguments.seconds)

    def save() -> None:
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    jobs = [(plan, d, True) for d in arguments.backward for plan in (backward_plans(d) if CUDA else [])]
    jobs += [(plan, d, False) for d in arguments.dims for plan, _, _ in parts(d)]
    started = time.monotonic()
    wrong = faults(list(dict.fromkeys(jobs)))
    print(f"{len(wrong)} plans compiled and checked in {time.monotonic() - started:.0f} s", flush=True)
    for d in arguments.dims:
        measure(d, wrong, clock, record, save)
    if clock.is_over():
        sys.exit("not everything was measured: give it more --seconds, or fewer --dims")


if __name__ == "__main__":
    main()
