"""Attention's rings and slots that steps overwrite: rows come, go, move and wrap, and no number shows it."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model
from safetensors.torch import load, save

from gdn2 import GDN2ForCausalLM, RecurrentState
from gdn2 import decoding_memory as memory
from gdn2.decoding import Decoding, _Graph
from gdn2.mixers import slots
from gdn2.ops.overwriting import overwriting_slots, overwriting_states
from gdn2.padding import Positions
from gdn2.state import SLOTTED

LAYERS: dict[str, tuple[str, ...]] = {
    "ring": ("swa", "gdn2"),
    "full": ("attention", "attention"),
    "latent": ("mla", "gdn2"),
    "all": ("kda", "swa", "attention", "mla"),
    "convolved": ("swa", "attention"),
}
WINDOWS = (1, 5, 16)


@pytest.fixture(
    scope="module",
    params=[(kind, window) for kind in ("ring", "all") for window in WINDOWS] + [("full", 16), ("convolved", 5)],
)
def model(request: pytest.FixtureRequest) -> GDN2ForCausalLM:
    kind, window = request.param
    return small_model(mixer_config(*LAYERS[kind], window_size=window, attention_conv=kind == "convolved")).double()


@pytest.fixture(autouse=True)
def few_slots_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LEAST_SLOTS", 4)


def text(seed: int, tokens: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1, 420) for _ in range(tokens)]


@torch.no_grad()
def read(model: GDN2ForCausalLM, ids: list[int]) -> tuple[torch.Tensor, RecurrentState]:
    """The specification: one forward of the whole text."""
    out = model.model(torch.tensor([ids]), use_cache=True)
    return out.last_hidden_state[0, -1], out.past_key_values


def assert_row(model: GDN2ForCausalLM, hidden: torch.Tensor, state: RecurrentState, row: int, ids: list[int]) -> None:
    """A row of a state and its output are those of its text read alone."""
    expected, alone = read(model, ids)
    torch.testing.assert_close(hidden[row], expected, atol=1e-9, rtol=1e-9)
    assert_equal(state.select([row]), alone)


def assert_equal(found: RecurrentState, expected: RecurrentState) -> None:
    ours, theirs = found.to_tensors(), expected.to_tensors()
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-9, rtol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("fixed", [False, True])
def test_rows_that_come_go_and_move_are_those_of_their_texts(
    model: GDN2ForCausalLM, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many windows and doublings, of different lengths, with new rows in the places of those that left."""
    decoding = as_on_a_gpu(model, monkeypatch) if fixed else Decoding(model.model)
    rng = random.Random(0)
    texts = [text(seed, tokens) for seed, tokens in enumerate((23, 1, 7, 40))]
    states = [read(model, ids)[1] for ids in texts]
    state = decoding.arrange([(one, 0) for one in states], rows=4)
    for turn in range(24):
        tokens = [rng.randrange(1, 420) for _ in texts]
        hidden, state = decoding.step(torch.tensor(tokens), state)
        texts = [[*ids, token] for ids, token in zip(texts, tokens, strict=True)]
        if turn in (3, 9, 10, 17):
            new = text(100 + turn, rng.choice((2, 19, 60)))
            kept = rng.sample(range(len(texts)), rng.randint(1, len(texts)))
            places = [*((state, row) for row in kept), (read(model, new)[1], 0)]
            texts = [*(texts[row] for row in kept), new]
            order = rng.sample(range(len(texts)), len(texts))
            texts, places = [texts[i] for i in order], [places[i] for i in order]
            state = decoding.arrange(places)
        elif turn % 4 == 3:
            for row, ids in enumerate(texts):
                assert_row(model, hidden, state, row, ids)
    assert decoding.uses_graphs == fixed


class Replayed:
    """In place of a CUDA graph: the same step on the same memory."""

    def __init__(self, step: Callable[[], torch.Tensor], hidden: torch.Tensor) -> None:
        self.step, self.hidden = step, hidden

    def replay(self) -> None:
        with overwriting_states():
            self.hidden.copy_(self.step())


def as_on_a_gpu(model: GDN2ForCausalLM, monkeypatch: pytest.MonkeyPatch) -> Decoding:
    """Decoding on fixed memory, with more places than rows, as a CUDA graph does it."""
    decoding = Decoding(model.model)
    decoding.uses_graphs = True

    def capture(tokens: torch.Tensor, state: RecurrentState) -> Any:
        with overwriting_states():
            decoding._warm_up(tokens, state)
        hidden = torch.empty(len(tokens), 32, dtype=torch.float64)
        return _Graph(Replayed(lambda: decoding._step_in_place(tokens, state), hidden), hidden)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "_capture", capture)
    monkeypatch.setattr(slots, "is_planned", lambda _, positions: positions.is_step)
    return decoding


@torch.no_grad()
def test_what_a_step_overwrites_is_nobody_elses(model: GDN2ForCausalLM) -> None:
    """One context, two continuations: neither shows in the other, in the context, or in a copy made on the way."""
    context = text(1, 21)
    _, start = read(model, context)
    before = {name: tensor.clone() for name, tensor in start.to_tensors().items()}
    forks = start.fork(2)
    first, second = Decoding(model.model), Decoding(model.model)
    ours, theirs = forks, forks
    for token in range(30, 50):
        _, ours = first.step(torch.tensor([token, token]), ours)
        hidden, theirs = second.step(torch.tensor([token + 50, token + 100]), theirs)
        if token == 40:
            kept = theirs.select([1])
    assert_equal(start, RecurrentState.from_tensors(before))
    assert_equal(forks.select([1]), start)
    assert_row(model, hidden, theirs, 0, [*context, *range(80, 100)])
    assert_equal(kept, read(model, [*context, *range(130, 141)])[1])


@torch.no_grad()
def test_a_state_is_saved_in_the_middle_of_a_wrap_and_goes_on(model: GDN2ForCausalLM) -> None:
    """In the format that states always had: fields of [B, S, H, d], the longest row's slots and no more."""
    decoding, texts = Decoding(model.model), [text(2, 18), text(3, 33)]
    state = decoding.arrange([(read(model, ids)[1], 0) for ids in texts])
    for token in range(40, 47):
        _, state = decoding.step(torch.tensor([token, token + 1]), state)
    kept = RecurrentState.gather([(state, 0), (state, 1)], device=torch.device("cpu"))
    saved = save(kept.to_tensors())
    texts = [[*ids, *range(40 + row, 47 + row)] for row, ids in enumerate(texts)]
    for tensor in (tensor for name, tensor in load(saved).items() if name.rpartition(".")[2] in ("keys", "latents")):
        assert tensor.shape[:2] == (2, 40)
        assert not tensor[0, 25:].any()
    _, state = decoding.step(torch.tensor([1, 2]), state)  # the copy is none of the memory
    loaded = RecurrentState.from_tensors(load(saved))
    hidden, after = Decoding(model.model).step(torch.tensor([8, 9]), loaded)
    for row, ids in enumerate(texts):
        assert_row(model, hidden, after, row, [*ids, 8 + row])


@torch.no_grad()
def test_segments_overwrite_a_state_with_what_forwards_give(model: GDN2ForCausalLM) -> None:
    """Padded and not, rows of different lengths, prompts of many windows: in place as in new memory."""
    ids = torch.tensor([text(seed, 90) for seed in range(3)])
    whole = RecurrentState.gather([(model.model.empty_state(1), 0)] * 3, slots=90)
    pointers = [
        tensor.data_ptr() for layer in whole.layers for name, tensor in layer.tensors().items() if name in SLOTTED
    ]
    ours, theirs = whole, model.model.empty_state(3)
    for (start, end), cut in zip(pairwise((0, 3, 4, 34, 64, 65, 90)), (0, 0, 0, 4, 1, 9), strict=True):
        mask = torch.ones(3, end - start, dtype=torch.long)
        mask[1, end - start - cut :] = 0
        arguments: dict[str, Any] = {"attention_mask": mask if cut else None, "use_cache": True}
        with overwriting_slots():
            found = model.model(ids[:, start:end], past_key_values=ours, **arguments)
        expected = model.model(ids[:, start:end], past_key_values=theirs, **arguments)
        is_token = mask.bool()
        torch.testing.assert_close(
            found.last_hidden_state[is_token], expected.last_hidden_state[is_token], atol=1e-9, rtol=1e-9
        )
        ours, theirs = found.past_key_values, expected.past_key_values
    assert_equal(ours.select([0, 1, 2]), theirs)
    assert pointers == [
        tensor.data_ptr() for layer in ours.layers for name, tensor in layer.tensors().items() if name in SLOTTED
    ]


@torch.no_grad()
def test_a_forward_on_a_state_with_room_leaves_it_as_it_is(model: GDN2ForCausalLM) -> None:
    context = text(4, 20)
    state = Decoding(model.model).arrange([(read(model, context)[1], 0)] * 2)
    before = [tensor.clone() for tensor in state.tensors()]
    for ids in ([5], [5, 6, 7]):
        out = model.model(torch.tensor([ids, ids]), past_key_values=state, use_cache=True)
        assert_equal(out.past_key_values.select([1]), read(model, [*context, *ids])[1])
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), before, strict=True))


@torch.no_grad()
def test_memory_is_that_of_the_rows_and_doubles_when_it_is_full() -> None:
    model = small_model(mixer_config("attention", "swa")).model
    decoding = Decoding(model)
    state = decoding.arrange([(read_state(model, 6), 0)] * 3, rows=3)
    sizes = []
    for _ in range(30):
        _, state = decoding.step(torch.tensor([1, 2, 3]), state)
        sizes.append(state.layers[0].tensors()["keys"].shape[1])
        assert state.layers[1].tensors()["window_keys"].untyped_storage().nbytes() == 3 * 16 * 2 * 16 * 4
    assert sorted(set(sizes)) == [8, 16, 32, 64]
    state = decoding.arrange([(read_state(model, 6), 0)] * 4, rows=4, most_slots=10)
    for _ in range(4):
        _, state = decoding.step(torch.tensor([1, 2, 3, 4]), state)
    assert state.layers[0].tensors()["keys"].shape[1] == 10, "a new generation begins small, and ends where it must"


def read_state(model: Any, tokens: int) -> RecurrentState:
    state: RecurrentState = model(torch.tensor([text(0, tokens)]), use_cache=True).past_key_values
    return state


@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 40])
def test_a_forward_whose_state_nobody_wants_gives_the_same(model: GDN2ForCausalLM, tokens: int) -> None:
    ids, mask = torch.tensor([text(1, tokens), text(2, tokens)]), torch.ones(2, tokens)
    mask[1, : tokens // 2] = 0
    for given in (None, mask):
        kept = model.model(ids, attention_mask=given, use_cache=True)
        out = model.model(ids, attention_mask=given, use_cache=False)
        assert out.past_key_values is None
        assert torch.equal(out.last_hidden_state, kept.last_hidden_state)


def test_a_forward_whose_state_nobody_wants_fills_no_ring() -> None:
    ring, new = torch.zeros(1, 4, 1, 2).expand(3, 4, 1, 2), torch.ones(3, 9, 1, 2)
    unwanted = Positions.after(torch.zeros(3, dtype=torch.long), 9, None, fresh=True, kept=False)
    assert slots.with_newest(ring, new, unwanted) is ring
