"""Whole models of random weights: reading, decoding and training steps of both presets and three rivals of their size.

    python benchmarks/model.py [--models NAME ...] [--parts prefill decode training hflm] [--json FILE]
                               [--compare OLD.json] [--processes 2] [--profile] [--tiny]

The rivals (`kda`, `gated_deltanet`, `mamba2`) have the width, depth and state of gdn2_1.3B, and a SwiGLU as wide as
brings them to its number of parameters. Reading and decoding are measured by `benchmarks/decode.py`. A training step is
float32 weights under bfloat16 autocast, the loss in slices of 4096 positions, gradients clipped, AdamW in one kernel.
Medians. With `--processes N` training runs on N devices as well, by torchrun, each with as many tokens, and
"efficiency" is its tokens a second over N times those of one. The part `hflm` (needs lm-eval) has lm-eval's HFLM
generate beside the engine. Needs a GPU for figures that mean something; `--tiny` shows on any machine that it works.
With `--compare` it exits with 1 if a figure is worse than in OLD.json by more than `--threshold`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
import decode  # noqa: E402
import earlier  # noqa: E402
import model_training  # noqa: E402

from gdn2 import GDN2Config, GDN2ForCausalLM  # noqa: E402
from gdn2.matching import matched_state  # noqa: E402
from gdn2.presets import PRESETS  # noqa: E402

PARTS = ("prefill", "decode", "training", "hflm")
RIVALS: dict[str, dict[str, Any]] = {"kda": {}, "gated_deltanet": {}, "mamba2": {"value_head_dim": 64}}
MODELS = (*PRESETS, *(f"{name}_1.3B" for name in RIVALS))
TINY: dict[str, Any] = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "head_dim": 16,
                        "attention_heads": 2, "window_size": 16, "intermediate_size": 48}  # fmt: skip
KERNELS = 20  # of a profile
SMALL_IS_GOOD = ("ms", "with head ms", "peak MiB", "peak GiB")
Row = dict[str, Any]


def config_of(name: str, tiny: bool) -> GDN2Config:
    """A preset, or a rival of the recurrent preset's state and number of parameters."""
    sizes = dict(TINY) if tiny else {}
    if name in PRESETS:
        return GDN2Config.from_preset(name, **sizes)
    mixer = name.removesuffix("_1.3B")
    changes = {**sizes, "layers": mixer, "output_gate": None, **RIVALS[mixer]}
    if tiny and "value_head_dim" in changes:
        changes["value_head_dim"] = 8
    base = GDN2Config.from_preset("gdn2_1.3B", **sizes)
    config = matched_state(GDN2Config.from_preset("gdn2_1.3B", **changes), like=base)
    missing = parameters(base) - parameters(config)
    step = 64 if not tiny else 1
    wider = round(missing / (3 * config.hidden_size * config.num_hidden_layers) / step) * step
    return GDN2Config(**{**config.to_dict(), "intermediate_size": config.intermediate_size + wider})


def parameters(config: GDN2Config) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in GDN2ForCausalLM(config).parameters())


class Bench:
    """The measurements of one model."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name, self.args, self.config = name, args, config_of(name, args.tiny)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parameters = parameters(self.config)

    def rows(self) -> Iterator[Row]:
        """Of every part that is asked for, as they are measured."""
        parts = self.args.parts
        if {"prefill", "decode", "hflm"} & set(parts):
            model = decode.random_model(self.config)
            for part in (part for part in ("prefill", "decode") if part in parts):
                yield from getattr(self, part)(model)
            if "hflm" in parts:
                yield self.hflm(model)
            del model
        self.release()
        if "training" in parts:
            yield from self.training()

    def prefill(self, model: GDN2ForCausalLM) -> Iterator[Row]:
        for length in self.args.prefill:
            row = {"part": "prefill", "model": self.name, "length": length}
            row |= decode.measured(lambda: decode.prefill(model, length, groups=3))  # noqa: B023
            ids = torch.randint(1, 200, (1, min(length, decode.SEGMENT)), device=decode.DEVICE)
            yield self.profiled(row, lambda: decode.read(model, ids))  # noqa: B023

    def decode(self, model: GDN2ForCausalLM) -> Iterator[Row]:
        context = self.args.context
        for rows in self.args.rows:
            row = {"part": "decode", "model": self.name, "rows": rows, "context": context}
            row |= decode.measured(lambda: decode.decode(model, rows, context))  # noqa: B023
            if "fails" not in row:
                self.profiled(row, lambda: decode.decode(model, rows, context))  # noqa: B023
            yield row
            self.release()

    def training(self) -> Iterator[Row]:
        args = self.args
        settings = {"config": self.config.to_dict(), "lengths": args.lengths, "tokens": args.tokens,
                    "slices": args.slices, "precision": args.precision, "residual": args.residual,
                    "checkpointing": args.checkpointing, "accumulation": args.accumulation,
                    "device": self.device.type}  # fmt: skip
        found = model_training.measure(settings, self.device)
        if args.profile:
            training = model_training.Training(settings, self.device)
            for row in found:
                part = training.part(max(args.tokens // row["length"], 1), row["length"])
                training.step(part)
                self.profiled(row, lambda: training.step(part))  # noqa: B023
            del training
        self.release()
        alone = {row["length"]: row.get("tokens/s") for row in found}
        if args.processes > 1:
            found += model_training.in_processes(settings, args.processes)
        for row in found:
            if row["processes"] > 1 and "tokens/s" in row and alone[row["length"]]:
                row["efficiency"] = row["tokens/s"] / (row["processes"] * alone[row["length"]])
            yield {"part": "training", "model": self.name, "checkpointing": args.checkpointing,
                   "precision": args.precision, "residual": args.residual, **row}  # fmt: skip

    def hflm(self, model: GDN2ForCausalLM) -> Row:
        if importlib.util.find_spec("lm_eval") is None:
            return {"part": "hflm", "model": self.name, "fails": "lm-eval is not installed"}
        from model_hflm import beside_hflm

        return {**beside_hflm(model, str(self.device), self.args.prompts), "part": "hflm", "model": self.name}

    def profiled(self, row: Row, run: Callable[[], Any]) -> Row:
        """The row with the costliest kernels of one run, if `--profile` asks for them."""
        if not self.args.profile:
            return row
        from torch.profiler import ProfilerActivity, profile

        on_gpu = self.device.type == "cuda"
        with (
            torch.inference_mode("processes" not in row),
            profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found,
        ):
            run()
            if on_gpu:
                torch.cuda.synchronize()
        key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        events = sorted(found.key_averages(), key=lambda event: -float(getattr(event, key)))[:KERNELS]
        row["kernels"] = [[event.key[:80], round(getattr(event, key) / 1000, 3), event.count] for event in events]
        for name, ms, count in row["kernels"]:
            print(f"    {ms:9.3f} ms {count:6} times  {name}", flush=True)
        return row

    def release(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def identity(row: earlier.Row) -> str:
    """What makes two rows the same measurement."""
    keys = ("part", "model", "length", "rows", "context", "processes", "accumulation", "precision", "residual",
            "checkpointing")  # fmt: skip
    return " ".join(
        f"{key} {row[key]}" if key not in ("part", "model") else str(row[key]) for key in keys if key in row
    )


def higher_is_better(key: str) -> bool | None:
    """Of a key of a row; None: it is no figure."""
    return {"tokens/s": True, "efficiency": True, "ratio": True}.get(key, False if key in SMALL_IS_GOOD else None)


def machine() -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    versions = {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    if on_gpu:
        versions["cuda"] = torch.version.cuda or ""
    with contextlib.suppress(ImportError):
        import triton

        versions["triton"] = triton.__version__
    return {"gpu": torch.cuda.get_device_name() if on_gpu else "none: says nothing of speed", **versions}


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", type=command_line.new_file, help="written after every row")
    parser.add_argument("--compare", type=command_line.there, metavar="OLD.json")
    parser.add_argument("--threshold", type=float, default=0.1, help="of --compare: how much worse, as a fraction")
    parser.add_argument(
        "--measured", type=command_line.there, metavar="NEW.json", help="compare this file, measure nothing"
    )
    parser.add_argument("--processes", type=command_line.positive, default=1)
    parser.add_argument("--profile", action="store_true", help=f"the {KERNELS} costliest kernels of each row")
    parser.add_argument("--tiny", action="store_true", help="small models and lengths, for any machine")
    parser.add_argument(
        "--prefill", type=command_line.positive, nargs="+", metavar="LENGTH", help="default: 8192 65536"
    )
    parser.add_argument("--rows", type=command_line.positive, nargs="+", help="of decoding; default: 1 32 256")
    parser.add_argument("--context", type=command_line.positive, help="tokens in front of decoding; default: 4096")
    parser.add_argument(
        "--lengths", type=command_line.positive, nargs="+", help="of training; default: 2048 4096 8192 16384"
    )
    parser.add_argument(
        "--tokens", type=command_line.positive, help="of a training step, or of each of its parts; default: 16384"
    )
    parser.add_argument(
        "--accumulation", type=command_line.positive, default=1, help="micro-batches of a training step"
    )
    parser.add_argument(
        "--slices", type=command_line.positive, default=4096, help="positions of a training step whose logits exist"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of training")
    parser.add_argument("--residual", choices=("float32", "bfloat16"), default="float32", help="of training")
    parser.add_argument("--checkpointing", action="store_true", help="of training: layers are computed again")
    parser.add_argument("--prompts", type=command_line.positive, default=8, help="of hflm")
    args = parser.parse_args()
    usual = {"prefill": [8192, 65536], "rows": [1, 32, 256], "context": 4096,
             "lengths": [2048, 4096, 8192, 16384], "tokens": 16384}  # fmt: skip
    tiny = {"prefill": [32, 64], "rows": [1, 3], "context": 32, "lengths": [16, 32], "tokens": 64}
    for name, value in (tiny if args.tiny else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.measured and not args.compare:
        parser.error("--measured is compared with the file of --compare OLD.json, which is missing")
    return args


def main() -> None:
    args = arguments()
    if args.measured:
        record = json.loads(args.measured.read_text(encoding="utf-8"))
    else:
        told = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
        record = {"machine": machine(), "arguments": told, "parameters": {}, "rows": []}
        print(json.dumps(record["machine"]), flush=True)
        for name in args.models:
            bench = Bench(name, args)
            record["parameters"][name] = bench.parameters
            print(f"{name}: {bench.parameters:,} parameters", flush=True)
            for row in bench.rows():
                record["rows"].append(row)
                print(json.dumps({key: value for key, value in row.items() if key != "kernels"}), flush=True)
                if args.json:  # after each row: a run that is stopped leaves what it had
                    args.json.parent.mkdir(parents=True, exist_ok=True)
                    args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    worse = earlier.compare(record, args.compare, args.threshold, identity, higher_is_better) if args.compare else []
    if worse:
        sys.exit("worse than in " + "\n  ".join([f"{args.compare}:", *worse]))


if __name__ == "__main__":
    command_line.answer(main)
