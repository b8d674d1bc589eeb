"""The recall tasks of Just Read Twice: the cut, the prompts of every rule, what is dropped, and the path to a score."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from known_lm import KnownLM
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval_rows import ROWS
from task_data import train_tokenizer, write_data

from tasks import data
from tasks.errors import TaskError
from tasks.preview import show_sample
from tasks.registry import list_tasks, resolve
from tasks.retrieval.jrt import JrtSpec, build
from tasks.retrieval.prompts import RULES, Parts
from tasks.retrieval.rows import SOURCES
from tasks.retrieval.window import cut, is_dropped
from tasks.text.tokenizers import encode, load_tokenizer

WORDS = [f"w{number}" for number in range(200)]


class WordTokenizer:
    """One token a word, and a special one in front; a token is the word's text."""

    def __init__(self, bos: bool = False) -> None:
        self.bos = ["<s>"] if bos else []

    def __call__(self, text: str) -> dict[str, list[str]]:
        return {"input_ids": self.bos + text.split()}

    def decode(self, ids: list[str], skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " ".join(token for token in ids if token != "<s>")


def window(words: list[str], answer: str, context_length: int, **kwargs: Any) -> Any:
    bos = kwargs.pop("bos", False)
    return cut(" ".join(words), WordTokenizer(bos), context_length, around=[answer], **kwargs)


class TestCut:
    def test_the_answer_stands_in_the_middle(self) -> None:
        found = window(WORDS, "w100", 70)  # a window of 20
        assert found.text.split() == WORDS[90:110]
        assert (found.start, found.end, found.document_tokens, found.found, found.is_cut) == (90, 110, 200, True, True)

    def test_special_tokens_count_and_are_not_decoded(self) -> None:
        found = window(WORDS, "w100", 70, bos=True)
        assert found.text.split() == WORDS[90:110]
        assert (found.start, found.document_tokens) == (91, 201)
        first = window(WORDS, "w2", 70, bos=True)
        assert first.text.split() == WORDS[:19]  # 20 tokens with <s>

    def test_nothing_is_filled_up_near_an_end(self) -> None:
        assert window(WORDS, "w199", 70).text.split() == WORDS[189:]
        assert window(WORDS, "w3", 70).text.split() == WORDS[:20]

    def test_a_document_shorter_than_the_window_is_still_cut_on_the_left(self) -> None:
        assert window(WORDS[:16], "w15", 70).text.split() == WORDS[5:16]

    def test_without_its_answer_the_end_of_a_document_is_kept(self) -> None:
        found = window(WORDS, "absent", 70)
        assert found.text.split() == WORDS[190:]
        assert found.found is False

    def test_other_answers_and_the_stated_position_help_when_the_answer_is_missing(self) -> None:
        assert window(WORDS, "absent", 70, otherwise=["gone", "w50"]).text.split() == WORDS[40:60]
        assert window(WORDS, "absent", 70, token_position=80).text.split() == WORDS[70:90]
        short = window(WORDS[:15], "absent", 70, token_position=3)  # not beyond the window: the position is not used
        assert short.text.split() == WORDS[5:15]

    def test_case_is_ignored_and_the_earliest_answer_counts(self) -> None:
        found = cut(" ".join(WORDS), WordTokenizer(), 70, around=["W150", "W30"])
        assert found.text.split() == WORDS[20:40]

    def test_without_answers_the_head_is_kept(self) -> None:
        found = cut(" ".join(WORDS), WordTokenizer(), 70)
        assert found.text.split() == WORDS[:20]
        assert found.found is None

    def test_an_answer_is_literal_text_and_not_a_pattern(self) -> None:
        assert window([*WORDS[:100], "(a+b)", *WORDS[100:]], "(A+B)", 70).text.split()[10] == "(a+b)"

    @pytest.mark.parametrize("bos", [False, True])
    def test_every_window_holds_its_answer_and_no_more_than_its_width(self, bos: bool) -> None:
        rng = random.Random(3)
        for _ in range(200):
            words = WORDS[: rng.randint(5, 200)]
            answer, length = rng.choice(words), rng.randint(60, 140)
            found = window(words, answer, length, bos=bos)
            assert answer in found.text.split()
            assert found.end - found.start <= length - 50
            assert found.text.split() == [w for w in (["<s>"] * bos + words)[found.start : found.end] if w != "<s>"]

    def test_a_tokenizer_without_tokens_is_refused(self) -> None:
        with pytest.raises(TaskError, match="gives no tokens"):
            cut("a document", lambda _text: {"input_ids": []}, 70, around=["document"])

    def test_an_answer_of_one_character_drops_the_document(self) -> None:
        assert is_dropped(["7"])
        assert is_dropped(["key", ""])
        assert not is_dropped(["42"])
        assert not is_dropped([])


class TestPrompts:
    def test_swde_loses_its_tail_and_asks_for_the_key(self) -> None:
        parts = Parts(text="\nPage.\nYear: 1999.\nyear:Year:", key="year")
        assert RULES["swde"][0](parts) == "Page.\nYear: 1999. Year:"
        with_summary = Parts(text="Page. \n.Summary of information above... Year: 1999", key="Year")
        assert RULES["swde"][0](with_summary) == "Page. \n. Year:"

    def test_fda_keeps_its_spaces(self) -> None:
        assert RULES["fda"][0](Parts(text="\n A device.. \n", key="class")) == " A device.. . Class:"
        assert RULES["fda"][0](Parts(text="A device..\nclass:", key="Class")) == "A device. Class:"

    def test_squad_is_the_text(self) -> None:
        assert RULES["squad"][0](Parts(text=" A paragraph. The answer is \n")) == "A paragraph. The answer is"

    def test_drop_takes_the_question_away_as_often_as_it_stands_there(self) -> None:
        parts = Parts(text="Text. WHO WON?Who won?", question="Who won?")
        assert RULES["drop"][0](parts) == "Text. Who won?"

    def test_nq_takes_it_away_once_and_as_written(self) -> None:
        parts = Parts(text="Text. WHO WON?Who won?", question="Who won?")
        assert RULES["nq"][0](parts) == "Text. WHO WON?. Who won?"
        assert RULES["nq"][0](Parts(text="Text. WHO WON?", question="Who won?")) == "Text. WHO WON?. Who won?"

    def test_triviaqa_loses_its_marks(self) -> None:
        parts = Parts(text="[DOC][TLE] Title[PAR]Body.. who?", question="Who?")
        assert RULES["triviaqa"][0](parts) == "TitleBody. Who?"

    def test_twice_with_a_key(self) -> None:
        parts = Parts(text="\nA. \nyear:", key="year")
        assert RULES["swde"][1](parts) == "Information about Year. A..\nA.. Year:"
        assert RULES["fda"][1](parts) == "Information about Year. A. .\nA. . Year:"

    def test_twice_with_a_question(self) -> None:
        parts = Parts(text="Body. who?Who?", question=" Who?".strip(), original_question=":Who, then?:")
        assert RULES["drop"][1](parts) == "Who, then? Body.\nBody. Who?"
        assert RULES["nq"][1](parts) == RULES["drop"][1](parts)
        assert RULES["triviaqa"][1](parts) == ":Who, then?: Body.\nBody. Who?"

    def test_squad_read_twice_begins_with_the_uncut_context(self) -> None:
        parts = Parts(text="aragraph. It is ", question="What?", context="A paragraph. Question: What? It is")
        assert RULES["squad"][1](parts) == "What? A paragraph. \naragraph. It is"

    def test_an_empty_question_ends_in_an_error_and_not_in_a_loop(self) -> None:
        with pytest.raises(TaskError, match="empty question"):
            RULES["drop"][0](Parts(text="Text"))


HOTPOT = [
    {"_id": f"h{n}", "question": f"Which town is number {n}?", "answer": "yes" if n == 3 else f"Town {n}"}
    | {"context": [[f"Title {k}", [f"Town {k} is a town.", " Its streets are long." * 12]] for k in range(6)]}
    for n in range(6)
]


@pytest.fixture(scope="module", autouse=True)
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("staged")
    write_data(folder)
    for name, rows in ROWS.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "hotpotqa.json").write_text(json.dumps(HOTPOT))
    train_tokenizer("metaspace").save_pretrained(folder / "tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield str(folder / "tokenizer")


def docs(name: str, tokenizer: str, **metadata: Any) -> list[dict[str, Any]]:
    task = resolve(name)
    return list(task.config["custom_dataset"](**task.config["dataset_kwargs"], tokenizer=tokenizer, **metadata)["test"])


JRT = sorted(info.name for info in list_tasks() if info.name.startswith("jrt_"))


def test_there_are_eight_data_sets_read_once_and_twice() -> None:
    names = {"swde", "fda", "squad", "nq", "triviaqa", "drop", "squad_dev", "hotpotqa"}
    assert set(JRT) == {f"jrt_{name}{twice}" for name in names for twice in ("", "_twice")}


@pytest.mark.parametrize(("mute", "score"), [(False, 1.0), (True, 0.0)])
def test_a_right_model_scores_one_and_a_mute_one_zero(tokenizer_folder: str, mute: bool, score: float) -> None:
    tasks = {name: resolve(f"{name}@2048", samples=3) for name in JRT}
    lm = KnownLM(mute=mute)
    manager = TaskManager(include_defaults=False, metadata={"tokenizer": tokenizer_folder})
    configs = [task.config for task in tasks.values()]
    run = simple_evaluate(model=lm, tasks=configs, task_manager=manager, bootstrap_iters=10)
    tokenizer = load_tokenizer(tokenizer_folder)
    for task in tasks.values():
        assert run["results"][task.lm_eval_name]["contains,none"] == score
        config = run["configs"][task.lm_eval_name]
        until = [] if SOURCES[task.config["dataset_kwargs"]["spec"]["source"]].is_own else ["\n"]
        assert config["generation_kwargs"] == {"until": until, "do_sample": False, "max_gen_toks": 48}
        for sample in run["samples"][task.lm_eval_name]:
            prompt = sample["arguments"][0][0]
            assert prompt == sample["doc"]["input"] == prompt.rstrip()
            assert prompt in lm.prompts
            assert sample["doc"]["prompt_tokens"] == len(encode(tokenizer, prompt))
            found = any(label.lower() in prompt.lower() for label in sample["doc"]["outputs"])
            assert sample["doc"]["answer_in_prompt"] == found


def test_read_twice_holds_the_document_twice_and_asks_the_same_documents(tokenizer_folder: str) -> None:
    once, twice = (docs(name, tokenizer_folder) for name in ("jrt_nq@2048", "jrt_nq_twice@2048"))
    assert once[0]["input"] == "Paris is in France. where is paris?"
    assert twice[0]["input"] == "where is paris Paris is in France.\nParis is in France. where is paris?"
    hotpot = [docs(f"jrt_hotpotqa{end}@300", tokenizer_folder) for end in ("", "_twice")]
    assert [doc["id"] for doc in hotpot[0]] == [doc["id"] for doc in hotpot[1]]


def test_what_is_dropped_and_cut_is_counted(tokenizer_folder: str) -> None:
    (first, _) = docs("jrt_swde@2048", tokenizer_folder)
    assert (first["source_rows"], first["dropped_rows"], first["is_cut"]) == (3, 1, False)
    found = docs("jrt_hotpotqa@200", tokenizer_folder)
    assert {doc["source_rows"] for doc in found} == {5}  # one of six is answered by yes
    for doc in found:
        start, end = doc["window"]
        assert doc["is_cut"]
        assert end - start <= 150 < doc["document_tokens"]
        assert doc["answer_found"]
        assert doc["outputs"][0] in doc["input"]


def test_drop_is_scored_by_all_answers_and_its_head_is_kept(tokenizer_folder: str) -> None:
    (doc,) = docs("jrt_drop@2048", tokenizer_folder)
    assert doc["answer_found"] is None
    assert doc["outputs"] == ["7"]  # one character drops nothing where nothing is cut around it


def test_a_request_of_a_window_has_room_for_its_question() -> None:
    assert resolve("jrt_nq@2048").max_length == 2048 + 512
    assert resolve("jrt_nq_twice@2048").max_length == 2 * 2048 + 1024
    assert resolve("niah_single_1@2048").max_length == 2048
    assert resolve("squad_retrieval").max_length == 0


def test_a_sample_can_be_shown(tokenizer_folder: str) -> None:
    shown = show_sample("jrt_squad_dev@512", tokenizer_folder, index=2)
    assert shown["prompt"].endswith("?\nAnswer:")
    assert shown["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "swde"}, "'length' is missing"),
        ({"source": "sweden", "length": 512}, "'source' must be one of swde, fda"),
        ({"source": "swde", "length": 51}, "'length' must be more than 51 tokens"),
        ({"source": "swde", "length": 512, "reads": 3}, "'reads' must be 1 or 2"),
        ({"source": "swde", "length": 512, "lenght": 3}, "unknown field 'lenght'"),
        ({"source": "swde", "length": 512, "samples": 0}, "'samples' must be a positive whole number"),
    ],
)
def test_a_wrong_field_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        JrtSpec.parse(spec)


def test_a_window_needs_a_tokenizer() -> None:
    with pytest.raises(TaskError, match="give a tokenizer"):
        build({"source": "swde", "length": 512})


def test_changed_columns_name_the_file_and_both_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "based_fda.jsonl").write_text('{"document": "A", "key": "k", "value": "v"}\n')
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"based_fda\.jsonl, line 1: .*text missing; expected text, key, value, found "):
        data.rows("based_fda.jsonl")
    with pytest.raises(data.DataNotStaged, match=r"run `python run_eval\.py stage based_swde`"):
        data.rows("based_swde.jsonl")
    (tmp_path / "based_fda.jsonl").write_text('{"text": "A')
    with pytest.raises(data.DataNotStaged, match=r"line 1: damaged"):
        data.rows("based_fda.jsonl")
