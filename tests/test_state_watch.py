"""States that grow out of float32, predictions that are no numbers: an error that says where, never a score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import mixer_config, small_config, small_model, small_tokenizer

from gdn2 import GDN2ForCausalLM
from gdn2.state import LayerState
from harness.engine.engine import Engine
from harness.engine.executor import LocalExecutor
from harness.engine.meter import NullProgress
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.engine.stops import StopRule
from harness.engine.units import Limits
from harness.engine.watch import StateError, joined_norms, state_norms

TEXT = [5 + i % 300 for i in range(200)]


@pytest.fixture
def model() -> GDN2ForCausalLM:
    return small_model(small_config(initializer_range=0.2))


def engine(model: GDN2ForCausalLM, tokens: int = 8192) -> Engine:
    return Engine(LocalExecutor(model, Limits(tokens=tokens, rows=8), StopRule(small_tokenizer())), NullProgress())


def grow(model: GDN2ForCausalLM, monkeypatch: pytest.MonkeyPatch, layer: int, after: int) -> None:
    """Head 1 of a layer is lost in every text, with its token number `after`; it counts tokens in its first entry."""
    mixer = model.model.layers[layer].mixer
    forward = mixer.forward

    def growing(x: Any, state: Any, padding: Any) -> Any:
        y, new = forward(x, state, padding)
        count = int(state.matrix[0, 1, 0, 0]) + x.shape[1]
        matrix = new.matrix.clone()
        matrix[:, 1, 0, 0] = count
        if count >= after:
            matrix[:, 1, 1, 1] = torch.inf
        return y, LayerState(**{**new.tensors(), "matrix": matrix})

    monkeypatch.setattr(mixer, "forward", growing)


@pytest.mark.parametrize("after", [1, 77, 150, 199])
def test_a_state_that_is_lost_is_named_by_layer_head_and_position(
    model: GDN2ForCausalLM, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    grow(model, monkeypatch, layer=1, after=after)
    found = rf"layer 1, head 1 is not finite after {after} tokens of a text"
    with pytest.raises(StateError, match=found):
        engine(model, tokens=64).score([ScoreRequest(TEXT[:100], TEXT[100:])], "scoring", lambda *_: None)


def test_the_largest_state_is_found_and_kept(model: GDN2ForCausalLM) -> None:
    ours = engine(model)
    ours.score([ScoreRequest(TEXT[:20], TEXT[20:30]), ScoreRequest(TEXT[:150], TEXT[150:])], "scoring", lambda *_: None)
    with torch.inference_mode():
        states = [model.model(torch.tensor([TEXT[:n]]), use_cache=True).past_key_values for n in (29, 199)]
    norms = [state_norms(state) for state in states]
    expected = max(float(norm[1].max()) for norm in norms if norm is not None)
    found = ours.executor.describe()["largest_state"]
    assert found["norm"] == pytest.approx(expected, rel=1e-3)
    assert found["position"] in (29, 199)


def test_norms_are_kept_by_layer_and_by_the_power_of_two_above_the_position(model: GDN2ForCausalLM) -> None:
    ours = engine(model)
    ours.score([ScoreRequest(TEXT[:20], TEXT[20:30]), ScoreRequest(TEXT[:150], TEXT[150:])], "scoring", lambda *_: None)
    found = ours.executor.describe()["state_norms"]
    assert found["layers"] == list(range(model.config.num_hidden_layers))
    with torch.inference_mode():
        for end, read in ((32, 29), (256, 199)):
            state = model.model(torch.tensor([TEXT[:read]]), use_cache=True).past_key_values
            norms = state_norms(state)
            assert norms is not None
            column = [row[found["positions"].index(end)] for row in found["norms"]]
            assert column == pytest.approx(norms[1].amax((1, 2)).tolist(), rel=1e-3)
    largest = ours.executor.describe()["largest_state"]["norm"]
    assert max(norm for row in found["norms"] for norm in row if norm is not None) == largest


def test_norms_of_several_processes_are_the_larger_ones() -> None:
    one = {"layers": [0], "positions": [64, 128], "norms": [[1.0, 2.0]]}
    other = {"layers": [0, 1], "positions": [128], "norms": [[3.0], [4.0]]}
    joined = {"layers": [0, 1], "positions": [64, 128], "norms": [[1.0, 3.0], [None, 4.0]]}
    assert joined_norms([one, None, other]) == joined
    assert joined_norms([None]) is None


def test_models_without_matrix_states_are_not_watched() -> None:
    model = small_model(mixer_config("attention", initializer_range=0.2))
    ours = engine(model)
    ours.score([ScoreRequest(TEXT[:20], TEXT[20:30])], "scoring", lambda *_: None)
    assert ours.executor.describe()["largest_state"] is None
    assert ours.executor.describe()["state_norms"] is None


def test_logits_that_are_no_numbers_are_an_error(model: GDN2ForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    head = model.lm_head.forward
    monkeypatch.setattr(model.lm_head, "forward", lambda x: head(x) * torch.nan)
    with pytest.raises(StateError, match="predicts nan for a token of a request with 20 tokens of context"):
        engine(model).score([ScoreRequest(TEXT[:20], TEXT[20:30])], "scoring", lambda *_: None)
    with pytest.raises(StateError, match="predicts no number after 0 generated tokens behind a prompt of 20"):
        engine(model).generate([GenerateRequest(TEXT[:20], 5, frozenset())], lambda *_: None)
