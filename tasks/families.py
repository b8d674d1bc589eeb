"""The families of tasks: whoever needs to know something that differs between families asks here.

Imports nothing heavy: what makes documents is imported when documents are made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.answers import Wanted
from tasks.editing import scoring as editing_scoring
from tasks.editing import spec as editing_spec
from tasks.metrics import PERPLEXITIES, Metric, Unit, shares
from tasks.needle import scoring as needle_scoring
from tasks.needle import spec as needle_spec
from tasks.perplexity import buckets
from tasks.problems import Problem
from tasks.retrieval import answers as retrieval_answers
from tasks.ruler import answers as ruler_answers
from tasks.ruler import spec as ruler_spec
from tasks.ruler.generators import DEFAULT_SEEDS

MetricList = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What one family of tasks is.

    Attributes:
        name: as `metadata: family:` of its YAML files says it.
        makes_documents: whether documents are drawn by a generator; otherwise they are read from a data set.
        metrics: what its tasks may be scored by.
        builder: the function behind `custom_dataset`, where users may write tasks of this family. Its module offers
            `make_generator` beside it.
        generators: how documents may be made, where one may choose, with the seed of each.
        store: the function that makes the samples of several tasks ahead and stores them.
        metrics_at: from the `metric_list` of a YAML to that of one length, where metrics depend on it.
        problems_of: what is wrong with the spec of a user's file that lies in a folder.
        file_metrics: the metrics that a user's file must list, or None if its scoring function is not this family's.
        generated_tokens: the tokens that a spec leaves for an answer, where `generation_kwargs` must say the same.
        wanted: what a document wants to be answered; None for a document that is not of this family.
        has_own_texts: whether specs name files relative to the YAML; the builder's module then offers `data_hashes`.
    """

    name: str
    makes_documents: bool
    metrics: tuple[Metric, ...]
    builder: str | None = None
    generators: Mapping[str, int] = field(default_factory=dict)
    store: str | None = None
    metrics_at: Callable[[MetricList, int], list[Mapping[str, Any]]] | None = None
    problems_of: Callable[[Mapping[str, Any], Path], list[Problem]] | None = None
    file_metrics: Callable[[Mapping[str, Any]], tuple[str, ...] | None] | None = None
    generated_tokens: Callable[[Mapping[str, Any]], int] | None = None
    wanted: Callable[[Mapping[str, Any]], Wanted | None] | None = None
    has_own_texts: bool = False

    def function(self, name: str) -> Callable[..., Any]:
        """A function of the module that makes this family's documents; the module is imported now."""
        assert self.builder is not None, self.name
        found: Callable[..., Any] = getattr(importlib.import_module(self.builder.rpartition(".")[0]), name)
        return found


FAMILIES = (
    Family(
        name="ruler",
        makes_documents=True,
        metrics=shares("acc"),
        builder="tasks.ruler.build.build",
        generators=DEFAULT_SEEDS,
        store="tasks.ruler.pool.prepare",
        problems_of=ruler_spec.problems_of,
        wanted=ruler_answers.wanted,
    ),
    Family(
        name="editing",
        makes_documents=True,
        metrics=shares("acc", *editing_scoring.METRICS),
        builder="tasks.editing.edits.build",
        problems_of=editing_spec.problems_of,
        wanted=editing_scoring.wanted,
    ),
    Family(
        name="needle",
        makes_documents=True,
        metrics=shares("acc", *needle_scoring.RULES),
        builder="tasks.needle.needles.build",
        problems_of=needle_spec.problems_of,
        file_metrics=needle_scoring.file_metrics,
        generated_tokens=needle_spec.generated_tokens_of,
        wanted=needle_scoring.wanted,
        has_own_texts=True,
    ),
    Family(
        name="retrieval",
        makes_documents=False,
        metrics=shares("contains"),
        wanted=retrieval_answers.wanted,
    ),
    Family(
        name="commonsense",
        makes_documents=False,
        metrics=(*shares("acc", "acc_norm"), *PERPLEXITIES),
    ),
    Family(
        name="perplexity",
        makes_documents=False,
        metrics=(*PERPLEXITIES, buckets.METRIC),
        metrics_at=buckets.metrics_at,
    ),
)
OTHER = Family(name="own", makes_documents=True, metrics=())
"""What is taken for the family of a user's task whose file gives it a family of another name."""


def named(name: str) -> Family:
    """The family of this name, or `OTHER`."""
    return next((family for family in FAMILIES if family.name == name), OTHER)


def built_by(builder: str) -> Family | None:
    """The family whose documents this function builds, given by its dotted name; None for any other function."""
    return next((family for family in FAMILIES if family.builder == builder), None)


def wanted_by(doc: Mapping[str, Any]) -> Wanted | None:
    """What a document wants to be answered; None where no family's answers are generated values."""
    found = (family.wanted(doc) for family in FAMILIES if family.wanted is not None)
    return next((wanted for wanted in found if wanted is not None), None)


def unit_of(metric: str) -> Unit:
    """The unit of a metric of any family; `number` for one that no family knows."""
    return next((known.unit for family in FAMILIES for known in family.metrics if known.matches(metric)), "number")
