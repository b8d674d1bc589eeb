"""Rivals and hybrids as lm-eval models: the same scores in any batch, and an honest self-test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fakes import TEXT, mixer_config, small_model, small_tokenizer
from lm_eval.api.instance import Instance

from gdn2.checkpoints import read_config
from harness.lm.model import GDN2LM
from harness.paths import ZOO


def save(folder: Path, *layers: str) -> str:
    small_model(mixer_config(*layers)).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return str(folder)


def test_configs_from_before_the_rivals_load_as_gdn2() -> None:
    folder = ZOO / "gdn2-tiny"
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert "layers" not in written
    config = read_config(folder)
    assert config.layers == ["gdn2"] * written["num_hidden_layers"]


@pytest.mark.parametrize("layers", [("mamba3_mimo", "swa"), ("gated_deltanet", "attention"), ("attention",)])
def test_scores_and_texts_do_not_depend_on_the_batch(tmp_path: Path, layers: tuple[str, ...]) -> None:
    words = TEXT.split()
    pairs = [(" ".join(words[:n]), " " + " ".join(words[n : n + 3])) for n in (1, 30, 5, 17, 2, 9)]
    scored, written = [], []
    for rows in (1, 4):
        model = GDN2LM(save(tmp_path / str(rows), *layers), batch_size=rows)
        scored.append(model.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]))
        stop = {"until": ["\n\n"], "max_gen_toks": 6}
        asked = [Instance("generate_until", {}, (context, stop), i) for i, (context, _) in enumerate(pairs)]
        written.append(model.generate_until(asked))
    assert [score for score, _ in scored[0]] == pytest.approx([score for score, _ in scored[1]], abs=1e-3)
    assert written[0] == written[1]


def test_the_self_test_asks_for_what_layers_use(tmp_path: Path) -> None:
    info = GDN2LM(save(tmp_path / "hybrid", "kda", "swa")).get_model_info()["self_test"]
    assert info["passed"] is True
    assert {(c["d_k"], c["d_v"]) for c in info["comparisons"]} == {(16, 16)}
    info = GDN2LM(save(tmp_path / "attention", "attention", "swa")).get_model_info()
    assert info["self_test"] == {"passed": None, "skipped": "no layer of the model uses the operator"}
    assert info["operator_backend"] is None
    assert info["architecture"] == "attention + swa"
    assert info["state_bytes_a_token"] == 2 * 2 * 16 * 4


def test_memory_is_planned_for_states_that_grow() -> None:
    model = small_model(mixer_config("gla", "attention"))
    empty, full = model.model.state_bytes(0), model.model.state_bytes(1000)
    assert empty == model.model.empty_state(1).num_bytes
    assert full == model(torch.ones(1, 1000, dtype=torch.long)).past_key_values.num_bytes
    assert full - empty == 1000 * 2 * 2 * 16 * 4
    constant = small_model(mixer_config("gdn2", "swa")).model
    assert constant.state_bytes(1000) == constant.state_bytes(0)
