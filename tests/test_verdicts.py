"""Verdicts: every answer has exactly one, it never contradicts the score, and the needle is found in its place."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from editing_tasks import SPECS, edit_generator
from needle_tasks import needle_generator
from ruler_data import TASKS, write_ruler_data

from harness.records.judged import judged
from tasks.answers import FREE_TEXT, Wanted, kind_of
from tasks.editing import scoring as editing
from tasks.families import wanted_by
from tasks.needle import scoring as needle
from tasks.ruler.build import make_generator
from tasks.scoring import score_any, score_contains, score_needles, score_words
from tasks.text.planting import join_prompt
from tasks.verdicts import AROUND, MEANINGS, MOST_STATEMENT, TITLES, VERDICTS, excerpt, judge

CONTEXT = "The code of a is 1234567. The code of b is 7654321. The grass is green and the sky is blue today, they say."
PROMPT = f"{CONTEXT}\nWhat is the code of a? The code of a is"
NUMBERS = Wanted(right=("1234567",), others=("7654321",), kind=kind_of(["1234567", "7654321"]))
READING = "Oxygen was found by Carl Scheele in Uppsala in 1771.\nQuestion: Who found oxygen?\nAnswer:"
SCHEELE = Wanted(right=("Carl Scheele",), kind=FREE_TEXT, query="Who found oxygen?")


@pytest.fixture(scope="module", autouse=True)
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_ruler_data(tmp_path_factory.mktemp("ruler"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


def verdict(wanted: Wanted, answer: str, score: float = 0.0, prompt: str = PROMPT, is_cut: bool = False) -> str:
    return judge(wanted, answer, score, prompt=prompt, is_cut=is_cut).verdict


@pytest.mark.parametrize(
    ("answer", "expected", "answered"),
    [
        (" 7654321. The code of", "wrong", True),
        (" 7654322", "invented", True),
        (" 1111111, no, 7654321", "wrong", True),  # what the context holds goes before what it does not
        (" 1,234,567", "form", False),
        (" 123456, or 76543210", "none", False),  # of six and eight digits
        (" 7654321x", "none", False),
        (" I do not know.", "none", False),
        (" the sky is blue", "echo", False),
        (" nobody knows whether the grass is green and the sky is blue today or not", "echo", False),
        (" sky", "none", False),
        (" \n\t", "empty", False),
        ("", "empty", False),
        (" \u202e\u200b\x1b[2J", "none", False),
        (" \ud800 7654321", "wrong", True),
    ],
)
def test_an_answer_that_scores_0(answer: str, expected: str, answered: bool) -> None:
    found = judge(NUMBERS, answer, 0.0, prompt=PROMPT, is_cut=False)
    assert (found.verdict, found.answered) == (expected, answered)


def test_the_score_decides_first_then_the_cut() -> None:
    everything = " 7654321 1234567"
    assert verdict(NUMBERS, everything, 1.0, is_cut=True) == "right"
    assert verdict(NUMBERS, everything, 0.5, is_cut=True) == "partly"
    assert verdict(NUMBERS, everything, 0.0, is_cut=True) == verdict(NUMBERS, "", is_cut=True) == "cut"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" Uppsala.", "wrong"),
        (" Joseph Priestley, of Leeds", "invented"),
        (" The answer is: Uppsala", "wrong"),
        (" The answer is:\n", "none"),
        (" Oxygen\nUppsala", "echo"),  # it repeats the question
        (" who found oxygen?\nAnswer: who found oxygen?", "echo"),
        (" It was found long ago by a man who lived in a town of the north", "none"),
    ],
)
def test_an_answer_in_words(answer: str, expected: str) -> None:
    assert verdict(SCHEELE, answer, prompt=READING) == expected


@pytest.mark.parametrize(
    ("values", "text", "found"),
    [
        (["1234567"], "12345678 7654321", ["7654321"]),
        (["7"], "17 and 7", ["7"]),
        (["0f8fad5b-d9cb-469f-a165-70867728950e"], "7C9E6679-7425-40de-944b-e07fc1f90ae7.", 1),
        (["DOOR-12-A"], "DOOR-99-B, door-9-b", ["DOOR-99-B"]),
        (["ABCDE"], "VAR FGHIJ = VAR xyzab", ["FGHIJ"]),
        (["a1b2c3"], "zz9zz9 abcdef", ["zz9zz9"]),
        (["tidy-fox"], "a well-known thing, shy-jade, then", ["shy-jade", "then"]),
        (["red", "dark blue"], "1. green 2. pale blue 3. of no colour", ["green", "pale blue"]),
    ],
)
def test_a_value_of_the_kind_is_known_by_its_shape(values: list[str], text: str, found: Any) -> None:
    kind = kind_of(values)
    given = [value for _, value in kind.find(text)]
    if values == ["tidy-fox"]:
        assert given == ["shy-jade"]
    elif found == 1:
        assert len(given) == 1
    else:
        assert given == found
    for place, value in kind.find(text):
        assert text[place:].startswith(value)


def documents(tokenizer: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Documents of every family, each with its scoring function."""
    for task in TASKS:
        length = {"cwe": 1200, "qa_2": 2048}.get(task, 1024)
        made = make_generator({"task": task, "length": length}, tokenizer)
        yield made.sample(0), score_any if task.startswith("qa") else score_needles
    for probe in SPECS:
        for index in (0, 1):
            yield (
                edit_generator(tokenizer, probe).sample(index),
                editing.score_pair if probe == "forget" else editing.score,
            )
    for rule in ("all", "any", "first_line", "exact_match", "f1", ["contains", "f1"]):
        many: dict[str, Any] = (
            {} if rule == "exact_match" else {"keys": 3, "queries": 2, "question": "What are {keys}?"}
        )
        doc = needle_generator(tokenizer, scoring=rule, answer_prefix="It is", **many).sample(0)
        yield doc, needle.score
    listed: dict[str, Any] = {"value": ["crimson", "teal", "beige"], "keys": 2, "haystack": "noise"}
    yield needle_generator(tokenizer, **listed).sample(0), needle.score
    real = {"input": READING, "outputs": ["Carl Scheele", "Scheele"], "query": "Who found oxygen?"}
    yield real | {"answer_in_prompt": True}, score_contains
    yield real | {"answer_in_prompt": False}, score_words
    yield (
        {"text": READING, "key": "finder", "value": " Carl Scheele "},
        lambda doc, answers: score_contains({"outputs": [doc["value"].strip()]}, answers),
    )


def answers(doc: dict[str, Any], prompt: str, rng: random.Random) -> Iterator[str]:
    """Answers of every sort: of values, of the prompt, of noise."""
    wanted = wanted_by(doc)
    assert wanted is not None
    values = [*wanted.right, *wanted.stale, *wanted.others, "1111111", "none", "", "ZZZZZ"]
    yield from values
    yield from (" ".join(wanted.right), ", ".join(values), " ".join(wanted.right).upper())
    for _ in range(60):
        start = rng.randrange(len(prompt))
        noise = "".join(
            chr(rng.choice((rng.randrange(0x300), 0x202E, 0x0130, 0xD800))) for _ in range(rng.randrange(9))
        )
        parts = [rng.choice(values), prompt[start : start + rng.randrange(80)], noise, "\n", "The answer is", "1,2"]
        yield rng.choice(" \n.,:").join(rng.sample(parts, rng.randrange(1, 5)))


def test_every_answer_in_every_family_has_one_verdict_that_agrees_with_its_score(tokenizer: Any) -> None:
    rng, seen = random.Random(0), set()
    for doc, score in documents(tokenizer):
        prompt = join_prompt(doc.get("input") or doc["text"], doc.get("gen_prefix", ""))
        for answer in answers(doc, prompt, rng):
            scores = score(doc, [answer])
            row = {"doc": doc, "arguments": [(prompt, {})], "metrics": list(scores), **scores}
            found = judged(row | {"filtered_resps": [answer]}, None)
            seen.add(found.verdict)
            assert found.verdict in VERDICTS
            main = scores.get("acc", next(iter(scores.values())))
            main = main[1] if isinstance(main, list) else main
            assert (found.verdict == "right") == (main == 1)
            assert (found.verdict == "partly") == (0 < main < 1)
            assert (found.verdict == "cut") == (main == 0 and doc.get("answer_in_prompt") is False)
            assert (found.verdict == "empty") <= (not answer.strip())
            assert found.excerpt is None or "".join(found.excerpt) in prompt
    assert seen == set(VERDICTS) == set(TITLES) == set(MEANINGS)


def test_verdicts_of_memory_editing_are_its_outcomes(tokenizer: Any) -> None:
    said = {"stale": "stale", "leaked": "stale", "swapped": "wrong", "scrambled": "wrong", "edited": "wrong"}
    said |= {"denied": "wrong", "mute": "empty", "right": "right", "withheld": "right"}
    rng = random.Random(1)
    for probe in SPECS:
        for index in (0, 1):
            doc = edit_generator(tokenizer, probe).sample(index)
            prompt, wanted = join_prompt(doc["input"], doc["gen_prefix"]), wanted_by(doc)
            assert wanted is not None
            for answer in answers(doc, prompt, rng):
                outcome = editing.outcome(doc, answer)
                found = judge(wanted, answer, float(outcome in ("right", "withheld")), prompt=prompt, is_cut=False)
                if outcome == "other":
                    assert found.verdict in ("wrong", "invented", "form", "echo", "none")
                else:
                    assert found.verdict == said[outcome], (probe, outcome, answer)


def test_silence_is_right_where_a_value_was_withdrawn_and_no_answer(tokenizer: Any) -> None:
    wanted = wanted_by(edit_generator(tokenizer, "forget").sample(0))
    assert wanted is not None
    assert not judge(wanted, "", 1.0, prompt="", is_cut=False).answered
    assert judge(wanted, " none", 1.0, prompt="", is_cut=False).answered


def test_the_needle_of_every_task_is_found_with_what_surrounds_it(tokenizer: Any) -> None:
    for doc, _ in documents(tokenizer):
        prompt, wanted = join_prompt(doc.get("input") or doc["text"], doc.get("gen_prefix", "")), wanted_by(doc)
        assert wanted is not None
        found = excerpt(wanted, prompt, "")
        if doc.get("task") == "qa_2":
            continue  # the small data's answers are no part of its documents
        assert found is not None, doc.get("task")
        before, statement, behind = found
        assert any(value in statement for value in wanted.needles)
        assert before + statement + behind in prompt
        assert max(len(before), len(behind)) <= AROUND
        assert len(statement) <= MOST_STATEMENT


def test_an_excerpt_shows_a_needle_that_the_answer_lacks_and_its_whole_sentence() -> None:
    both = Wanted(right=("1234567", "7654321"))
    assert excerpt(both, PROMPT, " 1234567")[1] == "The code of b is 7654321."  # type: ignore[index]
    assert excerpt(both, PROMPT, "7654321, 1234567")[1] == "The code of a is 1234567."  # type: ignore[index]
    assert excerpt(both, "91234567 " + "x" * 400, "") is None
    assert excerpt(Wanted(right=("needle",)), "x" * 400 + " needle " + "y" * 400, "")[1] == "needle"  # type: ignore[index]


@pytest.mark.parametrize(
    "doc",
    [{}, {"question": "Is it?"}, {"outputs": []}, {"outputs": 7}, {"text": "x", "value": 7, "key": "k"}, "text"],
    ids=repr,
)
def test_documents_without_values_are_not_judged(doc: Any) -> None:
    row = {"doc": doc, "arguments": [("p", {})], "metrics": ["acc"], "acc": 1.0, "filtered_resps": [""]}
    assert judged(row, None).verdict is None


@pytest.mark.parametrize("score", [None, float("nan"), 1.5, -1.0, "1", [1.0]], ids=repr)
def test_what_has_no_share_for_a_score_is_not_judged(score: Any) -> None:
    doc = {"generator": "exact", "outputs": ["12"]}
    row = {"doc": doc, "arguments": [("p", {})], "metrics": ["acc"], "acc": score, "filtered_resps": [""]}
    assert judged(row, None).verdict is None
    assert judged({**row, "acc": 1.0}, None).verdict == "right"


def test_a_number_between_letters_is_a_value_where_the_score_finds_it_there_right_or_wrong() -> None:
    kind = replace(NUMBERS.kind, is_loose=True)
    loose = replace(NUMBERS, kind=kind)
    found = [
        judge(loose, answer, float("1234567" in answer), prompt=PROMPT, is_cut=False)
        for answer in (" 7654321e-4b", " x7654321", " 1111111a", " 76543219", " 1234567e")
    ]
    assert [one.verdict for one in found] == ["wrong", "wrong", "invented", "none", "right"]
    assert [one.answered for one in found] == [True, True, True, False, True]
    uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert [value for _, value in kind_of([uuid], is_loose=True).find(f"{uuid}f, {uuid}")] == [uuid]
    ruler = {"outputs": ["1234567"], "values": ["1234567", "7654321"], "generator": "exact", "task": "niah_multikey_1"}
    asked = wanted_by(ruler)
    assert asked is not None
    assert asked.kind.is_loose
