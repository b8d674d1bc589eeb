"""How full the four generators make their samples: a Markdown table.

    python benchmarks/ruler_fill.py [--tokenizer gdn2-tiny] [--tasks …] [--lengths 1024,4096] [--samples 100]

Fill is (BOS or none, prompt with answer prefix, generated tokens) over the length. A cell shows the mean, the range,
and in brackets the share of samples below 0.9.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import command_line  # noqa: E402

from harness.checkpoints.find import find_tokenizer  # noqa: E402
from tasks.errors import TaskError  # noqa: E402
from tasks.registry import resolve  # noqa: E402
from tasks.ruler.generators import GENERATORS  # noqa: E402
from tasks.ruler.pool import cell  # noqa: E402
from tasks.ruler.spec import VARIANTS, RulerSpec  # noqa: E402
from tasks.ruler.templates import OTHER_TASKS  # noqa: E402
from tasks.text.tokenizers import load_tokenizer  # noqa: E402

LOW = 0.9


def filled(task: str, length: int, generator: str, tokenizer: Any, samples: int) -> str:
    """A cell of the table."""
    spec = resolve(f"{task}@{length}", samples=samples, generator=generator).config["dataset_kwargs"]["spec"]
    try:
        docs = cell(RulerSpec.parse(spec), tokenizer, context_prefix="tokenizer", count=samples)
    except TaskError:
        return "—"
    fills = [doc["fill"] for doc in docs]
    low = 100 * sum(fill < LOW for fill in fills) / len(fills)
    missing = f", {samples - len(docs)} dropped" if len(docs) < samples else ""
    return f"{statistics.mean(fills):.3f}, {min(fills):.3f}–{max(fills):.3f} ({low:.0f} %{missing})"


def main() -> None:
    """Parse and print."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--tokenizer", default="gdn2-tiny")
    parser.add_argument(
        "--tasks", type=command_line.some_of([*VARIANTS, *OTHER_TASKS]), default=[*VARIANTS, *OTHER_TASKS]
    )
    parser.add_argument("--lengths", type=command_line.positives, default=[1024, 4096])
    parser.add_argument("--samples", type=command_line.positive, default=100)
    arguments = parser.parse_args()
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)

    tokenizer = load_tokenizer(find_tokenizer(arguments.tokenizer))
    print(f"| cell | {' | '.join(f'`{name}`' for name in GENERATORS)} |")
    print(f"| --- |{' --- |' * len(GENERATORS)}")
    for task in arguments.tasks:
        for length in arguments.lengths:
            cells = [filled(task, length, name, tokenizer, arguments.samples) for name in GENERATORS]
            print(f"| {task}@{length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    command_line.answer(main)
