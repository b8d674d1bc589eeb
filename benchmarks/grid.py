"""A suite by the command line on models of random weights: how long the engine takes, and its peak memory.

    python benchmarks/grid.py [--models gdn2_1.3B swa_gdn2_1.3B] [--suite ruler_table3] [--samples 500]
                              [--device cuda] [--json FILE]

A model of random weights ends no answer before its limit, so this is the most that a trained model of that size would
take. Its tokenizer is the shipped model's. The first model's run draws the documents as well, which are kept for the
others; with `--warm` a run of one sample a cell goes before each, so that kernels are compiled and nothing is measured
but the suite.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
import decode  # noqa: E402
from model import MODELS, config_of, machine  # noqa: E402

from basis import children  # noqa: E402
from gdn2 import GDN2Config  # noqa: E402

TOKENIZER = ROOT / "gdn2" / "zoo" / "gdn2-tiny"


def save_random(config: GDN2Config, folder: Path) -> None:
    """A checkpoint of random weights with the shipped tokenizer."""
    model = decode.random_model(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())


def evaluate(folder: Path, suite: str, samples: int, device: str, output: Path) -> dict[str, Any]:
    """Run the command; the record that it writes."""
    asked = ["run", str(folder), "--suite", suite, "--samples", str(samples), "--device", device]
    command = children.command("harness.cli.main", [*asked, "--dtype", "bfloat16", "--output", str(output)])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=children.environment())
    (record,) = output.glob("**/record.json")
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return found


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One model's suite."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        save_random(config_of(name, args.tiny), folder)
        if args.warm:
            evaluate(folder, args.suite, 1, args.device, Path(scratch) / "warm")
        record = evaluate(folder, args.suite, args.samples, args.device, Path(scratch) / "runs")
    return {
        "model": name,
        "suite": args.suite,
        "samples": args.samples,
        "cells": len(record["cells"]),
        "seconds": record["seconds"],
        "peak GiB": record["peak_memory_mib"] / 1024,
    }


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS[:2]), metavar="NAME")
    parser.add_argument("--suite", default="ruler_table3")
    parser.add_argument("--samples", type=command_line.positive, default=500, help="a cell")
    parser.add_argument("--device", type=command_line.device, default="cuda")
    parser.add_argument("--warm", action="store_true", help="a run of one sample a cell before each")
    parser.add_argument("--tiny", action="store_true", help="small models, for any machine")
    parser.add_argument("--json", type=command_line.new_file)
    args = parser.parse_args()
    rows = []
    for name in args.models:
        rows.append(measure(name, args))
        print(json.dumps(rows[-1]), flush=True)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_line.answer(main)
