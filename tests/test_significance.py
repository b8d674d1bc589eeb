"""The statistics of comparisons against scipy's and printed examples, and their limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.analysis import intervals
from harness.analysis.intervals import bootstrap, paired_difference, seed_from, unpaired_difference, wilson
from harness.analysis.measure import compare_pairs
from harness.analysis.pairing import Pairs
from harness.analysis.power import detectable_share
from harness.analysis.seeds import permutation
from harness.analysis.significance import holm, sign_flip, welch
from harness.records.stats import Z95, wilson_interval
from harness.records.table import Header
from harness.show.comparison_text import interval, number


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 1), (0, 9), (12, 30), (0, 0), (7, 7), (1, 0), (200, 150)])
def test_sign_flips_of_single_right_answers_are_mcnemars_exact_test(only_a: int, only_b: int) -> None:
    differences = np.array([1.0] * only_a + [-1.0] * only_b + [0.0] * 40)
    n = only_a + only_b
    exact = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert sign_flip(differences) == pytest.approx(exact, rel=1e-9)


def test_sign_flips_of_whole_groups_are_scipys_permutation_test() -> None:
    differences = np.array([3.0, -1, 2, 2, 0, -2, 4, 1, -1, 3])
    exact = stats.permutation_test(
        (differences, np.zeros(10)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(differences) == pytest.approx(exact.pvalue, rel=1e-12)


def test_sign_flips_of_any_numbers_are_as_good_as_scipys() -> None:
    for differences in np.random.default_rng(3).normal(0.5, 1, (3, 11)):
        exact = stats.permutation_test(
            (differences, np.zeros(11)), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip(differences) == pytest.approx(exact.pvalue, abs=0.002)


def test_sign_flips_do_not_depend_on_order_scale_or_side() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, 60)
    p = sign_flip(differences)
    assert sign_flip(-differences[::-1]) == p
    assert sign_flip(differences * 1e-6) == pytest.approx(p, rel=0.01)


def test_many_groups_take_the_normal_distribution() -> None:
    differences = np.random.default_rng(1).normal(0.02, 1, 5001)
    assert sign_flip(differences) == pytest.approx(sign_flip(differences[:5000]), abs=0.05)


def test_the_paired_interval_gives_newcombes_example() -> None:
    # Statistics in Medicine 17, 1998, 2635: table II, method 10
    assert paired_difference(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    "chances", [(0.25, 0.25, 0.25, 0.25), (0.75, 0.15, 0.05, 0.05), (0.97, 0.03, 0, 0), (1, 0, 0, 0)]
)
def test_the_paired_interval_holds_the_truth_in_19_of_20_tables_of_few_samples(
    chances: tuple[float, float, float, float],
) -> None:
    n = 14
    held = 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                table = (a, b, c, n - a - b - c)
                low, high = paired_difference(*table)
                if low - 1e-9 <= chances[1] - chances[2] <= high + 1e-9:
                    held += float(stats.multinomial.pmf(table, n, chances))
    assert held > 0.94


@pytest.mark.parametrize("flips", [5, 6, 17, 40])
def test_models_that_are_alike_are_told_apart_in_1_of_20_cases_at_most(flips: int) -> None:
    found = [sign_flip(np.repeat([1.0, -1.0], [wins, flips - wins])) <= 0.05 for wins in range(flips + 1)]
    assert stats.binom.pmf(np.arange(flips + 1), flips, 0.5)[found].sum() <= 0.05


def test_the_unpaired_interval_gives_newcombes_example() -> None:
    assert unpaired_difference(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_wilsons_interval_is_the_one_of_the_tables() -> None:
    assert wilson(0.3, 50, Z95) == pytest.approx(wilson_interval(15, 50))


def test_intervals_are_honest_where_nothing_varies() -> None:
    low, high = paired_difference(20, 0, 0, 0)
    assert low == pytest.approx(-high)
    assert high > 0.1
    assert paired_difference(0, 10, 0, 0)[0] < 0.9


def test_a_bootstrap_is_the_same_for_the_same_samples_and_changes_sign_with_the_sides() -> None:
    rng = np.random.default_rng(0)
    sums = np.stack([rng.normal(2, 1, 40), rng.normal(1.5, 1, 40), rng.integers(5, 50, 40).astype(float)], axis=1)

    def ratio(drawn: np.ndarray) -> np.ndarray:
        return np.asarray((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2])

    seed = seed_from(["b", "a"])
    assert seed == seed_from(["a", "b"])
    found = bootstrap(sums, ratio, seed)
    exchanged = bootstrap(sums[:, [1, 0, 2]], ratio, seed)
    assert found is not None
    assert exchanged is not None
    assert found == pytest.approx((-exchanged[1], -exchanged[0]), rel=0.02)
    scipys = stats.bootstrap(
        tuple(sums.T),
        lambda a, b, w, axis: (a.sum(axis) - b.sum(axis)) / w.sum(axis),
        paired=True,
        n_resamples=2000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found == pytest.approx((scipys.low, scipys.high), abs=0.15 * (scipys.high - scipys.low))


def test_welchs_test_is_scipys() -> None:
    a, b = np.array([0.31, 0.35, 0.33, 0.40]), np.array([0.28, 0.27, 0.31])
    p, low, high = welch(a.mean() - b.mean(), (a.var(ddof=1) / 4, b.var(ddof=1) / 3), (4, 3))
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval()
    assert (p, low, high) == pytest.approx((theirs.pvalue, interval.low, interval.high))


def test_the_permutation_of_seeds_is_scipys() -> None:
    a, b = [0.31, 0.35, 0.33, 0.40], [0.28, 0.27, 0.31]
    theirs = stats.permutation_test(
        (a, b), lambda x, y: abs(np.mean(x) - np.mean(y)), n_resamples=np.inf, alternative="greater"
    )
    assert permutation(a, b) == pytest.approx(theirs.pvalue)


def test_holms_correction_gives_the_textbook_values_and_passes_over_what_was_not_tested() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("n", "discordant"), [(100, 0.2), (500, 0.3), (2000, 0.1)])
def test_the_smallest_difference_agrees_with_the_formula_for_mcnemars_test(n: int, discordant: float) -> None:
    found = detectable_share(n, discordant, 0.05)
    assert found is not None
    z_alpha, z_beta = stats.norm.isf(0.025), stats.norm.ppf(0.8)  # Connor 1987
    needed = (z_alpha * math.sqrt(discordant) + z_beta * math.sqrt(discordant - found**2)) ** 2 / found**2
    assert needed == pytest.approx(n, rel=0.12)


def test_few_samples_show_nothing_and_say_so() -> None:
    assert detectable_share(5, 0.2, 0.05) is None
    assert detectable_share(6, 0.2, 0.05) is not None
    small, large = detectable_share(100, 0.2, 0.05 / 14), detectable_share(100, 0.2, 0.05)
    assert small is not None
    assert large is not None
    assert small > large


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nats", [(3e3, 9e3, 5e3, 4e2), (3e4, 9e3, 5e4, 4e4), (1e5, 40.0), (6.5e3,) * 3], ids=str)
def test_a_perplexity_beyond_all_numbers_is_compared(nats: tuple[float, ...]) -> None:
    """A model that went to pieces has hundreds of nats a word."""
    count = len(nats)
    names = np.array([str(place) for place in range(count)])
    pairs = Pairs("sample", np.array(nats), np.full(count, 35.0), np.full(count, 10.0), names.tolist(), 0, 0, 0)
    found, _ = compare_pairs(pairs, "perplexity", False, 0.05)
    assert found["losses"] == count
    assert all(math.isfinite(found[name]) for name in ("a", "b", "low", "high", "p"))
    assert found["low"] <= found["a"] - found["b"] <= found["high"]


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (-2e6, "perplexity", True, "−2e+06"),
        (-3.14, "perplexity", True, "−3.14"),
        (2e6, "number", True, "+2e+06"),
        (-2e6, "number", False, "−2e+06"),
        (-0.0001, "share", True, "0.0"),
        (-0.5, "share", False, "−50.0"),
    ],
)
def test_one_sign_is_written_for_numbers_of_all_sizes(value: float, unit: Any, signed: bool, text: str) -> None:
    assert number(value, unit, signed) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (800_425.0, 1_020_000.0, "+8e+05 … +1e+06"),
        (-2e6, 3.5, "−2e+06 … +3.5"),
        (-12.345, 3.5, "−12.35 … +3.50"),
    ],
)
def test_both_ends_of_an_interval_have_one_notation(low: float, high: float, text: str) -> None:
    assert interval(low, high, "perplexity") == text


def test_both_ends_of_an_interval_in_a_table_have_one_notation() -> None:
    header = Header("LAMBADA", "ppl", 2, higher_is_better=False, unit="perplexity")
    assert header.interval(800_425.0, 1_020_000.0) == "8e+05–1e+06"
    assert header.interval(45.52, 52.8) == "45.5–52.8"


def test_draws_that_are_kept_for_the_next_pair_are_those_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    sums = rng.random((30, 2))

    def mean(draws: Any) -> Any:
        return draws[:, 0] / draws[:, 1]

    kept = [bootstrap(sums, mean, seed) for seed in (1, 2, 1)]
    monkeypatch.setattr(intervals, "MOST_KEPT", 0)
    assert kept == [bootstrap(sums, mean, seed) for seed in (1, 2, 1)]
