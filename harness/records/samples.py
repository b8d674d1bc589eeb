"""The samples of a run, one line each: what was asked, by its hashes, what was answered, and how it was scored.

lm-eval's own sample files hold whole prompts, up to a million tokens. This file holds what comparisons and pages
need, small enough to be kept beside every record.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from sys import intern
from typing import Any

from basis.errors import reason
from harness.errors import UserError
from harness.records.fields import Amount, Count, FieldError, Name, read_fields
from harness.records.judged import NOT_JUDGED, judged
from tasks.subset import text_cluster
from tasks.verdicts import Verdict

FILE_NAME = "samples.jsonl.gz"
LM_EVAL_FILES = "samples_*.jsonl"
MOST_LETTERS = 1000
"""Of an answer or a question that are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One document of one task, as it was answered.

    Attributes:
        task: lm-eval's name of the task, as `Cell.lm_eval_name`.
        index: its place in the task.
        sample: 16 hexadecimal digits of the SHA-256 of its content; two runs asked the same if it is equal.
        prompt: the same of prompt and target as lm-eval hashes them, which its runs of any model have.
        cluster: equal for samples that share text (several questions about one context), which are not independent.
        scores: by metric, as the scoring function gave it: a number, or a pair of numbers where lm-eval's aggregation
            takes pairs (log-likelihood and weight; number of the pair and whether it is right). None where a document
            could not be scored. Of a filter other than lm-eval's `none` as `metric,filter`.
        answer: the generated text, its first 1,000 characters; None where nothing was generated.
        references: right answers.
        query: what was asked, where the document says it.
        depth: where the answer lies, from 0 at the beginning of the context to 1 at its end; None where unknown.
        fill: (prompt + generated tokens) / length; None where the task states no length.
        verdict: one of `tasks.verdicts.VERDICTS`; None where answers are not judged.
        answered: whether the answer gives a value of the right kind, right or wrong; None as for the verdict.
        excerpt: text of the prompt before the needle, the needle, and text behind it; None where there is none.
        tail: the end of the prompt, 300 characters; None where answers are not judged.
    """

    task: Name
    index: Count
    sample: Name
    prompt: Name
    cluster: Name
    scores: Mapping[str, Any] = field(default_factory=dict)
    answer: str | None = None
    references: tuple[str, ...] = ()
    query: str | None = None
    depth: Amount | None = None
    fill: Amount | None = None
    verdict: Verdict | None = None
    answered: bool | None = None
    excerpt: tuple[str, ...] | None = None
    tail: str | None = None

    def finite(self, metric: str) -> float | None:
        """Its score by a metric; None where that is no finite number, or a pair."""
        score = self.scores.get(metric)
        return float(score) if isinstance(score, (int, float)) and math.isfinite(score) else None

    def to_line(self) -> str:
        """As JSON in one line, without what is not said."""
        plain = {name: value for name, value in asdict(self).items() if value is not None and value != ()}
        if self.cluster == self.sample:
            del plain["cluster"]
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def samples_of(
    samples: Mapping[str, Iterable[Mapping[str, Any]]], rooms: Mapping[str, int] | None = None
) -> Iterator[Sample]:
    """Make the samples of lm-eval's.

    Args:
        samples: by task, as lm-eval's result and its sample files have them; those of several filters of one document
            follow in any order.
        rooms: tokens that a prompt may have, by task, as `harness.records.judged.prompt_rooms` finds them; of other
            tasks nothing was cut.
    """
    for task, rows in samples.items():
        yield from _joined(_sample(task, row, (rooms or {}).get(task)) for row in rows)


def write_samples(folder: Path, samples: Iterable[Sample]) -> Path:
    """Write the file of a run's folder; equal samples give equal bytes."""
    path = folder / FILE_NAME
    text = "".join(sample.to_line() + "\n" for sample in samples)
    path.write_bytes(gzip.compress(text.encode("utf-8", "surrogatepass"), compresslevel=9, mtime=0))
    return path


def has_samples(folder: Path) -> bool:
    """Whether there are samples in the folder of a run."""
    return (folder / FILE_NAME).is_file() or any(folder.glob(LM_EVAL_FILES))


def read_samples(folder: Path, rooms: Mapping[str, int] | None = None) -> dict[str, list[Sample]]:
    """Read the samples of a run by task, in the order of their places.

    Args:
        folder: of the run: `samples.jsonl.gz`, or for runs that were made without it lm-eval's own sample files.
        rooms: for these, as `samples_of` takes it.

    Raises:
        UserError: there are none, or a line of a file is broken, or says the same sample twice.
    """
    path = folder / FILE_NAME
    if path.is_file():
        found = list(_own(path))
    elif files := sorted(folder.glob(LM_EVAL_FILES)):
        found = [sample for file in files for sample in _lm_evals(file, rooms or {})]
    else:
        raise UserError(
            f"{folder}: no samples beside the record ({FILE_NAME} or lm-eval's {LM_EVAL_FILES}); run it again, or take "
            "the whole folder of the run along"
        )
    tasks: dict[str, dict[int, Sample]] = {}
    for sample in found:
        if sample.index in tasks.setdefault(sample.task, {}):
            raise UserError(
                f"{folder}: sample {sample.index} of {sample.task} is there twice; keep one run's files in a folder"
            )
        tasks[sample.task][sample.index] = sample
    return {task: [rows[index] for index in sorted(rows)] for task, rows in tasks.items()}


def _sample(task: str, row: Mapping[str, Any], room: int | None) -> Sample:
    doc = row["doc"] if isinstance(row["doc"], dict) else {}
    known = doc.get("sample_hash") or row["doc_hash"]
    asked = hashlib.sha256(f"{row['prompt_hash']}|{row['target_hash']}".encode()).hexdigest()
    answers = row["filtered_resps"]
    is_text = bool(answers) and isinstance(answers[0], str) and _is_generated(row.get("arguments"))
    name = row.get("filter", "none")
    scores = {metric if name == "none" else f"{metric},{name}": _score(row.get(metric)) for metric in row["metrics"]}
    found = judged(row, room) if is_text and name == "none" else NOT_JUDGED
    return Sample(
        task=task,
        index=int(row["doc_id"]),
        sample=str(known)[:16],
        prompt=asked[:16],
        cluster=str(doc.get("cluster") or text_cluster(doc) or str(known)[:16])[:64],
        scores={metric: score for metric, score in scores.items() if metric.partition(",")[0] in row},
        answer=answers[0][:MOST_LETTERS] if is_text else None,
        references=_references(doc) if is_text else (),
        query=str(doc["query"])[:MOST_LETTERS] if is_text and doc.get("query") is not None else None,
        depth=_depth(doc),
        fill=doc["fill"] if isinstance(doc.get("fill"), (int, float)) else None,
        verdict=found.verdict,
        answered=found.answered,
        excerpt=found.excerpt,
        tail=found.tail,
    )


def _joined(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples of one task; what several filters made of one document is one of them."""
    found: dict[int, Sample] = {}
    for sample in samples:
        first = found.setdefault(sample.index, sample)
        if first is not sample:
            judgement = sample if first.verdict is None else first
            found[sample.index] = replace(
                first,
                scores={**first.scores, **sample.scores},
                verdict=judgement.verdict,
                answered=judgement.answered,
                excerpt=judgement.excerpt,
                tail=judgement.tail,
            )
    yield from found.values()


def _score(value: Any) -> float | tuple[float, float] | None:
    if value is None:
        return None
    return (float(value[0]), float(value[1])) if isinstance(value, (list, tuple)) else float(value)


def _is_generated(arguments: Any) -> bool:
    """Whether a request was one for text: it has settings. lm-eval's files write log-likelihoods as text, too."""
    first = next(iter(arguments.values() if isinstance(arguments, dict) else arguments or ()), None)
    second = first.get("arg_1") if isinstance(first, dict) else first[1] if first is not None and first[1:] else None
    return arguments is None or isinstance(second, Mapping)


def _references(doc: Mapping[str, Any]) -> tuple[str, ...]:
    outputs = doc.get("outputs")
    return tuple(str(output)[:MOST_LETTERS] for output in outputs) if isinstance(outputs, (list, tuple)) else ()


def _depth(doc: Mapping[str, Any]) -> float | None:
    """Where the value that was asked for lies, if the document says of each of its values where."""
    depths, values, outputs = doc.get("depth"), doc.get("values"), doc.get("outputs")
    if isinstance(depths, (int, float)):
        return float(depths)
    if not isinstance(depths, (list, tuple)) or not depths:
        return None
    if isinstance(values, (list, tuple)) and len(values) == len(depths) and isinstance(outputs, (list, tuple)):
        depths = [depth for depth, value in zip(depths, values, strict=True) if value in outputs] or depths
    return round(float(sum(depths) / len(depths)), 4)


def _own(path: Path) -> Iterator[Sample]:
    for number, raw in lines_of(path):
        try:
            if isinstance(raw, dict):
                raw.setdefault("cluster", raw.get("sample"))
                if isinstance(task := raw.get("task"), str):
                    raw["task"] = intern(task)  # thousands of samples have one
            sample = read_fields(Sample, raw)
            if sample.excerpt is not None and len(sample.excerpt) != 3:
                raise FieldError("excerpt", "must be three texts: before the needle, the needle, behind it")
            if any(type(score) is not float for score in sample.scores.values()):
                scores = {name: _checked(name, score) for name, score in sample.scores.items()}
                sample = replace(sample, scores=scores)
            yield sample
        except FieldError as error:
            raise broken_line(path, number, str(error)) from error


def _checked(name: str, score: Any) -> float | tuple[float, float] | None:
    """A score as JSON has it; an infinite log-likelihood is one."""
    parts = score if isinstance(score, list) and len(score) == 2 else [score]
    if score is not None and any(type(part) not in (int, float) for part in parts):
        raise FieldError(f"scores.{name}", "must be a number, a pair of numbers or null")
    return _score(score)


def _lm_evals(path: Path, rooms: Mapping[str, int]) -> Iterator[Sample]:
    task = path.name.removeprefix("samples_").rpartition("_")[0]
    read: list[Sample] = []
    for number, raw in lines_of(path):
        try:
            read.append(_sample(task, raw, rooms.get(task)))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise broken_line(path, number, f"not a sample of lm-eval ({error!r})") from error
    yield from _joined(read)


def lines_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The JSON of each line, with its number; split at line feeds only, since texts hold other ends of lines.

    Raises:
        UserError: the file cannot be read, or a line is not JSON.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if text := line.decode("utf-8", "surrogatepass").strip():
                    yield number, _parsed(text, path, number)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}); restore the file or run it again") from error


def _parsed(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise broken_line(path, number, f"not JSON ({error})") from error


def broken_line(path: Path, number: int, problem: str) -> UserError:
    """The error of a line."""
    return UserError(f"{path}, line {number}: {problem}; restore the file or run it again")
