"""One run: check what is cheap, load the model, evaluate task by task, keep what is finished, publish a record."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.journal import Journal
from harness.engine.memory import chosen_device
from harness.lm.evaluate import LoadedTasks, measure, merge, quiet_lm_eval, write_results
from harness.lm.terms import Terms
from harness.records import cells, machine
from harness.records.choice import DTYPE as COLUMNS_DTYPE
from harness.records.finished import FinishedTask, FinishedTasks
from harness.records.judged import prompt_rooms
from harness.records.model_info import ModelInfo
from harness.records.protocol import Protocol, TaskProtocol, digest, package_versions
from harness.records.record import FILE_NAME, RunRecord
from harness.records.samples import samples_of, write_samples
from harness.records.store import new_run_folder
from harness.runs.listener import Listener, Silence
from harness.runs.options import RunOptions
from harness.runs.resolve import ResolvedRun, label, resolve_run, with_native_checkpoint
from harness.runs.together import groups
from tasks.errors import TaskError
from tasks.scoring import appear_only

if TYPE_CHECKING:
    from harness.lm.model import GDN2LM

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        record: what tables read.
        folder: where the record, lm-eval's results and the samples are.
    """

    record: RunRecord
    folder: Path


def run_options(
    options: RunOptions, listener: Listener | None = None, load_model: Callable[..., GDN2LM] | None = None
) -> RunResult:
    """Evaluate a checkpoint and publish the record.

    Tasks and requests that an interrupted run of the same protocol and checkpoint had finished are not run again.

    Args:
        options: what is asked for.
        listener: hears how the run goes; nobody by default.
        load_model: makes the lm-eval model; `GDN2LM` by default.

    Raises:
        UserError, TaskError, DataNotStaged, gdn2.checkpoints.CheckpointError: with the way out; what is finished is
            kept.
    """
    started = time.time()
    listener = listener or Silence()
    machine.git_state()  # as it is now, not when the run ends
    run = with_native_checkpoint(resolve_run(options), listener)
    quiet_lm_eval()
    with listener.status(f"loading {run.checkpoint}"):
        model = _load(run, listener, load_model)
    _check_tasks(run)
    info = model.model_info()
    if options.dtype == "auto" and info.dtype != COLUMNS_DTYPE:
        listener.note(
            f"in {info.dtype}, as the checkpoint was saved; tables mark it; columns have --dtype {COLUMNS_DTYPE}"
        )
    protocol = protocol_of(run, info)
    finished = FinishedTasks(options.output / run.name, digest([info.checkpoint_sha256, protocol.hash])[:16])
    with contextlib.closing(model.open_journal(finished.folder / JOURNAL, protocol=protocol.hash)) as journal:
        if len(journal):
            listener.note(f"{len(journal):,} finished requests of an interrupted run are taken up")
        done = _run_tasks(model, run, protocol, finished, journal, listener)
    info = replace(model.model_info(), source=run.source, tokenizer_source=run.tokenizer_source)
    published = _publish(run, protocol, info, done, started)
    finished.clear()
    return published


def protocol_of(run: ResolvedRun, model: ModelInfo) -> Protocol:
    """What fixes the run's numbers, apart from the model.

    Args:
        run: what is asked for.
        model: as it was loaded.
    """
    assert model.max_length is not None  # of a model that was loaded
    tasks = [
        cells.task_protocol(
            task,
            run.max_length_of(task, model.max_length),
            cells.data_hashes(task),
            stops_at_references=run.options.stop_at_references and appear_only(task.config),
        )
        for task in run.tasks
    ]
    return Protocol(
        suite=run.suite,
        tasks=tuple(tasks),
        context_prefix=run.context_prefix,
        dtype=model.dtype,
        tokenizer_sha256=model.tokenizer_sha256,
        lm_eval=package_versions()["lm_eval"],
        further_end_ids=model.further_end_ids,
    )


def _load(run: ResolvedRun, listener: Listener, load_model: Callable[..., GDN2LM] | None) -> GDN2LM:
    if load_model is None:
        from harness.lm.model import GDN2LM

        load_model = GDN2LM
    options = run.options
    return load_model(
        str(run.checkpoint),
        batch_size="auto" if options.batch_size is None else options.batch_size,
        batch_tokens=options.batch_tokens,
        workers=options.workers,
        prefix_states=str(options.prefix_states) if options.prefix_states else None,
        device=chosen_device(options.device),
        dtype=options.dtype,
        max_length=options.max_length,
        context_prefix=run.context_prefix,
        tokenizer=run.tokenizer,
        progress=listener,
    )


def _check_tasks(run: ResolvedRun) -> None:
    """Refuse a length that is too short for a sample's template, or a function that cannot score, now, not in an hour.

    Samples that take long to draw are drawn now as well, by all cores.
    """
    from tasks.generators import find_generator, prepare_samples
    from tasks.text.tokenizers import load_tokenizer
    from tasks.trial import problem_of_trial

    tokenizer = load_tokenizer(run.tokenizer)
    for task in run.tasks:
        generator = find_generator(task.config, tokenizer, context_prefix=run.context_prefix)
        if generator is not None:
            generator.check()
    own = sorted((task for task in run.tasks if task.info.is_own), key=lambda task: task.length or 0, reverse=True)
    for task in {task.info.file: task for task in own}.values():  # a file's shortest documents are soonest drawn
        if problem := problem_of_trial(task.config, run.tokenizer, run.context_prefix, may_be_rare=True):
            raise TaskError(f"{task.info.file}: {problem}; `python run_eval.py tasks check` names its line")
    configs = [task.config for task in run.tasks]
    prepare_samples(configs, run.tokenizer, context_prefix=run.context_prefix)


def _run_tasks(
    model: GDN2LM,
    run: ResolvedRun,
    protocol: Protocol,
    finished: FinishedTasks,
    journal: Journal,
    listener: Listener,
) -> list[FinishedTask]:
    """Run what an interrupted run had not finished; tasks that begin alike are run together.

    Their groups follow from the run alone, so the same command has the same ones.
    """
    count = len(run.tasks)
    loaded = LoadedTasks([task.config for task in run.tasks], run.metadata)
    found: dict[int, FinishedTask] = {}
    for members in groups([loaded.texts(i) for i in range(count)]):
        names = {i: run.tasks[i].lm_eval_name for i in members}
        saved = {i: finished.load(name, protocol.tasks[i]) for i, name in names.items()}
        earlier = None not in saved.values()
        if not earlier:
            listener.begin_tasks(_title(run, members))
            for i, content in _run_group(model, run, protocol, members, loaded, journal).items():
                finished.save(names[i], content, _default)
                saved[i] = finished.load(names[i], protocol.tasks[i]) or content
        for i in members:
            task = saved[i]
            assert task is not None, names[i]
            found[i] = task
            listener.finish_task(i + 1, count, task.cell, earlier=earlier)
    return [found[i] for i in range(count)]


def _title(run: ResolvedRun, members: Sequence[int]) -> str:
    numbers = "+".join(str(i + 1) for i in members)
    return f"{numbers}/{len(run.tasks)} {', '.join(label(run.tasks[i]) for i in members)}"


def _run_group(
    model: GDN2LM,
    run: ResolvedRun,
    protocol: Protocol,
    members: Sequence[int],
    loaded: LoadedTasks,
    journal: Journal,
) -> dict[int, FinishedTask]:
    """Cell and result of each of some tasks that are run in one call, by the task's place in the run."""
    said = {run.tasks[i].lm_eval_name: protocol.tasks[i] for i in members}
    terms = {name: _terms(task) for name, task in said.items()}
    measured = measure(model, loaded.take(members), terms, journal)
    accounts = measured.measures.accounts
    portions = accounts.portions(list(said))
    found = {}
    for i in members:
        name = run.tasks[i].lm_eval_name
        cell = cells.make_cell(
            run.tasks[i],
            said[name],
            measured.results[name],
            context_prefix=run.context_prefix,
            truncated=measured.measures.truncated[name],
            apart=measured.measures.apart[name],
            tokens=accounts[name].tokens,
            shared_tokens=accounts[name].shared,
            seconds=measured.seconds * portions[name],
            peak_memory_mib=measured.peak_memory_mib,
            together=[other for other in said if other != name],
        )
        found[i] = FinishedTask(cell, measured.results[name])
    return found


def _terms(task: TaskProtocol) -> Terms:
    assert task.max_length is not None  # of a task that is run
    return Terms(max_length=task.max_length, stop_at_references=task.stops_at_references)


def _default(value: Any) -> Any:
    from lm_eval.utils import handle_non_serializable

    return handle_non_serializable(value)


def _publish(
    run: ResolvedRun, protocol: Protocol, info: ModelInfo, done: Sequence[FinishedTask], started: float
) -> RunResult:
    start = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    folder_name = f"{start:%Y-%m-%dT%H-%M-%S}_{protocol.hash[:8]}"
    commit, dirty = machine.git_state()
    with new_run_folder(run.options.output / run.name, folder_name) as (folder, publish):
        model_args = {"pretrained": str(run.checkpoint), "dtype": info.dtype}
        merged = merge([task.result for task in done])
        write_samples(folder, samples_of(merged["samples"], prompt_rooms(task.cell for task in done)))
        write_results(folder, merged, model_args, info.as_dict(), started)
        record = RunRecord(
            run_id=f"{run.name}/{folder_name}",
            name=run.name,
            suite=run.suite,
            protocol=protocol,
            protocol_hash=protocol.hash,
            model=info,
            cells=tuple(task.cell for task in done),
            command=run.options.command,
            started=start.isoformat(timespec="seconds"),
            finished=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 1),
            peak_memory_mib=machine.peak_memory_mib(),
            machine=machine.describe(),
            packages=package_versions(),
            git_commit=commit,
            git_dirty=dirty,
        )
        (folder / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
        return RunResult(record, publish())
