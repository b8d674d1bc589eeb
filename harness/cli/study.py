"""`study`: models trained and asked under equal conditions."""

from __future__ import annotations

import argparse
import os
import re
import time
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.console import console
from harness.words import counted

if TYPE_CHECKING:
    from gdn2.train.rivals.plan import Rivals
    from harness.study.plan import Study
    from harness.study.results import StudyResults

OUTPUT = Path("results/studies")
MOST_WORKERS = 4096
LONGEST = 10_000  # hours of a time limit


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    study = commands.add_parser("study", help="train many small models under equal conditions and compare them")
    study.add_argument(
        "study",
        help="one that is shipped (mqar-laptop, mqar, …; of models trained on text: text-4m), or a YAML file",
    )
    study.add_argument(
        "--output", type=Path, help="folder of results (default: results/studies; of models trained on text: runs/NAME)"
    )
    study.add_argument(
        "--devices", help="comma-separated, such as cuda:0,cuda:1 (default: all GPUs that there are, else cpu)"
    )
    study.add_argument("--workers", type=int, default=1, help="runs at a time on each device (default: 1)")
    study.add_argument(
        "--time-limit",
        type=_seconds,
        metavar="TIME",
        help="such as 520s, 9m or 2h: begin no run that would take longer, and end by then",
    )
    study.add_argument(
        "--share", type=float, help="of models trained on text: of their steps (default: 1, or what fits --time-limit)"
    )
    study.add_argument(
        "--prepared",
        type=Path,
        metavar="FOLDER",
        help="of models trained on text: tokenizer and tokens made ahead by python -m gdn2.train --prepare",
    )
    study.add_argument("--reference", metavar="MODEL", help="compare with this model, in tests of their own")
    study.add_argument("--plan", action="store_true", help="say what it asks for and what there is; train nothing")
    study.add_argument("--table", type=Path, help="write the tables to a Markdown file as well")
    study.add_argument("--format", choices=("terminal", "markdown"), default="terminal", help="of what is printed")
    study.add_argument("--retry", action="store_true", help="do runs that failed again")
    study.set_defaults(command=_study)


def _study(args: argparse.Namespace) -> int:
    from basis.files import write_atomically
    from gdn2.train.rivals.plan import is_rivals
    from gdn2.train.synthetic.spec import read_tasks
    from harness.errors import UserError
    from harness.show.study import print_study, study_markdown
    from harness.study.plan import load_study
    from harness.study.results import StudyResults, folder_of

    if not 1 <= args.workers <= MOST_WORKERS:
        raise UserError(f"--workers must be at least 1 and at most {MOST_WORKERS}, got {args.workers}")
    _check_table(args.table)
    devices = _devices(args.devices, must_exist=not args.plan)
    if is_rivals(args.study):
        return _on_text(args, devices)
    for name in ("share", "prepared"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is of models trained on text, which those of {args.study} are not; leave it out")
    study, err = load_study(args.study), console(stderr=True)
    if args.reference is not None:
        study = study.against(args.reference)
    results = StudyResults(study, folder_of(study, args.output or OUTPUT), lambda text: err.print(text, markup=False))
    again = [run for run, _ in results.failed()] if args.retry else []
    for run in again:
        del results.found[run.identity]
    if not args.plan and results.to_do():
        _train(study, results, devices * args.workers, args.time_limit)
    tests = read_tasks(study.shared["tests"], study.path, "tests")
    if args.plan and args.format == "terminal":
        _say_plan(study, results)
    for run in again:
        if run.identity not in results.found:  # there was no time to do it again
            results.take_up(run, lambda text: err.print(text, markup=False))
    if args.format == "markdown":
        print(study_markdown(results, tests), end="")
    elif results.found:
        print_study(results, tests, console())
    if args.table is not None:
        write_atomically(args.table, study_markdown(results, tests))
    return 1 if results.failed() and not args.plan else 0


def _on_text(args: argparse.Namespace, devices: list[str]) -> int:
    """Train rivals on text, ask each what the file's suite asks, and print the table of what there is.

    Raises:
        UserError: an option that only another study has, or a suite that cannot be asked here.
    """
    from gdn2.train.rivals.__main__ import main
    from gdn2.train.rivals.plan import load_rivals
    from harness.errors import UserError
    from harness.study.on_text import FOR_TRAINING, RESULTS, asking, suite_file
    from tasks.registry import load_suite

    if args.reference is not None:
        raise UserError("--reference is of other studies; of models on text `compare --seeds` tests every pair")
    if args.retry:
        raise UserError("--retry is of studies whose failed runs are kept; of models on text the same command does it")
    rivals = load_rivals(args.study)
    if rivals.suite is None and (args.table is not None or args.format != "terminal"):
        option = "table" if args.table is not None else "format"
        raise UserError(f"--{option}: {rivals.path} has no field suite, so its models are asked nothing; add one")
    folder = args.output or Path("runs") / rivals.name
    if args.plan and (suite := suite_file(rivals)) is not None:
        load_suite(suite)  # its mistakes are said before training
    asks = None if args.plan else asking(rivals, folder)
    arguments = [args.study, "--workers", str(args.workers), "--devices", ",".join(devices)]
    arguments += ["--out", str(folder)]
    arguments += [] if args.prepared is None else ["--prepared", str(args.prepared)]
    arguments += [] if args.share is None else ["--share", str(args.share)]
    last = None
    if args.time_limit is not None:
        last = time.monotonic() + args.time_limit
        within = args.time_limit * (FOR_TRAINING if asks is not None else 1)
        arguments += ["--within", str(within / 60)]
    code = main([*arguments, *(["--plan"] if args.plan else [])], asks, last)
    if rivals.suite is not None and code in (0, 1):
        _show_asked(args, rivals, folder / RESULTS)
    return code


def _show_asked(args: argparse.Namespace, rivals: Rivals, results: Path) -> None:
    """Print the table of what models were asked: the mean of each training's seeds."""
    from basis.files import write_atomically
    from harness.cli.leaderboard import draw, table_of
    from harness.records.view import View
    from harness.show.formats import FORMATS
    from harness.study.on_text import suite_file

    suite = suite_file(rivals)
    if suite is None or not results.is_dir():
        return
    table = table_of(suite, [results], published=False, view=View(seeds="means"))
    if args.format == "markdown":
        print(FORMATS["markdown"].write(table, True), end="")
    else:
        draw(table, console())
        console(stderr=True).print(
            f"more: leaderboard, compare --seeds, plot length --seeds; with --results {results}", markup=False
        )
    if args.table is not None:
        write_atomically(args.table, FORMATS["markdown"].write(table, True))


def _seconds(text: str) -> float:
    """A time with its unit, in seconds.

    Raises:
        ArgumentTypeError: it is none, not above 0, or longer than any run.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; say 520s, 9m or 2h")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds > LONGEST * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is over {LONGEST}h; leave it out for no limit")
    return seconds


def _check_table(path: Path | None) -> None:
    """See, before an hour is spent on what it shall say, that a table can be written.

    Raises:
        UserError: its folder is not there or cannot be written to, or a folder has its name.
    """
    from basis.errors import reason
    from basis.files import try_writing
    from harness.errors import UserError

    if path is None or (path.exists() and not path.is_file() and not path.is_dir()):  # a device or a pipe
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        try_writing(path.resolve().parent)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--table {path}: cannot be written ({reason(error)}); choose another file") from error


def _devices(named: str | None, *, must_exist: bool) -> list[str]:
    """The devices to train on.

    Args:
        named: as they were typed; None: all GPUs, or the CPU.
        must_exist: whether they must be there; a plan may be of another machine.

    Raises:
        UserError: the list of them has no name in it, or a name that is none of a device, or of one that is not there.
    """
    import torch

    from harness.errors import UserError
    from harness.runs.options import check_device

    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if named is None:
        return gpus or ["cpu"]
    if not (names := [name.strip() for name in named.split(",") if name.strip()]):
        raise UserError(f"--devices {named!r} names no device; say cpu, cuda:0 or cuda:0,cuda:1")
    there = {"cpu", *gpus, *(["cuda"] if gpus else [])}
    there |= {kind for kind, of in (("mps", torch.backends.mps), ("xpu", torch.xpu)) if of.is_available()}
    devices: list[str] = []
    for name in names:
        check_device(name, "--devices")
        if must_exist and name != "auto" and not {name, re.sub(r"^xpu:.*", "xpu", name)} & there:
            raise UserError(f"--devices {name}: this machine has no such device; there is {', '.join(sorted(there))}")
        devices += (gpus or ["cpu"]) if name == "auto" else [name]
    return devices


def _say_plan(study: Study, results: StudyResults) -> None:
    out = console()
    out.print(f"{study.name}: {study.about}", markup=False)
    out.print(
        f"{counted(len(study.models), 'model')} x {counted(len(study.rates), 'rate')} x "
        f"{counted(study.seeds.choose, 'seed')}, then {counted(study.seeds.count, 'seed')} at each model's best rate: "
        f"{counted(results.total, 'run')}, done: {results.done}",
        markup=False,
    )


def _train(study: Study, results: StudyResults, devices: list[str], seconds: float | None) -> None:
    """Do what is left, with a bar for the study and a line for each worker."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.study.workers import work

    err = console(stderr=True)
    steps = study.shared["training"]["steps"]
    name, said = (TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[said]}"))
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), said)
    with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
        whole = bars.add_task(study.name, total=results.total, completed=results.done, said="")
        lines = {i: bars.add_task(device, total=steps, said="") for i, device in enumerate(devices)}
        named = {run.identity: run.words for run in results.grid.values()}
        pace = _Pace(results.total - results.done, steps)

        def hears(number: int, said: dict[str, Any]) -> None:
            if (run := said.get("began")) is not None:
                bars.update(lines[number], completed=0, description=f"{devices[number]}  {run.words}", said="")
            elif "step" in said:
                pace.add(number, said["step"])
                bars.update(lines[number], completed=said["step"], said=f"loss {said['validation_loss']:.3f}")
                bars.update(whole, said=pace.left())
            elif "run" in said:
                pace.end(number)
                bars.update(whole, advance=1)
                if not err.is_terminal:
                    how = said.get("failed") or f"{said.get('seconds', 0):.0f} s"
                    err.print(f"{results.done + 1} of {results.total}: {named[said['run']]}: {how}", markup=False)

        work(results, devices, hears, lambda text: err.print(text, markup=False), seconds)


class _Pace:
    """How long the rest will take, by the steps of the last minutes."""

    def __init__(self, runs: int, steps: int) -> None:
        self.total, self.steps, self.done, self.started = runs * steps, steps, 0, time.monotonic()
        self.current: dict[int, int] = {}

    def add(self, number: int, step: int) -> None:
        """A worker is at this step."""
        self.current[number] = step

    def end(self, number: int) -> None:
        """A worker's run is done, by all its steps or by failing."""
        self.current.pop(number, None)
        self.done += self.steps

    def left(self) -> str:
        """Time left in words."""
        done = self.done + sum(self.current.values())
        seconds = (time.monotonic() - self.started) / max(done, 1) * (self.total - done)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{max(seconds, 0):.0f} s left"
