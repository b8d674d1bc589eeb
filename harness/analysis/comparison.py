"""A comparison as a value: models, each pair of them, each task of a pair; ready to be drawn in any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.metrics import Unit

ALPHA = 0.05
Verdict = Literal["A better", "B better", "not told apart", "not tested"]
Pairing = Literal["sample", "prompt", "unpaired", "published", "seeds"]


@dataclass(frozen=True)
class Place:
    """What is compared: a task at a length by a metric."""

    task: str
    length: int | None
    metric: str

    @property
    def label(self) -> str:
        """`niah_single_1@1024`."""
        return self.task + (f"@{self.length}" if self.length is not None else "")


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """Two models at one place.

    Attributes:
        place: task, length and metric.
        unit: of the values; a share lies between 0 and 1.
        higher_is_better: which way is better.
        a: A's value on what was compared.
        b: B's.
        low: lower end of the 95 % interval of A - B; None where there is none.
        high: upper end.
        n_a: samples of A that were compared.
        n_b: of B; the same ones where they are paired.
        groups: of samples that share no text; None where that is not known.
        wins: samples on which A is better; None where they are not paired.
        losses: on which B is better.
        ties: on which neither is.
        only_a: samples that only A has, which were not compared.
        only_b: samples that only B has.
        unscored: common samples without a finite score of both.
        pairing: by the hash of the sample or of the prompt, not at all, with a published figure, or over seeds.
        test: the name of the test; why there is none.
        p: two-sided, by itself; None where nothing was tested.
        p_corrected: among all that was compared; what the verdict goes by.
        detectable: the smallest difference that would have been found with a power of 80 % at this place's share of
            the level; None where that is not known.
        seeds_a: A's value of each training seed, where these are compared.
        seeds_b: B's.
        notes: what is to be known of this comparison.
    """

    place: Place
    unit: Unit
    higher_is_better: bool
    a: float
    b: float
    low: float | None = None
    high: float | None = None
    n_a: int | None = None
    n_b: int | None = None
    groups: int | None = None
    wins: int | None = None
    losses: int | None = None
    ties: int | None = None
    only_a: int = 0
    only_b: int = 0
    unscored: int = 0
    pairing: Pairing
    test: str
    p: float | None = None
    p_corrected: float | None = None
    detectable: float | None = None
    seeds_a: tuple[float, ...] = ()
    seeds_b: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """A - B."""
        return self.a - self.b

    @property
    def verdict(self) -> Verdict:
        """Who is better, by the corrected p alone."""
        return verdict_of(self.difference if self.higher_is_better else -self.difference, self.p_corrected)


@dataclass(frozen=True, kw_only=True)
class MeanComparison:
    """Two models over several places, each counted alike.

    Attributes:
        label: which mean it is: of all places, or one of the suite's averages.
        places: how many there are.
        difference: mean of A - B, of B - A where lower is better.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
        unit: of all of them.
        test: the name of the test; why there is none.
        p: two-sided.
        p_corrected: among the same mean of all pairs of models.
        detectable: as for a task.
        n_a: seeds of A, where these are compared.
        n_b: of B.
        seeds_a: A's mean of each training seed, negative where lower is better.
        seeds_b: B's.
    """

    label: str
    places: int
    difference: float
    low: float | None
    high: float | None
    unit: Unit
    test: str
    p: float | None
    p_corrected: float | None = None
    detectable: float | None = None
    n_a: int | None = None
    n_b: int | None = None
    seeds_a: tuple[float, ...] = ()
    seeds_b: tuple[float, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Who is better, by the corrected p alone."""
        return verdict_of(self.difference, self.p_corrected)


@dataclass(frozen=True, kw_only=True)
class PairComparison:
    """Two models.

    Attributes:
        a: the first one's label.
        b: the second one's.
        tasks: the places that both have.
        means: of all places together, then the suite's averages; none where no unit allows it.
        left_out: places that were not compared, with the reason.
        problem: why nothing could be compared; None where something was.
    """

    a: str
    b: str
    tasks: tuple[TaskComparison, ...] = ()
    means: tuple[MeanComparison, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    problem: str | None = None

    def count(self, verdict: Verdict) -> int:
        """How many places have this verdict."""
        return sum(task.verdict == verdict for task in self.tasks)


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """Everything that was compared.

    Attributes:
        title: the suite, or what stands for it.
        models: labels, in the order in which they were named.
        pairs: each pair of them once, the one named first being A.
        tests: how many p values were corrected together.
        notes: what is to be known of the whole.
    """

    title: str
    models: tuple[str, ...]
    pairs: tuple[PairComparison, ...]
    tests: int
    notes: tuple[str, ...] = ()


def verdict_of(advantage: float, p_corrected: float | None) -> Verdict:
    """Say who is better.

    Args:
        advantage: of A; negative where B is better.
        p_corrected: None where nothing was tested.
    """
    if p_corrected is None:
        return "not tested"
    if p_corrected > ALPHA or advantage == 0:
        return "not told apart"
    return "A better" if advantage > 0 else "B better"
