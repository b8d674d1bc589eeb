"""What the numbers of a metric are: a share from 0 to 1, bits, a perplexity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["share", "bits", "perplexity", "number"]
"""`number`: what a scoring function of the user's own gives, shown as it is."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, or all metrics whose names a regular expression matches, with the unit of its values."""

    name: str
    """Its name in a task's `metric_list`, as a regular expression."""
    unit: Unit

    def matches(self, name: str) -> bool:
        """Whether this is the metric of that name."""
        return re.fullmatch(self.name, name) is not None


def shares(*names: str) -> tuple[Metric, ...]:
    """Metrics that are shares of documents or of answers, from 0 to 1; tables show them in percent."""
    return tuple(Metric(re.escape(name), "share") for name in dict.fromkeys(names))


PERPLEXITIES = (Metric("(word_|byte_)?perplexity", "perplexity"), Metric("bits_per_byte", "bits"))
"""What lm-eval makes of the log-likelihood of a text."""
