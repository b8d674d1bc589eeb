"""A run on one screen: what was run, on which terms, what came out, and where."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from basis.names import listed
from harness.analysis.listing import has_samples
from harness.analysis.selection import FoundRun
from harness.records.added import UNKNOWN
from harness.records.model_info import Machine, ModelInfo
from harness.records.protocol import Protocol
from harness.records.record import Cell, RunRecord, Score
from harness.show.plain import plain
from harness.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 100


def print_run(run: FoundRun, console: Console) -> None:
    """Draw all of a record: model, protocol, cells, cost, self-test, machine, command."""
    from rich.table import Table
    from rich.text import Text

    record = run.record
    console.print(Text(plain(record.run_id), style="bold"))
    console.print()
    said = Table(box=None, show_header=False, padding=(0, 1, 0, 0), show_edge=False)
    said.add_column(style="dim", no_wrap=True)
    said.add_column(overflow="fold")
    for name, text in _facts(run):
        said.add_row(name, Text(plain(text)))
    console.print(said)
    console.print()
    console.print(_cells(record.cells, console.width >= WIDE))
    for cell in record.cells:
        if counts := _counts(cell):
            console.print(Text(f"{plain(cell.protocol.label)}: {plain(', '.join(counts))}", style="dim"))


def _facts(run: FoundRun) -> Iterator[tuple[str, str]]:
    record, model = run.record, run.record.model
    yield "model", f"{record.name}: {', '.join(_model(model))}"
    if model.source or model.quantised:
        yield "", "; ".join([*([f"from {model.source}"] if model.source else [])] + _quantised(model))
    if record.added is not None:
        yield "added", record.added.remark
    yield "protocol", f"{record.protocol_hash[:8]}: {'; '.join(_protocol(record.protocol))}"
    yield "self-test", _self_test(model)
    yield "cost", ", ".join(_cost(record))
    yield "machine", ", ".join(_machine(record.machine, model))
    yield "code", _code(record)
    yield "command", shlex.join(record.command) if record.command else UNKNOWN
    yield "folder", f"{run.folder}, {'with' if has_samples(run.folder) else 'without'} samples"


def _model(model: ModelInfo) -> Iterator[str]:
    yield "unknown architecture" if model.architecture == UNKNOWN else model.architecture
    yield _number(model.parameters, "parameter")
    yield _number(model.layers, "layer")
    grows = f" and {model.state_bytes_a_token:,} a token" if model.state_bytes_a_token else ""
    yield f"state {_number(model.state_bytes, 'byte')}{grows}"
    saved = f" (saved in {model.saved_dtype})" if model.saved_dtype not in (None, model.dtype) else ""
    yield f"{model.dtype}{saved}" if model.dtype != UNKNOWN else "unknown dtype"
    yield f"weights {model.checkpoint_sha256[:8]}"


def _quantised(model: ModelInfo) -> list[str]:
    return [f"weights quantised: {model.quantised}"] if model.quantised else []


def _protocol(protocol: Protocol) -> Iterator[str]:
    """What fixes the numbers, in words."""
    tasks = protocol.tasks
    yield f"{protocol.suite} of {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}"
    yield f"samples {_values(['all' if task.samples is None else task.samples for task in tasks])}"
    yield f"seed {_values([task.seed for task in tasks])}"
    if made := [task.generator for task in tasks if task.generator]:
        yield f"generator {_values(made)}"
    if any(task.shots for task in tasks):
        yield f"solved examples {_values([task.shots for task in tasks])}"
    yield f"window {_values([task.max_length for task in tasks])} tokens"
    yield f"context prefix {protocol.context_prefix}"
    yield f"{protocol.decoding} decoding" if protocol.decoding != UNKNOWN else "decoding unknown"
    yield protocol.dtype if protocol.dtype != UNKNOWN else "dtype unknown"
    yield f"tokenizer {protocol.tokenizer_sha256[:8]}"
    yield f"lm-eval {protocol.lm_eval}"
    if any(task.stops_at_references for task in tasks):
        yield "generations end when every reference has appeared"
    if protocol.further_end_ids:
        yield f"further ends of text {', '.join(map(str, protocol.further_end_ids))}"


def _values(values: Sequence[object]) -> str:
    """One value of all tasks, or the few that there are."""
    found = list(dict.fromkeys(UNKNOWN if value is None else str(value) for value in values))
    return listed(found, 6) or UNKNOWN


def _self_test(model: ModelInfo) -> str:
    test = model.self_test
    if test is None:
        return UNKNOWN
    if test.skipped is not None:
        return f"left out ({test.skipped})"
    worst = max((c.error / c.tolerance for c in test.comparisons if c.error is not None and c.tolerance), default=None)
    share = "" if worst is None else f", at most {worst:.1%} of the tolerance"
    made = counted(len(test.comparisons), "comparison")
    return f"{'passed' if test.passed else 'failed'}: {made} on {test.backend}{share}"


def _cost(record: RunRecord) -> Iterator[str]:
    yield "unknown time" if record.seconds is None else f"{record.seconds:,.0f} s"
    tokens, seconds = (
        [getattr(cell, name) for cell in record.cells if getattr(cell, name) is not None]
        for name in ("tokens", "seconds")
    )
    if tokens and sum(seconds):
        yield f"{sum(tokens):,} tokens"
        yield f"{sum(tokens) / sum(seconds):,.0f} tokens/s"
    if record.peak_memory_mib is not None:
        yield f"peak memory {record.peak_memory_mib:,.0f} MiB"


def _machine(machine: Machine, model: ModelInfo) -> Iterator[str]:
    if machine.gpu:
        yield machine.gpu
    yield f"{machine.cpu} ({_number(machine.cores, 'core')}, {_number(machine.threads, 'thread')})"
    yield UNKNOWN + " memory" if machine.memory_gib is None else f"{machine.memory_gib:g} GiB"
    yield f"device {model.device}"
    if model.workers:
        yield counted(model.workers, "worker")
    yield machine.system
    yield f"Python {machine.python}"


def _code(record: RunRecord) -> str:
    commit = f"commit {record.git_commit[:10]}" if record.git_commit else "commit unknown"
    changed = " with changes" if record.git_dirty else ""
    packages = [f"{name} {version}" for name, version in record.packages.items()]
    return ", ".join([f"{record.started} to {record.finished}", commit + changed, *packages])


def _number(value: int | None, of: str) -> str:
    """How many there are of what is named in the singular."""
    return f"{UNKNOWN} {of}s" if value is None else counted(value, of)


def _cells(cells: Sequence[Cell], wide: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("task", "metric"):
        drawn.add_column(title, overflow="fold")  # so that numbers beside them are whole
    amounts = _amounts(cells, wide)
    for title in ("score", "95 %", "n", *amounts):
        drawn.add_column(title, justify="right", no_wrap=True)
    for cell in cells:
        for place, (metric, score) in enumerate(cell.scores.items()):
            first = place == 0
            drawn.add_row(
                Text(plain(cell.protocol.label) if first else ""),
                Text(plain(metric)),
                f"{score.value:.4g}",
                _interval(score),
                f"{score.n:,}" if first else "",
                *(of(cell) for of in (amounts.values() if first else ())),
            )
    return drawn


def _amounts(cells: Sequence[Cell], wide: bool) -> dict[str, Callable[[Cell], str]]:
    """Columns of what cells took, those that any cell has; a narrow terminal has room for names and scores only."""

    def shown(name: str, form: str) -> Callable[[Cell], str]:
        return lambda cell: "" if getattr(cell, name) is None else format(getattr(cell, name), form)

    columns = {"fill": ("mean_fill", ".1%")}
    if wide:
        columns |= {"tokens": ("tokens", ",d"), "s": ("seconds", ",.0f"), "MiB": ("peak_memory_mib", ",.0f")}
    return {
        title: shown(name, form)
        for title, (name, form) in columns.items()
        if any(getattr(cell, name) is not None for cell in cells)
    }


def _interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.3g}–{score.high:.3g}"


def _counts(cell: Cell) -> list[str]:
    """What was lost or is remarkable about a cell's documents."""
    found = [
        counted(count, words[:-1]) if (words := name.replace("_", " ")).endswith("s") else f"{count:,} {words}"
        for name, count in cell.documents.items()
        if count
    ]
    if cell.truncated:
        found.append(f"{counted(cell.truncated, 'request')} lost {'its' if cell.truncated == 1 else 'their'} beginning")
    unscored = max((score.unscored for score in cell.scores.values()), default=0)
    return found + ([f"{unscored:,} unscored"] if unscored else [])
