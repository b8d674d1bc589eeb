"""`check`: the verdict, and what might be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.words import counted

if TYPE_CHECKING:
    from harness.checkpoints.reproduction import CheckResult


def print_check(result: CheckResult, console: Console) -> None:
    """Loss, expectation and verdict; the convention; variants when it is off."""
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False, show_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    color = "green" if result.reproduces else "red"
    verdict = "reproduces the loss" if result.reproduces else "does not reproduce the loss"
    facts.add_row("checkpoint", escape(result.checkpoint))
    facts.add_row("loss", f"{result.loss:.4f} nats a token, {result.bits_per_byte:.4f} bits a byte")
    facts.add_row("expected", f"{result.expected:.4f}")
    facts.add_row("difference", f"{result.difference:+.4f} (tolerance {result.tolerance:g})")
    facts.add_row("verdict", f"[bold {color}]{verdict}[/]")
    facts.add_row("measured on", escape(_convention(result)))
    for name, other in result.beside.items():
        facts.add_row(f"with {name}", f"{other:.4f} ({other - result.expected:+.4f}) by --context-prefix {name}")
    if result.guess:
        facts.add_row("note", escape(result.guess))
    console.print(facts)
    if not result.hints:
        return
    console.print()
    console.print("The same text with one thing changed, nearest first:")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    for title, justify in (("variant", "left"), ("loss", "right"), ("off by", "right"), ("", "left")):
        table.add_column(title, justify=justify, no_wrap=title in ("loss", "off by"))  # type: ignore[arg-type]
    for hint in result.hints:
        loss = f"{'' if hint.exact else '~'}{hint.loss:.4f}"
        remark = "[bold green]reproduces it[/]" if hint.reproduces else ""
        table.add_row(escape(hint.name), loss, f"{hint.loss - result.expected:+.4f}", remark)
    console.print(table)
    if any(not hint.exact for hint in result.hints):
        console.print("~ estimated from the first windows", style="dim")
    found = [hint for hint in result.hints if hint.reproduces]
    for hint in found:
        console.print(f"{hint.name}: {hint.remedy}", markup=False, soft_wrap=True)
    if not found:
        console.print(
            "None of them. Is it the text, the tokenizer (--tokenizer), the window (--length) or the context prefix "
            "(--context-prefix) of the training run?",
            soft_wrap=True,
        )


def _convention(result: CheckResult) -> str:
    documents = counted(result.num_documents, "document")
    prefix = f", {' '.join(result.prefix)} before each" if result.prefix else ", nothing before them"
    cut = f"{result.num_windows:,} windows of {result.length:,}, each from an empty state"
    return f"{result.num_tokens:,} tokens of {documents}{prefix}; {cut}; {result.dtype}"
