"""How much of what attention remembers is there at once while the engine reads and generates."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model, small_tokenizer

from gdn2.decoding import Decoding
from harness.engine import memory
from harness.engine.engine import Engine
from harness.engine.executor import LocalExecutor
from harness.engine.memory import limits_of
from harness.engine.meter import NullProgress
from harness.engine.reader import Reader
from harness.engine.requests import GenerateRequest
from harness.engine.stops import StopRule
from harness.engine.units import Limits

WINDOW, ROWS, GENERATED = 24, 6, 9


def slots_alive(slots: tuple[int, ...]) -> int:
    """Bytes of all memory of [rows, slots, 2, 16] that anything holds."""
    found = (x for x in gc.get_objects() if type(x) is torch.Tensor and x.dim() == 4)
    storages = {x.untyped_storage() for x in found if x.shape[1] in slots and tuple(x.shape[2:]) == (2, 16)}
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("kind", ["swa", "attention"])
def test_there_is_the_memory_of_the_rows_that_generate_and_of_one_batch_that_is_read(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(mixer_config(kind, "gdn2", window_size=WINDOW))
    rng = random.Random(0)
    asked = [
        GenerateRequest([rng.randrange(1, 420) for _ in range(rng.randint(40, 45))], GENERATED, frozenset())
        for _ in range(4 * ROWS)
    ]
    slots = (WINDOW,) if kind == "swa" else tuple(range(40, 45 + GENERATED + 1))
    most, calls = 0, 0

    def look(function: Any) -> Any:
        def looking(*args: Any, **options: Any) -> Any:
            nonlocal most, calls
            calls += 1
            if calls % 3 == 0:
                most = max(most, slots_alive(slots))
            return function(*args, **options)

        return looking

    monkeypatch.setattr(Reader, "_forward", look(Reader._forward))
    monkeypatch.setattr(Decoding, "step", look(Decoding.step))
    monkeypatch.setattr(Decoding, "arrange", look(Decoding.arrange))
    executor = LocalExecutor(model, Limits(tokens=45 * ROWS, rows=ROWS), StopRule(small_tokenizer()))
    texts = Engine(executor, NullProgress()).generate(asked, lambda *_: None)
    assert {len(text) for text in texts} == {GENERATED}
    a_row = 2 * 2 * 16 * 4 * (WINDOW if kind == "swa" else 45 + GENERATED)
    assert ROWS * a_row <= most <= (2 * ROWS + 2) * a_row, "two rows are the beginnings of texts"


def test_rows_are_as_many_as_their_share_of_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2 << 20)
    for layers, share in ((("swa", "gdn2"), memory.SHARE_OF_SLOTS), (("gdn2", "gdn2"), memory.SHARE_OF_STATES)):
        model = small_model(mixer_config(*layers, window_size=256))
        limits = limits_of(model)
        assert limits.rows == int(share * (2 << 20) / model.model.state_bytes(100_000))
        assert limits.within(100_000) == limits, "a state that does not grow"


def test_rows_whose_states_grow_are_fewer_the_longer_their_texts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 8 << 20)
    model = small_model(mixer_config("attention", "attention"))
    limits = limits_of(model)
    for longest in (100, 1000, 10_000):
        rows = limits.within(longest).rows
        assert 0.8 < rows * model.model.state_bytes(longest) / (memory.SHARE_OF_SLOTS * (8 << 20)) <= 1.01 or rows == 1
    assert limits.within(100_000).rows == 1
    assert limits.halved().within(100).rows == limits.within(100).rows // 2
    assert limits_of(model, batch_size=7).within(10_000).rows == 7, "the user said so"
