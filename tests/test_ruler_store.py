"""Samples on disk and samples by several processes are the samples that one process makes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruler_data import write_ruler_data
from task_data import train_tokenizer

from tasks.data import DataNotStaged
from tasks.errors import TaskError
from tasks.ruler import store
from tasks.ruler.build import build, make_generator
from tasks.ruler.pool import cell, prepare
from tasks.ruler.spec import RulerSpec


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer("bytes")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(write_ruler_data(tmp_path / "data")))
        patch.setenv("GDN2_CACHE", str(tmp_path / "cache"))
        yield tmp_path


def spec(**fields: Any) -> RulerSpec:
    return RulerSpec.parse({"task": "niah_single_2", "length": 600, **fields})


def files() -> list[Path]:
    return sorted(path for path in store.folder().glob("*") if path.is_file())


@pytest.mark.parametrize("generator", ["exact", "nvidia", "lm-eval"])
def test_stored_samples_are_the_samples_and_serve_smaller_runs(tokenizer: Any, generator: str) -> None:
    fields: dict[str, Any] = {"task": "niah_multikey_2", "length": 1024, "generator": generator}
    made = make_generator(fields, tokenizer).samples(6)
    wanted = RulerSpec.parse(fields)
    assert cell(wanted, tokenizer, context_prefix="none", count=6) == made
    (file,) = files()
    assert store.load_samples(wanted, tokenizer, "none", 6) == made
    assert store.load_samples(wanted, tokenizer, "none", 4) == made[:4]
    assert store.load_samples(wanted, tokenizer, "none", 7) is None
    changed = file.stat().st_mtime_ns
    assert build(fields, tokenizer=tokenizer, context_prefix="none", max_samples=3)["test"][:]["index"] == [0, 1, 2]
    assert file.stat().st_mtime_ns == changed


def test_an_entry_belongs_to_everything_that_samples_depend_on(tokenizer: Any, own_folders: Path) -> None:
    cell(spec(), tokenizer, context_prefix="none", count=2)
    for other in (spec(seed=1), spec(length=601), spec(task="niah_single_3"), spec(generator="nvidia")):
        assert store.load_samples(other, tokenizer, "none", 2) is None
    assert store.load_samples(spec(), tokenizer, "bos", 2) is None
    assert store.load_samples(spec(), train_tokenizer("metaspace"), "none", 2) is None
    assert store.load_samples(spec(samples=2), tokenizer, "none", 2) is not None
    essays = own_folders / "data" / "essays.json"
    essays.write_text(essays.read_text().replace("The", "That"))
    assert store.load_samples(spec(), tokenizer, "none", 2) is None


def test_a_damaged_entry_is_made_anew(tokenizer: Any) -> None:
    made = cell(spec(), tokenizer, context_prefix="none", count=3)
    (file,) = files()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    cut = gzip.compress(b"".join(gzip.decompress(whole).splitlines(keepends=True)[:-1]))
    for content in (b"", b"no gzip", whole[:-30], bytes(flipped), cut, gzip.compress(b"[]\n")):
        file.write_bytes(content)
        assert store.load_samples(spec(), tokenizer, "none", 3) is None
        assert cell(spec(), tokenizer, context_prefix="none", count=3) == made
        assert store.load_samples(spec(), tokenizer, "none", 3) == made
    assert files() == [file]


def test_a_folder_that_cannot_be_written_is_no_error(tokenizer: Any, own_folders: Path) -> None:
    (own_folders / "cache").write_text("a file stands in the way")
    assert len(cell(spec(), tokenizer, context_prefix="none", count=2)) == 2


def test_large_cells_are_not_stored(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_TOKENS", 1000)
    cell(spec(), tokenizer, context_prefix="none", count=2)
    assert files() == []


@pytest.mark.slow
def test_samples_do_not_depend_on_the_number_of_processes(tokenizer: Any, own_folders: Path) -> None:
    alone = make_generator({"task": "niah_single_2", "length": 600}, tokenizer).samples(9)
    assert cell(spec(), tokenizer, context_prefix="none", count=9, processes=2) == alone
    tokenizer.save_pretrained(own_folders / "tokenizer")
    cells = [{"task": task, "length": 1024, "samples": 3, "generator": "nvidia"} for task in ("niah_single_1", "vt")]
    prepare(cells, str(own_folders / "tokenizer"), context_prefix="none", processes=2)
    assert len(files()) == 3
    for fields in cells:
        stored = store.load_samples(RulerSpec.parse(fields), tokenizer, "none", 3)
        assert stored == make_generator(fields, tokenizer, context_prefix="none").samples(3)


class MuteTokenizer:
    def encode(self, text: str, **_: Any) -> list[int]:  # noqa: ARG002
        return []


def test_bad_tokenizers_and_data_are_named(tokenizer: Any, own_folders: Path) -> None:
    with pytest.raises(TaskError, match="encodes text to no tokens at all"):
        make_generator({"task": "vt", "length": 1024}, MuteTokenizer())
    (own_folders / "data" / "essays.json").write_text('{"essays": []}')
    with pytest.raises(DataNotStaged, match=r'essays.json is not an object with the essays as "text"'):
        make_generator({"task": "niah_single_2", "length": 1024}, tokenizer)
    (own_folders / "data" / "squad.json").write_text('{"data": [{"title": "x"}]}')
    with pytest.raises(DataNotStaged, match=r"squad.json: not the layout of squad"):
        make_generator({"task": "qa_1", "length": 1024}, tokenizer)
