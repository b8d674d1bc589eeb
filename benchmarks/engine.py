"""The engine beside lm-eval's HFLM on one checkpoint, in one run: time, tokens, memory, resume, workers, sharing.

    python benchmarks/engine.py [CHECKPOINT] [--only choice needle essays questions memory resume workers tasks]
                                [--device cuda] [--repeats 3] [--json FILE]
    python benchmarks/engine.py --only attention --attention OURS TRANSFORMERS

Each part first checks that both give the same results. Ratios are medians over `--repeats` runs in turn. The figures go
to `benchmarks/results/{date}_engine_{device}.json`. Needs `pip install -e '.[dev]'`; the part `workers` needs `.[ray]`
too, and with `--device cuda` a GPU for each of two workers. The part `attention` compares with transformers' own model:
`--attention` takes the imported folder and the one that it was imported from.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import attention_beside
import command_line
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from rich.console import Console
from rich.table import Table
from workloads import choices, needles, prompts, with_vocabulary

from basis.children import end_with
from gdn2.checkpoints import read_config
from harness.engine import resident
from harness.engine.meter import NullProgress
from harness.lm.model import GDN2LM
from harness.records.machine import describe
from harness.runs import together
from harness.runs.census import count
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run
from tasks.text.tokenizers import load_tokenizer

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "gdn2" / "zoo"
RESULTS = ROOT / "benchmarks" / "results"
SUITES = ("quick", "ruler_table3", "retrieval-offline")
WINDOW = 4096
PARTS = ("choice", "needle", "essays", "questions", "memory", "resume", "workers", "tasks", "attention")


def timed(run: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[Any, float]:
    started = clock()
    result = run()  # in tokens and numbers on the CPU: nothing is left to wait for on a GPU
    return result, clock() - started


def beside(
    name: str, asked: list[Instance], ours: GDN2LM, theirs: HFLM, repeats: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Seconds of both by a clock, in turn, and how far the results are apart."""
    kind = asked[0].request_type
    seconds: list[tuple[float, float]] = []
    executor: Any = ours.engine.executor  # in this process: it has a reader
    for _ in range(repeats + 1):  # the first one is to warm up
        before = executor.reader.tokens_read
        mine, my_seconds = timed(lambda: getattr(ours, kind)(asked, disable_tqdm=True), clock)
        read = executor.reader.tokens_read - before
        other, their_seconds = timed(lambda: getattr(theirs, kind)(asked, disable_tqdm=True), clock)
        seconds.append((my_seconds, their_seconds))
    seconds = seconds[1:]
    if kind == "generate_until":
        same = f"{sum(a == b for a, b in zip(mine, other, strict=True))} of {len(asked)} texts equal"
    else:
        same = f"{max(abs(a[0] - b[0]) for a, b in zip(mine, other, strict=True)):.1e} nats apart at most"
    return {
        "part": name,
        "requests": len(asked),
        "agreement": same,
        "ours_seconds": statistics.median(mine for mine, _ in seconds),
        "hflm_seconds": statistics.median(theirs for _, theirs in seconds),
        "ratio": statistics.median(theirs / mine for mine, theirs in seconds),
        "prompt_tokens_read": read,
    }


def compare(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The parts that compare times, as they are finished."""
    wanted = [part for part in ("choice", "needle", "essays", "questions") if part in args.only]
    if not wanted:
        return
    common = common_arguments(args, WINDOW)
    ours, theirs = GDN2LM(**common), HFLM(batch_size=args.batch, **common)
    asked = {
        "choice": lambda: choices(ours.tokenizer, args.documents),
        "needle": lambda: needles(ours.tokenizer, args.prompts),
        "essays": lambda: prompts(ours.tokenizer, args.prompts),
        "questions": lambda: prompts(ours.tokenizer, args.prompts, questions=8),
    }
    for part in wanted:
        yield beside(part, asked[part](), ours, theirs, args.repeats, time.perf_counter)


def attention(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """An attention model beside transformers' own code: decoding steps, then texts.

    One thread of a CPU is timed by its own clock: work of others on the machine then hardly counts.
    """
    if "attention" not in args.only or not args.attention:
        return
    native, foreign = args.attention
    clock = time.process_time if args.device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    ours, theirs = attention_beside.models(native, foreign, common_arguments(args, WINDOW), args.batch)
    yield attention_beside.steps(ours.model, theirs.model, clock)
    for name, asked in attention_beside.workloads(ours.tokenizer).items():
        yield beside(f"attention: {name}", asked, ours, theirs, args.repeats, clock)


def common_arguments(args: argparse.Namespace, max_length: int) -> dict[str, Any]:
    """What ours and HFLM are both given."""
    given = {"pretrained": args.checkpoint, "device": args.device, "dtype": args.dtype}
    return {**given, "max_length": max_length}


def peak_mb(model: str, args: argparse.Namespace, length: int) -> float:
    """Peak memory of a fresh process that scores one text of `length` tokens."""
    command = [sys.executable, __file__, args.checkpoint, "--device", args.device, "--dtype", args.dtype]
    command += ["--peak", model, str(length)]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(out.stdout.split()[-1])


def score_one(model: str, args: argparse.Namespace, length: int) -> None:
    """Score one text and print the peak memory in MB (10**6 bytes): of the process, or of the GPU's allocator."""
    common = common_arguments(args, length + 1)
    lm: Any = GDN2LM(**common) if model == "ours" else HFLM(batch_size=1, **common)
    ids = [i % (lm.tokenizer.vocab_size - 10) + 5 for i in range(length)]
    on_gpu = args.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    lm._loglikelihood_tokens([(("", ""), ids[:1], ids[1:])], disable_tqdm=True)
    print((torch.cuda.max_memory_allocated() if on_gpu else resident.peak_bytes()) / 1e6)


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory by length, ours and HFLM's."""
    rows = []
    for length in (2048, 8192, 32768, 131072, *((1048576,) if args.million else ())):
        theirs = peak_mb("hflm", args, length) if length <= 32768 else None
        rows.append({"tokens": length, "ours_mb": peak_mb("ours", args, length), "hflm_mb": theirs})
    return rows


class Stopped(Exception):
    """The kill of `resume`: raised from the progress, at whatever step that comes."""


class StopAt(NullProgress):
    """Raises at the given number of tokens."""

    def __init__(self, tokens: float) -> None:
        self.left = tokens

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        del requests, saved
        self.left -= tokens
        if self.left < 0:
            raise Stopped


def resume(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens through the model of a run that is stopped at half and given again, against one that is not."""
    rows = []
    for name in ("choice", "needle"):
        with tempfile.TemporaryDirectory() as folder:
            whole, expected = one_run(args, name, None, float("inf"))
            journal = str(Path(folder) / "journal.jsonl")
            first, _ = one_run(args, name, journal, whole / 2)
            second, found = one_run(args, name, journal, float("inf"))
        assert found == expected, "a resumed run gives other results"
        row = {"part": name, "tokens": whole, "until the stop": first, "after it": second}
        rows.append({**row, "ratio": (first + second) / whole})
    return rows


def one_run(args: argparse.Namespace, name: str, journal: str | None, stop_at: float) -> tuple[int, Any]:
    """(tokens through the model, results or None) of a run that is stopped after `stop_at` tokens."""
    ours = GDN2LM(**common_arguments(args, WINDOW), journal=journal)
    kind = "loglikelihood" if name == "choice" else "generate_until"
    if name == "choice":
        asked = choices(ours.tokenizer, 8 * args.documents)
    else:
        asked = needles(ours.tokenizer, 4 * args.prompts)
    total = Total(StopAt(stop_at))
    ours.engine.meter.sink = total
    results = None
    with contextlib.suppress(Stopped):
        results = getattr(ours, kind)(asked, disable_tqdm=True)
    ours.engine.journal.close()
    return total.tokens, results


class Total(NullProgress):
    """Adds up the tokens and passes them on."""

    def __init__(self, sink: NullProgress) -> None:
        self.sink, self.tokens = sink, 0

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        self.tokens += tokens
        self.sink.advance(requests, tokens, saved)


def workers(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Two Ray workers of one thread, or one GPU, each against one; the first run of each is to warm up."""
    rows = []
    tokenizer = load_tokenizer(args.checkpoint)
    asked = {
        "choice": choices(tokenizer, 4 * args.documents),
        "needle": needles(tokenizer, 2 * args.prompts),
        "essays": prompts(tokenizer, 2 * args.prompts),
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    answers: dict[tuple[str, int], Any] = {}
    for n in (1, 2):
        model = GDN2LM(**common_arguments(args, WINDOW), workers=n)
        for name, requests in asked.items():
            run = partial(getattr(model, requests[0].request_type), requests, disable_tqdm=True)
            run()
            found = [timed(run) for _ in range(args.repeats)]
            answers[name, n], seconds[name, n] = found[0][0], [taken for _, taken in found]
        executor: Any = model.engine.executor
        executor.close()
        time.sleep(5)  # until Ray has its processors back
    for name, requests in asked.items():
        assert answers[name, 1] == answers[name, 2], "two workers give other results than one"
        one, two = (statistics.median(seconds[name, n]) for n in (1, 2))
        row = {"part": name, "requests": len(requests), "one_worker_s": one, "two_workers_s": two}
        rows.append({**row, "ratio": one / two})
    return rows


def tasks(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Prompt tokens of suites: as they are asked, task by task without what each shares, and as a run reads them."""
    rows = []
    usual = together.SHARE
    for suite in SUITES:
        with tempfile.TemporaryDirectory() as folder:
            options = RunOptions(checkpoint=args.checkpoint, suite=suite, samples=100, output=Path(folder))
            plan, config = resolve_run(options), read_config(Path(args.checkpoint))
            read = {}
            for share in (2.0, usual):  # no two tasks have twice their text in common
                together.SHARE = share
                found = count(plan, config, lambda _: None)
                read[share] = sum(task.prompt_tokens - task.shared_tokens for task in found)
        row = {"suite": suite, "tasks": len(found), "prompt_tokens": sum(task.prompt_tokens for task in found)}
        rows.append({**row, "task_by_task": read[2.0], "as_run": read[usual], "ratio": read[usual] / read[2.0]})
    return rows


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(ZOO / "gdn2-tiny"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", type=command_line.device, default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--documents", type=command_line.positive, default=50)
    parser.add_argument("--prompts", type=command_line.positive, default=32)
    parser.add_argument(
        "--batch", type=command_line.positive, default=8, help="rows of HFLM; ours has what memory holds"
    )
    parser.add_argument("--repeats", type=command_line.positive, default=3)
    parser.add_argument(
        "--vocabulary", type=command_line.positive, help="a random model of these sizes with so many rows of the head"
    )
    parser.add_argument("--million", action="store_true", help="memory of a text of 1M tokens too (minutes)")
    parser.add_argument("--attention", nargs=2, metavar=("OURS", "TRANSFORMERS"), help="folders of an attention model")
    parser.add_argument(
        "--json", type=command_line.new_file, help="default: benchmarks/results/{date}_engine_{device}.json"
    )
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.peak:
        end_with(os.getppid())
        score_one(args.peak[0], args, int(args.peak[1]))
        return
    console = Console(width=140)
    if args.vocabulary:
        args.checkpoint = with_vocabulary(args.checkpoint, args.vocabulary, Path(tempfile.mkdtemp()))
    device = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else describe().cpu
    name = args.device.split(":")[0] + (f"_{args.vocabulary}" if args.vocabulary else "")
    file = args.json or RESULTS / f"{datetime.datetime.now().astimezone().date()}_engine_{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    told = {
        key: value
        for key, value in vars(args).items()
        if key not in ("only", "json", "peak", "checkpoint", "attention")
    }
    found |= {"checkpoint": Path(args.checkpoint).name, "machine": describe().as_dict(), "device": device}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "arguments": told}
    parts: dict[str, tuple[str, Callable[[argparse.Namespace], list[dict[str, Any]]]]] = {
        "memory": ("Peak memory of a process that scores one text", memory),
        "resume": ("Work of a run that is stopped at half and given again", resume),
        "workers": (f"Ray workers of one thread or GPU each, medians of {args.repeats}", workers),
        "tasks": ("Prompt tokens of suites at 100 samples", tasks),
    }
    if args.attention:
        found["attention"] = [Path(folder).name for folder in args.attention]
    for row in chain(compare(args), attention(args)):
        found.setdefault("time", {})[row["part"]] = row
        show(console, f"Time beside HFLM at batch {args.batch}, medians of {args.repeats}", [row])
    file.parent.mkdir(parents=True, exist_ok=True)
    for part, (title, run) in parts.items():
        if part in args.only:
            found[part] = run(args)
            show(console, title, found[part])
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; figures in {file}")


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(
            *(
                "—" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in row.values()
            )
        )
    console.print(table)


if __name__ == "__main__":
    command_line.answer(main)
