"""`tasks check` and `tasks new` in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from basis.program import as_called
from harness.show.tasks import print_sample
from tasks.check import DRAWN_VALUES, Report


def print_report(report: Report, console: Console, tokenizer: str, *, full: bool) -> None:
    """A generated sample, the counts of each length, and a line that says whether all is well."""
    info = report.info
    if info is None or report.sample is None:
        return
    print_sample(f"{info.name}@{report.sample['length']}", report.sample, console, full=full)
    console.print()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for title in ("length", "prompt tokens", "fill", "needles", "answer in prompt", "samples"):
        table.add_column(title, justify="right", no_wrap=True)
    for check in report.lengths:
        table.add_row(
            f"{check.length:,}",
            _range(*(f"{tokens:,}" for tokens in check.prompt_tokens)),
            _range(*(f"{share:.1%}" for share in check.fill)),
            str(check.needles),
            _range(*("once" if times == 1 else f"{times} times" for times in check.occurrences)),
            f"{check.checked} of {info.samples}",
        )
    console.print(table)
    if report.collisions is not None:
        console.print(
            f"{report.collisions} of {DRAWN_VALUES} drawn values occur in the haystack"
            + (" and are drawn again" if report.collisions else "")
        )
    if not report.errors:
        console.print(f"[bold green]OK[/] {report.file} with the tokenizer {tokenizer}", soft_wrap=True)
        command = as_called(f"   python run_eval.py run CHECKPOINT --tasks {report.file}")
        console.print(command, style="dim", soft_wrap=True)


def print_new(file: Path, console: Console) -> None:
    """Where the file is, and what to do next."""
    console.print(f"[bold green]written[/] {file}; its comments say what each field takes. Next:", soft_wrap=True)
    for command in (f"tasks check {file}", f"run gdn2-tiny --tasks {file} --samples 10"):
        console.print(as_called(f"   python run_eval.py {command}"), style="dim", soft_wrap=True)


def _range(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"
