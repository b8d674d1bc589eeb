"""What is finished is on disk, whole or not at all; entries of another model or protocol never come back."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import zlib
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import small_checkpoint
from safetensors.torch import save_file

from harness.engine import journal as journals
from harness.engine import journal_lines
from harness.engine.asked import Asked
from harness.engine.journal import Journal
from harness.engine.journal_lines import line_of
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.errors import UserError
from harness.records.record import read_record

ROOT = Path(__file__).resolve().parent.parent
ME = {"checkpoint_sha256": "abc", "dtype": "float32", "protocol": "p"}
RESULTS: dict[str, Any] = {"one": (-0.1 - 1e-17, True), "two": [5, 0, 7], "three": (-1e300, False), "four": []}


def written(path: Path) -> Path:
    journal = Journal(path, ME)
    for key, result in RESULTS.items():
        journal.add({key: result})
    journal.close()
    return path


def known(path: Path, identity: dict[str, Any] | None = None) -> dict[str, Any]:
    journal = Journal(path, identity or ME)
    found = {key: journal.get(key) for key in RESULTS if key in journal}
    journal.close()
    return found


def test_what_was_added_is_there_again_to_the_last_bit(tmp_path: Path) -> None:
    assert known(written(tmp_path / "deep" / "journal.jsonl")) == RESULTS


def test_ids_are_held_in_eight_bytes_each_and_read_once_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = list(range(1000, 3000))
    journal = Journal(tmp_path / "j", ME)
    journal.add({f"key {number}": ids for number in range(50)})
    journal.close()
    parsed: list[bytes] = []
    parse = journal_lines._parse

    def counted(line: bytes) -> Any:
        parsed.append(line)
        return parse(line)

    monkeypatch.setattr(journal_lines, "_parse", counted)
    read = Journal(tmp_path / "j", ME)
    assert len(parsed) == 52  # with both headers
    for each in (journal, read):
        assert each.get("key 49") == ids
        held = [memoryview(kept).nbytes for kept in each._entries.values() if isinstance(kept, array)]
        assert held == [len(ids) * 8] * 50
    read.close()


@pytest.mark.parametrize("field", ME)
def test_a_journal_of_another_model_dtype_or_protocol_is_refused(tmp_path: Path, field: str) -> None:
    path = written(tmp_path / "journal.jsonl")
    with pytest.raises(UserError, match=f"another {field} .* they are not mixed"):
        known(path, {**ME, field: "other"})
    assert known(path) == RESULTS


def test_a_tail_that_was_cut_short_anywhere_is_removed_and_nothing_else(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal.jsonl").read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for size in sorted({0, 1, *range(5, len(whole), 7), *(end + shift for end in ends for shift in (-1, 0))}):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:size])
        complete = sum(end <= size for end in ends) - 2  # without the first two, which say whose they are
        assert known(path) == dict(list(RESULTS.items())[: max(complete, 0)])
        journal = Journal(path, ME)
        assert journal.cut == 0  # it was repaired when it was opened before
        journal.add({"five": [1]})
        journal.close()
        again = Journal(path, ME)
        assert "five" in again
        again.close()


def test_another_file_or_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "journal.jsonl")
    monkeypatch.setattr(journals, "SCHEMA", 1)
    with pytest.raises(UserError, match="schema 2 is newer"):
        known(path)


def test_two_runs_never_write_one_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal.jsonl", ME)
    with pytest.raises(UserError, match="another run of the same checkpoint and protocol is writing it"):
        Journal(tmp_path / "journal.jsonl", ME)
    first.close()
    Journal(tmp_path / "journal.jsonl", ME).close()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .* choose another --output"):
        Journal(tmp_path / "file" / "journal.jsonl", ME)


def test_a_full_disk_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "journal.jsonl")
    journal = Journal(path, ME)
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data)[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(UserError, match="No space left on device"):
        journal.add({"five": [1, 2, 3]})
    monkeypatch.setattr(os, "write", write)
    journal.add({"six": [4]})
    journal.close()
    again = Journal(path, ME)
    assert "five" not in again
    assert again.get("six") == [4]
    assert {key: again.get(key) for key in RESULTS} == RESULTS


def test_equal_requests_are_run_once_and_known_ones_not_at_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", ME)
    a, b, same = ScoreRequest([1], [2, 3]), ScoreRequest([1, 2], [3]), ScoreRequest([1], [2, 3])
    told: list[int] = []
    asked = Asked([a, b, same], journal, lambda index, _: told.append(index))
    assert asked.distinct == [a, b]
    assert asked.finish({0: (-1.0, True)}) == 2
    assert told == [0, 2]
    assert Asked([b, a], journal, lambda *_: None).found == {1: (-1.0, True)}


def test_a_key_tells_apart_all_that_a_result_depends_on() -> None:
    end, other = frozenset({0}), frozenset({0, 1})
    requests: list[ScoreRequest | GenerateRequest] = [
        ScoreRequest([1], [2, 3]),
        ScoreRequest([1, 2], [3]),
        GenerateRequest([1, 2, 3], 5, end),
        GenerateRequest([1, 2, 3], 6, end),
        GenerateRequest([1, 2, 3], 5, other),
        GenerateRequest([1, 2, 3], 5, end, ("a",)),
        GenerateRequest([1, 2, 3], 5, end, (), ("a",)),
        GenerateRequest([1, 2, 3], 5, end, ("a", "b")),
        GenerateRequest([1, 2, 3], 5, end, ("ab",)),
    ]
    assert len({request.key() for request in requests}) == len(requests)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_samples(tmp_path: Path) -> None:
    """kill -9 in the middle of a task, as soon as a few requests are finished; then the same command again."""
    checkpoint = small_checkpoint(tmp_path / "small")
    command = [sys.executable, "run_eval.py", "run", str(checkpoint), "--tasks", "niah_single_1@512", "--samples", "24"]
    command += ["--batch-size", "2", "--batch-tokens", "1024", "--device", "cpu", "--output"]
    whole = _folder_of(subprocess.run([*command, str(tmp_path / "a")], cwd=ROOT, capture_output=True, check=True))
    process = subprocess.Popen([*command, str(tmp_path / "b")], cwd=ROOT, stdout=-3, stderr=-3)
    finished = 0
    while finished < 5 and process.poll() is None:
        time.sleep(0.02)
        for file in (tmp_path / "b").rglob("journal.jsonl"):
            finished = file.read_bytes().count(b'"ids":')
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run([*command, str(tmp_path / "b")], cwd=ROOT, capture_output=True, check=True, text=True)
    assert "finished requests of an interrupted run are taken up" in again.stderr
    resumed = _folder_of(again)
    (ours,), (theirs,) = resumed.glob("samples_*"), whole.glob("samples_*")
    assert ours.read_text() == theirs.read_text()
    a, b = (read_record(folder / "record.json") for folder in (whole, resumed))
    assert a.cells[0].scores == b.cells[0].scores
    assert b.cells[0].tokens == a.cells[0].tokens
    assert not list((tmp_path / "b").rglob("journal.jsonl"))


def _folder_of(process: subprocess.CompletedProcess[Any]) -> Path:
    (record,) = Path(process.args[-1]).rglob("record.json")
    return record.parent


def flipped(path: Path, at: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("bit", [1, 16, 128])
def test_a_flipped_bit_anywhere_loses_its_line_only(tmp_path: Path, bit: int) -> None:
    whole = written(tmp_path / "journal.jsonl").read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    lines = dict(zip(RESULTS, pairwise(ends[1:]), strict=True))  # behind two that say whose they are
    for at in [*range(0, len(whole), 31), *(end - 1 for end in ends)]:
        path = tmp_path / "flipped.jsonl"
        path.write_bytes(whole)
        flipped(path, at, bit)
        kept = {key: RESULTS[key] for key, (start, end) in lines.items() if not start <= at < end}
        assert known(path).items() >= kept.items(), at
        journal = Journal(path, ME)
        journal.add({"five": [1]})
        journal.close()
        assert known(path).items() >= kept.items(), at


def test_a_file_that_does_not_say_whose_it_is_is_set_aside_and_kept(tmp_path: Path) -> None:
    for number, content in enumerate((b"a file of the user's own\n", b"no end of a line", line_of({"schema": True}))):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(content)
        assert known(path) == {}
        assert path.with_name(f"{number}.jsonl.unknown").read_bytes() == content
        journal = Journal(path, ME)
        journal.add({"one": (-1.0, True)})
        journal.close()
        assert known(path) == {"one": (-1.0, True)}


def test_a_journal_of_schema_1_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    former: list[Any] = [{"schema": 1, **ME}, *([key, list(result)] for key, result in RESULTS.items())]
    path.write_bytes(b"".join(map(line_of, former)))
    assert known(path) == RESULTS
    assert known(path) == RESULTS
    with pytest.raises(UserError, match="another protocol"):
        known(path, {**ME, "protocol": "other"})


def test_entries_of_another_kind_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "journal.jsonl")
    odd: list[Any] = [5, None, "text", [], {}, ["one"], ["one", None], [["one"], [1]]]
    odd += [["one", "text"], ["one", [True, False]]]
    odd += [{"key": "one"}, {"key": 1, "ids": []}, {"key": "one", "ids": [1.5]}, {"key": "one", "ids": [-1]}]
    odd += [{"key": "one", "score": [1]}, {"key": "one", "score": ["a", True]}, {"key": "one", "score": None}]
    odd += [{"spent_on": "x", "seconds": -1}, {"spent_on": "x", "seconds": True}]
    deep = b"[" * 100_000
    with path.open("ab") as file:
        file.write(b"".join(map(line_of, odd)) + b"%08x %s\n" % (zlib.crc32(deep), deep))
    assert known(path) == RESULTS
    assert f"{len(odd) + 1} damaged lines are passed over" in caplog.text


def test_a_result_of_another_kind_than_was_asked_for_is_asked_again(tmp_path: Path) -> None:
    score, text = ScoreRequest([1], [2]), GenerateRequest([1], 5, frozenset({0}))
    journal = Journal(tmp_path / "journal.jsonl", ME)
    journal.add({score.key(): [1, 2], text.key(): (-1.0, True)})
    assert Asked([score], journal, lambda *_: None).found == {}
    assert Asked([text], journal, lambda *_: None).found == {}


def test_a_pipe_or_a_folder_is_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UserError, match="no regular file"):
            Journal(tmp_path / name, ME)


def test_what_was_spent_before_a_kill_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(journals.time, "monotonic", lambda: now[0])
    journal = Journal(tmp_path / "journal.jsonl", ME)
    journal.begin("task")
    now[0] = 107.0
    journal.add({"one": [1]})
    now[0] = 109.0  # lost: nothing was finished since
    journal._drop()  # as a kill does
    again = Journal(tmp_path / "journal.jsonl", ME)
    again.begin("other")
    assert again.end() == 0
    again.begin("task")
    now[0] = 112.0
    assert again.end() == 10.0
    again.close()
    assert Journal(tmp_path / "journal.jsonl", ME)._spent == {"other": 0.0, "task": 10.0}


def test_what_is_under_way_of_another_kind_is_generated_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", ME)
    snapshots = journal.snapshots({0: "one"})
    assert snapshots is not None
    for rows, finished in (
        ("5", "{}"),
        ("[5]", "{}"),
        ('[["one", ["a"]]]', "{}"),
        ("[]", "[]"),
        ("[]", '{"one": 5}'),
        ('[["one", [1]]]', "{}"),
        ("not JSON", "{}"),
    ):
        about = {"identity": snapshots.identity, "rows": rows, "finished": finished}
        save_file({"hidden": torch.zeros(3, 4), "lengths": torch.zeros(3)}, snapshots.path, metadata=about)
        found = snapshots.load(torch.device("cpu"), [0])
        assert (found.ready, found.ids, found.finished) == (None, {}, {}), rows
    journal.close()
