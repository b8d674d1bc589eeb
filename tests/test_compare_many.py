"""What pairs of many models share is worked out once, and is to the last digit what each pair would find alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from compared import samples_of

from harness.analysis import pairing, significance
from harness.analysis.means import _numbered
from harness.analysis.pairing import KeyedTerms, Pairs, grouped, pair, terms
from harness.analysis.significance import sign_flip


def side(seed: int, scores: Sequence[Any], first: int = 0) -> KeyedTerms:
    """Terms of samples in any order, two of one text, two of one content."""
    found = samples_of(
        "t", scores, sample=lambda place: f"s{max(1, place + first)}", cluster=lambda place: f"c{(place + first) // 2}"
    )
    return terms(random.Random(seed).sample(found, len(found)), "acc", "share")


def same(one: Pairs | None, other: Pairs | None) -> bool:
    """Whether two pairings have the same samples, numbers and texts in the same order."""
    assert one is not None
    assert other is not None
    numbers = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("a", "b", "weights"))
    rest = [(p.way, tuple(p.clusters), p.only_a, p.only_b, p.unscored) for p in (one, other)]
    return numbers and rest[0] == rest[1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (side(1, [1, 0, 1, 1, 0, 0.5]), side(2, [0, 0, 1, 0, 1, 0.25])),
        (side(1, [1, None, 1, 1]), side(2, [0, 0, 1, 0])),
        (side(1, [1, 0, 1, 1]), side(2, [0, 0, math.inf, 0])),
        (side(1, [1, 0, 1, 1]), side(2, [0, 0, 1, 0, 1], first=1)),
    ],
    ids=["alike", "unscored", "infinite", "others"],
)
def test_runs_of_the_same_samples_are_paired_as_all_others_are(
    a: KeyedTerms, b: KeyedTerms, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pair(lambda _: a, lambda _: b)
    monkeypatch.setattr(pairing, "_paired_alike", lambda *_: None)
    assert same(found, pair(lambda _: a, lambda _: b))


def test_the_clusters_are_those_of_the_side_that_knows_of_more_common_text() -> None:
    a = side(1, [1, 0, 1, 1])
    b = terms(samples_of("t", [1, 0, 1, 1], sample=lambda place: f"s{max(1, place)}"), "acc", "share")
    for one, other in ((a, b), (b, a)):
        found = pair(lambda _, one=one: one, lambda _, other=other: other)  # type: ignore[misc]
        assert found is not None
        assert sorted(set(found.clusters)) == ["c0", "c1"]


def test_clusters_have_the_numbers_of_their_names_in_order() -> None:
    names, inverse = grouped(["b", "a", "b", "c"])
    assert names == ("a", "b", "c")
    assert inverse.tolist() == [1, 0, 1, 2]


def test_groups_of_one_name_are_one_whichever_place_has_them() -> None:
    order, at = _numbered((("b", "c"), ("a", "b")))
    assert order.tolist() == [2, 0, 1]
    assert [each.tolist() for each in at] == [[0, 1], [2, 0]]


def test_a_distribution_that_is_kept_for_the_next_pair_is_the_one_added_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    tried = [rng.integers(-most, most + 1, 30).astype(float) for most in (1, 1, 2, 5) for _ in range(5)]
    kept = [sign_flip(differences) for differences in tried]
    monkeypatch.setattr(significance, "MOST_KEPT", -1)
    assert kept == [sign_flip(differences) for differences in tried]


def test_every_pair_takes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sequence[int]] = []
    chances = significance._chances

    def counted(sizes: Sequence[int]) -> Any:
        made.append(sizes)
        return chances(sizes)

    significance._kept_chances.cache_clear()
    monkeypatch.setattr(significance, "_chances", counted)
    for flipped in range(8):
        sign_flip(np.array([1.0] * flipped + [-1.0] * (8 - flipped) + [0.0] * flipped))
    assert made == [(1,) * 8]
