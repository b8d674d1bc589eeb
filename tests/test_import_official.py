"""The GDN-2 training layout: every tensor arrives where it belongs, and what does not fit is refused by name."""

from __future__ import annotations

import json
import os
import pickle
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model, small_tokenizer
from official_layout import official_layout

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.importers import import_checkpoint, is_native, official, parse_settings, plan_import
from gdn2.checkpoints.tensors import Stored


def save(model: GDN2ForCausalLM, file: Path) -> Path:
    torch.save({"model": official_layout(model), "iter_num": 7}, file)
    return file


def same_logits(model: GDN2ForCausalLM, folder: Path) -> None:
    ids = torch.randint(0, 420, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(folder)(ids).logits, model(ids).logits)


def test_a_recurrent_model_arrives_bit_for_bit(tmp_path: Path) -> None:
    model = small_model()
    plan = import_checkpoint(save(model, tmp_path / "iter-7.pth"), tmp_path / "new")
    assert plan.config.layers == ["gdn2", "gdn2"]
    assumed = {"output_gate": "silu", "erase_range": 1.0, "norm_eps": 1e-5, "mixer_norm_eps": 1e-5}
    assert plan.assumed == {**assumed, "max_position_embeddings": 4096}
    same_logits(model, tmp_path / "new")


def test_a_model_with_grouped_values_arrives_bit_for_bit(tmp_path: Path) -> None:
    config = mixer_config("gdn2", "gdn2", num_value_heads=4, value_head_dim=8, gate_rank=12, conv_size=3)
    model = small_model(config)
    plan = import_checkpoint(save(model, tmp_path / "iter.pth"), tmp_path / "new")
    assert (plan.config.num_value_heads, plan.config.gate_rank, plan.config.conv_size) == (4, 12, 3)
    same_logits(model, tmp_path / "new")


def test_a_hybrid_with_grouped_queries_arrives_bit_for_bit(tmp_path: Path) -> None:
    model = small_model(mixer_config("gdn2", "swa", "gdn2", "swa"))
    plan = import_checkpoint(
        save(model, tmp_path / "iter.pth"), tmp_path / "new", settings=parse_settings(["window_size=16"])
    )
    assert plan.config.layers == ["gdn2", "swa", "gdn2", "swa"]
    assert (plan.config.attention_heads, plan.config.attention_kv_heads) == (4, 2)
    assert plan.assumed["attention_head_dim"] == 16
    assert plan.settings == {"window_size": 16}
    same_logits(model, tmp_path / "new")


def test_what_no_tensor_tells_is_assumed_said_and_can_be_set(tmp_path: Path) -> None:
    """The rotary share, the condensed positions, and an epsilon that the blocks keep for themselves."""
    config = mixer_config("gdn2", "swa", rope_fraction=0.5, condense_ratio=2.0, norm_eps=1e-3, mixer_norm_eps=1e-5)
    model = small_model(config)
    file = save(model, tmp_path / "iter.pth")
    assumed = plan_import(file).assumed
    assert {"rope_fraction": 1.0, "condense_ratio": 1.0, "mixer_norm_eps": 1e-5}.items() <= assumed.items()
    settings = ["window_size=16", "rotary_percentage=0.5", "condense_ratio=2", "norm_eps=1e-3"]
    plan = import_checkpoint(file, tmp_path / "new", settings=parse_settings(settings))
    assert plan.settings["rope_fraction"] == 0.5
    assert plan.config.mixer_eps == 1e-5
    same_logits(model, tmp_path / "new")


@pytest.mark.parametrize(("preset", "count"), [("gdn2_1.3B", 1302638112), ("swa_gdn2_1.3B", 1300314384)])
def test_the_published_models_fit_by_shape_and_count(preset: str, count: int) -> None:
    """All 1.3 billion parameters, without embedding, head and final norm as the paper counts; on the meta device."""
    config = GDN2Config.from_preset(preset)
    with torch.device("meta"):
        tensors = official_layout(GDN2ForCausalLM(config))
    load = cast(Any, lambda: None)
    stored: Any = UserDict({name: Stored(tuple(tensor.shape), tensor.dtype, load) for name, tensor in tensors.items()})
    stored.left_out = ()
    plan = official.plan(cast(Any, SimpleNamespace(tensors=stored, path=Path("x.pth"), config_file=None)), {})
    assert {**plan.config.to_dict(), "mixer_norm_eps": None} == config.to_dict()
    outside = 2 * config.vocab_size * config.hidden_size + config.hidden_size
    assert sum(torch.Size(stored[entry.source].shape).numel() for entry in plan.entries) - outside == count
    assert len(plan.entries) == len(tensors)


def test_names_of_wrappers_are_stripped(tmp_path: Path) -> None:
    model = small_model()
    wrapped = {f"_forward_module._orig_mod.{name}": tensor for name, tensor in official_layout(model).items()}
    torch.save(wrapped, tmp_path / "bare.pth")
    import_checkpoint(tmp_path / "bare.pth", tmp_path / "new")
    same_logits(model, tmp_path / "new")


def test_a_swiglu_whose_w2_is_the_last_matrix_is_known_by_its_shape(tmp_path: Path) -> None:
    model = small_model()
    theirs = official_layout(model)
    for index in range(2):
        mlp = f"transformer.h.{index}.mlp.swiglu."
        theirs[mlp + "w2.weight"], theirs[mlp + "w3.weight"] = theirs[mlp + "w3.weight"], theirs[mlp + "w2.weight"]
    torch.save(theirs, tmp_path / "iter.pth")
    import_checkpoint(tmp_path / "iter.pth", tmp_path / "new")
    same_logits(model, tmp_path / "new")


def test_the_folder_is_complete_and_says_where_it_came_from(tmp_path: Path) -> None:
    source = tmp_path / "run"
    source.mkdir()
    save(small_model(), source / "iter.pth")
    small_tokenizer().save_pretrained(source)
    import_checkpoint(source, tmp_path / "new", settings={"output_gate": "silu"})
    assert is_native(tmp_path / "new")
    assert (tmp_path / "new" / "tokenizer.json").is_file()
    said = json.loads((tmp_path / "new" / "import.json").read_text())
    assert (said["importer"], said["tensors_read"], said["settings"]) == ("official", 47, {"output_gate": "silu"})
    assert "output_gate" not in said["assumed"]
    assert load_checkpoint(tmp_path / "new").config.output_gate == "silu"
    with pytest.raises(CheckpointError, match="a checkpoint of this project already"):
        plan_import(tmp_path / "new")


def test_an_import_that_once_assumed_a_sigmoid_is_not_evaluated(tmp_path: Path) -> None:
    import_checkpoint(save(small_model(), tmp_path / "iter.pth"), tmp_path / "new")
    file = tmp_path / "new" / "import.json"
    said = json.loads(file.read_text())
    said["assumed"]["output_gate"] = "sigmoid"
    file.write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"import\.json: assumed\.output_gate is sigmoid"):
        load_checkpoint(tmp_path / "new")


def test_a_large_model_is_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn2.checkpoints.importers import writing

    model = small_model()
    file = save(model, tmp_path / "iter.pth")
    limit = 100_000
    monkeypatch.setattr(writing, "shards", lambda plan, split=writing.shards: split(plan, limit))
    import_checkpoint(file, tmp_path / "new")
    parts = sorted((tmp_path / "new").glob("*.safetensors"))
    assert len(parts) == 3
    assert all(part.stat().st_size < limit + 10_000 for part in parts)
    same_logits(model, tmp_path / "new")


class Touch:
    """What an attacker would put into a checkpoint."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path, how: str) -> None:
    file, touched = tmp_path / "evil.pth", tmp_path / "touched"
    content = {"model": official_layout(small_model()), "extra": Touch(touched)}
    if how == "pickle":
        file.write_bytes(pickle.dumps(Touch(touched), protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.pth: holds pickled code .*never executed") as caught:
        import_checkpoint(file, tmp_path / "new")
    assert "system" in str(caught.value)
    assert not touched.exists()
    pickle.loads(pickle.dumps(Touch(touched), protocol=2))
    assert touched.exists(), "the attack itself must work, or this test could not fail"


def broken(tmp_path: Path) -> Iterator[tuple[str, Path, str]]:
    """(what is wrong, a file, what the error must say)."""
    good = official_layout(small_model())
    q = "transformer.h.1.attn.q_proj.weight"

    def saved(name: str, content: object) -> Path:
        torch.save(content, tmp_path / f"{name}.pth")
        return tmp_path / f"{name}.pth"

    whole = saved("whole", good).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    yield "cut", tmp_path / "cut.pth", "is cut short, damaged or of another format"
    (tmp_path / "empty.pth").write_bytes(b"")
    yield "empty", tmp_path / "empty.pth", "is cut short, damaged or of another format"
    (tmp_path / "text.pth").write_text("this is no checkpoint")
    yield "text", tmp_path / "text.pth", "is cut short, damaged or of another format"
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    yield "safetensors", tmp_path / "cut.safetensors", "is cut short, damaged or of another format"
    yield "list", saved("list", [1, 2]), "holds no state dict"
    yield "no tensors", saved("numbers", {"model": {"a": 1}}), "holds no state dict"
    yield "foreign", saved("foreign", {"layer.weight": torch.ones(2)}), "of no known format .*layer.weight"
    yield "not tensors", saved("mixed", {**good, "step": 3}), "step is a int, not a tensor"
    yield "whole numbers", saved("int", {**good, q: torch.ones(32, 32, dtype=torch.int8)}), f"{q} is of type torch.int8"
    yield "missing", saved("missing", {name: good[name] for name in good if name != q}), f"1 missing: {q}"
    yield "more", saved("more", {**good, "transformer.h.1.attn.extra": torch.ones(3)}), "1 unknown: .*attn.extra"
    yield "shape", saved("shape", {**good, q: torch.ones(32, 31)}), rf"{q} is \[32, 31\] instead of \[32, 32\]"
    both = {name: tensor for name, tensor in good.items() if name != q} | {"odd": torch.ones(1)}
    yield "both", saved("both", both), f"1 missing: {q}; 1 unknown: odd"
    hole = {name: tensor for name, tensor in good.items() if ".h.0." not in name}
    yield "hole", saved("hole", hole), r"must be there for N = 0, 1, 2, ...; got \[1\]"
    nan = {**good, q: torch.full((32, 32), float("nan"))}
    yield "nan", saved("nan", nan), f"{q} holds values that are NaN or infinite"
    headless = {name: tensor for name, tensor in good.items() if not name.endswith("A_log")}
    yield "no A_log", saved("headless", headless), "there is no transformer.h.N.attn.A_log"


def test_what_does_not_fit_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    for what, file, message in broken(tmp_path):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint(file, tmp_path / "new")
        assert not [path for path in tmp_path.iterdir() if "new" in path.name], what


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = save(small_model(), tmp_path / "iter.pth")
    (tmp_path / "new").mkdir()
    with pytest.raises(CheckpointError, match="exists already and is not overwritten"):
        import_checkpoint(file, tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("norm_eps", "write FIELD=VALUE"),
        ("norm_epsilon=1", "no field 'norm_epsilon'"),
        ("output_gate=gelu", "output_gate must be"),
        ("num_heads=3", "num_value_heads must be a multiple of num_heads"),
        ("intermediate_size=65", r"6 of another shape: transformer.h.0.mlp.swiglu.w1.weight is \[64, 32\]"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = save(small_model(), tmp_path / "iter.pth")
    with pytest.raises(CheckpointError, match=message):
        plan_import(file, parse_settings([text]))


def test_settings_are_numbers_words_and_null() -> None:
    parsed = parse_settings(["norm_eps=1e-6", "erase_range=2", "output_gate=silu", "rope_theta=null", "num_heads=4"])
    assert parsed == {"norm_eps": 1e-6, "erase_range": 2.0, "output_gate": "silu", "rope_theta": None, "num_heads": 4}
    assert isinstance(parsed["erase_range"], float)
