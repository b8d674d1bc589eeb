"""The judged answers of one model, put together from its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from basis.names import listed
from harness.analysis.selection import FoundRun
from harness.errors import UserError
from harness.records.samples import Sample
from tasks.verdicts import Verdict


@dataclass(frozen=True)
class JudgedAnswer:
    """A sample whose answer has a verdict.

    Attributes:
        task: the task's name.
        length: in tokens; None where the task states none.
        sample: as its run kept it.
        verdict: of its answer.
    """

    task: str
    length: int | None
    sample: Sample
    verdict: Verdict

    @property
    def label(self) -> str:
        """`niah_single_1@1024`."""
        return self.task if self.length is None else f"{self.task}@{self.length}"

    @property
    def score(self) -> float:
        """From 0 to 1: that of its main metric, which the verdict agrees with."""
        if self.verdict != "partly":
            return float(self.verdict == "right")
        known = {name: score for name, score in self.sample.scores.items() if "," not in name and score is not None}
        score = next((known[name] for name in ("acc", "contains", *known) if name in known), 0.0)
        return float(score[1] if isinstance(score, tuple) else score)


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """What a model answered.

    Attributes:
        label: its name; the run's id where a run was named.
        answers: task by task, as they were run.
        unjudged: tasks whose answers have no verdicts, such as choices between continuations.
        notes: what was passed over, one sentence each.
    """

    label: str
    answers: tuple[JudgedAnswer, ...]
    unjudged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judged_model(runs: Sequence[FoundRun]) -> JudgedModel:
    """Put the answers of a model's runs together: of several runs of a task those of the most samples, then the newest.

    Args:
        runs: of one model, at least one, from the oldest to the newest; those of other weights than the newest are
            passed over.

    Raises:
        UserError: runs of several models, no run has samples, or none of its tasks has verdicts.
    """
    names = list(dict.fromkeys(run.record.name for run in runs))
    if len(names) > 1:
        raise UserError(f"runs of several models are meant: {listed(names, 6)}; name one of them")
    chosen: dict[str, tuple[FoundRun, list[Sample]]] = {}
    notes, lacking = list[str](), list[str]()
    for run in runs:
        if run.record.identity != runs[-1].record.identity:
            notes.append(f"passed over: {run.record.run_id}, of other weights than the newest run")
            continue
        try:
            tasks = run.samples
        except UserError as error:
            lacking.append(str(error))
            continue
        for task, samples in tasks.items():
            if task not in chosen or len(samples) >= len(chosen[task][1]):
                chosen[task] = run, samples
    if not chosen:
        raise UserError(lacking[0])
    notes += [f"passed over: {problem}" for problem in lacking]
    used = {run.record.run_id for run, _ in chosen.values()}
    if len(used) > 1:
        notes.append(f"put together from {len(used)} runs: {', '.join(sorted(used))}")
    answers, unjudged = _answers(chosen)
    if not answers:
        raise UserError(
            f"{names[0]}: no answer has a verdict; those of needle, RULER, retrieval and editing tasks have, and "
            f"there are {listed(unjudged, 6)}"
        )
    label = runs[0].record.run_id if len(runs) == 1 else names[0]
    return JudgedModel(label=label, answers=answers, unjudged=unjudged, notes=tuple(notes))


def _answers(chosen: dict[str, tuple[FoundRun, list[Sample]]]) -> tuple[tuple[JudgedAnswer, ...], tuple[str, ...]]:
    """The judged answers of each task, and the tasks that have none."""
    found, unjudged = list[JudgedAnswer](), list[str]()
    for lm_eval_name, (run, samples) in chosen.items():
        protocols = (cell.protocol for cell in run.record.cells if cell.lm_eval_name == lm_eval_name)
        protocol = next(protocols, None)
        task, length = (protocol.name, protocol.length) if protocol else (lm_eval_name, None)
        judged = [JudgedAnswer(task, length, s, s.verdict) for s in samples if s.verdict is not None]
        found += judged
        if not judged:
            unjudged.append(task)
    return tuple(found), tuple(dict.fromkeys(unjudged))
