"""The mean over places: its interval, its test and the smallest difference say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.analysis.comparison import ALPHA, MeanComparison, Place, TaskComparison
from harness.analysis.means import compare_means
from harness.analysis.measure import Contribution, compare_groups, compare_pairs, group_of_terms
from harness.analysis.pairing import Pairs, Term
from harness.analysis.places import Compared
from harness.analysis.seeds import compare_values
from harness.analysis.significance import agreeing, sign_flip
from tasks.metrics import Unit


def place_of(number: int, a: Sequence[float], b: Sequence[float], group: int = 1, unit: Unit = "share") -> Compared:
    """A place with pairs of samples, so many of them about each text."""
    clusters = np.array([f"{number}-{place // group}" for place in range(len(a))])
    pairs = Pairs("sample", np.array(a), np.array(b), np.ones(len(a)), clusters.tolist(), 0, 0, 0)
    found, parts = compare_pairs(pairs, unit, unit == "share", ALPHA)
    place = Place("t", number, "acc")
    return Compared(TaskComparison(place=place, unit=unit, higher_is_better=unit == "share", **found), (parts,))


def mean_of(wins: Sequence[int], losses: Sequence[int], samples: int = 40) -> MeanComparison:
    """Of places with so many wins and losses of A, and one more whose ten texts are all tied."""
    places = []
    for number, (win, loss) in enumerate(zip(wins, losses, strict=True)):
        rest = [0.0] * (samples - win - loss)
        places.append(place_of(number, [1.0] * win + [0.0] * loss + rest, [0.0] * win + [1.0] * loss + rest))
    tied = place_of(len(wins), [1.0] * samples, [1.0] * samples, group=4)
    (mean,) = compare_means([*places, tied], None, ALPHA)
    return mean


def excludes_zero(row: MeanComparison | TaskComparison) -> bool:
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.difference <= row.high
    return row.low > 0 or row.high < 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("wins", "losses"),
    [
        ([2, 2, 1, 1, 1, 1, 0, 0], [0] * 8),
        ([1, 1, 1, 1, 1, 1, 0, 0], [0] * 8),
        ([1, 1, 1, 1, 1, 0, 0, 0], [0] * 8),
        ([3, 3, 2, 2, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]),
        ([9, 8, 7, 6, 5, 4, 3, 2], [4, 4, 4, 4, 4, 4, 4, 4]),
        ([0] * 8, [0] * 8),
    ],
)
def test_the_interval_of_a_mean_leaves_out_zero_exactly_where_its_test_does(
    wins: list[int], losses: list[int], sign: int
) -> None:
    mean = mean_of(wins, losses) if sign > 0 else mean_of(losses, wins)
    assert mean.p is not None
    assert excludes_zero(mean) == (mean.p <= ALPHA)


def test_a_place_where_all_are_tied_does_not_swell_the_mean_of_the_others() -> None:
    mean = mean_of([2, 2, 1, 1, 1, 1, 0, 0], [0] * 8)
    assert mean.low is not None
    assert mean.high is not None
    assert mean.p == pytest.approx(2**-7)
    assert (mean.difference, mean.low, mean.high) == pytest.approx((8 / 360, 0.006, 0.047), abs=0.001)
    half = mean.high - mean.difference
    assert mean.detectable == pytest.approx(2.8 / 2.0 * half, rel=0.02)


def test_nothing_that_varies_anywhere_is_no_proof_that_nothing_could() -> None:
    mean = mean_of([0, 0], [0, 0], samples=100)
    assert (mean.p, mean.difference) == (1.0, 0.0)
    assert (mean.high or 0) > 0.01
    assert mean.detectable is not None


@pytest.mark.parametrize("group", [1, 4, 20])
def test_random_places_agree_too_and_so_does_each_place(group: int) -> None:
    rng = np.random.default_rng(group)
    seen = set()
    for lift in np.linspace(0, 0.4, 60):
        places = []
        for number in range(3):
            a = (rng.random(40) < 0.5 + lift).astype(float)
            b = np.where(rng.random(40) < 0.6, a, (rng.random(40) < 0.5).astype(float))
            places.append(place_of(number, a.tolist(), b.tolist(), group))
        (mean,) = compare_means(places, None, ALPHA)
        rows: list[MeanComparison | TaskComparison] = [mean, *(each.task for each in places)]
        for row in rows:
            assert row.p is not None
            assert excludes_zero(row) == (row.p <= ALPHA)
            seen.add(row.p <= ALPHA)
    assert seen == {True, False}


def test_the_end_of_an_interval_is_the_smallest_difference_that_is_not_rejected() -> None:
    parts, weights = np.array([1.0] * 7 + [0.5]), np.ones(8)
    low, high = agreeing((-1.0, 2.0), float(parts.sum()) / 8, sign_flip(parts), parts, weights)
    assert high == 2.0
    assert sign_flip(parts - 0.99 * low * weights) <= ALPHA < sign_flip(parts - 1.01 * low * weights)


def test_an_unpaired_mean_has_one_error_in_test_and_interval() -> None:
    def side(name: str, right: int) -> tuple[object, Contribution]:
        made = group_of_terms([Term(f"{i}", f"{name}{i}", float(i < right), 1.0) for i in range(40)], "share")
        assert made is not None
        return made

    seen = set()
    for right in range(24, 41):
        places = []
        for number in range(2):
            (a, of_a), (b, of_b) = side(f"a{number}-", right), side(f"b{number}-", 26)
            parts = (of_a, Contribution(of_b.groups, -of_b.parts, -of_b.errors, of_b.weights, False))
            found = compare_groups(a, b, "share", ALPHA)  # type: ignore[arg-type]
            head = {"place": Place("t", number, "acc"), "unit": "share", "higher_is_better": True}
            task = TaskComparison(**head, **found, pairing="unpaired")  # type: ignore[arg-type]
            places.append(Compared(task, parts))
        (mean,) = compare_means(places, None, ALPHA)
        assert mean.p is not None
        assert excludes_zero(mean) == (mean.p <= ALPHA)
        seen.add(mean.p <= ALPHA)
    assert seen == {True, False}


def test_a_mean_over_seeds_has_each_seeds_own_negative_where_lower_is_better() -> None:
    def at(metric: str, a: tuple[float, ...], b: tuple[float, ...]) -> Compared:
        task = TaskComparison(
            place=Place("t", 1024, metric),
            unit="share",
            higher_is_better=metric == "acc",
            pairing="seeds",
            seeds_a=a,
            seeds_b=b,
            **compare_values(a, b, ALPHA),
        )
        return Compared(task, None)

    places = [at("acc", (0.8, 0.6, 0.7), (0.2, 0.4)), at("stale", (0.2, 0.2, 0.1), (0.6, 0.8))]
    (mean,) = compare_means(places, None, ALPHA)
    assert (mean.n_a, mean.n_b) == (3, 2)
    assert mean.seeds_a == pytest.approx((0.3, 0.2, 0.3))
    assert mean.seeds_b == pytest.approx((-0.2, -0.2))
    assert mean.difference == pytest.approx(np.mean(mean.seeds_a) - np.mean(mean.seeds_b))
