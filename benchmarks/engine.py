"""The engine beside lm-eval's HFLM on one checkpoint, in one run: time, tokens, memory, resume, workers.

    python benchmarks/engine.py [CHECKPOINT] [--only choice needle essays questions memory resume workers] [--repeats 3]

Each part first checks that both give the same results. Ratios are medians over `--repeats` runs in turn. Needs
`pip install -e '.[dev]'`; the part `workers` needs `.[ray]` too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from rich.console import Console
from rich.table import Table

from gdn2 import GDN2Config, GDN2ForCausalLM
from harness.backend import GDN2LM
from harness.machine import describe
from harness.progress import NullProgress
from tasks import data
from tasks.ruler.build import make_generator
from tasks.tokenizers import load_tokenizer

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "gdn2" / "zoo"
WINDOW = 4096
BATCH = 8  # rows of HFLM: up to 16,384 tokens a step; ours has at most 4,096 on a CPU
PARTS = ("choice", "needle", "essays", "questions", "memory", "resume", "workers")


def texts(tokenizer: Any, length: int, count: int, seed: int = 0) -> list[str]:
    """`count` pieces of held-out text that have `length` tokens each."""
    rng = random.Random(seed)
    ids = tokenizer.encode(" ".join(paragraph.text for paragraph in data.wiki_heldout()), add_special_tokens=False)
    found: list[str] = []
    while len(found) < count:
        start = rng.randrange(len(ids) - length - 8)
        text = tokenizer.decode(ids[start : start + length])
        if len(tokenizer.encode(text, add_special_tokens=False)) == length:
            found.append(text)
    return found


def choices(tokenizer: Any, documents: int) -> list[Instance]:
    """Multiple choice: contexts of 300 tokens, four continuations of 20 each."""
    contexts, ends = texts(tokenizer, 300, documents), texts(tokenizer, 20, 4 * documents, seed=1)
    pairs = [(contexts[i // 4], " " + end.strip()) for i, end in enumerate(ends)]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def needles(tokenizer: Any, count: int) -> list[Instance]:
    """S-NIAH-1: prompts of 2048 tokens, 128 to generate."""
    generator = make_generator({"task": "niah_single_1", "length": 2048 + 128}, tokenizer)
    docs = [generator.sample(i) for i in range(count)]
    arguments = [(f"{doc['input']} {doc['gen_prefix']}", {"until": [], "max_gen_toks": 128}) for doc in docs]
    return [Instance("generate_until", {}, argument, i) for i, argument in enumerate(arguments)]


def prompts(tokenizer: Any, count: int, *, questions: int = 1, length: int = 2048) -> list[Instance]:
    """Prompts of `length` tokens with 128 to generate; `questions` of them on one text."""
    asked = texts(tokenizer, 16, count, seed=2)
    contexts = texts(tokenizer, length - 16, -(-count // questions), seed=3)
    arguments = [
        (contexts[i // questions] + " " + ask, {"until": [], "max_gen_toks": 128}) for i, ask in enumerate(asked)
    ]
    return [Instance("generate_until", {}, argument, i) for i, argument in enumerate(arguments)]


def with_vocabulary(checkpoint: str, rows: int, folder: Path) -> str:
    """A random model of the checkpoint's sizes, with its tokenizer and an embedding and head of `rows` rows."""
    config = GDN2Config.from_pretrained(checkpoint, vocab_size=rows, tie_word_embeddings=False)
    torch.manual_seed(0)
    GDN2ForCausalLM(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (Path(checkpoint) / file).is_file():
            shutil.copy(Path(checkpoint) / file, folder / file)
    return str(folder)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started


def beside(name: str, asked: list[Instance], ours: GDN2LM, theirs: HFLM, repeats: int) -> dict[str, Any]:
    """Seconds of both, in turn, and how far the results are apart."""
    kind = asked[0].request_type
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats):
        before = ours.engine.executor.reader.tokens_read
        mine, my_seconds = timed(lambda: getattr(ours, kind)(asked, disable_tqdm=True))
        read = ours.engine.executor.reader.tokens_read - before
        other, their_seconds = timed(lambda: getattr(theirs, kind)(asked, disable_tqdm=True))
        seconds.append((my_seconds, their_seconds))
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


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The parts that compare times."""
    wanted = [part for part in ("choice", "needle", "essays", "questions") if part in args.only]
    if not wanted:
        return []
    common = {"pretrained": args.checkpoint, "device": "cpu", "dtype": "float32", "max_length": WINDOW}
    ours, theirs = GDN2LM(**common), HFLM(batch_size=BATCH, **common)
    asked = {
        "choice": lambda: choices(ours.tokenizer, args.documents),
        "needle": lambda: needles(ours.tokenizer, args.prompts),
        "essays": lambda: prompts(ours.tokenizer, args.prompts),
        "questions": lambda: prompts(ours.tokenizer, args.prompts, questions=8),
    }
    return [beside(part, asked[part](), ours, theirs, args.repeats) for part in wanted]


def peak_mb(model: str, checkpoint: str, length: int) -> float:
    """Peak memory of a fresh process that scores one text of `length` tokens."""
    command = [sys.executable, __file__, checkpoint, "--peak", model, str(length)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(out.stdout.split()[-1])


def score_one(model: str, checkpoint: str, length: int) -> None:
    """Score one text and print the process's peak memory in MB (10**6 bytes)."""
    common = {"pretrained": checkpoint, "device": "cpu", "dtype": "float32", "max_length": length + 1}
    lm: Any = GDN2LM(**common) if model == "ours" else HFLM(batch_size=1, **common)
    ids = [i % (lm.tokenizer.vocab_size - 10) + 5 for i in range(length)]
    lm._loglikelihood_tokens([(("", ""), ids[:1], ids[1:])], disable_tqdm=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak memory by length, ours and HFLM's."""
    rows = []
    for length in (2048, 8192, 32768, 131072, *((1048576,) if args.million else ())):
        theirs = peak_mb("hflm", args.checkpoint, length) if length <= 32768 else None
        rows.append({"tokens": length, "ours_mb": peak_mb("ours", args.checkpoint, length), "hflm_mb": theirs})
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
    ours = GDN2LM(args.checkpoint, max_length=WINDOW, batch_tokens=2048, journal=journal)
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
    """Two Ray workers of one thread each against one."""
    rows = []
    tokenizer = load_tokenizer(args.checkpoint)
    asked = {"choice": choices(tokenizer, 4 * args.documents), "needle": needles(tokenizer, 2 * args.prompts)}
    seconds: dict[tuple[str, int], list[float]] = {}
    answers: dict[tuple[str, int], Any] = {}
    for n in (1, 2):
        model = GDN2LM(args.checkpoint, workers=n, max_length=WINDOW, batch_tokens=2048, batch_size=16)
        for name, requests in asked.items():
            run = partial(getattr(model, requests[0].request_type), requests, disable_tqdm=True)
            run()  # warm
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", nargs="?", default=str(ZOO / "gdn2-tiny"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, help="a random model of these sizes with so many rows of the head")
    parser.add_argument("--million", action="store_true", help="memory of a text of 1M tokens too (minutes)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        score_one(args.peak[0], args.checkpoint, int(args.peak[1]))
        return
    console = Console(width=140)
    if args.vocabulary:
        args.checkpoint = with_vocabulary(args.checkpoint, args.vocabulary, Path(tempfile.mkdtemp()))
    found: dict[str, Any] = {"checkpoint": args.checkpoint, "machine": describe(), "torch": torch.__version__}
    if rows := compare(args):
        found["time"] = rows
        show(console, f"Time beside HFLM at batch {BATCH}, medians of {args.repeats}", rows)
    if "memory" in args.only:
        found["memory"] = memory(args)
        show(console, "Peak memory of a process that scores one text", found["memory"])
    if "resume" in args.only:
        found["resume"] = resume(args)
        show(console, "Work of a run that is stopped at half and given again", found["resume"])
    if "workers" in args.only:
        found["workers"] = workers(args)
        show(console, f"Ray workers of one thread each, medians of {args.repeats}", found["workers"])
    console.print(f"{found['machine']['cpu']}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


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
    main()
