"""What a run is asked to do: the options as typed, resolved into a plan before anything expensive happens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from basis.hub import checkpoint_name
from harness.checkpoints.find import find_checkpoint, find_tokenizer
from harness.errors import UserError
from harness.records import cells
from harness.records.store import ensure_folder
from tasks import data
from tasks.registry import ResolvedTask, Suite, load_suite, resolve, spellings


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says."""

    checkpoint: str
    suite: str = "quick"
    tasks: tuple[str, ...] = ()
    """Instead of a suite's: names such as `niah_single_1@1024`, or YAML files of tasks."""
    samples: int | None = None
    seed: int | None = None
    batch_size: int | None = None
    """The most rows a step; None: as many as memory holds."""
    batch_tokens: int | None = None
    """The most tokens a step; None: from the free memory."""
    workers: int = 0
    """Processes with a copy of the model each, by Ray; 0: this one."""
    stop_at_references: bool = False
    """Needle tasks end a generation when every reference has appeared."""
    prefix_states: Path | None = None
    """A folder that keeps states of long prefixes between runs."""
    device: str = "auto"
    """A torch device; "auto" is the GPU if there is one."""
    dtype: str = "float32"
    context_prefix: str | None = None
    max_length: int | None = None
    tokenizer: str | None = None
    output: Path = field(default_factory=lambda: Path("results/runs"))
    name: str | None = None
    generator: str | None = None
    """Of RULER's tasks, instead of the suite's."""
    shots: int | None = None
    """Solved examples in front of questions, for the tasks that take any, instead of the suite's."""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The resolved run: where the checkpoint is and what is asked of it."""

    checkpoint: Path
    name: str
    suite: str
    tasks: tuple[ResolvedTask, ...]
    context_prefix: str
    max_length: int | None = None
    """As the suite says; None: as long as a task asks for."""


def make_plan(options: RunOptions) -> Plan:
    """Resolve names and check everything that needs no model.

    Raises:
        UserError, TaskError, DataNotStaged: with the way out.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    suite: Suite | None = None
    if options.tasks:
        names = [spelling for name in options.tasks for spelling in spellings(name)]
        tasks = [_by_name(name, options) for name in names]
    else:
        suite = load_suite(options.suite)
        tasks = _of_suite(suite, options)
    unique = {task.lm_eval_name: task for task in tasks}
    if options.generator and not any(task.generator for task in unique.values()):
        raise UserError(f"--generator {options.generator}: none of these tasks is one of RULER's; leave it out")
    if options.shots and not any(task.shots for task in unique.values()):
        raise UserError(f"--shots {options.shots}: none of these tasks takes solved examples; leave it out")
    _check_data(unique.values(), options.suite if suite and not options.shots else None)
    ensure_folder(options.output)
    prefix = options.context_prefix or (suite.protocol.context_prefix if suite else "tokenizer")
    name = options.name or checkpoint_name(checkpoint)
    if "/" in name or name.startswith("."):
        raise UserError(f"--name {name!r}: must not contain / or begin with a dot")
    max_length = suite.protocol.max_length if suite else None
    return Plan(checkpoint, name, suite.name if suite else "tasks", tuple(unique.values()), prefix, max_length)


def _by_name(name: str, options: RunOptions) -> ResolvedTask:
    task = resolve(name, samples=options.samples, seed=options.seed, generator=options.generator)
    return _with_shots(task, options)


def _with_shots(task: ResolvedTask, options: RunOptions) -> ResolvedTask:
    """The task with as many solved examples as the options say, if it takes any."""
    if options.shots is None or task.info.examples is None:
        return task
    return resolve(task.info.name, samples=task.samples, seed=task.seed, shots=options.shots)


def _of_suite(suite: Suite, options: RunOptions) -> list[ResolvedTask]:
    """The suite's tasks with what the options say otherwise. Another generator than the suite's has its own seed."""
    generator = options.generator or suite.protocol.generator
    seed = suite.protocol.seed if options.seed is None else options.seed
    tasks = []
    for column in suite.columns:
        samples = column.samples if options.samples is None else options.samples
        shots = suite.protocol.shots if column.shots is None else column.shots
        task = _with_shots(resolve(column.task, column.length, samples, seed, generator, shots), options)
        if task.generator and options.seed is None and generator != suite.protocol.generator:
            task = resolve(column.task, column.length, samples, generator=generator)
        tasks.append(task)
    return tasks


def max_length_of(task: ResolvedTask, plan: Plan, options: RunOptions, own: int) -> int:
    """Tokens beyond which a task's requests are cut. A recurrent model has no context limit: unless --max-length or
    the suite say otherwise, a task gets at least its length, and `own`, what the checkpoint's config says."""
    return options.max_length or plan.max_length or max(own, task.max_length)


def tokenizer_of(plan: Plan, options: RunOptions) -> str:
    """The folder of the tokenizer: the checkpoint's own, unless the options name another."""
    return options.tokenizer or str(plan.checkpoint)


def metadata_of(plan: Plan, options: RunOptions) -> dict[str, Any]:
    """What document builders are given."""
    tokenizer = tokenizer_of(plan, options)
    return {"pretrained": str(plan.checkpoint), "tokenizer": tokenizer, "context_prefix": plan.context_prefix}


def _check_data(tasks: Iterable[ResolvedTask], suite: str | None) -> None:
    """Everything that is missing at once, with the command that stages it. Raises DataNotStaged."""
    listed = list(tasks)
    names = dict.fromkeys(name for task in listed for name in task.data)
    if missing := [name for name in names if not (data.data_dir() / name).is_file()]:
        wanted = suite or " ".join(name.rsplit(".", 1)[0] for name in missing)
        raise data.DataNotStaged(
            f"{', '.join(missing)} not staged in {data.data_dir()}; on a connected machine run "
            f"`python run_eval.py stage {wanted}`"
        )
    for task in listed:
        cells.data_hashes(task)


def with_local_tokenizer(options: RunOptions) -> RunOptions:
    """The options with the folder of their tokenizer: its files are hashed into the protocol.

    Raises:
        UserError: a tokenizer that is not here.
    """
    if options.tokenizer is None:
        return options
    found = find_tokenizer(options.tokenizer)
    if not Path(found).expanduser().is_dir():
        raise UserError(
            f"tokenizer {options.tokenizer!r}: no such folder, and not staged; give a folder with tokenizer.json, or "
            f"run `python run_eval.py stage --tokenizer {options.tokenizer}` on a connected machine"
        )
    return replace(options, tokenizer=found)


def label(task: ResolvedTask) -> str:
    """`niah_single_1@1024`."""
    return task.info.name + (f"@{task.length}" if task.length else "")
