"""What forks copy of full attention's slots, and what they would if beginnings were shared: counted, without weights.

    python benchmarks/forks.py CHECKPOINT [--suite quick retrieval-offline] [--tokens 2048] [--rows 128] [--slots 45000]

counts over the batches of each task, and of requests that share much: the tokens that are read, the slots that are
copied (each row has its own) and those of different beginnings (a batch has each of them once), how many rows of a
batch go on from the same beginning, and the slots of the largest batch, with those of what it reads.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import command_line
from rich.console import Console
from rich.table import Table

from gdn2.checkpoints import read_config
from harness.engine.accounts import Accounts
from harness.engine.asked import Asked
from harness.engine.journal import Journal
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.schedule import schedule
from harness.engine.units import Limits, make_plan
from harness.runs import census
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run

Requests = Sequence[ScoreRequest] | Sequence[GenerateRequest]


def counted(name: str, requests: Requests, limits: Limits) -> dict[str, Any]:
    """The figures of some requests."""
    asked: Asked[Any] = Asked(requests, Journal(), lambda *_: None)
    inputs = [request.input_ids for request in asked.distinct]
    scores = isinstance(requests[0], ScoreRequest)
    firsts = [len(request.context_ids) - 1 if scores else len(request.input_ids) for request in asked.distinct]
    units = make_plan(inputs, firsts, limits, go_on=not scores).units
    read = copied = different = forked = beginnings = 0
    largest = (0, 0)
    for nodes in ([unit.nodes[index] for index in batch] for unit in units for batch in schedule(unit, limits)):
        own = sum(len(node.tokens) for node in nodes)
        begun = [((node.parent, () if node.parent is not None else node.trunk), node.start) for node in nodes]
        forks = Counter(beginning for beginning in begun if beginning[1])
        each, once = sum(node.start for node in nodes), sum(start for _, start in forks)
        read, copied, different = read + own, copied + each, different + once
        forked, beginnings = forked + forks.total(), beginnings + len(forks)
        largest = max(largest, (own + each, own + once))
    return {
        "requests": name,
        "read": read,
        "copied": copied,
        "different": different,
        "rows a beginning": round(forked / max(beginnings, 1), 2),
        "largest batch": largest[0],
        "shared": largest[1],
    }


def made(limits: Limits) -> Iterator[dict[str, Any]]:
    """Requests that share much: choices behind contexts, which may share a beginning, and questions on texts."""
    rng = random.Random(0)

    def tokens(most: int) -> list[int]:
        return [rng.randrange(5, 4000) for _ in range(rng.randint(most // 2, most))]

    for context, shared in ((80, 0), (300, 0), (4000, 0), (60, 800)):
        begins = [rng.randrange(5, 4000) for _ in range(shared)]
        texts = [begins + tokens(context) for _ in range(100)]
        choices = [ScoreRequest(text, tokens(30)) for text in texts for _ in range(4)]
        yield counted(f"4 choices, {shared} and {context} tokens", choices, limits)
    for context in (500, 4000):
        texts = [tokens(context) for _ in range(8)]
        questions = [GenerateRequest(text + tokens(24), 32, frozenset()) for text in texts for _ in range(8)]
        yield counted(f"8 questions, {context} tokens", questions, limits)


class Counting(census.Counting):
    """Counts what each call would copy."""

    found: list[dict[str, Any]]
    limits: Limits

    def _count(self, requests: Requests, accounts: Accounts) -> None:
        super()._count(requests, accounts)
        self.found.append(counted(requests[0].task, requests, self.limits))


def of_suite(checkpoint: Path, suite: str, samples: int, limits: Limits) -> list[dict[str, Any]]:
    """The figures of each call of a suite."""
    Counting.found, Counting.limits = [], limits
    usual, census.Counting = census.Counting, Counting  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = RunOptions(checkpoint=str(checkpoint), suite=suite, samples=samples, output=Path(folder))
            census.count(resolve_run(options), read_config(checkpoint), lambda _: None)
    finally:
        census.Counting = usual  # type: ignore[misc]
    return Counting.found


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--suite", nargs="*", default=["quick", "retrieval-offline"])
    parser.add_argument("--samples", type=command_line.positive, default=100)
    parser.add_argument("--tokens", type=command_line.positive, default=2048)
    parser.add_argument("--rows", type=command_line.positive, default=128)
    parser.add_argument("--slots", type=command_line.positive, default=45_000)
    args = parser.parse_args()
    limits = Limits(tokens=args.tokens, rows=args.rows, slots=args.slots)
    rows = list(made(limits))
    for suite in args.suite:
        rows += of_suite(args.checkpoint, suite, args.samples, limits)
    table = Table(title=f"Slots, {limits}")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "requests" else "right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    command_line.answer(main)
