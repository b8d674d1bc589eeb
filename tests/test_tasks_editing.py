"""Memory editing: documents say what they ask, and models that fail differently get different, exact figures.

The answerers below read nothing but the prompt, so they also show that a prompt holds all that is needed.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from test_tasks_niah import train_tokenizer, write_data

from harness.lm.evaluate import evaluate_tasks
from harness.records.cells import make_cell
from tasks.editing import scoring
from tasks.editing.draws import draw
from tasks.editing.edits import EditGenerator, build, power_law
from tasks.editing.spec import EditSpec
from tasks.errors import TaskError
from tasks.registry import list_tasks, load_suite, resolve
from tasks.task_files import ROOT
from tasks.text.kinds import SIMPLE, Corpus, draw_distinct
from tasks.text.planting import join_prompt
from tasks.text.tokenizers import encode

TASKS = ("edit_overwrite", "edit_overwrite_4", "edit_retention", "edit_forget", "mqar", "mqar_64")
STATEMENT = re.compile(
    r"The special magic number for ([^.]+?) (?:is (\d+)|has changed, it is now (\d+)|has been (withdrawn))"
)
SPECS: dict[str, dict[str, Any]] = {
    "overwrite": {"probe": "overwrite", "keys": 3, "updates": 2},
    "retention": {"probe": "retention", "keys": 5, "edited": 2},
    "forget": {"probe": "forget", "keys": 4, "edited": 2},
    "recall": {"probe": "recall", "keys": 6, "queries": 3},
}


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer("metaspace")


def generator(tokenizer: Any, probe: str = "overwrite", length: int = 1024, **fields: Any) -> EditGenerator:
    spec = {"task": f"t_{probe}", "length": length, **SPECS[probe], **fields}
    return EditGenerator(EditSpec.parse(spec), tokenizer)


def prompt_of(doc: dict[str, Any]) -> str:
    return join_prompt(doc["input"], doc["gen_prefix"])


def history(prompt: str) -> list[tuple[str, str | None]]:
    """Every statement as (key, value), in order; None for a withdrawal."""
    return [(key, first or changed or None) for key, first, changed, _ in STATEMENT.findall(prompt)]


def asked_key(prompt: str) -> str:
    return re.findall(r"(?:magic number for |\n)([^.?\n]+?)(?: mentioned in the provided text is|:)$", prompt)[0]


def perfect(prompt: str) -> str:
    if "magic" not in prompt:
        return dict(statements(prompt))[asked_key(prompt)]
    return dict(history(prompt))[asked_key(prompt)] or "none"


def never_erasing(prompt: str) -> str:
    """A memory that keeps the first value of a key whatever comes later."""
    values: dict[str, str] = {}
    for key, value in history(prompt):
        if value:
            values.setdefault(key, value)
    return values[asked_key(prompt)]


def over_erasing(prompt: str) -> str:
    """A memory in which an edit takes all keys with it that are not edited themselves."""
    seen: set[str] = set()
    edited: dict[str, str | None] = {}
    for key, value in history(prompt):
        if key in seen:
            edited[key] = value
        seen.add(key)
    return edited.get(asked_key(prompt)) or "I do not remember"


def echo(prompt: str) -> str:
    """Goes through the text again, from its first statement on."""
    return prompt[prompt.index("The special magic") :]


def ask(answer: Callable[[str], str], doc: dict[str, Any]) -> str:
    return scoring.outcome(doc, answer(prompt_of(doc)))


@pytest.mark.parametrize("haystack", ["essay", "noise"])
@pytest.mark.parametrize("probe", SPECS)
def test_documents_fill_the_length_and_hold_what_they_say(tokenizer: Any, probe: str, haystack: str) -> None:
    made = generator(tokenizer, probe, haystack=haystack)
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
        made = generator(tokenizer, probe)
        random.seed(1)
        forwards = [made.sample(index) for index in range(6)]
        random.seed(2)
        assert [made.sample(index) for index in reversed(range(6))] == forwards[::-1]
        assert generator(tokenizer, probe, samples=6).sample(4) == forwards[4]
        assert len({doc["sample_hash"] for doc in forwards}) == 6
        assert generator(tokenizer, probe, seed=7).sample(4)["sample_hash"] != forwards[4]["sample_hash"]


@pytest.mark.parametrize("probe", SPECS)
@pytest.mark.parametrize("distance", [0, 150, 400])
def test_the_distance_is_met_to_half_a_line(tokenizer: Any, probe: str, distance: int) -> None:
    made = generator(tokenizer, probe, length=1536, distance=distance, haystack="noise")
    line = made._planter.line_tokens(
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    )
    for index in range(6):
        doc = made.sample(index)
        behind = made.behind(draw(made.spec, index))
        assert abs(doc["distance"] - max(distance, behind)) <= line / 2 + 3


def test_the_distance_counts_the_tokens_between_edit_and_question(tokenizer: Any) -> None:
    doc = generator(tokenizer, "retention", distance=200).sample(0)
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
    made = generator(tokenizer, "forget")
    for index in range(0, 10, 2):
        gone, kept = made.sample(index), made.sample(index + 1)
        assert gone["values"] == kept["values"]
        assert gone["pair"] == kept["pair"]
        assert history(prompt_of(gone)) == history(prompt_of(kept))
        assert dict(history(prompt_of(gone)))[gone["query"]] is None
        assert dict(history(prompt_of(kept)))[kept["query"]] == kept["outputs"][0]


def test_queries_of_recall_share_their_pairs_and_answer_the_earlier_ones(tokenizer: Any) -> None:
    made = generator(tokenizer, "recall")
    docs = [made.sample(index) for index in range(3)]
    assert len({tuple(doc["values"]) for doc in docs}) == 1
    assert len({doc["query"] for doc in docs}) == 3
    for earlier, doc in itertools.pairwise(docs):
        assert f"{earlier['query']}: {earlier['outputs'][0]}.\n" in doc["input"]
    assert made.sample(3)["values"] != docs[0]["values"]


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("overwrite", " 22. It was 11.", "right"),
        ("overwrite", " 11, then 22.", "stale"),
        ("overwrite", " 33", "swapped"),
        ("overwrite", " 221", "other"),
        ("overwrite", " \n", "mute"),
        ("forget_withdrawn", " none. That of b is 33.", "withheld"),
        ("forget_withdrawn", "", "withheld"),
        ("forget_withdrawn", " 77", "withheld"),
        ("forget_withdrawn", " 11, which is void", "leaked"),
        ("forget_kept", " None, 22 was withdrawn", "denied"),
        ("forget_kept", " 22, not none", "right"),
        ("forget_kept", " 77", "other"),
    ],
)
def test_the_first_value_of_an_answer_decides(question: str, answer: str, expected: str) -> None:
    roles = ["leaked" if question == "forget_withdrawn" else "stale", "right", "swapped"]
    assert scoring.outcome({"question": question, "values": ["11", "22", "33"], "roles": roles}, answer) == expected


EXPECTED: dict[str, tuple[Callable[[str], str], dict[str, dict[str, float]]]] = {
    "perfect": (
        perfect,
        {
            "edit_overwrite": {"acc": 1, "stale": 0, "other": 0},
            "edit_retention": {"acc": 1, "scrambled": 0, "edited": 0},
            "edit_forget": {"acc": 1, "withheld": 1, "leaked": 0, "recall": 1},
            "mqar": {"acc": 1},
        },
    ),
    "never erasing": (
        never_erasing,
        {
            "edit_overwrite": {"acc": 0, "stale": 1, "other": 0},
            "edit_retention": {"acc": 1, "scrambled": 0, "edited": 0},
            "edit_forget": {"acc": 0, "withheld": 0, "leaked": 1, "recall": 1},
        },
    ),
    "over-erasing": (
        over_erasing,
        {
            "edit_overwrite": {"acc": 1, "stale": 0, "other": 0},
            "edit_retention": {"acc": 0, "other": 1, "scrambled": 0},
            "edit_forget": {"acc": 0, "withheld": 1, "leaked": 0, "recall": 0, "other": 1},
        },
    ),
    "mute": (
        lambda _: "",
        {
            "edit_overwrite": {"acc": 0, "mute": 1},
            "edit_retention": {"acc": 0, "mute": 1},
            "edit_forget": {"acc": 0, "withheld": 1, "recall": 0, "mute": 1},
            "mqar": {"acc": 0, "mute": 1},
        },
    ),
    "always none": (
        lambda _: " none.",
        {"edit_forget": {"acc": 0, "withheld": 1, "recall": 0, "denied": 1}, "edit_retention": {"acc": 0, "other": 1}},
    ),
    "repeats the question": (
        lambda prompt: prompt[prompt.index("What is") :],
        {
            "edit_overwrite": {"acc": 0, "other": 1},
            "edit_retention": {"acc": 0, "other": 1},
            "edit_forget": {"acc": 0, "leaked": 0, "recall": 0},
        },
    ),
}


class Answerer(LM):
    """Answers from the prompt alone."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__()
        self.answer = answer

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        return [self.answer(request.args[0]) for request in requests]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize("name", EXPECTED)
def test_models_that_fail_differently_get_different_exact_figures(tokenizer: Any, name: str) -> None:
    answer, expected = EXPECTED[name]
    for task, figures in expected.items():
        resolved = resolve(f"{task}@700", samples=8)
        run = evaluate_tasks(Answerer(answer), [resolved.config], {"tokenizer": tokenizer})
        result = run["results"][resolved.lm_eval_name]
        assert {metric: result[f"{metric},none"] for metric in figures} == figures, task
        counts = {"truncated": 0, "tokens": 0, "shared_tokens": 0, "seconds": 0.0, "peak_memory_mb": None}
        cell = make_cell(resolved, run, context_prefix="tokenizer", max_length=700, **counts)
        assert {metric: cell.scores[metric].value for metric in figures} == figures
        assert all(score.unscored == 0 for score in cell.scores.values())
        if task == "edit_forget":
            assert {name: cell.scores[name].n for name in ("acc", "leaked", "recall", "swapped")} == {
                "acc": 4,
                "leaked": 4,
                "recall": 4,
                "swapped": 8,
            }


def statements(prompt: str) -> list[tuple[str, str | None]]:
    """Those of a block of pairs as well."""
    pairs = re.findall(r"([^.:\n]+): (\d+)\.", prompt)
    asked = asked_key(prompt)  # a sentence that was cut may stand in front of the first key
    return history(prompt) or [(asked if key.endswith(f" {asked}") else key.strip(), value) for key, value in pairs]


def first_writes(prompt: str) -> str:
    """As `never_erasing`, for pairs as well."""
    values: dict[str, str] = {}
    for key, value in statements(prompt):
        if value:
            values.setdefault(key, value)
    return values[asked_key(prompt)]


def last_write_only(prompt: str) -> str:
    """A memory that every write empties first."""
    key, value = statements(prompt)[-1]
    return (key == asked_key(prompt) and value) or "I do not remember"


def at_random(prompt: str) -> str:
    """Any value of the text."""
    return random.Random(prompt).choice(sorted({value for _, value in statements(prompt) if value}))


CHANCE = {"edit_overwrite": 1 / 8, "edit_retention": 1 / 12, "edit_forget": 1 / 4, "mqar": 1 / 16}
NOTHING_TO_ERASE = ("edit_retention", "mqar")
"""Where the asked key is written once: who never erases is right there, and who erases too much is not."""


@pytest.mark.parametrize("task", CHANCE)
def test_each_task_tells_the_ways_to_fail_apart(tokenizer: Any, task: str) -> None:
    resolved = resolve(f"{task}@1024", samples=96)
    docs = build(**resolved.config["dataset_kwargs"], tokenizer=tokenizer)["test"]
    models = {
        "perfect": perfect,
        "never erases": first_writes,
        "erases too much": last_write_only,
        "random": at_random,
        "mute": lambda _: "",
    }
    shares = {name: Counter(f"{doc['question']} {ask(answer, doc)}" for doc in docs) for name, answer in models.items()}
    same = {("perfect", "never erases")} if task in NOTHING_TO_ERASE else set()
    for one, other in itertools.combinations(models, 2):
        assert (shares[one] == shares[other]) == ((one, other) in same), (task, one, other)
    question = "forget_kept" if task == "edit_forget" else docs[0]["question"]
    asked = sum(doc["question"] == question for doc in docs)
    right = {name: found[f"{question} right"] / asked for name, found in shares.items()}
    assert right["perfect"] == 1.0
    assert right["mute"] == 0.0
    assert right["erases too much"] < 0.5
    assert right["never erases"] == (0.0 if task == "edit_overwrite" else 1.0)
    chance = CHANCE[task]
    assert abs(right["random"] - chance) < 4 * math.sqrt(chance * (1 - chance) / asked)
    if task == "edit_overwrite":
        assert shares["never erases"]["overwrite stale"] == 96
        assert shares["erases too much"]["overwrite stale"] == 0
    if task == "edit_forget":
        assert shares["never erases"]["forget_withdrawn leaked"] == 48
        assert shares["erases too much"]["forget_withdrawn leaked"] == 0


def test_plain_lm_eval_scores_pairs_as_the_harness_does(tokenizer: Any) -> None:
    manager = TaskManager(
        include_path=str(ROOT / "editing"),
        include_defaults=False,
        metadata={"tokenizer": tokenizer, "max_samples": 4},
    )
    for answer, acc in ((perfect, 1.0), (never_erasing, 0.0)):
        run = evaluate(lm=Answerer(answer), task_dict=manager.load(["gdn2_edit_forget_512"]), bootstrap_iters=0)
        results = run["results"]["gdn2_edit_forget_512"]
        assert results["acc,none"] == acc
        assert results["recall,none"] == 1.0


def test_going_through_the_text_again_is_never_right_by_accident(tokenizer: Any) -> None:
    """An echo gives the first statement first: that key's value decides, not the asked value further on."""
    for probe in ("overwrite", "retention"):
        made = generator(tokenizer, probe)
        docs = [made.sample(index) for index in range(20)]
        for doc in docs:
            first_key, first_value = history(prompt_of(doc))[0]
            role = dict(zip(doc["values"], doc["roles"], strict=True))[first_value or ""]
            assert ask(echo, doc) == role
            assert role != "right" or first_key == doc["query"]
        assert sum(ask(echo, doc) == "right" for doc in docs) < len(docs) / 2


def test_outcomes_exclude_each_other_and_cover_everything(tokenizer: Any) -> None:
    answers = ["", "none", "77", " x"]
    for probe in SPECS:
        made = generator(tokenizer, probe)
        for index in range(4):
            doc = made.sample(index)
            for answer in [*answers, *doc["values"]]:
                scores = scoring.score(doc, [answer])
                acc = scores.pop("acc")
                if "withheld" not in scores:
                    scores["right"] = acc
                assert sum(scores.values()) == 1
                assert set(scores) == set(scoring.OUTCOMES[doc["question"]])


def test_an_incomplete_pair_is_left_out() -> None:
    assert scoring.pairs([[0, 1.0], [0, 1.0], [1, 1.0], [1, 0.0], [2, 1.0]]) == [1.0, 0.0]
    assert scoring.both_right([[0, 1.0], [0, 1.0], [1, 1.0], [1, 0.0]]) == 0.5
    assert math.isnan(scoring.both_right([[0, 1.0]]))


@pytest.mark.parametrize("probe", SPECS)
def test_a_length_below_the_statements_names_the_least_that_works(tokenizer: Any, probe: str) -> None:
    made = generator(tokenizer, probe, length=150, samples=12, distance=60)
    with pytest.raises(TaskError, match=r"too short for its statements, a distance of 60 .* works is \d+") as caught:
        made.check()
    least = int(str(caught.value).rsplit(" ", 1)[1])
    fitting = generator(tokenizer, probe, length=least, samples=12, distance=60)
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
