"""Examples that `--help` ends with, by command; a test parses each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from basis.program import IN_A_CHECKOUT, as_called

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("stage", "run gdn2-4m", "leaderboard", "tasks list", "run --help"),
    "stage": ("stage", "stage retrieval-2k --source hub", "stage --list", "stage quick --verify"),
    "run": (
        "run gdn2-4m",
        "run path/to/checkpoint --suite ruler_table3 --samples 100",
        "run path/to/checkpoint --tasks niah_single_2@4096,squad_retrieval --device cuda --dtype bfloat16",
        "run path/to/checkpoint --workers 8",
        "run model-a model-b model-c --suite ruler_table3 --name '{}-bf16' --dtype bfloat16",
    ),
    "plan": ("plan path/to/checkpoint --suite ruler_table3", "plan gdn2-tiny --tokens-per-second 20000"),
    "leaderboard": (
        "leaderboard",
        "leaderboard --suite retrieval-2k --results my-runs",
        "leaderboard --output table.tex --intervals --no-published",
        "leaderboard --suite rivals --seeds --no-published",
        "leaderboard --models 'gdn2-*' 'Gated*' --columns 'S-NIAH-*' --sort niah_single_1@8192",
    ),
    "compare": (
        "compare gdn2-tiny smollm2-135m",
        "compare gdn2-tiny 'paper:gdn2_paper/recurrent/Gated DeltaNet-2' --suite ruler_table3",
        "compare --seeds 'gdn2-4m*' 'kda-4m*' --suite rivals --output comparison.md",
    ),
    "plot list": ("plot list",),
    "plot depth": ("plot depth gdn2-tiny", "plot depth my-model other-model --tasks niah_single_2 --output depth.pdf"),
    "plot length": (
        "plot length --suite ruler_table3 --width page --output length.pdf",
        "plot length gdn2-tiny --published 'Mamba-3*' --threshold 85.6 --data length.csv",
    ),
    "plot state": ("plot state --tasks niah_single_2 --length 4096",),
    "plot position": ("plot position gdn2-4m kda-4m --suite rivals",),
    "plot matrix": (
        "plot matrix --suite ruler_table3",
        "plot matrix gdn2-tiny smollm2-135m 'kda-*' --output matrix.pdf",
    ),
    "plot norms": ("plot norms gdn2-tiny",),
    "plot failures": ("plot failures gdn2-tiny --tasks niah_multikey_1",),
    "plot trajectory": ("plot trajectory 'my-model@*' --suite ruler_table3",),
    "plot study": (
        "plot study mqar --width page --output study.pdf",
        "plot study state-tracking --models 'GDN-2*' Mamba-2",
    ),
    "lengths": (
        "lengths",
        "lengths gdn2-tiny --suite ruler_table3 --published 'Mamba-3*'",
        "lengths --output lengths.md",
    ),
    "failures": (
        "failures gdn2-tiny --examples 2",
        "failures model-a model-b --examples 5",
        "failures model-a --verdict stale wrong --output failures.md",
    ),
    "study": ("study mqar-laptop", "study mqar --devices cuda:0,cuda:1", "study my-study.yaml --plan"),
    "reproduce": ("reproduce", "reproduce --write"),
    "results list": ("results list", "results list --models 'gdn2-*' --format csv"),
    "results show": ("results show gdn2-tiny",),
    "results add": ("results add path/to/results_2026-11-26T02-32-32.899829.json --name llama-1b",),
    "results export": (
        "results export --output cells.csv",
        "results export gdn2-tiny --rows samples --output samples.parquet",
    ),
    "results remove": ("results remove my-model/2026-11-26T02-32-32_4078a74c",),
    "report": (
        "report",
        "report gdn2-tiny smollm2-135m --output report.html",
        "report --suite quick --results my-runs",
    ),
    "tasks list": ("tasks list", "tasks list needle", "tasks list commonsense-gdn2"),
    "tasks show": ("tasks show niah_multikey_1@1024", "tasks show door_codes.yaml"),
    "tasks new": ("tasks new door_codes",),
    "tasks check": ("tasks check door_codes.yaml",),
    "import": ("import path/to/model.pth my-checkpoint", "import path/to/fla-folder my-checkpoint"),
    "inspect": ("inspect gdn2-tiny", "inspect path/to/model.pth"),
    "check": ("check path/to/checkpoint --text heldout.txt --expect-loss 2.31",),
}


def add_examples(parser: argparse.ArgumentParser) -> None:
    """End the help of a parser, and that of each command below it, with its examples."""
    for command, below in (("", parser), *commands(parser)):
        if lines := EXAMPLES.get(command):
            below.formatter_class = argparse.RawDescriptionHelpFormatter
            below.epilog = "examples:\n" + "\n".join(f"  {as_called(IN_A_CHECKOUT)} {line}" for line in lines)


def commands(parser: argparse.ArgumentParser, above: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command below a parser with its own parser, depth first.

    Args:
        parser: any parser.
        above: the names of the commands that lead to it, each followed by a space.

    Yields:
        The names that are typed, such as `tasks list`, and what parses the rest.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield f"{above}{name}", below
                yield from commands(below, f"{above}{name} ")
