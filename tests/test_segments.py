"""Segments of the chunkwise pass: their size changes no bit going forward, and nothing is overwritten too early."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from operator_checks import DEVICE, assert_close, rounded

from gdn2.ops.triton import chunkwise, launch, layout, pipeline, triton_gated_delta_rule_2
from gdn2.ops.triton.forms import FORMS, LATE, Form
from gdn2.ops.triton.kernel_set import Call, KernelSet, kernels_for
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.layout import segments_of
from gdn2.ops.triton.scratch import Scratch, parts_of, room

CPU = torch.device("cpu")
HERE = torch.device(DEVICE, 0) if DEVICE == "cuda" else CPU
GPU = torch.device("cuda", 0)
CHUNK = 32  # tokens, in float32


def tokens_a_segment(chunks: int, sequences: int) -> float:
    """The size of segments, in usual ones, that gives each sequence (times heads) so many chunks."""
    return chunks * CHUNK * sequences / layout.SEGMENT_TOKEN_HEADS


def found(inputs: list[Any], chosen: KernelSet, offsets: tuple[int, ...] | None = None) -> list[torch.Tensor]:
    """Outputs and the last state; with all gradients where the inputs want them."""
    q, k, v, g, b, w, state = inputs
    o, last = triton_gated_delta_rule_2(q, k, v, g, b, w, 0.25, state, offsets, kernels=chosen)
    if not q.requires_grad:
        return [o, last]
    leaves = [x for x in inputs if x is not None]
    return [o, last, *torch.autograd.grad(o.square().sum() + last.square().sum(), leaves)]


@pytest.mark.skipif(DEVICE != "cpu", reason="natively in bfloat16, below")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_no_bit_of_a_result_depends_on_the_size_of_segments(form: Form, packed: bool) -> None:
    inputs = rounded(1, 110, 1, 16, 16, decay="uneven")
    offsets = (0, 50, 55, 110) if packed else None
    if packed:
        inputs[6] = None
    results = []
    for chunks in (100, 2, 1):
        times = tokens_a_segment(chunks, 3 if packed else 1)
        chosen = KernelSet(16, 16, "tf32x3", CPU, form=form, few_programs=0, segment_times=times)
        results.append(found(inputs, chosen, offsets))
    assert all(torch.equal(a, e) for again in results[1:] for a, e in zip(again, results[0], strict=True))


@pytest.mark.skipif(DEVICE != "cpu", reason="natively in bfloat16, below")
def test_what_going_back_starts_from_is_kept_and_without_gradients_is_not() -> None:
    q, k, v, g, b, w, state = inputs = rounded(1, 100, 1, 16, 16)
    call = Call(q, k, v, g, b, w, 0.25, kernels_for(q, k, v, g, b, w))
    segments = segments_of(None, 1, 100, 1, CHUNK, CPU, times=tokens_a_segment(1, 1))
    o, last, begins = chunkwise.run_forward(call, state, segments)
    again, same, shared = chunkwise.run_forward(call, state, segments, keep=False)
    assert torch.equal(o, again)
    assert torch.equal(last, same)
    assert len({x.data_ptr() for x in begins if x is not None}) == 4
    assert len({x.data_ptr() for x in shared if x is not None}) == 3  # the initial state, and two that take turns
    for i, begin in enumerate(begins):
        if i:
            before = found([*(x[:, : CHUNK * i] for x in inputs[:6]), state], call.kernels)
            assert begin is not None
            assert torch.equal(begin, before[1])


def test_segments_have_whole_chunks_and_at_least_one() -> None:
    for times, chunks in ((1, 4096), (0.5, 2048), (1 / 3, 1365), (1e-9, 1), (2, 8192)):
        first = segments_of(None, 1, 2**18, 1, CHUNK, CPU, times=times)[0]
        assert first.num_chunks == min(chunks, 2**18 // CHUNK)
    assert KernelSet(16, 16, "bf16", CPU, segment_times=0.25).times(1, 9, learning=True) == 0.25
    assert KernelSet(16, 16, "bf16", CPU).times(1, 9, learning=True) == 1


class Stream:
    """A stream that knows which launches are over before the next one on it begins."""

    cuda_stream = 11

    def __init__(self, *_: Any, **__: Any) -> None:
        self.over: set[int] = set()


class Event:
    def record(self, stream: Stream) -> None:
        self.over = set(stream.over)

    def wait(self, stream: Stream) -> None:
        stream.over |= self.over


Launched = tuple[tuple[Any, ...], set[int]]  # arguments, and what was over before


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Launched]]:
    """What is launched on two streams that only seem to be, by addresses."""
    seen: list[Launched] = []

    def to(_self: Any, stream: Stream) -> Callable[..., None]:
        def launch(_programs: int, *arguments: Any) -> None:
            seen.append((arguments, set(stream.over)))
            stream.over.add(len(seen) - 1)

        return launch

    caller = Stream()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: caller)
    monkeypatch.setattr(Launcher, "to", to)
    monkeypatch.setattr(
        Launcher, "compiled", property(lambda _self: object(), lambda _self, _value: None), raising=False
    )
    monkeypatch.setattr(chunkwise, "Pipeline", lambda _device, **given: pipeline.Pipeline(GPU, **given))
    pipeline._side_stream.cache_clear()
    yield seen
    pipeline._side_stream.cache_clear()
    assert set(range(len(seen))) <= caller.over  # the caller's stream has waited for all of it
    seen.clear()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("T", [20, 90, 100, 130, 330], ids=lambda T: f"{T}-tokens")
def test_no_launch_touches_memory_before_the_last_one_that_did_is_over(
    T: int, form: Form, launches: list[Launched], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v, g, b, w, _ = rounded(1, T, 2, 16, 16)
    kernels = KernelSet(16, 16, "tf32x3", CPU, form=form)
    segments = segments_of(None, 1, T, 2, CHUNK, CPU, times=tokens_a_segment(2, 2))
    expected = tuple(2 * segment.num_chunks for segment in segments[:2])
    scratch = Scratch(kernels, expected)
    monkeypatch.setattr(chunkwise, "Scratch", lambda _kernels, given: scratch if given == expected else None)
    chunkwise.run_forward(Call(q, k, v, g, b, w, 0.25, kernels), None, segments, keep=False)
    assert len(launches) == 3 * len(segments)
    kept, passing = parts_of(kernels.C, kernels.KP, kernels.VP, kernels.scratch_dtype, kernels.form)
    places = scratch.places(addresses=True)
    touched: list[list[tuple[int, int]]] = []
    for i, segment in enumerate(segments):
        place, slots = places[i if i < 2 else 2 - i % 2], segment.num_chunks * 2
        spans = {p.name: (getattr(place, p.name), getattr(place, p.name) + slots * p.size) for p in (*kept, *passing)}
        prepared = sorted(spans.values())
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(prepared))  # no two tiles of a segment share memory
        assert prepared[-1][1] <= scratch.memory.data_ptr() + scratch.memory.nbytes
        assert all(start % 16 == 0 for start, _ in prepared)
        touched += [prepared, prepared, [spans[p.name] for p in kept]]
    for (i, one), (j, other) in itertools.combinations(enumerate(touched), 2):
        if any(a[0] < b[1] and b[0] < a[1] for a in one for b in other):
            assert i in launches[j][1], f"launch {j} may run beside launch {i}, whose memory it touches"
    overlapping = [i for i in range(5, len(launches), 3) if i - 3 in launches[i][1] and i - 2 in launches[i][1]]
    assert len(overlapping) == max(0, len(segments) - 1)  # each scan after the scan and the `prepare` before it
    if len(segments) > 1:
        assert 2 not in launches[3][1]  # the second segment is prepared beside the first scan


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_scratch_memory_is_that_of_one_segment_and_of_what_the_scan_of_another_reads(form: Form) -> None:
    kernels = KernelSet(20, 70, "bf16", CPU, form=form)
    kept, passing = parts_of(kernels.C, kernels.KP, kernels.VP, kernels.scratch_dtype, kernels.form)
    for slots in ((6,), (6, 6), (6, 1), (6, 4)):
        first, second = (*slots, 0)[:2]
        two_at_once = room(kept, first) + room(kept, second) + room(passing, second)
        scratch = Scratch(kernels, slots)
        assert scratch.memory.nbytes == max(two_at_once, room(kept, first) + room(passing, first))
        tensors, addresses = (scratch.places(addresses=given) for given in (False, True))
        for x, address in zip(itertools.chain(*tensors), itertools.chain(*addresses), strict=True):
            assert isinstance(x, torch.Tensor)
            assert x.data_ptr() == address or not x.numel()
    assert {p.name for p in kept} == {"A", "B", "Q", "carry"} | ({"K"} if form.writes else set()) | (
        {"P"} if form == LATE else set()
    )


class Compiled:
    """A binary as Triton keeps it."""

    function, packed_metadata = 7, (4, 1, 0)

    def __init__(self) -> None:
        self.direct: list[tuple[Any, ...]] = []
        self.hooked: list[tuple[Any, ...]] = []

    def run(self, *arguments: Any) -> None:
        self.direct.append(arguments)

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        return lambda *arguments, stream: self.hooked.append((grid, stream, *arguments))


def test_a_launch_goes_to_its_stream_and_hooks_that_are_set_hear_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Active:
        stream = 0

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, _device: int) -> int:
            return self.stream

    class Driver:
        active = Active()

    class Current:
        def __init__(self, stream: Stream) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            Active.stream = self.stream.cuda_stream

        def __exit__(self, *_: object) -> None:
            Active.stream = 0

    monkeypatch.setattr(launch, "driver", Driver)
    monkeypatch.setattr(torch.cuda, "stream", Current)
    knobs = pytest.importorskip("triton.knobs")

    class Kernel:
        arg_names = ("p_x", "n")

    launcher, compiled = Launcher(Kernel, {"n": 3}, {}), Compiled()
    launcher.compiled = compiled
    stream: Any = Stream()
    launcher.to(stream)(5, 256)
    assert compiled.direct == [(5, 1, 1, 11, 7, (4, 1, 0), None, None, None, 256, 3)]
    hook = lambda _metadata: None  # noqa: E731
    knobs.runtime.launch_enter_hook.add(hook)
    try:
        launcher.to(stream)(5, 256)
    finally:
        knobs.runtime.launch_enter_hook.remove(hook)
    assert compiled.hooked == [((5, 1, 1), 11, 256, 3)]
    launcher((5, 1, 1), 256)
    assert compiled.direct.pop() == (5, 1, 1, 0, 7, (4, 1, 0), None, None, None, 256, 3)
    monkeypatch.setattr(launch, "knobs", None)
    launcher.to(stream)(6, 256)
    assert (len(compiled.direct), len(compiled.hooked)) == (1, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("d", [64, 128, 256])
def test_segments_of_any_size_captured_or_in_threads_give_the_same_bits_on_a_gpu(d: int) -> None:
    inputs = rounded(1, 1500, 2, d, d, decay="uneven", dtype=torch.bfloat16)
    expected = found(inputs, KernelSet(d, d, "bf16", HERE))
    small = KernelSet(d, d, "bf16", HERE, segment_times=4 * 64 * 2 / layout.SEGMENT_TOKEN_HEADS)
    results = [found(inputs, small) for _ in range(3)]  # tensors are given in the first call, addresses in later ones
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = found(inputs, small)
    results.append(found(inputs, small))
    graph.replay()
    torch.cuda.synchronize()
    results.append([x.clone() for x in captured])

    def often() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
            mine = [found(inputs, small) for _ in range(20)]
            torch.cuda.current_stream().synchronize()
            results.extend(mine)

    threads = [threading.Thread(target=often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 65
    assert all(torch.equal(a, e) for again in results for a, e in zip(again, expected, strict=True))


@pytest.mark.gpu
def test_gradients_over_small_segments_agree_on_a_gpu_with_those_over_one() -> None:
    results = []
    for times in (1, 4 * 64 * 2 / layout.SEGMENT_TOKEN_HEADS):
        leaves = [x.requires_grad_() for x in rounded(1, 1500, 2, 128, 128, dtype=torch.bfloat16)]
        results.append(found(leaves, KernelSet(128, 128, "bf16", HERE, segment_times=times)))
    for a, e in zip(*results, strict=True):
        assert_close(a, e, 1.3e-2)  # going back makes states again by maps, from those that the forward pass left
