"""`inspect`: a checkpoint on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.checkpoints.inspection import Inspection
from harness.show.imports import layers_line
from harness.words import counted

if TYPE_CHECKING:
    from gdn2.checkpoints.describe import Description

NATIVE = "gdn2"
WIDE = 110  # columns of a terminal in which a layer's parameters are split


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Layers as a table, equal ones folded; then parameters, state, tokenizer, files and hash, a line each."""
    found, tokenizer = inspection.model, inspection.tokenizer
    config = found.config
    console.print(f"[bold]{escape(found.path)}[/bold]", soft_wrap=True)
    foreign = "" if found.format == NATIVE else f" (format {found.format}, as it would be imported)"
    console.print(f"{layers_line(config['layers'])}, width {config['hidden_size']:,}{foreign}", soft_wrap=True)
    console.print()
    console.print(layer_table(found, wide=console.width >= WIDE))
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False, show_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in lines(found, tokenizer):
        facts.add_row(name, escape(text))
    console.print(facts)


def layer_table(found: Description, *, wide: bool) -> Table:
    """A row for each run of equal layers; a pattern that repeats is shown once."""
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    drawn.add_column("layers", no_wrap=True)
    drawn.add_column("mixer", no_wrap=True)
    drawn.add_column("", overflow="fold")
    for title in ("mixer parameters", "SwiGLU") if wide else ("parameters",):
        drawn.add_column(title, justify="right", no_wrap=not wide)
    drawn.add_column("state floats" if wide else "state", justify="right", no_wrap=True)
    for where, run in _folded(found):
        sizes = [run.mixer_parameters, run.mlp_parameters] if wide else [run.mixer_parameters + run.mlp_parameters]
        grows = f"{run.token_floats:,} a token" if run.token_floats else f"{run.state_floats:,}"
        drawn.add_row(where, run.mixer, run.what, *(f"{size:,}" for size in sizes), grows)
    return drawn


def lines(found: Description, tokenizer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, its value in words)."""
    count, config, stored, state = found.parameters, found.config, found.stored, found.state
    tied = "the embedding is the head" if not count["head"] else f"embedding {count['embedding']:,}, head as many"
    said = [
        ("parameters", f"{count['total']:,}: blocks {count['blocks']:,}, {tied}, final norm {count['final_norm']:,}"),
        ("state", f"{state['matrix_floats']:,} floats a text, {state['floats']:,} with the tails of convolutions"),
        ("", _bytes(state["bytes"]) + ", whatever the text's length"),
    ]
    if state["token_floats"]:
        said.append(("", f"and {state['token_floats']:,} floats for every token: {_bytes(state['token_bytes'])}"))
    said.append(("context", f"trained at {config['max_position_embeddings']:,} tokens; {_convention(tokenizer)}"))
    said.append(("tokenizer", _tokenizer(tokenizer, config["vocab_size"])))
    dtypes = ", ".join(f"{name} {size / sum(stored['dtypes'].values()):.1%}" for name, size in stored["dtypes"].items())
    only = next(iter(stored["dtypes"])) if len(stored["dtypes"]) == 1 else dtypes
    if found.quantised and found.format != "gdn2":
        only = found.quantised
    said.append(("on disk", f"{only}, {stored['bytes']:,} bytes in {counted(stored['files'], 'file')}"))
    said.append(
        ("runs in", f"float32 on a CPU, {next(iter(stored['dtypes']))} on a GPU, unless --dtype says otherwise")
    )
    if found.quantised:
        said.append(("quantised", f"{found.quantised}; it runs as the numbers that they stand for"))
    inner = config.get("mixer_norm_eps")
    inside = f" (in mixers {inner:g})" if inner is not None and inner != config["norm_eps"] else ""
    epsilon = f"norm epsilon {config['norm_eps']:g}{inside}, SwiGLU {config['intermediate_size'] or 'none'}"
    said.append(("others", f"{epsilon}, vocabulary {config['vocab_size']:,}"))
    if found.imported:
        said.append(("imported", _imported(found.imported)))
    for name, value in found.assumed.items():
        said.append(("assumed", f"{name} = {value} (the file does not tell; import with --set {name}=VALUE)"))
    said.append(("sha256", found.sha256))
    return said


def _folded(found: Description) -> list[tuple[str, Any]]:
    """(which layers, a run that represents them)."""
    layers = found.config["layers"]
    names = list(zip(layers, found.config["mlps"] or ["swiglu"] * len(layers), strict=True))
    for period in range(2, min(9, len(names) // 2 + 1)):
        if len(found.layers) > period and all(name == names[index % period] for index, name in enumerate(names)):
            by_layer = [run for run in found.layers for _ in range(run.last - run.first + 1)]
            shown: set[tuple[str, str]] = set()
            rows = []
            for offset in range(period):
                if names[offset] not in shown:
                    shown.add(names[offset])
                    same = [index for index, name in enumerate(names) if name == names[offset]]
                    rows.append((_indices(same), by_layer[offset]))
            return rows
    return [(f"{run.first}" if run.first == run.last else f"{run.first}–{run.last}", run) for run in found.layers]


def _indices(indices: list[int]) -> str:
    """`0, 2, … 16` (9 layers)."""
    if len(indices) < 4:
        return ", ".join(map(str, indices))
    return f"{indices[0]}, {indices[1]}, … {indices[-1]} ({len(indices)})"


def _bytes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size:,} bytes in {dtype}" for dtype, size in sizes.items())


def _convention(tokenizer: Mapping[str, Any]) -> str:
    if "error" in tokenizer:
        return "what comes before a context is not known without the tokenizer"
    prefix = tokenizer["prefix"]
    return f"the tokenizer puts {' '.join(prefix)} before a context" if prefix else "nothing comes before a context"


def _tokenizer(tokenizer: Mapping[str, Any], rows: int) -> str:
    if "error" in tokenizer:
        return str(tokenizer["error"])
    short = f" (the embedding has {rows:,} rows)" if rows != tokenizer["vocabulary"] else ""
    adds = "adds BOS" if tokenizer["adds_bos"] else "adds no BOS"
    tokens = f"BOS {tokenizer['bos']}, EOS {tokenizer['eos']}"
    return f"{tokenizer['class']}, {tokenizer['vocabulary']:,} tokens{short}, {tokens}, {adds}"


def _imported(imported: Mapping[str, Any]) -> str:
    assumed = ", ".join(f"{name} = {value}" for name, value in imported.get("assumed", {}).items())
    told = ", ".join(f"{name} = {value}" for name, value in imported.get("settings", {}).items())
    parts = [f"from {imported.get('source')} ({imported.get('importer')})"]
    parts += [f"assumed {assumed}"] if assumed else []
    parts += [f"set {told}"] if told else []
    return "; ".join(parts)
