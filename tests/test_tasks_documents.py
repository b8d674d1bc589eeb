"""Documents as a data set: nothing about them depends on how long they are together."""

from __future__ import annotations

import datasets
import pytest

from tasks.documents import as_dataset

DOCS = [{"input": "é" * n, "n": n, "outputs": ["a", "b"], "none": None, "half": None if n else "x"} for n in range(3)]


def test_texts_are_counted_with_64_bits_and_nothing_else_changes() -> None:
    made, usual = as_dataset(DOCS), datasets.Dataset.from_list(DOCS)
    assert list(made) == list(usual) == DOCS
    large = datasets.Value("large_string")
    assert made.features == {**usual.features, "input": large, "half": large}
    assert made.map(lambda doc: {"input": doc["input"] + "x"}).features["input"] == large
    assert as_dataset([]).num_rows == 0


def test_types_are_found_from_shortened_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inference is what overflows: it never sees a whole text."""
    seen: list[int] = []
    real = datasets.Dataset.from_list

    def from_list(docs: list[dict[str, object]], features: object = None) -> datasets.Dataset:
        if features is None:
            seen.extend(len(value) for doc in docs for value in doc.values() if isinstance(value, str))
        return real(docs, features=features)

    monkeypatch.setattr(datasets.Dataset, "from_list", from_list)
    as_dataset([{"input": "x" * 1000}])
    assert seen == [1]


@pytest.mark.usefixtures("data_folder")
def test_every_family_makes_its_data_set_this_way(tokenizer_folder: str) -> None:
    from tasks.registry import resolve

    for name in ("niah_single_1@512", "edit_overwrite@1024", "squad_retrieval", "jrt_squad_dev@512", "wiki_perplexity"):
        config = resolve(name, samples=2).config
        documents = config["custom_dataset"](config["dataset_kwargs"]["spec"], tokenizer=tokenizer_folder)["test"]
        kinds = {feature.dtype for feature in documents.features.values() if isinstance(feature, datasets.Value)}
        assert "large_string" in kinds
        assert "string" not in kinds
