"""Memory editing: documents fill their length, keep their distances and say what they ask."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from editing_tasks import (
    SPECS,
    STATEMENT,
    asked_key,
    edit_generator,
    history,
    prompt_of,
)

from tasks.editing import scoring
from tasks.editing.draws import draw
from tasks.editing.edits import build, power_law
from tasks.editing.spec import EditSpec
from tasks.errors import TaskError
from tasks.registry import list_tasks, load_suite, resolve
from tasks.text.kinds import SIMPLE, Corpus, draw_distinct
from tasks.text.tokenizers import encode

pytestmark = pytest.mark.usefixtures("data_folder")


TASKS = ("edit_overwrite", "edit_overwrite_4", "edit_retention", "edit_forget", "mqar", "mqar_64")


@pytest.mark.parametrize("haystack", ["essay", "noise"])
@pytest.mark.parametrize("probe", SPECS)
def test_documents_fill_the_length_and_hold_what_they_say(tokenizer: Any, probe: str, haystack: str) -> None:
    made = edit_generator(tokenizer, probe, haystack=haystack)
    for index in range(12):
        doc = made.sample(index)
        prompt = prompt_of(doc)
        assert len(encode(tokenizer, prompt)) == doc["prompt_tokens"] == 1024 - 48
        context = prompt.split("provided text?")[0]
        assert all(context.count(value) >= 1 for value in doc["values"])
        assert context.count(doc["outputs"][0]) == (0 if doc["question"] == "forget_withdrawn" else 1)
        assert doc["query"] == asked_key(prompt)
        assert doc["needle_tokens"] == sorted(doc["needle_tokens"])
        assert set(doc["roles"]) <= {*scoring.OUTCOMES[doc["question"]], "right"}
        if probe != "recall":
            told = {(key, value) for key, value in history(prompt) if value}
            assert told == set(zip(doc["keys"], doc["values"], strict=True))


def test_a_sample_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    for probe in SPECS:
        made = edit_generator(tokenizer, probe)
        random.seed(1)
        forwards = [made.sample(index) for index in range(6)]
        random.seed(2)
        assert [made.sample(index) for index in reversed(range(6))] == forwards[::-1]
        assert edit_generator(tokenizer, probe, samples=6).sample(4) == forwards[4]
        assert len({doc["sample_hash"] for doc in forwards}) == 6
        assert edit_generator(tokenizer, probe, seed=7).sample(4)["sample_hash"] != forwards[4]["sample_hash"]


@pytest.mark.parametrize("probe", SPECS)
@pytest.mark.parametrize("distance", [0, 150, 400])
def test_the_distance_is_met_to_half_a_line(tokenizer: Any, probe: str, distance: int) -> None:
    made = edit_generator(tokenizer, probe, length=1536, distance=distance, haystack="noise")
    line = made._planter.line_tokens(
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    )
    for index in range(6):
        doc = made.sample(index)
        behind = made.behind(draw(made.spec, index))
        assert abs(doc["distance"] - max(distance, behind)) <= line / 2 + 3


def test_the_distance_counts_the_tokens_between_edit_and_question(tokenizer: Any) -> None:
    doc = edit_generator(tokenizer, "retention", distance=200).sample(0)
    prompt = prompt_of(doc)
    last = [match.end() for match in STATEMENT.finditer(prompt)][-1] + 1
    between = prompt[last : prompt.index("What is the latest")]
    assert abs(len(encode(tokenizer, between.strip(), "none")) - doc["distance"]) <= 2


def test_distances_of_recall_follow_the_power_law() -> None:
    draws = [power_law((i + 0.5) / 1000, 0.01, 999) for i in range(1000)]
    assert 0 <= min(draws) < max(draws) <= 999
    assert sum(gap < math.sqrt(1000) - 1 for gap in draws) == pytest.approx(500, abs=15)  # nearly log-uniform
    assert power_law(0.5, 1.0, 100) == pytest.approx(50)


def test_documents_of_a_pair_share_their_text_and_ask_a_withdrawn_and_a_kept_key(tokenizer: Any) -> None:
    made = edit_generator(tokenizer, "forget")
    for index in range(0, 10, 2):
        gone, kept = made.sample(index), made.sample(index + 1)
        assert gone["values"] == kept["values"]
        assert gone["pair"] == kept["pair"]
        assert history(prompt_of(gone)) == history(prompt_of(kept))
        assert dict(history(prompt_of(gone)))[gone["query"]] is None
        assert dict(history(prompt_of(kept)))[kept["query"]] == kept["outputs"][0]


def test_queries_of_recall_share_their_pairs_and_answer_the_earlier_ones(tokenizer: Any) -> None:
    made = edit_generator(tokenizer, "recall")
    docs = [made.sample(index) for index in range(3)]
    assert len({tuple(doc["values"]) for doc in docs}) == 1
    assert len({doc["query"] for doc in docs}) == 3
    for earlier, doc in itertools.pairwise(docs):
        assert f"{earlier['query']}: {earlier['outputs'][0]}.\n" in doc["input"]
    assert made.sample(3)["values"] != docs[0]["values"]


@pytest.mark.parametrize("probe", SPECS)
def test_a_length_below_the_statements_names_the_least_that_works(tokenizer: Any, probe: str) -> None:
    made = edit_generator(tokenizer, probe, length=150, samples=12, distance=60)
    with pytest.raises(TaskError, match=r"too short for its statements, a distance of 60 .* works is \d+") as caught:
        made.check()
    least = int(str(caught.value).rsplit(" ", 1)[1])
    fitting = edit_generator(tokenizer, probe, length=least, samples=12, distance=60)
    fitting.check()
    for index in range(12):
        assert fitting.sample(index)["prompt_tokens"] + 48 <= least


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updtes": 2}, "unknown field 'updtes'; did you mean 'updates'"),
        ({"probe": "overwrit"}, "'probe' must be one of overwrite, retention"),
        ({"keys": 0}, "'keys' must be a positive whole number"),
        ({"distance": -1}, "'distance' must be a number of tokens"),
        ({"power": 2}, "'power' must lie above 0"),
        ({"seed": "x"}, "'seed' must be a whole number"),
        ({"queries": 2}, "'queries' has no meaning for probe 'overwrite'"),
        ({"probe": "retention", "edited": 4}, "'edited' must leave one of the 4 keys"),
        ({"probe": "forget", "keys": 1}, "'edited' must leave one of the 1 keys"),
        ({"probe": "forget", "samples": 3}, "'samples' must be even"),
        ({"probe": "recall", "queries": 5}, "'queries' must be at most the number of keys"),
        ({"value": "digits"}, "'value' must be one of words, numbers, uuids"),
    ],
)
def test_a_wrong_spec_names_its_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        EditSpec.parse({"task": "t", "probe": "overwrite", "length": 512, **changes})
    with pytest.raises(TaskError, match="field 'probe' is missing"):
        EditSpec.parse({"task": "t", "length": 512})


def test_build_needs_a_tokenizer_and_draws_no_more_than_asked(tokenizer: Any) -> None:
    spec = {"task": "t", "length": 700, "samples": 8, **SPECS["forget"]}
    with pytest.raises(TaskError, match="--metadata"):
        build(spec)
    assert len(build(spec, tokenizer=tokenizer, max_samples=2, other_metadata=1)["test"]) == 2


def test_shipped_editing_tasks_share_the_generator_and_list_their_outcomes() -> None:
    infos = {info.name: info for info in list_tasks() if info.family == "editing"}
    assert set(infos) == set(TASKS)
    for name, info in infos.items():
        spec = EditSpec.parse(resolve(f"{name}@2048").config["dataset_kwargs"]["spec"])
        questions = [question for question in scoring.OUTCOMES if question.startswith(spec.probe)]
        outcomes = {outcome for question in questions for outcome in scoring.OUTCOMES[question]} - {"right"}
        assert set(info.metrics) == {"acc", *outcomes} | ({"recall"} if spec.probe == "forget" else set())
    assert {column.task for column in load_suite("editing").columns} <= set(TASKS)


def test_draws_avoid_what_the_haystack_holds_whatever_its_case() -> None:
    corpus = Corpus("Call 1234567. A Brave-Dog barks in New York.")
    assert corpus.contains("234567")
    assert corpus.contains("brave-dog")
    assert corpus.contains("new york")
    assert not corpus.contains("7654321")
    with pytest.raises(TaskError, match="cannot draw 1 different codes; 1000 drawn ones occur in the haystack"):
        draw_distinct(random.Random(0), lambda _: "York", 1, what="codes", absent_from=[corpus])
    assert len(set(draw_distinct(random.Random(0), SIMPLE["numbers"], 50, what="numbers", absent_from=[corpus]))) == 50
