"""What `run_eval.py plan` prints: what a run will ask for, and how long and how much memory that takes."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from harness.runs.census import TaskCensus
from harness.runs.planning import Estimate
from harness.words import short


def print_estimate(estimate: Estimate, console: Console) -> None:
    """A row a task and the sums, then the estimate."""
    tasks = estimate.tasks
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("task", footer="all", no_wrap=True)
    table.add_column("requests", justify="right", no_wrap=True, footer=short(sum(task.requests for task in tasks)))
    table.add_column("tokens", justify="right", no_wrap=True, footer=short(sum(task.prompt_tokens for task in tasks)))
    table.add_column("shared", justify="right", no_wrap=True, footer=_share(tasks))
    table.add_column("new ≤", justify="right", no_wrap=True, footer=short(sum(task.generated_tokens for task in tasks)))
    table.add_column("longest", justify="right", no_wrap=True, footer=short(max(task.longest for task in tasks)))
    table.add_column("cut", justify="right", no_wrap=True, footer=short(sum(task.truncated for task in tasks)))
    table.add_column(
        "time ≤", justify="right", no_wrap=True, footer=_time(sum(task.tokens for task in tasks), estimate.rate)
    )
    for task in tasks:
        cut = f"[red]{task.truncated:,}[/]" if task.truncated else "0"
        numbers = (short(task.requests), short(task.prompt_tokens), _share([task]), short(task.generated_tokens))
        table.add_row(task.name, *numbers, short(task.longest), cut, _time(task.tokens, estimate.rate))
    console.print(table)
    rate = f"{estimate.rate:,.0f} tokens/s ({estimate.rate_from})" if estimate.rate else estimate.rate_from
    memory = (estimate.weight_bytes, estimate.state_bytes, estimate.step_bytes)
    parts = ", ".join(
        f"{name} {size / 1e9:.2f} GB"
        for name, size in zip((f"weights in {estimate.dtype}", "states", "a step"), memory, strict=True)
    )
    console.print(f"speed   {rate}", highlight=False)
    console.print(f"memory  about {sum(memory) / 1e9:.2f} GB: {parts}", highlight=False)
    if any(task.truncated for task in tasks):
        console.print("Requests that are cut lose their beginning; leave --max-length out or raise it.", style="red")


def print_sum(estimates: Sequence[Estimate], console: Console) -> None:
    """What several checkpoints ask for, one after the other."""
    tokens = [sum(task.tokens for task in estimate.tasks) for estimate in estimates]
    rates = [estimate.rate for estimate in estimates]
    times = [count / rate for count, rate in zip(tokens, rates, strict=True) if rate]
    unknown = len(estimates) - len(times)
    time = _duration(sum(times)) if times else "unknown time"
    without = f" (without {unknown} of unknown speed)" if times and unknown else ""
    most = max(estimate.weight_bytes + estimate.state_bytes + estimate.step_bytes for estimate in estimates)
    console.print(
        f"all {len(estimates)} checkpoints, one after the other: at most {short(sum(tokens))} tokens, {time}{without}, "
        f"about {most / 1e9:.2f} GB at a time",
        highlight=False,
    )


def _share(tasks: Sequence[TaskCensus]) -> str:
    total, shared = sum(task.prompt_tokens for task in tasks), sum(task.shared_tokens for task in tasks)
    return f"{shared / total:.0%}" if shared else "0"


def _time(tokens: int, rate: float | None) -> str:
    if not rate:
        return "—"
    return _duration(tokens / rate)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
