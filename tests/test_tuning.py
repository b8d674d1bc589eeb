"""Choosing tiles by measuring, with a clock that says what the test wants; kernels run in Triton's interpreter."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from operator_checks import make_inputs
from triton.runtime.errors import OutOfResources

from gdn2.ops.triton import choice, kernel_set, operator, tuning
from gdn2.ops.triton.aot import __main__ as aot
from gdn2.ops.triton.forms import MAPS
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.tiles import tiles_for
from gdn2.ops.triton.variants import PREPARE, PREPARE_BACKWARD, RECURRENT, SCAN_OUTPUT, SCAN_OUTPUT_WIDE, VARIANTS

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
K = V = 16
SMALL: dict[str, Any] = {"heads": 1, "tokens": 160, "device": CPU}


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="its clock is made for the interpreter on a CPU")


@pytest.fixture(autouse=True)
def a_gpu_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A chip's name, an empty cache, and a small call to check a tile with."""
    monkeypatch.setenv("GDN2_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "gpu_name", lambda _device: "NVIDIA H200/test")
    monkeypatch.setattr(choice, "architecture", lambda _device: 90)
    monkeypatch.setattr(tuning, "CHECKED_TOKENS", 20)
    monkeypatch.setattr(tuning, "CHECKED_HEADS", 1)
    choice.read.cache_clear()
    yield
    choice.read.cache_clear()


def default(variant: Any) -> Any:
    return tiles_for(variant, 128, 128, "bf16", 90)[0]


def clock(monkeypatch: pytest.MonkeyPatch, milliseconds: Any) -> Any:
    """`tune` with a timer that gives `milliseconds(variant, tile)` and runs nothing; what it was asked for."""
    asked: list[Any] = []
    current: list[Any] = []
    create = Launcher.__init__

    def remembered(self: Any, kernel: Any, constants: Any, tile: Any) -> Any:
        create(self, kernel, constants, tile)
        current[:] = [(kernel, tile)]

    def variant_of(kernel: Any, tile: Any) -> Any:
        """The first of those that run this kernel with such a tile."""
        of_kernel = [v for v in VARIANTS.values() if kernel_set.KERNELS[v.kernel] is kernel]
        return next(v for v in of_kernel if tile in tiles_for(v, 16, 16, "tf32x3", 90))

    monkeypatch.setattr(Launcher, "__init__", remembered)

    def timer(_run: Any) -> Any:
        kernel, tile = current[0]
        asked.append((variant_of(kernel, tile), tile))
        return milliseconds(*asked[-1])

    return asked, lambda: tuning.tune(K, V, torch.float32, timer=timer, **SMALL)


def last_is_fastest(variant: Any, tile: Any) -> Any:
    return 10.0 - tiles_for(variant, 16, 16, "tf32x3", 90).index(tile)


def last_of_prepare(variant: Any, tile: Any) -> Any:
    return last_is_fastest(variant, tile) if variant == PREPARE else 1.0


def test_the_fastest_candidate_is_kept_by_gpu_and_shape_and_read_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    several = {v for v in VARIANTS.values() if MAPS.uses(v) and len(tiles_for(v, 16, 16, "tf32x3", 90)) > 1}
    assert {PREPARE, PREPARE_BACKWARD, RECURRENT} <= several
    asked, tune = clock(monkeypatch, last_is_fastest)
    found = tune()
    assert set(found) == several
    file = tmp_path / "tiles" / f"NVIDIA-H200-test-triton-{choice.triton.__version__}.json"
    kept = json.loads(file.read_text())
    for name, variant in VARIANTS.items():
        tiles = tiles_for(variant, 16, 16, "tf32x3", 90)
        assert choice.tile_for(variant, 16, 16, "tf32x3", CUDA) == tiles[-1 if variant in several else 0]
        assert choice.tile_for(variant, 16, 32, "tf32x3", CUDA) == tiles_for(variant, 16, 32, "tf32x3", 90)[0]
        assert kept.get(f"{name} 16x16 tf32x3") == (tiles[-1] if variant in several else None)
    number = len(asked)
    choice.read.cache_clear()  # as a new process
    assert choice.tile_for(PREPARE, 16, 16, "tf32x3", CUDA) == found[PREPARE][0]
    assert len(asked) == number  # reading measures nothing


def test_other_shapes_and_dtypes_are_added_to_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tune = clock(monkeypatch, last_of_prepare)
    other = {"prepare 128x128 bf16": tiles_for(PREPARE, 128, 128, "bf16", 90)[1]}
    choice.write(choice.cache_file(CPU), other)
    tune()
    kept = json.loads(choice.cache_file(CPU).read_text())
    assert kept.items() > other.items()
    assert not list(choice.cache_file(CPU).parent.glob("*.tmp"))


def test_the_default_stays_where_nothing_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tune = clock(monkeypatch, lambda _variant, _tile: 1.0)
    assert all(tile == tiles_for(variant, 16, 16, "tf32x3", 90)[0] for variant, (tile, _) in tune().items())


def test_a_candidate_that_does_not_run_on_the_chip_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_large(variant: Any, tile: Any) -> Any:
        if variant == PREPARE and tile != tiles_for(PREPARE, 16, 16, "tf32x3", 90)[0]:
            raise OutOfResources(300_000, 232_448, "shared memory")
        return 1.0

    _, tune = clock(monkeypatch, too_large)
    with caplog.at_level(logging.WARNING, "gdn2"):
        assert tune()[PREPARE][0] == tiles_for(PREPARE, 16, 16, "tf32x3", 90)[0]
    assert "prepare with" in caplog.text
    assert "does not run on this GPU" in caplog.text


def test_a_candidate_that_computes_something_else_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = tiles_for(PREPARE, 16, 16, "tf32x3", 90)[-1]
    call = Launcher.__call__

    def broken(self: Any, grid: Any, *arguments: Any) -> Any:
        call(self, grid, *arguments)
        if self.kernel is kernel_set.KERNELS["prepare"] and self.options["num_warps"] == wrong["num_warps"]:
            o = arguments[self.kernel.arg_names.index("p_o")]
            if o is not None:
                o.mul_(1.5)

    monkeypatch.setattr(Launcher, "__call__", broken)
    _, tune = clock(monkeypatch, last_of_prepare)
    with caplog.at_level(logging.WARNING, "gdn2"):
        assert tune()[PREPARE][0] != wrong
    assert "computes something else" in caplog.text


@pytest.mark.parametrize("text", ["{", "[1]", "\x00\x01", '"prepare"', ""])
def test_a_corrupt_cache_is_left_aside_with_a_warning(text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = choice.cache_file(CUDA)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with caplog.at_level(logging.WARNING, "gdn2"):
        assert choice.tile_for(SCAN_OUTPUT, 128, 128, "bf16", CUDA) == default(SCAN_OUTPUT)
        choice.tile_for(PREPARE, 128, 128, "bf16", CUDA)
    assert caplog.text.count("cannot be read") == 1  # once a process, not once a kernel
    assert str(file) in caplog.text
    choice.write(file, {"scan_output 128x128 bf16": tiles_for(SCAN_OUTPUT, 128, 128, "bf16", 90)[1]})
    assert choice.tile_for(SCAN_OUTPUT, 128, 128, "bf16", CUDA) == tiles_for(SCAN_OUTPUT, 128, 128, "bf16", 90)[1]


def test_unknown_kernels_and_tiles_in_a_cache_are_left_aside_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    good = tiles_for(PREPARE, 128, 128, "bf16", 90)[1]
    file = choice.cache_file(CUDA)
    file.parent.mkdir(parents=True)
    kept = {
        "former_kernel 128x128 bf16": {"BV": 8},
        "prepare 128x128 bf16": good,
        "scan_output 128x128 bf16": {"BV": 99},
    }
    file.write_text(json.dumps(kept))
    with caplog.at_level(logging.WARNING, "gdn2"):
        assert choice.tile_for(PREPARE, 128, 128, "bf16", CUDA) == good
        assert choice.tile_for(SCAN_OUTPUT, 128, 128, "bf16", CUDA) == default(SCAN_OUTPUT)
    assert "unknown kernels, left aside: former_kernel 128x128 bf16" in caplog.text
    assert "{'BV': 99} is no candidate of scan_output 128x128 bf16" in caplog.text


def test_no_cache_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gdn2"):
        assert choice.tile_for(SCAN_OUTPUT, 128, 128, "bf16", CUDA) == default(SCAN_OUTPUT)
    assert not caplog.records


def test_three_hundred_lengths_choose_the_tile_of_each_kernel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    choose = kernel_set.tile_for

    def counted(variant: Any, *shape: Any) -> Any:
        asked.append((variant, *shape))
        return choose(variant, *shape)

    monkeypatch.setattr(kernel_set, "tile_for", counted)
    monkeypatch.setattr(Launcher, "__call__", lambda *_: None)
    kernel_set._kernels_for.cache_clear()
    six = [x.float() for x in make_inputs(1, 8000, 1, 24, 24)[:6]]
    for T in itertools.chain(range(1, 200), range(200, 8001, 78)):
        arguments: list[Any] = [*(x[:, :T] for x in six), 1.0]
        operator.triton_gated_delta_rule_2(*arguments)
    kernel_set._kernels_for.cache_clear()
    assert len(asked) == len(set(asked)) == len({variant for variant, *_ in asked}) == 4


def test_the_command_says_so_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tuning"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        tuning.main()
    said = "error: tuning measures on a GPU, and there is none here\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize("command", [tuning, aot])
def test_a_mistyped_flag_is_one_line(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command", "--key-dims", "64"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert "--key-dims; did you mean '--key-dim'? `python -m gdn2.ops.triton." in line


def test_a_tile_that_ships_for_a_gpu_is_its_default_until_the_user_tunes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped, own = tiles_for(SCAN_OUTPUT_WIDE, 128, 128, "bf16", 90)[1:3]
    monkeypatch.setattr(choice, "SHIPPED", tmp_path / "shipped")
    choice.write(choice.SHIPPED / choice.cache_file(CUDA).name, {"scan_output_wide 128x128 bf16": shipped})
    assert choice.tile_for(SCAN_OUTPUT_WIDE, 128, 128, "bf16", CUDA) == shipped
    choice.write(choice.cache_file(CUDA), {"scan_output_wide 128x128 bf16": own})
    assert choice.tile_for(SCAN_OUTPUT_WIDE, 128, 128, "bf16", CUDA) == own


def test_what_ships_are_candidates() -> None:
    for file in choice.SHIPPED.glob("*.json"):
        for key, tile in json.loads(file.read_text(encoding="utf-8")).items():
            name, sizes, precision = key.split(" ")
            KP, VP = map(int, sizes.split("x"))
            assert tile in tiles_for(VARIANTS[name], KP, VP, precision, 90), (file.name, key)


def test_the_names_in_users_files_stay() -> None:
    assert list(VARIANTS) == [
        "prepare", "prepare_by_level", "prepare_backward", "prepare_backward_by_level",
        "scan_output", "scan_output_wide", "scan_writes", "scan_writes_wide", "scan_both_ways",
        "value_gradients", "key_gradients", "key_gradients_by_level", "recurrent", "recurrent_fresh",
    ]  # fmt: skip
    assert all(variant.name == name for name, variant in VARIANTS.items())
    switches = [dataclasses.replace(v, name="", many_programs=False) for v in VARIANTS.values()]
    assert len(set(switches)) == len(VARIANTS) - 2  # a scan that writes outputs has one for many sequences beside it


def test_hooks_belong_to_one_kernel_set_and_the_one_that_all_calls_share_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    q, k, v, g, b, w = (x.float() for x in make_inputs(1, 20, 1, 16, 16)[:6])
    chosen, launched = [], []

    def choose(variant: Any, *shape: Any) -> Any:
        chosen.append(variant.name)
        return kernel_set.tile_for(variant, *shape)

    kernels = kernel_set.KernelSet(
        16, 16, "tf32x3", CPU, choose_tile=choose, few_programs=0, on_launch=lambda v, *_: launched.append(v.name)
    )
    expected = operator.triton_gated_delta_rule_2(q, k, v, g, b, w, 1.0)
    assert not chosen
    found = operator.triton_gated_delta_rule_2(q, k, v, g, b, w, 1.0, kernels=kernels)
    assert chosen == launched == ["prepare", "prepare_by_level", "scan_output_wide"]
    assert all(torch.allclose(a, e, atol=1e-6) for a, e in zip(found, expected, strict=True))

    _, tune = clock(monkeypatch, last_of_prepare)
    tune()
    shared = kernel_set.kernels_for(q, k, v, g, b, w)
    assert shared.on_launch is None
    assert shared.choose_tile is kernel_set.tile_for
