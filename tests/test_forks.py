"""Rows of states copied into other memory: forks, batches, places that were others' before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model

from gdn2 import RecurrentState
from gdn2.decoding_memory import DecodingMemory
from gdn2.state import GROWING, LayerState, Place, StateRows

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
KINDS = ("kda", "swa", "attention", "mla")


@pytest.fixture(params=[False, True])
def scattered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether rows that do not follow one another are written together, as on a GPU."""
    if request.param:
        monkeypatch.setattr(
            StateRows, "_spans", lambda rows, memory: [(slice(None), rows._index("targets", memory.device))]
        )


@pytest.fixture(autouse=True)
def nothing_is_zero_by_chance() -> Iterator[None]:
    """New memory is full of NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def pattern(device: str) -> Any:
    model: Any = small_model(mixer_config(*KINDS, window_size=7))
    return model.to(device).model.empty_state


def random_state(device: str, lengths: list[int], room: int, seed: int) -> RecurrentState:
    """A state of rows of such lengths with room for more tokens; slots behind a row's end are 0."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for layer in pattern(device)(len(lengths)).layers:
        tensors = {}
        for name, x in layer.tensors().items():
            shape = (len(lengths), room, *x.shape[2:]) if name in GROWING else x.shape
            tensors[name] = torch.randn(shape, generator=generator, dtype=x.dtype).to(device)
            for row, length in enumerate(lengths if name in GROWING else ()):
                tensors[name][row, length:] = 0
        layers.append(LayerState(**tensors))
    return RecurrentState(layers, torch.tensor(lengths, device=device))


def assert_rows(found: RecurrentState, expected: list[Place]) -> None:
    """Each row is its place's to the bit, and slots behind its end are 0."""
    assert found.lengths.tolist() == [int(state.lengths[row]) for state, row in expected]
    for at, (state, row) in enumerate(expected):
        length = int(state.lengths[row])
        for ours, theirs in zip(found.layers, state.layers, strict=True):
            for name, x in ours.tensors().items():
                mine, other = x[at], theirs.tensors()[name][row]
                if name in GROWING:
                    assert not mine[length:].any()
                    mine, other = mine[:length], other[:length]
                assert torch.equal(mine, other.to(mine.device))


def some_places(states: list[RecurrentState], rng: random.Random) -> list[Place]:
    """Rows in any order, some of them often, some side by side."""
    rows = [(state, row) for state in states for row in range(state.batch_size)]
    return [place for place in rng.sample(rows, rng.randint(1, len(rows))) for _ in range(rng.choice((1, 1, 4)))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("scattered")
def test_gathered_rows_are_those_of_their_places_and_room_is_empty(device: str, seed: int) -> None:
    rng = random.Random(seed)
    lengths = [[3, 9, 5], [12, 1], [4], [0, 6]]
    states = [random_state(device, each, max(each) + rng.choice((0, 5)), i) for i, each in enumerate(lengths)]
    places = some_places(states, rng)
    longest = max(int(state.lengths[row]) for state, row in places)
    for slots in (0, 20):
        found = RecurrentState.gather(places, slots=slots)
        assert_rows(found, places)
        assert {x.shape[1] for layer in found.layers for name, x in layer.tensors().items() if name in GROWING} == {
            max(longest, slots)
        }
    assert_rows(RecurrentState.gather(places, device=torch.device("cpu")), places)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.usefixtures("scattered")
def test_a_place_in_the_memory_shows_nothing_of_who_had_it_before(device: str, everything: bool) -> None:
    """Rows change places with one another, and shorter ones come where longer ones were."""
    rng, memory = random.Random(0), DecodingMemory(pattern(device), everything=everything)
    held = [(random_state(device, [20, 17, 23, 19, 8], 23, 0), row) for row in range(5)]
    state = memory.arrange(held, rows=8)
    for turn in range(8):
        new = random_state(device, [rng.randint(0, 22), 3], 22, turn + 1)
        staying = rng.sample(range(len(held)), rng.randint(1, min(len(held), 6)))
        places = [*((state, row) for row in staying), (new, 1), (new, 0)]
        held = [*(held[row] for row in staying), (new, 1), (new, 0)]
        order = rng.sample(range(len(held)), len(held))
        state = memory.arrange([places[i] for i in order], rows=8)
        held = [held[i] for i in order]
        assert_rows(state, held)


def test_gradients_pass_through_a_fork() -> None:
    state = random_state("cpu", [4], 4, 0)
    keys = state.layers[2].tensors()["keys"].requires_grad_()
    forks = state.fork(3).layers[2].tensors()["keys"]
    (gradient,) = torch.autograd.grad(forks[:, 1].sum(), keys)
    assert gradient[0, 1].unique().tolist() == [3.0]
    assert not gradient[0, 0].any()
