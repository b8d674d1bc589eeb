"""Tokenizers as they lie in folders: one tokenisation, nothing cut, appended or drawn, and what is damaged is named."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from fakes import TEXT, small_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from basis.errors import UserError
from harness.lm.encoding import TextEncoder
from tasks.errors import TaskError
from tasks.text import tokenizers as module
from tasks.text.tokenizer_loading import PROBES, files_read, read_tokenizer, tokenizer_note
from tasks.text.tokenizers import TokenCounter, load_tokenizer, prefix_ids


@lru_cache
def byte_level() -> str:
    return str(small_tokenizer().backend_tokenizer.to_str())


def llama() -> Tokenizer:
    """Pieces with a fallback to bytes, as Llama 2's tokenizer.json."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *map(chr, range(97, 123))]
    tokenizer = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "The": 3, "green": 4, "fox": 5}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


MAKERS: dict[str, Any] = {"byte-level": lambda: Tokenizer.from_str(byte_level()), "llama": llama, "words": words}


def write(folder: Path, backend: Tokenizer, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    known = backend.get_vocab()
    special = {"bos_token": "<s>", "eos_token": "</s>"} if "<s>" in known else {"eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, **config}))
    return folder


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("kind", MAKERS)
def test_what_tokenizer_json_says_about_cutting_filling_and_chance_is_put_back(tmp_path: Path, kind: str) -> None:
    plain, text = MAKERS[kind](), " ".join(["The green fox"] * 40)
    expected = plain.encode(text, add_special_tokens=False).ids
    plain.enable_truncation(7)
    plain.enable_padding(length=900)
    if kind != "words":
        plain.model.dropout = 0.5
    tokenizer = read_tokenizer(write(tmp_path, plain), "x")
    assert TokenCounter(tokenizer).count(text) == len(expected) > 100
    for _ in range(3):
        assert ids(tokenizer, text) == expected
    assert TextEncoder(tokenizer, "tokenizer").encode(text) == expected


@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"),
    [("qwen2", "PreTrainedTokenizerFast"), ("llama", "Qwen2Tokenizer"), (None, "T5Tokenizer"), (None, "BertTokenizer")],
)
def test_tokenizer_json_counts_whatever_class_the_configuration_asks_for(
    tmp_path: Path, model_type: str | None, tokenizer_class: str
) -> None:
    backend = Tokenizer.from_str(byte_level())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    folder = write(tmp_path, backend, tokenizer_class=tokenizer_class)
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer = read_tokenizer(folder, "x")
    for text in (*PROBES, TEXT):
        assert ids(tokenizer, text) == backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.eos_token == "<|endoftext|>"


def test_another_tokenizer_than_that_of_tokenizer_json_is_passed_over_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, Tokenizer.from_str(byte_level()))
    assert tokenizer_note(read_tokenizer(folder, "x")) is None
    other = PreTrainedTokenizerFast(tokenizer_object=words(), unk_token="<unk>")
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: other)
    tokenizer = read_tokenizer(folder, "x")
    assert ids(tokenizer, TEXT) == Tokenizer.from_str(byte_level()).encode(TEXT).ids
    assert "what transformers chooses for this folder encodes 'The grass" in str(tokenizer_note(tokenizer))
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.from_pretrained", lambda *_, **__: other)
    with pytest.raises(TaskError, match=r"tokenizer\.json: the tokenizer that transformers makes of it encodes"):
        read_tokenizer(folder, "x")


@pytest.mark.parametrize("before", [["<s>"], [], ["<s>", "</s>"]])
@pytest.mark.parametrize("behind", ["</s>", "<s>"])
@pytest.mark.parametrize("kind", ["llama", "words"])
def test_nothing_is_ever_appended(tmp_path: Path, kind: str, before: list[str], behind: str) -> None:
    backend = MAKERS[kind]()
    plain = backend.encode("green fox", add_special_tokens=False).ids
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", behind]), special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer = read_tokenizer(write(tmp_path, backend), "x")
    front = [{"<s>": 1, "</s>": 2}[token] for token in before]
    assert prefix_ids(tokenizer) == prefix_ids(tokenizer, "lm-eval") == front
    encoder = TextEncoder(tokenizer, "tokenizer")
    assert encoder.encode("green fox") == [*front, *plain]
    context, target, apart = encoder.pair("green", " fox")
    assert context + target == [*front, *plain]
    assert not apart
    assert target


def test_a_prefix_of_two_tokens_is_not_doubled_and_never_scored(tmp_path: Path) -> None:
    backend = words()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="</s> <s> $A", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    encoder = TextEncoder(read_tokenizer(write(tmp_path, backend), "x"), "tokenizer")
    plain = encoder.encode("The green fox", prefixed=False)
    for spelled in ("", "</s><s>", "<s>"):
        assert encoder.encode(f"{spelled}The green fox")[-4:] == [1, *plain]
    assert encoder.encode("</s><s>The green fox") == encoder.encode("The green fox") == [2, 1, *plain]
    assert encoder.windows("The green fox", 8) == [([2, 1], plain)]
    assert encoder.windows("</s><s>The green fox", 8) == [([2, 1], plain)]
    targets = [target for _, target in encoder.windows("The green fox " * 4, 5)]
    assert [token for target in targets for token in target] == plain * 4
    assert all(len(context + target) <= 6 for context, target in encoder.windows("The green fox " * 4, 5))
    assert encoder.pair("", "fox") == ([2, 1], [5], False)
    with pytest.raises(UserError, match="leaves no room behind a context prefix of 2 tokens"):
        encoder.windows("The fox", 1)


@pytest.mark.parametrize(
    "model",
    [models.WordLevel({"<unk>": 0, "</s>": 1}, "<unk>"), models.BPE({"<unk>": 0, "</s>": 1}, [], unk_token="<unk>")],
)
def test_a_tokenizer_that_knows_no_text_is_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(TaskError, match="turns every text into its token for unknown text, '<unk>'"):
        read_tokenizer(write(tmp_path, Tokenizer(model), bos_token=None), "x")


DAMAGED = [b"", b"{", b"[1, 2]", b"null", b'"text"', b"not json", b"\xff\xfe{}", b"{}", b'{"a": 1}', b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED, ids=[repr(content[:8]) for content in DAMAGED])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, file: str, content: bytes) -> None:
    folder = write(tmp_path, words())
    (folder / file).write_bytes(content)
    if file != "tokenizer.json" and content in (b"{}", b'{"a": 1}'):
        return
    with pytest.raises(UserError) as error:
        load_tokenizer(folder)
    assert str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_its_unknown_token_is_refused(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"</s>": 0, "fox": 1}, "<unk>"))
    with pytest.raises(UserError, match=r"tokenizer\.json: cannot encode 'The grass"):
        read_tokenizer(write(tmp_path, backend, bos_token=None), "x")


def test_half_a_tokenizer_json_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, words())
    whole = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"tokenizer\.json:\d+: not JSON"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text(json.dumps({**json.loads(whole), "model": {"type": "New"}}))
    with pytest.raises(UserError, match=r"tokenizer\.json: describes no tokenizer"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["gdn2-tinny", "owner/never-there", "a b", "x" * 200, "owner/x/y", ""])
def test_a_name_that_is_not_here_is_refused_without_the_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asks the network"))
    with pytest.raises(TaskError, match="no such folder"):
        module.load_tokenizer(name)


def test_every_file_that_a_class_reads_is_in_a_tokenizers_hash(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = read_tokenizer(write(tmp_path, words()), "x")
    assert {"tokenizer.json", "added_tokens.json", "chat_template.jinja"} <= set(files_read(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "grass"]))
    (tmp_path / "tokenizer.json").unlink()
    assert "vocab.txt" in files_read(AutoTokenizer.from_pretrained(tmp_path))


def test_a_token_is_one_object_wherever_texts_have_it() -> None:
    """A list takes 8 bytes for an id that it has in common with others and 40 for one of its own."""

    class Numbers:
        bos_token_id, eos_token_id = None, 0

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            return [int(word) for word in text.split()]

    encoder = TextEncoder(Numbers(), "none")
    one, other = (encoder.encode("70001 70002 70001", prefixed=False) for _ in range(2))
    assert one == other == [70001, 70002, 70001]
    assert len({id(token) for token in one + other}) == 2
