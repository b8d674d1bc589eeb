"""What the assembler makes of the kernels, for each architecture, without a GPU: a part that is quick to compile.

Everything that ships is compiled by `python -m gdn2.ops.triton.aot --all`, a matter of minutes to an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gdn2.ops.triton.aot.binaries import FLAGS, Compiled
from gdn2.ops.triton.aot.jobs import ARCHITECTURES, HEAD_SIZES, QUICK, Job, Row, jobs_for
from gdn2.ops.triton.aot.layers import SIZES
from gdn2.ops.triton.aot.report import faults, summary
from gdn2.ops.triton.forms import form_for
from gdn2.ops.triton.tiles import CHUNK_SIZE, shared_memory_limit, tiles_for
from gdn2.ops.triton.variants import KEY_GRADIENTS, SCAN_BOTH_WAYS, SCAN_OUTPUT, VARIANTS

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_PRODUCTS = {"recurrent", "recurrent_fresh"}


def compiled(tmp_path: Path, *options: object) -> list[dict[str, Any]]:
    """The rows of `python -m gdn2.ops.triton.aot`, which must find nothing wrong."""
    file = tmp_path / "table.json"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "gdn2.ops.triton.aot", "--jobs", "1", "--json", file, *options]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def assert_sound(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["spilled_bytes"] == 0, row
        assert row["shared_bytes"] <= shared_memory_limit(row["arch"]), row
        assert (row["matrix"] > 0) == (row["kernel"] not in WITHOUT_PRODUCTS), row
        assert row["unwritten"] == [], row
        assert row["narrow"] == [], row


def test_kernels_compile_without_spills_onto_matrix_units_within_shared_memory(tmp_path: Path) -> None:
    rows = compiled(tmp_path, "--quick")
    assert [(row["kernel"], row["arch"]) for row in rows] == [
        (name, arch) for name, variant in VARIANTS.items() for arch in ARCHITECTURES if variant in QUICK[arch]
    ]
    assert_sound(rows)


@pytest.mark.parametrize("arches", [[90], pytest.param([80, 100], marks=pytest.mark.slow)])
def test_the_small_steps_of_a_layer_compile_without_spills(arches: list[int]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "gdn2.ops.triton.aot", "--layers", "--arch", *map(str, arches)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [(row[0], int(row[2])) for row in rows] == [(name, arch) for name in SIZES for arch in arches]
    assert {row[4] for row in rows} == {"0"}


def test_attention_over_runs_of_tokens_compiles_onto_matrix_units_and_its_loops_do_not_spill() -> None:
    rows = bands("--quick", "--arch", "90")
    assert [row[0] for row in rows] == ["forward, behind a ring", "of_queries, a window", "of_keys, a window"]
    assert [row[4] for row in rows] == ["0", "0", "0"]
    assert all("(0)" not in row[6] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [64, 128, 256])
def test_attention_over_runs_of_tokens_compiles_for_every_head_and_architecture(channels: int) -> None:
    assert len(bands("--key-dim", str(channels), "--precision", "bf16", "tf32x3")) == 2 * 8 * len(ARCHITECTURES)


def bands(*options: str) -> list[list[str]]:
    """The rows of the table of `--bands`, in which nothing must be wrong."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "gdn2.ops.triton.aot", "--bands", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in done.stdout.splitlines()[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_of_the_common_head_size_compiles_without_spills(arch: Any, tmp_path: Path) -> None:
    rows = compiled(tmp_path, "--arch", arch)
    assert len(rows) == len(VARIANTS) - 2  # of the two pairs of scans that write outputs, a head size has one
    assert_sound(rows)


def test_all_means_every_candidate_and_every_kind_of_call_once() -> None:
    jobs = jobs_for(ARCHITECTURES, HEAD_SIZES, CHUNK_SIZE, VARIANTS.values(), candidates=True, all_flags=True)
    keys = [job.source.key for job in jobs]
    assert len(keys) == len(set(keys))
    tiles = {
        (j.source.variant, j.source.arch, j.source.precision, size, j.source.tile): j for j in jobs for size in j.sizes
    }
    for variant in VARIANTS.values():
        for arch in ARCHITECTURES:
            for precision in CHUNK_SIZE:
                for K, V in HEAD_SIZES:
                    if not form_for(K, V, precision, arch).uses(variant):
                        continue
                    for i, tile in enumerate(tiles_for(variant, K, V, precision, arch)):
                        job = tiles[variant, arch, precision, (K, V), tuple(tile.items())]
                        assert job.default or i > 0
    for variant, flags in FLAGS.items():
        kinds = {job.source.flags for job in jobs if job.source.variant == variant and job.default}
        assert len({frozenset(kind) & frozenset(flags) for kind in kinds}) == 2 ** len(flags)


def _row(**changes: Any) -> Row:
    job = jobs_for([90], [(64, 64)], ["bf16"], [SCAN_OUTPUT])[0]
    values: dict[str, Any] = {"kernel": "scan_output", "arch": 90, "tile": dict(job.source.tile), "registers": 64,
              "spilled_bytes": 0,
              "shared_bytes": 1024, "matrix": 16, "wgmma": 16, "unwritten": (), "narrow": ()}  # fmt: skip
    return Row(Job(job.source, True, job.sizes), Compiled(**(values | changes)))


def test_whatever_must_not_ship_is_named_and_a_sound_binary_is_not() -> None:
    assert faults([_row()]) == []
    assert "more than the chip has" in faults([_row(shared_bytes=228 * 1024)])[0]
    assert "UR6 in HGMMA" in faults([_row(unwritten=("UR6 in HGMMA",))])[0]
    assert "beyond 2^31" in faults([_row(narrow=("p_q",))])[0]
    assert "spills 8 bytes" in faults([_row(spilled_bytes=8)])[0]
    candidate = _row(spilled_bytes=8)
    candidate.job.default = False
    assert faults([candidate]) == []
    assert "| scan_output | bfloat16 | 90 | 64 x 64 | BV 16 warps 4 stages 4 | 8 |" in summary([_row(spilled_bytes=8)])


def test_chips_with_little_shared_memory_get_fewer_stages_and_no_tiles_of_sm_90() -> None:
    assert tiles_for(SCAN_OUTPUT, 128, 128, "bf16", 90)[0]["num_stages"] == 4
    for arch in (86, 89, 120):
        assert shared_memory_limit(arch) == 99 * 1024
        assert tiles_for(SCAN_OUTPUT, 128, 128, "bf16", arch)[0]["num_stages"] == 1
        assert tiles_for(SCAN_BOTH_WAYS, 128, 128, "bf16", arch)[0]["num_stages"] == 2
        assert tiles_for(KEY_GRADIENTS, 128, 128, "bf16", arch) == tiles_for(KEY_GRADIENTS, 128, 128, "bf16", 80)
