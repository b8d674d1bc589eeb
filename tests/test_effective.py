"""Effective length: both papers' rules, curves that are not monotone, and intervals that cover the truth."""

from __future__ import annotations

import random

import pytest

from harness.records.effective import BASE_SHARE, RULER, CurvePoint, base_score, effective_length
from harness.records.stats import mean_interval, wilson_interval

LENGTHS = (1024, 2048, 4096, 8192)


def curve(*values: float, n: int | None = 500, lengths: tuple[int, ...] = LENGTHS) -> list[CurvePoint]:
    """A curve of scores of 0 and 1 with Wilson's intervals."""
    points = []
    for length, value in zip(lengths, values, strict=False):
        low, high = wilson_interval(round(value * n), n) if n else (None, None)
        points.append(CurvePoint(length, value, low, high, n))
    return points


@pytest.mark.parametrize(
    ("values", "length", "again"),
    [
        ((1.0, 0.97, 0.9, 0.4), 4096, ()),
        ((1.0, 0.97, 0.9, 0.9), 8192, ()),
        ((0.5, 0.97, 0.9, 0.9), None, (2048, 4096, 8192)),
        ((0.9, 0.856, 0.9, 0.2), 1024, (4096,)),  # 85.6 must be exceeded
        ((0.2, 0.1, 0.0, 0.0), None, ()),
    ],
)
def test_rulers_rule_is_the_longest_length_above_with_all_shorter_ones(
    values: tuple[float, ...], length: int | None, again: tuple[int, ...]
) -> None:
    found = effective_length([curve(*values)])
    assert (found.length, found.again, found.threshold) == (length, again, RULER)
    assert found.is_open == (length == 8192)


def test_nolimas_rule_asks_for_85_percent_of_the_models_own_best_short_score() -> None:
    own = curve(0.4, 0.8, 0.75, 0.69, 0.67, lengths=(256, 512, 1024, 2048, 4096))
    found = effective_length([own], None)
    assert found.threshold == pytest.approx(0.68)
    assert base_score([own]) == 0.8
    assert found.length is None  # 0.4 at 256 fails, although that is short
    assert effective_length([own[1:]], None).length == 2048
    assert effective_length([curve(0.8, 0.68, 0.5)], None).length == 2048  # reached is enough
    without_short = curve(0.8, 0.7, 0.9, lengths=(4096, 8192, 16384))
    assert effective_length([without_short], None).threshold == pytest.approx(BASE_SHARE * 0.8)
    assert effective_length([curve(0.0, 0.0)], None).length is None


def test_several_tasks_are_held_against_it_by_their_mean_and_their_mean_base() -> None:
    easy, hard = curve(1.0, 1.0, 1.0, 0.9), curve(0.9, 0.8, 0.6, 0.1)
    assert effective_length([easy, hard]).length == 2048
    assert effective_length([easy, hard], None).threshold == pytest.approx(0.85 * 0.95)
    assert effective_length([easy, hard], None).length == 2048


def test_published_numbers_of_nolima_give_its_published_lengths() -> None:
    """Three rows of its table: base score, scores at 1K to 32K, effective length."""
    lengths = (1024, 2048, 4096, 8192, 16384, 32768)
    for base, scores, length in (
        (0.993, (0.981, 0.980, 0.957, 0.892, 0.816, 0.697), 8192),
        (0.973, (0.942, 0.874, 0.815, 0.721, 0.595, 0.427), 2048),
        (0.924, (0.763, 0.741, 0.708, 0.622, 0.527, 0.436), None),
    ):
        found = effective_length([curve(*scores, n=None, lengths=lengths)], BASE_SHARE * base - 1e-9)
        assert found.length == found.low == found.high == length


def test_the_interval_is_as_wide_as_the_samples_are_few() -> None:
    values = (0.97, 0.9, 0.83, 0.5)
    few, many = effective_length([curve(*values, n=30)]), effective_length([curve(*values, n=3000)])
    assert (few.length, few.low, few.high) == (2048, 1024, 4096)
    assert (many.length, many.low, many.high) == (2048, 2048, 2048)
    assert effective_length([curve(*values, n=30)]) == few  # the same draws


def test_scores_between_0_and_1_have_the_interval_of_their_spread() -> None:
    rng = random.Random(0)
    scores = [rng.choice((0.75, 1.0)) for _ in range(40)]
    low, high = mean_interval(scores) or (0.0, 0.0)
    narrow = CurvePoint(1024, 0.875, low + 0.875 - sum(scores) / 40, high + 0.875 - sum(scores) / 40, 40)
    wide = CurvePoint(1024, 0.875, *wilson_interval(35, 40), 40)
    assert effective_length([[narrow]], 0.8).low == 1024
    assert effective_length([[wide]], 0.8).low is None


@pytest.mark.parametrize("threshold", [RULER, None])
@pytest.mark.parametrize("truth", [(0.99, 0.95, 0.9, 0.7), (0.97, 0.88, 0.8, 0.8), (0.6, 0.55, 0.48, 0.1)])
def test_intervals_cover_the_true_effective_length(truth: tuple[float, ...], threshold: float | None) -> None:
    """Of simulated runs of 100 samples at least 93 % of the intervals hold the length of the true curve."""
    rng, covered, runs = random.Random(1), 0, 150
    real = effective_length([curve(*truth, n=None)], threshold).length or 0
    for _ in range(runs):
        shares = [sum(rng.random() < share for _ in range(100)) / 100 for share in truth]
        found = effective_length([curve(*shares, n=100)], threshold)
        covered += (found.low or 0) <= real <= (found.high or 0)
        assert (found.low or 0) <= (found.length or 0) <= (found.high or 0)
    assert covered >= 0.93 * runs


@pytest.mark.parametrize(
    "tasks", [[], [[]], [curve(1.0)[:1] * 2], [curve(1.0, 1.0), curve(1.0)], [curve(1.0, 1.0)[::-1]]]
)
def test_curves_that_do_not_fit_together_are_refused(tasks: list[list[CurvePoint]]) -> None:
    with pytest.raises(ValueError, match="the same lengths"):
        effective_length(tasks)
