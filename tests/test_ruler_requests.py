"""What a model is asked is what RULER's generators drew and counted, whatever a question ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruler_data import write_ruler_data

from harness.lm.evaluate import load_task
from tasks.registry import resolve
from tasks.subset import text_hash


@pytest.fixture
def ragged_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that end in a space, as some of SQuAD's do, and in two, and in none."""
    folder = write_ruler_data(tmp_path / "data")
    squad, hotpot = (json.loads((folder / name).read_text()) for name in ("squad.json", "hotpotqa.json"))
    asked = [qa for article in squad["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    for items in (asked, hotpot):
        for number, item in enumerate(items):
            item["question"] += ("", " ", "  ")[number // 2 % 3]
    (folder / "squad.json").write_text(json.dumps(squad))
    (folder / "hotpotqa.json").write_text(json.dumps(hotpot))
    monkeypatch.setenv("GDN2_DATA", str(folder))
    monkeypatch.setenv("GDN2_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("ragged_questions")
@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
@pytest.mark.parametrize("generator", ["exact", "nvidia", "nvidia-26.3", "lm-eval"])
def test_the_request_is_the_prompt_that_was_counted(
    tokenizer: Any, tokenizer_folder: str, task: str, generator: str
) -> None:
    config = resolve(f"{task}@6000", samples=6, generator=generator).config
    loaded: Any = load_task(config, {"tokenizer": tokenizer_folder})
    loaded.build_all_requests(limit=6, rank=0, world_size=1)
    endings = set()
    for request in loaded.instances:
        prompt, doc = request.args[0], request.doc
        assert doc["prompt_tokens"] == len(tokenizer(prompt).input_ids)
        endings.add(prompt[prompt.rindex("?") :])
        if generator != "lm-eval":
            assert doc["sample_hash"] == text_hash(prompt, *doc["outputs"])
    kept = {"? Answer:", "?  Answer:"}
    assert endings == (kept if generator == "lm-eval" else kept | {"?   Answer:"})
