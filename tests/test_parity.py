"""The comparison with lm-eval's HFLM over transformers' own model, on made-up rows; with -m slow on a real model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import parity
import pytest
import torch
from fakes import small_tokenizer
from lm_eval_rows import TASKS
from task_data import write_data
from transformers import LlamaConfig, LlamaForCausalLM

from harness.checkpoints.find import find_checkpoint
from harness.errors import UserError
from tasks import data

AGREEMENT = 1e-4  # nats of a whole request, float32
REAL = "smollm2-135m"


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "adds BOS"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[parity.Ours, parity.Theirs]]:
    """A random Llama of transformers, as either side reads it, and staged rows."""
    folder = tmp_path_factory.mktemp("parity")
    write_data(folder / "data")
    rows = {name: rows for name, (_, rows) in TASKS.items()}
    rows["olmo_lambada"] = [{"text": "He said to the naïve dog"}, {"text": "one two"}]
    for name in parity.COMMONSENSE:
        (folder / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=420,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "llama")
    small_tokenizer(adds_bos=request.param).save_pretrained(folder / "llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder / "data"))
        yield parity.models(str(folder / "llama"))


@pytest.mark.parametrize("name", parity.COMMONSENSE)
def test_prompts_ids_and_scores_are_those_of_hflm_over_transformers(
    pair: tuple[parity.Ours, parity.Theirs], name: str
) -> None:
    lines = parity.compare_scores(name, 9, *pair)
    assert len(lines) >= 2
    assert all(line["prompt_equal"] and line["ids_equal"] and line["greedy_equal"] for line in lines)
    assert max(line["difference"] for line in lines) < AGREEMENT
    assert min(abs(line["hflm"]) for line in lines) > 0.1


@pytest.mark.parametrize("name", ["niah_single_1@512", "squad_retrieval"])
def test_texts_are_those_of_transformers_generate(pair: tuple[parity.Ours, parity.Theirs], name: str) -> None:
    lines = parity.compare_texts(name, 2, *pair, whole=True)
    assert [line["ours"] for line in lines] == [line["generate"] for line in lines]
    assert all(line["text_equal"] and line["ours"] for line in lines)
    assert all(line["tokens"][1] > 1 for line in lines)


def test_other_weights_and_other_prompts_are_seen(
    pair: tuple[parity.Ours, parity.Theirs], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    weight = ours.model.model.layers[0].mixer.q_proj.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.01)
        found = parity.summary(parity.compare_scores("piqa", 2, ours, theirs), [])["scores"]["all"]
        weight.copy_(before)
    assert found["max_difference"] > 10 * AGREEMENT
    monkeypatch.setitem(parity.COMMONSENSE, "arc_easy", "openbookqa/openbookqa.yaml")
    monkeypatch.setattr(
        data, "rows", lambda _: [{**row, "question_stem": row["question"]} for row in TASKS["arc_easy"][1]]
    )
    found = parity.summary(parity.compare_scores("arc_easy", 2, ours, theirs), [])["scores"]["all"]
    assert found["prompts_equal"] == found["token_ids_equal"] == 0
    assert found["requests"] == 8


def staged_model() -> tuple[parity.Ours, parity.Theirs]:
    """The real model and the real rows, where they are staged."""
    try:
        find_checkpoint(REAL)
        for name in parity.COMMONSENSE:
            data.path(parity.name_of_file(name))
    except UserError as error:
        pytest.skip(f"needs {REAL} and the rows of commonsense-offline: {error}")
    return parity.models(REAL)


@pytest.mark.slow
def test_a_real_model_gives_hflms_scores_and_transformers_texts() -> None:
    ours, theirs = staged_model()
    scores = [line for name in parity.COMMONSENSE for line in parity.compare_scores(name, 3, ours, theirs)]
    found = parity.summary(scores, [])["scores"]["all"]
    assert found["documents"] == 27
    assert found["prompts_equal"] == found["token_ids_equal"] == found["greedy_equal"] == found["requests"]
    assert found["max_difference"] < 2e-4
    texts = [line for name in parity.GENERATED for line in parity.compare_texts(name, 1, ours, theirs, whole=True)]
    assert [line["ours"] for line in texts] == [line["generate"] for line in texts]
