"""Scores of generated text, case by case."""

from __future__ import annotations

import pytest

from tasks.scoring import contains, contains_words, find_words, score_contains, score_needles, string_match_all


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        (" 7482913.", ["7482913"], 1.0),
        ("", ["7482913"], 0.0),
        ("748 2913", ["7482913"], 0.0),
        ("the answer is\n\n7482913 and more", ["7482913"], 1.0),
        ("1111111 and 2222222", ["1111111", "3333333"], 0.5),
        ("1111111, 3333333", ["1111111", "3333333"], 1.0),
        ("Blue-Whale", ["blue-whale"], 1.0),
        ("blue-whale", ["BLUE-WHALE"], 1.0),
        # A control character becomes a newline, so it splits a match and never joins one.
        ("748\x002913", ["7482913"], 0.0),
        ("a\x07b", ["a\nb"], 1.0),
        ("\x1f \x00 7482913 \x00", ["7482913"], 1.0),
        ("anything", [], 0.0),
    ],
)
def test_needle_score_is_the_fraction_of_references_found(prediction: str, references: list[str], score: float) -> None:
    assert string_match_all(prediction, references) == score


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        (" In the 10th century", ["10th century", "tenth"], 1.0),
        ("the TENTH", ["10th century", "tenth"], 1.0),
        ("(1999)", ["(1999)"], 1.0),
        ("199.9", ["199x9"], 0.0),
        ("", ["tenth"], 0.0),
    ],
)
def test_retrieval_score_is_literal_containment(prediction: str, references: list[str], score: float) -> None:
    assert contains(prediction, references) == score


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        (" In the 10th century.", ["10th century", "tenth"], 1.0),
        ("it must be so", ["US"], 0.0),
        ("the U.S. (us)", ["US"], 1.0),
        ("in 1917", ["17"], 0.0),
        ("1,200 men", ["200"], 0.0),
        ("12.5 miles", ["12"], 0.0),
        ("exactly 12.", ["12"], 1.0),
        ("12, or 13", ["12"], 1.0),
        ("some 2%", ["2%"], 1.0),
        ("some 12%", ["2%"], 0.0),
        ("(a+b)?", ["(A+B)"], 1.0),
        ("\n \n tenth\n", ["tenth"], 1.0),
        ("I do not know\ntenth", ["tenth"], 0.0),
        ("", ["tenth"], 0.0),
        ("anything", [], 0.0),
    ],
)
def test_our_own_retrieval_is_scored_by_words_in_the_first_line(
    prediction: str, references: list[str], score: float
) -> None:
    assert contains_words(prediction, references) == score


def test_a_reference_is_found_where_it_first_stands_as_words() -> None:
    assert find_words("US", "Trust us, the US") == len("Trust ")
    assert find_words("us", "trust") == -1


def test_lm_eval_receives_the_metric_by_name() -> None:
    assert score_needles({"outputs": ["12"]}, ["it is 12"]) == {"acc": 1.0}
    assert score_contains({"outputs": ["12"]}, ["it is 13"]) == {"contains": 0.0}
