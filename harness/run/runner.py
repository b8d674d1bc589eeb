"""One run: check what is cheap, load the model, evaluate task by task, keep what is finished, publish a record."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.checkpoints.imports import import_for_run
from harness.engine.memory import PeakMemory
from harness.lm.evaluate import evaluate_tasks, merge, of_task, quiet_lm_eval, texts_of, write_results
from harness.lm.text import Terms
from harness.records import cells, machine
from harness.records.protocol import Protocol, TaskProtocol, digest, package_versions
from harness.records.record import Cell, RunRecord, cell_from_dict
from harness.records.store import FinishedTasks, new_run_folder
from harness.run.options import (
    Plan,
    RunOptions,
    label,
    make_plan,
    max_length_of,
    metadata_of,
    tokenizer_of,
    with_local_tokenizer,
)
from harness.run.together import groups
from harness.show.progress import RichProgress
from tasks.registry import ResolvedTask
from tasks.scoring import appear_only

if TYPE_CHECKING:
    from harness.lm.model import GDN2LM


JOURNAL = "journal.jsonl"


def run(
    options: RunOptions, console: Console, load_model: Callable[..., GDN2LM] | None = None
) -> tuple[RunRecord, Path]:
    """Run the plan and return the published record with its folder.

    Tasks that an interrupted run of the same protocol and checkpoint had finished are not run again.

    Args:
        console: for progress and notes.
        load_model: makes the lm-eval model; `GDN2LM` by default.
    """
    started = time.time()
    machine.git_state()  # as it is now, not when the run ends
    options = with_local_tokenizer(options)
    plan = import_for_run(make_plan(options), options, console)
    quiet_lm_eval()
    progress = RichProgress(console)
    with console.status(f"loading {plan.checkpoint}"):
        model = _load(plan, options, progress, load_model)
    _check_lengths(plan, options)
    info = model.get_model_info()
    base_length = model.max_length
    protocol = _protocol(plan, options, info, base_length)
    finished = FinishedTasks(options.output / plan.name, digest([info["checkpoint_sha256"], protocol.hash])[:16])
    with contextlib.closing(model.open_journal(finished.folder / JOURNAL, protocol=protocol.hash)) as journal:
        model.engine.journal = journal
        if len(journal):
            console.print(f"{len(journal):,} finished requests of an interrupted run are taken up", highlight=False)
        done = _run_tasks(model, plan, options, protocol, finished, progress)
    published = _publish(plan, options, protocol, {**info, **model.engine.executor.describe()}, done, started)
    finished.clear()
    return published


def _run_tasks(
    model: GDN2LM,
    plan: Plan,
    options: RunOptions,
    protocol: Protocol,
    finished: FinishedTasks,
    progress: RichProgress,
) -> list[tuple[Cell, Mapping[str, Any]]]:
    """Each task's cell and lm-eval result; what an interrupted run had finished is not run again. Tasks that begin
    alike are run together: their groups follow from the plan alone, so the same command has the same ones."""
    metadata = metadata_of(plan, options)
    found: dict[int, tuple[Cell, Mapping[str, Any]]] = {}
    for members in groups([texts_of(task.config, metadata) for task in plan.tasks]):
        names = [plan.tasks[i].lm_eval_name for i in members]
        saved = {name: finished.load(name) for name in names}
        note = "  (from an interrupted run)"
        if None in saved.values():
            note = ""
            numbers = "+".join(str(i + 1) for i in members)
            progress.title = f"{numbers}/{len(plan.tasks)} {', '.join(label(plan.tasks[i]) for i in members)}"
            for i, name in zip(members, names, strict=True):
                said = protocol.tasks[i]
                model.terms[name] = Terms(max_length=said.max_length, stop_at_references=said.stops_at_references)
            for name, result in _run_group(model, [plan.tasks[i] for i in members], metadata, progress).items():
                finished.save(name, result, _default)
                saved[name] = finished.load(name) or result
        for i, name in zip(members, names, strict=True):
            content = saved[name] or {}
            cell = cell_from_dict(content["cell"], name)
            line = f"{i + 1}/{len(plan.tasks)} {summary_line(cell)}{note}"
            progress.console.print(line, highlight=False, soft_wrap=True)
            found[i] = (cell, content["result"])
    return [found[i] for i in range(len(plan.tasks))]


def summary_line(cell: Cell) -> str:
    """One finished task in a line."""
    metric, score = next(iter(cell.scores.items()))
    scores = f"{metric} {score.value:.4g}"
    rate = f"{cell.tokens / cell.seconds:,.0f} tokens/s" if cell.seconds else ""
    cut = f", {cell.truncated} requests cut" if cell.truncated else ""
    return f"{cell_label(cell):<22} {scores} (n={score.n}{cut})  {cell.seconds:.0f} s, {rate}"


def cell_label(cell: Cell) -> str:
    """As `label`, of a finished task."""
    return cell.task + (f"@{cell.length}" if cell.length else "")


def _load(plan: Plan, options: RunOptions, progress: RichProgress, load_model: Callable[..., GDN2LM] | None) -> GDN2LM:
    if load_model is None:
        from harness.lm.model import GDN2LM

        load_model = GDN2LM
    return load_model(
        str(plan.checkpoint),
        batch_size="auto" if options.batch_size is None else options.batch_size,
        batch_tokens=options.batch_tokens,
        workers=options.workers,
        prefix_states=str(options.prefix_states) if options.prefix_states else None,
        device=_device(options.device),
        dtype=options.dtype,
        max_length=options.max_length,
        context_prefix=plan.context_prefix,
        tokenizer=options.tokenizer,
        progress=progress,
    )


def _device(name: str) -> str:
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _check_lengths(plan: Plan, options: RunOptions) -> None:
    """A length that is too short for a sample's template shows now, not after an hour; samples that take long to draw
    are drawn now, by all cores."""
    from tasks.generators import find_generator, prepare_samples
    from tasks.text.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_of(plan, options))
    for task in plan.tasks:
        generator = find_generator(task.config, tokenizer, context_prefix=plan.context_prefix)
        if generator is not None:
            generator.check()
    configs = [task.config for task in plan.tasks]
    prepare_samples(configs, tokenizer_of(plan, options), context_prefix=plan.context_prefix)


def _protocol(plan: Plan, options: RunOptions, info: Mapping[str, Any], base_length: int) -> Protocol:
    tasks = []
    for task in plan.tasks:
        generation = {
            key: value for key, value in (task.config.get("generation_kwargs") or {}).items() if key != "do_sample"
        }
        tasks.append(
            TaskProtocol(
                name=task.info.name,
                length=task.length,
                version=float(task.config["metadata"]["version"]),
                samples=task.samples,
                seed=task.seed,
                max_length=max_length_of(task, plan, options, base_length),
                generator=task.recorded_generator,
                shots=task.shots,
                generation=generation,
                data=cells.data_hashes(task),
                spec=cells.spec_hash(task),
                stops_at_references=options.stop_at_references and appear_only(task.config),
            )
        )
    return Protocol(
        suite=plan.suite,
        tasks=tuple(tasks),
        context_prefix=plan.context_prefix,
        dtype=options.dtype,
        tokenizer_sha256=info["tokenizer_sha256"],
        lm_eval=package_versions()["lm_eval"],
        further_end_ids=tuple(info.get("further_end_ids", ())),
    )


def _run_group(
    model: GDN2LM, tasks: Sequence[ResolvedTask], metadata: Mapping[str, Any], progress: RichProgress
) -> dict[str, dict[str, Any]]:
    """Cell and result of each of some tasks that are run in one call, by name."""
    started, tokens = time.monotonic(), progress.tokens
    model.engine.accounts.clear()
    model.truncated.clear()
    model.apart.clear()
    peak = PeakMemory(model.device)
    peak.start()
    result = evaluate_tasks(model, [task.config for task in tasks], metadata)
    seconds, tokens, peak_mb = time.monotonic() - started, progress.tokens - tokens, peak.mb()
    names = [task.lm_eval_name for task in tasks]
    accounts = model.engine.accounts
    portions = accounts.portions(names)
    found = {}
    for name, task in zip(names, tasks, strict=True):
        own = of_task(result, name)
        cell = cells.make_cell(
            task,
            own,
            context_prefix=model.context_prefix,
            max_length=model.terms[name].max_length,
            truncated=model.truncated[name],
            apart=model.apart[name],
            tokens=round(tokens * portions[name]),
            shared_tokens=accounts[name].shared,
            seconds=seconds * portions[name],
            peak_memory_mb=peak_mb,
            together=[other for other in names if other != name],
        )
        found[name] = {"cell": asdict(cell), "result": own}
    return found


def _default(value: Any) -> Any:
    from lm_eval.utils import handle_non_serializable

    return handle_non_serializable(value)


def _publish(
    plan: Plan,
    options: RunOptions,
    protocol: Protocol,
    info: Mapping[str, Any],
    done: Sequence[tuple[Cell, Mapping[str, Any]]],
    started: float,
) -> tuple[RunRecord, Path]:
    start = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    folder_name = f"{start:%Y-%m-%dT%H-%M-%S}_{protocol.hash[:8]}"
    commit, dirty = machine.git_state()
    with new_run_folder(options.output / plan.name, folder_name) as (folder, publish):
        model_args = {"pretrained": str(plan.checkpoint), "dtype": options.dtype}
        write_results(folder, merge([result for _, result in done]), model_args, info, started)
        record = RunRecord(
            run_id=f"{plan.name}/{folder_name}",
            name=plan.name,
            suite=plan.suite,
            protocol=protocol.as_dict(),
            protocol_hash=protocol.hash,
            model=dict(info),
            cells=tuple(cell for cell, _ in done),
            command=options.command,
            started=start.isoformat(timespec="seconds"),
            finished=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 1),
            peak_memory_mb=machine.peak_memory_mb(),
            machine=machine.describe(),
            packages=package_versions(),
            git_commit=commit,
            git_dirty=dirty,
        )
        (folder / "record.json").write_text(record.to_json(), encoding="utf-8")
        return record, publish()
