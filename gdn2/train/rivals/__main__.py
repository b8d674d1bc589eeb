"""Train rivals alike: `python -m gdn2.train.rivals text-4m [--devices D,D] [--workers N] [--within MINUTES]`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basis.arguments import Parser
from basis.errors import UserError
from basis.files import load_json, write_atomically
from basis.locks import alone_in
from basis.signals import ends_by_interrupt
from gdn2.train.fields import RecipeError
from gdn2.train.place import choose_device
from gdn2.train.recipe import Recipe, parse_recipe
from gdn2.train.rivals.crew import Crew, Ended, Then
from gdn2.train.rivals.pace import LOGGED, TRIED, fitting_share, pace_of
from gdn2.train.rivals.plan import Rivals, load_rivals
from gdn2.train.rivals.sizes import Size, check_differ, inequalities, size_of

SHARE = "share.json"  # of the steps that are taken, with the file that it was found for
FEWEST = 0.02


def main(argv: list[str] | None = None, then: Then | None = None, last: float | None = None) -> int:
    """Run the command line.

    Args:
        argv: its arguments; None: those of the process.
        then: what is done with each checkpoint as soon as no training waits for its place; None: nothing.
        last: in time.monotonic()'s seconds, when that is interrupted; None: never.

    Returns:
        0; 1 if a run failed or was cut short; 2 for a mistake that the user can mend; 130 when interrupted.
    """
    try:
        args = _parser().parse_args(argv)
        with ends_by_interrupt():
            return _train(args, then, last)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # a terminal that was closed
            print("interrupted; the same command goes on from the last save of each run", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m gdn2.train.rivals", description=__doc__)
    parser.add_argument("rivals", help="a YAML file, or the name of a shipped one: text-4m, text-20m")
    parser.add_argument("--out", type=Path, help="folder of everything (default: runs/<name>)")
    parser.add_argument("--devices", default="auto", help="comma-separated, such as cuda:0,cuda:1 (default: auto)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time on each device (default: 1)")
    parser.add_argument(
        "--prepared", type=Path, help="tokenizer and tokens made ahead by python -m gdn2.train --prepare"
    )
    parser.add_argument(
        "--within", type=float, metavar="MINUTES", help="take as many of the steps as fit, trials included"
    )
    parser.add_argument("--share", type=float, help="of the steps of each stage (default: 1, or what fits --within)")
    parser.add_argument("--plan", action="store_true", help="say what would be trained; train nothing")
    return parser


def _train(args: argparse.Namespace, then: Then | None, last: float | None) -> int:
    started = time.monotonic()
    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, got {args.workers}")
    if args.share is not None and not 0 < args.share <= 1:
        raise UserError(f"--share must be above 0 and at most 1, got {args.share}")
    if args.within is not None and not 0 < args.within < math.inf:
        raise UserError(f"--within must be a number of minutes above 0, got {args.within}")
    rivals = load_rivals(args.rivals)
    models = rivals.recipes()[: len(rivals.models)]
    sizes = [size_of(recipe) for recipe in models]
    check_differ(models)
    if args.plan:
        _say_plan(rivals, sizes, args.share)
        return 0
    folder = args.out or Path("runs") / rivals.name
    devices = _devices(rivals, args.devices) * args.workers
    deadline = None if args.within is None else started + 60 * args.within
    crew = Crew(folder, devices, args.prepared, deadline, last)
    _check_text(rivals.recipes()[0], args.prepared)
    for line in inequalities(sizes):
        _say(line)
    with alone_in(folder):
        return _train_all(rivals, crew, started, args.share, then)


def _train_all(rivals: Rivals, crew: Crew, started: float, wanted: float | None, then: Then | None) -> int:
    share = _share(rivals, crew, started, wanted)
    recipes = rivals.recipes(share)
    waiting = [recipe for recipe in recipes if not crew.checkpoint(recipe).is_dir()]
    done = [recipe for recipe in recipes if recipe not in waiting]
    _say(f"{len(recipes)} runs, {len(done)} done; {recipes[0].total_steps:,} steps each")
    trained, followed = crew.train(waiting, lambda run: _say(_told(run)), then, done)
    failed, unasked = (sum(1 for run in part if run.status) for part in (trained, followed))
    _say(f"{len(recipes) - failed} of {len(recipes)} are done, in {time.monotonic() - started:.0f} s; {failed} are not")
    if unasked:
        _say(f"{unasked} of {len(recipes) - failed} checkpoints were not asked to the end; the same command goes on")
    return 1 if failed or unasked else 0


def _devices(rivals: Rivals, named: str) -> list[str]:
    """The devices by name, all of which there are.

    Raises:
        UserError: none is named, or there is no such device.
    """
    names = [name.strip() for name in named.split(",") if name.strip()]
    if not names:
        raise UserError(f"--devices {named!r} names no device; say cpu, cuda:0 or cuda:0,cuda:1")
    for name in names:
        choose_device(rivals.recipes()[0], name)
    return names


def _check_text(recipe: Recipe, ahead: Path | None) -> None:
    """See that the text is there, for which every run would be refused.

    Raises:
        RecipeError: text, held-out text or the tokens made ahead cannot be used.
    """
    from gdn2.train.corpus import read_texts
    from gdn2.train.export import check_heldout
    from gdn2.train.prepared import prepared

    train, heldout = recipe.data.paths()
    check_heldout(heldout)
    if ahead is not None:
        prepared(recipe, ahead)
    elif next(read_texts(train), None) is None:
        raise RecipeError(f"{train}: no text in it; data.train needs some")


def _share(rivals: Rivals, crew: Crew, started: float, wanted: float | None) -> float:
    """The share of their steps that runs take: asked for or found once, then kept in the folder.

    Raises:
        RecipeError: the folder is of another file or share, a trial failed, or the time is too short.
    """
    file = crew.folder / SHARE
    if file.is_file():
        found = load_json(file)
        share = found.get("share") if isinstance(found, dict) else None
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise RecipeError(f"{file}: does not say which share of the steps runs take; choose another --out")
        if found.get("rivals") != rivals.fingerprint:
            raise RecipeError(f"{crew.folder} has runs of another file than {rivals.path}; choose another --out")
        if wanted not in (None, share):
            raise RecipeError(f"{crew.folder} has runs with {share} of the steps; choose another --out or that --share")
        return share
    share = 1.0 if wanted is None else wanted
    if wanted is None and crew.deadline is not None:
        share = _tried_share(rivals, crew, started)
    crew.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"rivals": rivals.fingerprint, "share": share}) + "\n")
    return share


def _tried_share(rivals: Rivals, crew: Crew, started: float) -> float:
    """Train a little twice: kernels are compiled the first time, the second one is timed.

    A recipe whose trial fails is left out of the reckoning; it is counted when it fails again.
    """
    assert crew.deadline is not None
    recipes = {recipe.name: recipe for recipe in rivals.recipes()}
    tried = {}
    for number, steps in enumerate((1, TRIED)):
        trial = Crew(crew.folder / f"trial{number}", crew.devices, crew.prepared, crew.deadline)
        shutil.rmtree(trial.folder, ignore_errors=True)
        short = [_shortened(recipe, steps) for recipe in recipes.values()]
        ended, _ = trial.train(short, lambda run: _say(f"trial: {_told(run)}") if run.status else None)
        tried = {run.name: run for run in ended if not run.status}
        if not tried and time.monotonic() >= crew.deadline:
            raise RecipeError(f"{rivals.path}: time was up in the trials that --within begins with; give it more")
        if not tried:
            raise RecipeError(f"{rivals.path}: every trial failed; their words are in {trial.folder / 'logs'}")
        _say(f"trial of {steps} steps a stage: all done after {time.monotonic() - started:.0f} s")
    paces = []
    for name, run in tried.items():
        log = [json.loads(line) for line in trial.log(recipes[name]).read_text().splitlines()]
        paces.append(pace_of(recipes[name], log, run.seconds))
        speed = f"{log[-1]['tokens_per_second']:,} tokens/s"
        _say(f"  {name}: {paces[-1].fixed:.0f} s + {paces[-1].steps:.0f} s of steps, {speed}")
    share = fitting_share(paces, len(crew.devices), crew.deadline - time.monotonic())
    if share < FEWEST:
        raise RecipeError(f"{rivals.path}: next to nothing fits the time of --within; give it more")
    _say(f"{share:.1%} of the steps fit")
    return share


def _shortened(recipe: Recipe, steps: int) -> Recipe:
    import yaml

    raw: dict[str, Any] = yaml.safe_load(recipe.text)
    raw["stages"] = [{**stage, "steps": steps} for stage in raw["stages"]]
    return parse_recipe(yaml.safe_dump(raw | {"log_every": min(steps, LOGGED)}, sort_keys=False), recipe.path)


def _say_plan(rivals: Rivals, sizes: Sequence[Size], share: float | None) -> None:
    recipes: Sequence[Recipe] = rivals.recipes(1.0 if share is None else share)
    tokens = sum(stage.steps * stage.rows * stage.length for stage in recipes[0].stages)
    _say(f"{rivals.name}: {len(recipes)} runs of {recipes[0].total_steps:,} steps, {tokens:,} tokens each")
    for recipe, size in zip(recipes, itertools.cycle(sizes), strict=False):
        _say(f"  {recipe.name}: {size.parameters:,} parameters, {size.state_words}")
    for line in inequalities(sizes):
        _say(line)


def _told(run: Ended) -> str:
    return f"{run.name} on {run.device}: " + (
        f"{run.seconds:.0f} s" if not run.status else f"status {run.status}\n{run.last}"
    )


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a reader that has gone away ends no training
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
