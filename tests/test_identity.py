"""What changes a result is in an identity, and what does not leaves identities as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint

from harness.lm.model import GDN2LM
from harness.paths import LEADERBOARD, ZOO
from harness.records.protocol import Protocol, TaskProtocol
from harness.runs import resolve, runner
from harness.runs.options import RunOptions
from tasks import data


def shipped() -> tuple[dict[str, Any], Protocol]:
    record = json.loads(next(LEADERBOARD.glob("gdn2-tiny/*_760098a2/record.json")).read_text())
    fields = record["protocol"]
    tasks = tuple(TaskProtocol(**task) for task in fields["tasks"])
    return record, Protocol(**{**fields, "tasks": tasks})


def test_the_shipped_record_keeps_its_hashes() -> None:
    record, protocol = shipped()
    assert protocol.hash == record["protocol_hash"]
    model = GDN2LM(str(ZOO / "gdn2-tiny"))
    info = model.get_model_info()
    assert info["tokenizer_sha256"] == protocol.tokenizer_sha256
    assert info["checkpoint_sha256"] == record["model"]["checkpoint_sha256"]
    assert "further_end_ids" not in info
    assert "tokenizer_note" not in info


def test_the_command_of_the_shipped_record_still_gives_its_hash_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dtype is chosen, and the protocol holds what was chosen."""
    record, _ = shipped()
    declared = {name: entry.get("sha256") for name, entry in data.sources()["files"].items()}
    monkeypatch.setattr(resolve, "_check_data", lambda *_: None)
    monkeypatch.setattr(runner.cells, "data_hashes", lambda task: {name: declared[name] for name in task.data})
    options = RunOptions(checkpoint="gdn2-tiny", suite="ruler_table3", samples=100, output=tmp_path, device="cpu")
    assert options.dtype == "auto"
    info = GDN2LM(str(ZOO / "gdn2-tiny"), dtype=options.dtype).model_info()
    protocol = runner.protocol_of(resolve.resolve_run(options), info)
    said = {**record["protocol"], "lm_eval": protocol.lm_eval}  # of this machine
    assert protocol.as_dict() == said
    assert protocol.dtype == "float32"


@pytest.mark.parametrize(("ends", "further"), [(0, []), (7, [7]), ([0, 9, 7], [7, 9]), (None, [])])
def test_further_ends_of_text_are_in_the_protocol(tmp_path: Path, ends: object, further: list[int]) -> None:
    folder = small_checkpoint(tmp_path)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ends}))
    info = GDN2LM(str(folder)).get_model_info()
    assert list(info.get("further_end_ids", ())) == further
    _, protocol = shipped()
    other = replace(protocol, further_end_ids=tuple(further))
    assert (other.hash == protocol.hash) == (not further)


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json", "chat_template.jinja"]
)
def test_requests_are_kept_by_what_the_tokenizer_is_and_not_by_where(tmp_path: Path, file: str) -> None:
    one, two = small_checkpoint(tmp_path / "one"), small_checkpoint(tmp_path / "two")
    name = GDN2LM(str(one)).tokenizer_name
    assert GDN2LM(str(two)).tokenizer_name == name
    assert GDN2LM(str(two), context_prefix="bos").tokenizer_name != name
    with (two / file).open("a") as stream:
        stream.write("{}" if file == "added_tokens.json" else " ")
    assert GDN2LM(str(two)).tokenizer_name != name
