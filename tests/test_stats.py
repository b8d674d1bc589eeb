"""Intervals against published values and their limits."""

import random

import pytest

from harness.records.stats import Z95, mean_interval, ratio_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.25528, 0.36616)],
)
def test_wilson_matches_reference_values(successes: int, n: int, low: float, high: float) -> None:
    found = wilson_interval(successes, n)
    assert found == pytest.approx((low, high), abs=2e-4)


def test_wilson_ends_solve_their_equation() -> None:
    """At an end p of the interval, the observed share lies exactly 1.96 standard errors (at p) away."""
    for successes, n in ((1, 3), (489, 500), (250, 500), (99, 100)):
        for end in wilson_interval(successes, n):
            assert abs(successes / n - end) == pytest.approx(Z95 * (end * (1 - end) / n) ** 0.5, rel=1e-9)


def test_wilson_refuses_what_is_no_proportion() -> None:
    for successes, n in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="successes"):
            wilson_interval(successes, n)


def test_mean_interval_chooses_by_the_kind_of_scores() -> None:
    assert mean_interval([1, 0, 1, 1.0]) == wilson_interval(3, 4)
    found = mean_interval([0.25, 0.5, 0.75, 0.5])  # standard error 0.1021
    assert found is not None
    low, high = found
    assert (low, high) == pytest.approx((0.5 - 0.2, 0.5 + 0.2), abs=1e-3)
    assert mean_interval([0.5]) is None
    assert mean_interval([]) is None
    cut = mean_interval([0.99, 1.0, 0.5])
    assert cut is not None
    assert cut[1] == 1.0


def test_ratio_interval_of_equal_weights_is_that_of_a_mean() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    found = ratio_interval([(10 * value, 10.0) for value in values])
    assert found is not None
    low, high = found
    error = (sum((value - 3.0) ** 2 for value in values) / 3 / 4) ** 0.5
    assert (low, high) == pytest.approx((3.0 - Z95 * error, 3.0 + Z95 * error))
    assert ratio_interval([(1.0, 2.0)]) is None


def test_ratio_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        lengths = [rng.uniform(1, 9) for _ in range(60)]
        found = ratio_interval([(length * 2.0 + rng.gauss(0, length), length) for length in lengths])
        assert found is not None
        low, high = found
        covered += low <= 2.0 <= high
    assert 0.91 < covered / 400 < 0.98
