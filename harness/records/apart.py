"""Suites that stand apart: their tables have their own runs alone, other tables have these where somebody names them.

Rivals are asked alike, so that their table compares them. A cell of the same task from another run of one of them, in
another dtype or of other samples, would stand there beside cells that it cannot be compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from harness.records.record import RunRecord
from tasks.registry import Suite, load_suite, suite_names


def takes(suite: Suite, run: RunRecord) -> bool:
    """Whether a run's numbers may stand in a suite's columns: in those of a suite apart only its own runs' may."""
    return not suite.apart or run.suite == suite.name


def suites_apart(names: Iterable[str]) -> set[str]:
    """Those of these names that are shipped suites and stand apart."""
    return {name for name in set(names).intersection(suite_names()) if load_suite(name).apart}


def whose_columns_first(suites: Sequence[Suite], models: Sequence[Collection[str]]) -> list[Suite]:
    """Sort the suites of models that were named without a suite: where two have a column, that of the first counts.

    Args:
        suites: that the models were run on.
        models: names of the suites of each model's runs.

    Returns:
        In their order where none stands apart. Else those that all models have come before others, and those apart
        after the rest of either part. One that stands apart and that some models lack takes any run: it is not its
        table where the models meet.
    """
    if not any(suite.apart for suite in suites):
        return list(suites)
    common = {suite.name for suite in suites if all(suite.name in own for own in models)}
    ranked = sorted(suites, key=lambda suite: (suite.name not in common, suite.apart))
    return [suite if suite.name in common else replace(suite, apart=False) for suite in ranked]
