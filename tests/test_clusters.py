"""Documents that share text say so by one `cluster`, whatever the tokenizer; others by none or by one of their own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from editing_tasks import edit_generator, prompt_of
from ruler_data import write_ruler_data
from task_data import train_tokenizer, write_data

from harness.records.samples import samples_of
from tasks import staged_rows
from tasks.retrieval import squad
from tasks.retrieval.prompts import Parts
from tasks.ruler.build import make_generator
from tasks.subset import text_cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("data")
    write_data(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(path))
        patch.setenv("GDN2_CACHE", str(path / "cache"))
        yield path


def groups(docs: list[dict[str, Any]]) -> list[list[int]]:
    """Places of the documents of each cluster."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, doc in enumerate(docs):
        found[doc["cluster"]].append(place)
    return list(found.values())


@pytest.mark.parametrize(("probe", "size"), [("recall", 3), ("forget", 2), ("overwrite", 1), ("retention", 1)], ids=str)
@pytest.mark.usefixtures("folder")
def test_questions_about_the_same_statements_are_one_cluster(probe: str, size: int) -> None:
    tokenizers = [train_tokenizer("bytes"), train_tokenizer("metaspace")]
    docs, others = ([edit_generator(each, probe).sample(index) for index in range(6)] for each in tokenizers)
    assert groups(docs) == [list(range(start, start + size)) for start in range(0, 6, size)]
    assert [doc["cluster"] for doc in docs] == [doc["cluster"] for doc in others]
    assert len({doc["sample_hash"] for doc in docs}) == 6
    assert len({prompt_of(doc) for doc in docs}) == 6


@pytest.mark.usefixtures("folder")
def test_questions_about_one_squad_paragraph_are_one_cluster() -> None:
    docs = list(squad.build({"samples": 8})["test"])
    assert groups(docs) == [list(range(8))]


def test_a_question_among_documents_is_clustered_by_those_that_answer_it_at_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN2_DATA", str(write_ruler_data(tmp_path)))
    tokenizer = train_tokenizer("bytes")
    made = {
        (generator, length): make_generator(
            {"task": "qa_1", "length": length, "samples": 4, "seed": 42, "generator": generator}, tokenizer
        )
        for generator in ("exact", "nvidia")
        for length in (2048, 4096)
    }
    clusters = {key: [doc["cluster"] for doc in each.samples(4)] for key, each in made.items()}
    assert len(set(clusters["exact", 2048])) == 4
    assert clusters["exact", 2048] == clusters["exact", 4096]
    assert clusters["nvidia", 2048] == clusters["nvidia", 4096]


def test_rows_of_a_data_set_are_clustered_by_passage_context_or_the_text_before_the_key(folder: Path) -> None:
    rows = [
        {"passage": "T -- P", "question": "one", "label": 1},
        {"passage": "T -- P", "question": "two", "label": 0},
        {"passage": "T -- Q", "question": "one", "label": 0},
    ]
    (folder / "boolq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    docs = sorted(staged_rows.build({"file": "boolq.jsonl", "samples": None})["test"], key=lambda doc: doc["row"])
    assert groups(docs) == [[0, 1], [2]]
    assert text_cluster({"context": "C\nQuestion: a"}) == text_cluster({"context": "C "})
    assert text_cluster({"text": "Report. class:", "key": "class"}) == text_cluster(
        {"text": "Report. age:", "key": "age"}
    )
    assert text_cluster({"goal": "g", "sol1": "a"}) == text_cluster({"goal": "g", "sol1": "b"})
    assert text_cluster({"source_id": "v1", "ctx": "a"}) == text_cluster({"source_id": "v1", "ctx": "b"})
    assert text_cluster({"text": "no key"}) is None
    assert text_cluster({"passage": " "}) is None


def test_what_is_asked_at_the_end_of_a_recall_document_is_no_part_of_its_cluster() -> None:
    assert Parts(text="Report. class:", key="class").document == Parts(text="Report. Age:", key="age").document
    assert (
        Parts(text="A page. who?", question="who?").document == Parts(text="A page. when?", question="when?").document
    )
    assert Parts(text="Rome is a", question="q", context="Rome is a city.").document == "Rome is a city."


def test_samples_of_lm_evals_own_tasks_are_clustered_by_their_passage() -> None:
    hashes = {"filter": "none", "metrics": ["acc"], "acc": 1.0, "prompt_hash": "p", "target_hash": "t"}
    rows = [
        {"doc_id": place, "doc_hash": f"{place}" * 64, "doc": {"passage": text}, "filtered_resps": [["-1"]], **hashes}
        for place, text in enumerate(("P", "P", "Q"))
    ]
    one, two, three = samples_of({"boolq": rows})
    assert one.cluster == two.cluster != three.cluster
    assert one.sample != two.sample
