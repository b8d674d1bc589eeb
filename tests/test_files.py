"""Files of users: read as they are meant, or refused with their name and line; written whole or not at all."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from basis.errors import FileError, UserError
from basis.files import load_json, load_yaml, parse_yaml, read_text, replacing, split_lines, write_atomically
from basis.yaml_loader import GuardedLoader

ROOT = Path(__file__).resolve().parent.parent
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "given.txt"


class TestErrors:
    def test_every_error_that_a_user_can_mend_has_one_base(self) -> None:
        from gdn2.checkpoints import CheckpointError
        from harness.errors import UserError as seen_by_the_harness
        from tasks.data import DataNotStaged
        from tasks.errors import TaskError

        assert seen_by_the_harness is UserError
        for kind in (FileError, CheckpointError, TaskError, DataNotStaged):
            assert issubclass(kind, UserError)
            assert str(kind("its message")) == "its message"

    def test_what_every_package_needs_is_light(self) -> None:
        code = (
            "import sys, basis.files, basis.errors; print([m for m in ('yaml', 'torch', 'numpy') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "[]"


class TestText:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"\xef\xbb\xbfZ\xc3\xbcrich\r\nBern\n", "Zürich\nBern\n"),
            ("one\u2028still one\x0b\x85\n".encode(), "one\u2028still one\x0b\x85\n"),
            (b"a\rb", "a\rb"),
            (b"", ""),
        ],
    )
    def test_only_marks_and_line_ends_are_taken_away(self, file: Path, data: bytes, text: str) -> None:
        file.write_bytes(data)
        assert read_text(file) == text

    def test_lines_end_at_newlines_only(self) -> None:
        assert split_lines("a\u2028b\r\nc\x0c\rd\n\ne\n") == ["a\u2028b", "c\x0c\rd", "", "e"]
        assert split_lines("") == []
        assert split_lines("last") == ["last"]

    def test_what_cannot_be_read_is_named(self, file: Path, tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"given\.txt: cannot be read \(No such file"):
            read_text(file)
        with pytest.raises(FileError, match=r"cannot be read \(it is a folder"):
            read_text(tmp_path)
        file.write_bytes(b"fine\nZ\xfcrich\n")
        with pytest.raises(FileError, match=r"given\.txt:2: not UTF-8 \(byte 0xfc\)"):
            read_text(file)
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="no regular file"):
            read_text(tmp_path / "pipe")
        with pytest.raises(FileError, match="cannot be read"):
            read_text(Path("a\0b"))


class TestJson:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", ":1: not JSON"),
            ('{"a": 1,\n "b": }', ":2: not JSON"),
            ("[" * 100_000 + "]" * 100_000, ":1: nested too deeply"),
            ('{"a":\n "\\ud800"}', r":2: \\ud800 is half a character"),
            ('["\\udc00\\ud83d"]', r":1: \\udc00 is half"),
            ('["\\ud83d and more"]', r":1: \\ud83d is half"),
            ('["\\ud83d\\n\\ude00"]', r":1: \\ud83d is half"),
            ("[" + "9" * 5000 + "]", ": not JSON that can be read"),
        ],
    )
    def test_what_is_not_json_is_named_with_its_line(self, file: Path, text: str, message: str) -> None:
        file.write_text(text)
        with pytest.raises(FileError, match=r"given\.txt" + message):
            load_json(file)

    def test_whole_characters_and_marks_are_read(self, file: Path) -> None:
        file.write_bytes(b'\xef\xbb\xbf["\\ud83d\\ude00", "\\\\ud800", Infinity]')
        assert load_json(file) == ["😀", "\\ud800", float("inf")]


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [", r":1:5: not valid YAML"),
            (BOMB, r":\d+:\d+: .*aliases stand for over 10,000 values"),
            ("a: 1\nb: &b [*b]", r":2:8: .*\*b refers to itself"),
            ("b: &b {c: {d: *b}}", r"\*b refers to itself"),
            ("[" * 100_000, "nested deeper than 100 levels"),
            ("".join(" " * i + "a:\n" for i in range(3000)), "nested deeper than 100 levels"),
            ("- " * 100_000, "nested deeper than 100 levels"),
            ("a: 1\nb: 2\na: 3", r":3:1: .*'a' is given twice"),
            ("a: {b: 1, b: 2}", "'b' is given twice"),
            ('a: "\\ud800"', r":1:4: .*half a character"),
            ('a: "\\UFFFFFFFF"', ":1: not valid YAML"),
            ("a: 1\nb: \x00", r":2: not valid YAML"),
            ("a: 2023-13-45", r":1:4: .*type timestamp"),
            ("a: !!int nothing", r":1:4: .*type int"),
            ("a: !!bool nothing", r":1:4: .*type bool"),
            ("a: !!python/object:os.system x", r":1:4: "),
            ("? [1]\n: 2", r":1:3: .*unhashable"),
            ("--- 1\n--- 2", r"not valid YAML: but found another document"),
            ("a: *nowhere", r":1:4: .*undefined alias"),
            ("%YAML 3.0\n---\n1", "not valid YAML"),
            ("a: " + "9" * 5000, r":1:4: .*type int"),
        ],
    )
    def test_what_is_not_yaml_or_would_hurt_is_named_with_its_line(self, file: Path, text: str, message: str) -> None:
        file.write_text(text)
        started = time.monotonic()
        with pytest.raises(FileError, match=r"given\.txt.*" + message) as caught:
            load_yaml(file)
        assert time.monotonic() - started < 5
        assert "\n" not in str(caught.value)

    def test_ordinary_files_are_read(self, file: Path) -> None:
        file.write_bytes(
            "\ufeffbase: &base {a: 1, b: Zürich}\nmore: {<<: *base, a: 2}\nlist: [*base, *base]\n".encode()
        )
        both = {"a": 1, "b": "Zürich"}
        assert load_yaml(file) == {"base": both, "more": both | {"a": 2}, "list": [both, both]}
        file.write_text("")
        assert load_yaml(file) is None

    def test_a_loader_can_know_more_tags(self, file: Path) -> None:
        class Loader(GuardedLoader):
            pass

        Loader.add_constructor("!function", lambda loader, node: ("function", loader.construct_scalar(cast(Any, node))))
        file.write_text("a: !function here.it\n")
        assert load_yaml(file, Loader) == {"a": ("function", "here.it")}
        with pytest.raises(FileError, match="!function"):
            load_yaml(file)

    def test_no_mangled_text_ends_in_anything_else(self) -> None:
        rng = random.Random(7)
        pieces = [
            *"[]{}:,-?&*!|>%@`#'\"\\ \n\t",
            "a",
            "1",
            "<<",
            "&a ",
            "*a",
            "!!int ",
            "!!set ",
            "- ",
            ": ",
            "é",
            "\x85",
        ]
        pieces += [
            "---\n",
            "...\n",
            "~",
            "0x",
            "1e9",
            "=",
            "!!binary ",
            "!!pairs ",
            "!!omap ",
            '"\\u',
            "2001-01-01",
            "\0",
        ]
        unread = 0
        for _ in range(400):
            try:
                parse_yaml("".join(rng.choices(pieces, k=rng.randint(1, 12))), "given")
            except FileError:
                unread += 1
        assert 100 < unread < 400  # the pieces make both kinds


class TestWriting:
    def test_a_file_is_replaced_whole(self, file: Path, tmp_path: Path) -> None:
        write_atomically(file, "é\n")
        write_atomically(file, b"bytes")
        assert file.read_bytes() == b"bytes"
        assert list(tmp_path.iterdir()) == [file]

    def test_a_failure_leaves_what_was_there(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text("old")

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(FileError, match=r"given\.txt: cannot be written \(No space left on device\)"):
            write_atomically(file, "new")
        assert file.read_text() == "old"
        assert list(file.parent.iterdir()) == [file]

    def test_a_device_is_written_to_and_stays_a_device(self) -> None:
        write_atomically(Path("/dev/null"), "text")
        assert Path("/dev/null").is_char_device()
        with pytest.raises(FileError, match="/dev/full: cannot be written"):
            write_atomically(Path("/dev/full"), "text")

    def test_a_pipe_of_this_process_is_written_to(self) -> None:
        """As /dev/stdout is in a shell's pipeline; it resolves to a name that is no path."""
        reads, writes = os.pipe()
        write_atomically(Path(f"/dev/fd/{writes}"), "table\n")
        assert os.read(reads, 100) == b"table\n"
        os.close(reads)
        os.close(writes)

    def test_what_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "absent" / "file", Path("a\0b")):
            with pytest.raises(FileError, match="cannot be written"):
                write_atomically(path, "text")

    def test_a_links_target_is_replaced(self, file: Path, tmp_path: Path) -> None:
        file.write_text("old")
        link = tmp_path / "link"
        link.symlink_to(file)
        write_atomically(link, "new")
        assert link.is_symlink()
        assert file.read_text() == "new"


def test_the_safe_loader_would_have_swelled() -> None:
    """The guard is what refuses the bomb: PyYAML alone reads it."""
    assert len(yaml.safe_load(BOMB)["a9"]) == 9


def test_what_takes_a_files_place_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "state.bin"
    for content, sync in ((b"first", True), (b"second", False)):
        with replacing(file, sync=sync) as temporary:
            temporary.write_bytes(content)
            assert not file.exists() or file.read_bytes() == b"first"
        assert file.read_bytes() == content
    with pytest.raises(RuntimeError), replacing(file) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert file.read_bytes() == b"second"
    with pytest.raises(FileNotFoundError), replacing(file):
        pass  # nothing was written
    assert [path.name for path in tmp_path.iterdir()] == ["state.bin"]
