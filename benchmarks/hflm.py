"""Our lm-eval model beside lm-eval's HFLM on one checkpoint: agreement first, then time, in one run.

    python benchmarks/hflm.py [CHECKPOINT] [--documents 40] [--repeats 3]

Three kinds of requests on staged text: four continuations of a paragraph (multiple choice), whole paragraphs (rolling
perplexity), needle prompts with 64 generated tokens. HFLM runs at batch size 1, the reference for agreement, and at
the batch size of ours, with its padding. Prints medians of seconds and their ratio; needs `pip install -e '.[dev]'`.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from rich.console import Console
from rich.table import Table

import gdn2  # noqa: F401 (registers the model type)
from harness.lm.model import GDN2LM
from harness.records.machine import describe
from tasks import data
from tasks.ruler.build import make_generator

ZOO = Path(__file__).resolve().parent.parent / "gdn2" / "zoo"


def requests(kind: str, documents: int, tokenizer: Any) -> list[Instance]:
    """`documents` documents' requests of one kind."""
    texts = [paragraph.text for paragraph in data.wiki_heldout()[: documents + 4]]
    arguments: list[tuple[Any, ...]] = []
    for i in range(documents):
        words = texts[i].split()
        if kind == "loglikelihood":
            ends = [" " + " ".join(texts[i + j].split()[-12:]) for j in range(4)]
            arguments += [(" ".join(words[:-12]), end) for end in ends]
        elif kind == "loglikelihood_rolling":
            arguments.append((texts[i],))
        else:
            spec = {"task": "niah_single_1", "length": 512 + 64 * (i % 4)}
            doc = make_generator(spec, tokenizer).sample(i)
            arguments.append((f"{doc['input']} {doc['gen_prefix']}", {"until": [], "max_gen_toks": 64}))
    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def timed(run: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The last result and the median seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def agreement(kind: str, ours: list[Any], theirs: list[Any]) -> str:
    """How far two lists of results are apart."""
    if kind == "generate_until":
        return f"{sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)} texts equal"
    values = [
        (a if kind.endswith("rolling") else a[0], b if kind.endswith("rolling") else b[0])
        for a, b in zip(ours, theirs, strict=True)
    ]
    return f"max difference {max(abs(a - b) for a, b in values):.1e} nats"


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(ZOO / "gdn2-tiny"))
    parser.add_argument("--documents", type=command_line.positive, default=40)
    parser.add_argument("--repeats", type=command_line.positive, default=3)
    parser.add_argument("--batch-size", type=command_line.positive, default=8)
    args = parser.parse_args()

    common = {"pretrained": args.checkpoint, "device": "cpu", "dtype": "float32", "max_length": 1024}
    ours = GDN2LM(batch_size=args.batch_size, **common)
    alone = HFLM(batch_size=1, **common)
    batched = HFLM(batch_size=args.batch_size, **common)
    table = Table(title=f"{args.checkpoint}, batch size {args.batch_size}, medians of {args.repeats}")
    for name in (
        "requests",
        "ours and HFLM at batch 1",
        f"HFLM at {args.batch_size} and at 1",
        "ours s",
        "HFLM s",
        "ratio",
    ):
        table.add_column(name)
    for kind in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
        asked = requests(kind, args.documents, ours.tokenizer)

        def call(model: Any, kind: str = kind, asked: list[Instance] = asked) -> list[Any]:
            result: list[Any] = getattr(model, kind)(asked, disable_tqdm=True)
            return result

        reference = call(alone)
        (mine, my_seconds), (theirs, their_seconds) = (
            timed(lambda: call(ours), args.repeats),
            timed(lambda: call(batched), args.repeats),
        )
        table.add_row(
            f"{len(asked)} {kind}",
            agreement(kind, mine, reference),
            agreement(kind, theirs, reference),
            f"{my_seconds:.2f}",
            f"{their_seconds:.2f}",
            f"{their_seconds / my_seconds:.2f}",
        )
    console = Console(width=140)
    console.print(table)
    machine = describe()
    console.print(f"{machine.cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.platform()}")


if __name__ == "__main__":
    command_line.answer(main)
