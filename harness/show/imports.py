"""What is said about checkpoints: an import's summary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.markup import escape

from basis.names import listed
from harness.checkpoints.imports import Imported
from harness.words import counted


def print_import(found: Imported, console: Console) -> None:
    """Format, layers and tensors of an import, and every field that the source does not tell."""
    plan, folder = found.plan, found.folder
    config = plan.config
    console.print(
        f"[bold]{escape(plan.source.path.name)}[/bold]: format {plan.format}, {layers_line(config.layers or [])}, "
        f"width {config.hidden_size:,}; {len(plan.entries):,} tensors read, {len(plan.shapes):,} written, all fit",
        soft_wrap=True,
    )
    for name, value in plan.settings.items():
        console.print(f"  {name} = {value}  (set)", highlight=False)
    for name, value in plan.assumed.items():
        console.print(f"  {name} = {value}  (assumed: the file does not tell; --set {name}=VALUE)", highlight=False)
    if plan.unused:
        console.print(f"  left out: {listed(plan.unused, 5)}", highlight=False)
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        console.print("  no tokenizer beside it: give --tokenizer DIR, here or when you run it", highlight=False)
    console.print(f"written: {folder}", highlight=False, markup=False, soft_wrap=True)


def layers_line(layers: Sequence[str] | str) -> str:
    """`18 layers: gdn2, swa in turn`, `24 layers: kda`, or runs of equal layers."""
    names = [layers] if isinstance(layers, str) else list(layers)
    count = counted(len(names), "layer")
    for period in range(1, min(9, max(len(names) // 2 + 1, 2))):
        if all(name == names[index % period] for index, name in enumerate(names)):
            return f"{count}: {', '.join(names[:period])}" + (" in turn" if period > 1 else "")
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    return f"{count}: " + ", ".join(f"{size} x {name}" for name, size in runs)
