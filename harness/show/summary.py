"""What a run prints when it is done."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.records.record import RunRecord, Score
from harness.show.plain import plain

WIDE = 100  # columns of a terminal that has room for tokens and seconds
COUNTED = {
    "empty_answers": "empty answers",
    "given_away": "answered without reading (answer in the question, or of one character)",
}
"""Counts of a cell's documents that are said where they are above 0."""


def print_summary(record: RunRecord, folder: Path, console: Console) -> None:
    """Each task's scores with interval, n, fill, tokens and time; then the model, the protocol and the folder."""
    wide = console.width >= WIDE
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title in ("task", "metric"):
        drawn.add_column(title, no_wrap=True)
    for title in ("score", "95 %", "n", "fill", *(("tokens", "s") if wide else ())):
        drawn.add_column(title, justify="right", no_wrap=True)
    for cell in record.cells:
        for position, (metric, score) in enumerate(cell.scores.items()):
            first = position == 0
            n = str(score.n) + (f" ({score.unscored} unscored)" if score.unscored else "")
            drawn.add_row(
                Text(plain(cell.protocol.label) if first else ""),
                Text(plain(metric)),
                f"{score.value:.4g}",
                _interval(score),
                n if first else "",
                "" if cell.mean_fill is None or not first else f"{cell.mean_fill:.1%}",
                *((f"{cell.tokens:,}", f"{cell.seconds:.0f}") if wide and first else ()),
            )
    console.print(drawn)
    for name, meaning in COUNTED.items():
        if counts := [f"{cell.protocol.label} {found}" for cell in record.cells if (found := cell.documents.get(name))]:
            console.print(Text(f"{meaning}: {plain(', '.join(counts))}"))
    model = record.model
    grows = model.state_bytes_a_token
    size = f"{model.state_bytes:,} bytes" + (f" and {grows:,} a token" if grows else "")
    saved = model.saved_dtype
    dtype = model.dtype if saved in (None, model.dtype) else f"{model.dtype} (saved in {saved})"
    if model.quantised:
        dtype += f", weights quantised: {plain(model.quantised)}"
    line = Text(plain(record.name), style="bold")
    line.append(
        f"  {model.parameters:,} parameters, state {size}, {dtype}, context prefix {model.context_prefix}",
        style="not bold",
    )
    console.print(line)
    if model.source:
        console.print(Text(f"from {plain(model.source)}"))
    console.print(
        f"protocol {record.protocol_hash[:8]}, {record.seconds:.0f} s, peak memory {record.peak_memory_mib:,.0f} MiB"
    )
    console.print(Text(f"results: {plain(str(folder))}"))
    console.print()


def _interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.3g}–{score.high:.3g}"
