"""GGUF files: the model that transformers has, quantised or not, with its tokenizer; whatever does not fit is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("gguf")

from fakes import small_tokenizer
from gguf_models import random_model, write_gguf
from records import cell, model, place, record

from gdn2.checkpoints import CheckpointError, load_checkpoint, quantised
from gdn2.checkpoints.describe import describe
from gdn2.checkpoints.importers import import_checkpoint, plan_import
from harness.checkpoints.inspection import inspect
from harness.records.leaderboard import build_table
from harness.records.record import Score
from harness.runs.options import RunOptions
from harness.runs.runner import run_options
from harness.show.inspection import lines
from tasks.registry import load_suite
from tasks.text.tokenizers import load_tokenizer

IDS = torch.arange(3, 43).unsqueeze(0)
TEXTS = ("It is 4071398 or  12.", "naïve cafés line\n\n  the shore <|endoftext|>", "3 rivers, 45 % 's don't")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("llama", "F32"), ("llama", "BF16"), ("llama", "Q4_1"), ("qwen2", "F16"), ("qwen2", "Q4_0"), ("qwen3", "Q8_0")],
)
def test_a_file_gives_the_logits_of_the_model_with_its_weights(kind: str, dtype: str, tmp_path: Path) -> None:
    original = random_model(kind, tied=kind == "qwen3")
    file = write_gguf(tmp_path / "small.gguf", original, dtype)
    import_checkpoint(file, tmp_path / "out")
    assert (logits(load_checkpoint(tmp_path / "out")) - logits(original)).abs().max() < 2e-5
    said = json.loads((tmp_path / "out" / "import.json").read_text())
    assert (said["importer"], said["source"], said["assumed"]) == (f"gguf {kind}", "small.gguf", {})
    if dtype.startswith("Q"):
        assert said["quantised"].startswith(f"{dtype} (")
        assert describe(file).quantised == describe(tmp_path / "out").quantised == said["quantised"]
    else:
        assert "quantised" not in said
        assert quantised(tmp_path / "out") is None


def test_the_tokenizer_in_the_file_is_the_one_that_was_put_there(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"))
    import_checkpoint(file, tmp_path / "out")
    original, read = small_tokenizer(), load_tokenizer(tmp_path / "out")
    for text in TEXTS:
        assert read.encode(text) == original.encode(text)
        assert read.decode(read.encode(text)) == text
    assert (read.bos_token_id, read.eos_token_id) == (0, 0)


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["a", "ĠĠ", "4", "2", "'s", "Ġb"]),
        ("gpt-2", ["a", "Ġ", "Ġ42", "'s", "Ġb"]),
        ("qwen2", ["a", "Ġ", "Ġ", "4", "2", "'s", "Ġb"]),
        ("llama-bpe", ["a", "Ġ", "Ġ", "42", "'s", "Ġb"]),
    ],
)
def test_a_text_is_cut_before_merges_as_the_file_says(pre: str, pieces: list[str], tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), keys={"tokenizer.ggml.pre": pre})
    import_checkpoint(file, tmp_path / "out")
    cut = load_tokenizer(tmp_path / "out").backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  42's b")
    assert [piece for piece, _ in cut] == pieces


def test_sentencepiece_merges_the_piece_of_the_best_score_first(tmp_path: Path) -> None:
    normal = {"▁": -9.0, "a": -9.0, "b": -9.0, "c": -9.0, "ab": -2.0, "bc": -1.0, "▁a": -3.0, "abc": -4.0}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *normal]
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + list(normal.values()),
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(normal),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": None,
    }
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), keys=keys, without=("tokenizer.ggml.merges",))
    import_checkpoint(file, tmp_path / "out")
    read = load_tokenizer(tmp_path / "out")
    assert read.convert_ids_to_tokens(read.encode("abc é")) == ["<s>", "▁a", "bc", "▁", "<0xC3>", "<0xA9>"]
    assert read.decode(read.encode("abc é"), skip_special_tokens=True) == "abc é"


def test_a_file_is_inspected_with_the_tokenizer_inside(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), "Q8_0")
    found, expected = inspect(str(file)), small_tokenizer()
    assert (found.tokenizer["vocabulary"], found.tokenizer["eos_id"]) == (len(expected), expected.eos_token_id)
    said = dict(lines(found.model, found.tokenizer))
    assert said["on disk"].startswith("Q8_0 (16 of 21 tensors)")
    assert said["quantised"].startswith("Q8_0 (16 of 21 tensors)")
    broken = write_gguf(tmp_path / "none.gguf", random_model("llama"), without=("tokenizer.ggml.tokens",))
    assert "holds no tokenizer; give the model's with --tokenizer DIR" in inspect(str(broken)).tokenizer["error"]


def test_a_bos_is_put_before_a_text_where_the_file_says_so(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.add_bos_token": True}
    import_checkpoint(write_gguf(tmp_path / "small.gguf", random_model("llama"), keys=keys), tmp_path / "out")
    assert load_tokenizer(tmp_path / "out").encode("the") == [0, *small_tokenizer().encode("the")]


def test_a_given_tokenizer_takes_the_place_of_the_one_in_the_file(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.pre": "one-of-tomorrow"}
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), keys=keys)
    small_tokenizer(adds_bos=True).save_pretrained(tmp_path / "tokenizer")
    import_checkpoint(file, tmp_path / "out", tokenizer=tmp_path / "tokenizer")
    assert load_tokenizer(tmp_path / "out").encode("the")[0] == 0


def test_a_run_takes_a_file_and_every_number_says_that_it_was_quantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), "Q8_0")
    options = RunOptions(checkpoint=str(file), tasks=("niah_single_1@512",), samples=1, output=tmp_path / "out")
    done = run_options(options).record
    assert (done.name, done.model.saved_dtype) == ("small", "float32")
    assert done.model.quantised == "Q8_0 (16 of 21 tensors)"
    cells = (cell(scores={"acc": Score(value=0.5, unit="share", n=500)}),)
    marked = record(cells=cells, model=model(quantised=done.model.quantised))
    table = build_table(load_suite("ruler_table3"), [place(marked)], published=False)
    assert f"weights quantised: {done.model.quantised}" in table.notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"keys": {"general.architecture": "rwkv7"}}, "general.architecture is 'rwkv7'; known are llama, qwen2, qwen3"),
        ({"without": ("llama.block_count",)}, "lacks llama.block_count"),
        ({"without": ("blk.1.attn_q.weight",)}, "missing.*model.layers.1.self_attn.q_proj.weight"),
        ({"without": ("token_embd.weight",)}, "model.embed_tokens.weight"),
        ({"more": {"blk.0.ffn_gate_inp.weight": np.ones((4, 64), np.float32)}}, "blk.0.ffn_gate_inp.weight"),
        ({"more": {"rope_freqs.weight": np.ones(8, np.float32)}}, "rope_freqs.weight stretches the rotary embedding"),
        ({"keys": {"llama.rope.scaling.type": "yarn"}}, "does not have: llama.rope.scaling.type = 'yarn'"),
        ({"keys": {"llama.attention.sliding_window": 32}}, "does not have: llama.attention.sliding_window = 32"),
        ({"keys": {"llama.expert_count": 8}}, "does not have: llama.expert_count = 8"),
        ({"keys": {"llama.rope.dimension_count": 8}}, "rope.dimension_count is 8, but a head has 16 channels"),
        ({"keys": {"llama.attention.head_count": 0}}, "head_count is 0; a number above 0"),
        ({"keys": {"llama.embedding_length": 128}}, "model.embed_tokens.weight"),
        ({"keys": {"adapter.type": "lora"}}, "keys that are not understood: adapter.type"),
        ({"keys": {"split.count": 3}}, "is one of 3 parts; join them with llama.cpp's gguf-split"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), **changes)
    with pytest.raises(CheckpointError, match=said) as found:
        import_checkpoint(file, tmp_path / "out")
    assert "small.gguf" in str(found.value)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["tokenizer.ggml.tokens", "tokenizer.ggml.model", "tokenizer.ggml.merges"])
def test_a_file_without_a_usable_tokenizer_says_how_to_give_one(key: str, tmp_path: Path) -> None:
    keys = {"llama.vocab_size": 420}
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), keys=keys, without=(key,))
    with pytest.raises(CheckpointError, match=r"give the model's with --tokenizer DIR"):
        import_checkpoint(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_merge_of_unknown_tokens_is_named(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"), keys={"tokenizer.ggml.merges": ["qq zz"]})
    with pytest.raises(CheckpointError, match=r"its tokenizer cannot be used \(.*out of vocabulary"):
        import_checkpoint(file, tmp_path / "out")


def test_without_the_package_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"small.gguf: needs the package gguf; .*pip install 'gdn2\[gguf\]'"):
        plan_import(file)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.05, 0.5, 0.999999])
def test_a_file_that_is_cut_short_is_named(share: float, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "small.gguf", random_model("llama"))
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"small.gguf: is cut short, damaged or no GGUF file"):
        plan_import(file)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"PK\x03\x04" + bytes(4000))
    with pytest.raises(CheckpointError, match=r"small.gguf: is cut short, damaged or no GGUF file"):
        plan_import(file)
