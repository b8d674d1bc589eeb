"""`check`: the loss is the one that training means, and a mistake of an import is found by name."""

from __future__ import annotations

import itertools
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fakes import TEXT, mixer_config, small_model, small_tokenizer

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.checkpoints.loss import Window, mean_loss, windows
from gdn2.checkpoints.variants import interleaved, variants, with_variant
from harness.checkpoints.reproduction import CheckOptions, check, make_stream, read_documents
from harness.cli.main import main
from harness.errors import UserError

LENGTH = 32
tokenizer = lru_cache(small_tokenizer)  # which is trained


def loss_token_by_token(model: GDN2ForCausalLM, ids: list[int], length: int) -> float:
    """Slow and obviously right: each token after the first, from what its window has before it."""
    total = 0.0
    for position in range(1, len(ids)):
        start = (position - 1) // length * length
        logits = model(torch.tensor([ids[start:position]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[position]])
    return total / (len(ids) - 1)


def save(folder: Path, model: GDN2ForCausalLM) -> Path:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def text_file(folder: Path) -> Path:
    file = folder / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def options(checkpoint: Path, text: Path, expected: float, **changes: Any) -> CheckOptions:
    fields: dict[str, Any] = {"length": LENGTH, "tolerance": 1e-4, "batch_size": 3, "device": "cpu"}
    return CheckOptions(checkpoint=str(checkpoint), text=text, expect_loss=expected, **{**fields, **changes})


def true_loss(model: GDN2ForCausalLM) -> float:
    ids = list(tokenizer().encode(TEXT))
    return mean_loss(model, ids, windows(len(ids), LENGTH)).mean


def test_windows_predict_every_token_but_the_first_once() -> None:
    assert windows(8, 3) == [Window(0, 4), Window(3, 7), Window(6, 8)]
    for num_tokens in range(2, 12):
        for length in range(1, 12):
            predicted = [at for window in windows(num_tokens, length) for at in range(window.start + 1, window.stop)]
            assert predicted == list(range(1, num_tokens))
    with pytest.raises(ValueError, match="needs two tokens"):
        windows(1, 4)


def test_the_loss_is_that_of_reading_token_by_token() -> None:
    model = small_model(mixer_config("gdn2", "swa"))
    ids = list(tokenizer().encode(TEXT))
    with torch.no_grad():
        expected = loss_token_by_token(model, ids, LENGTH)
    for batch_size in (1, 4):
        found = mean_loss(model, ids, windows(len(ids), LENGTH), batch_size=batch_size)
        assert found.num_tokens == len(ids) - 1
        assert found.mean == pytest.approx(expected, abs=1e-5)


def test_the_logits_of_a_long_window_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    whole = true_loss(model)
    monkeypatch.setattr("gdn2.checkpoints.loss.POSITIONS", 5)
    assert true_loss(model) == pytest.approx(whole, abs=1e-6)


def test_a_reported_loss_is_reproduced_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    model = small_model()
    folder, text, expected = save(tmp_path / "model", model), text_file(tmp_path), true_loss(model)
    result = check(options(folder, text, expected))
    assert result.reproduces
    assert not result.hints
    num_bytes = len(TEXT.encode())
    assert result.bits_per_byte == pytest.approx(expected * result.num_tokens / num_bytes / math.log(2))
    assert not check(options(folder, text, expected + 3e-4, hints=False)).reproduces


CONFIGS: dict[str, GDN2Config] = {
    "gdn2": mixer_config("gdn2", "gdn2"),
    "hybrid": mixer_config("gated_deltanet", "swa", "gated_deltanet", "swa"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_mistake_changes_the_loss_and_is_its_own(name: str) -> None:
    """No two variants have the same loss, so the one that reproduces a loss is the mistake."""
    model = small_model(CONFIGS[name])
    losses = sorted(
        [true_loss(model), *(true_loss(with_variant(model, one)) for one in variants(cast(GDN2Config, model.config)))]
    )
    assert len(losses) == {"gdn2": 7, "hybrid": 10}[name]
    assert all(after - before > 1e-6 for before, after in itertools.pairwise(losses))


@pytest.mark.parametrize(
    "mistake",
    [
        "output_gate = sigmoid",
        "erase_range = 2.0",
        "SwiGLU's gate and up matrices swapped",
        "erase and write projections swapped",
        "taps of the convolutions reversed",
    ],
)
def test_a_mistake_is_found_by_name(tmp_path: Path, mistake: str) -> None:
    """A checkpoint imported with one mistake; the reported loss is that of the right model."""
    right = small_model()
    variant = next(one for one in variants(cast(GDN2Config, right.config)) if one.name == mistake)
    wrong = save(tmp_path / "wrong", with_variant(right, variant))
    result = check(options(wrong, text_file(tmp_path), true_loss(right)))
    assert not result.reproduces
    undone = {"output_gate = sigmoid": "output_gate = silu", "erase_range = 2.0": "erase_range = 1.0"}
    assert [hint.name for hint in result.hints if hint.reproduces] == [undone.get(mistake, mistake)]
    assert result.hints[0].reproduces


def test_rotary_pairs_of_neighbours_are_a_reordering_of_rows() -> None:
    """Attention by hand with channels 2i and 2i + 1 rotated together, against ours on reordered weights."""
    config = mixer_config("attention", attention_qk_norm=False)
    model = small_model(config)
    mixer = model.model.layers[0].mixer
    size, T = config.attention_head_dim, 9
    assert size is not None
    assert config.rope_theta is not None
    x = torch.randn(1, T, config.hidden_size, generator=torch.Generator().manual_seed(2))
    angle = torch.arange(T)[:, None] * config.rope_theta ** (-torch.arange(0, size, 2) / size)

    def rotated(heads: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-2)

    with torch.no_grad():
        q, k, v = (layer(x).unflatten(-1, (-1, size)) for layer in (mixer.q_proj, mixer.k_proj, mixer.v_proj))
        q, k = rotated(q), rotated(k).repeat_interleave(2, dim=2)
        scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(size)
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf).softmax(-1)
        expected = mixer.o_proj(torch.einsum("bhts,bshd->bthd", scores, v.repeat_interleave(2, dim=2)).flatten(2))
        model.load_state_dict(interleaved(dict(model.state_dict()), config))
        state = mixer.empty_state(1)
        from gdn2.padding import Positions

        found, _ = mixer(x, state, None, Positions.after(torch.zeros(1, dtype=torch.long), T, None))
    assert (found - expected).abs().max() < 1e-5


def test_hints_on_a_long_text_are_estimated_and_the_best_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.checkpoints.reproduction.HINT_TOKENS", 40)
    right = small_model()
    variant = next(iter(variants(cast(GDN2Config, right.config))))
    wrong = save(tmp_path / "wrong", with_variant(right, variant))
    result = check(options(wrong, text_file(tmp_path), true_loss(right)))
    assert result.hints[0].exact
    assert result.hints[0].reproduces
    assert not all(hint.exact for hint in result.hints)


def test_documents_stand_behind_their_prefix(tmp_path: Path) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_text('{"text": "The fox"}\n\n{"text": "A dog", "id": 3}\n', encoding="utf-8")
    fox, dog = (tokenizer().encode(text, add_special_tokens=False) for text in ("The fox", "A dog"))
    documents = read_documents(file)
    assert make_stream(tokenizer(), documents, "none").ids == fox + dog
    assert make_stream(tokenizer(), documents, "bos").ids == [0, *fox, 0, *dog]
    assert make_stream(tokenizer(adds_bos=True), documents, "tokenizer").ids == [0, *fox, 0, *dog]


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        (b"", ".txt", "holds no text"),
        (b"\xff\xfe\xfa", ".txt", "not UTF-8"),
        (b"", ".jsonl", "holds no text"),
        (b'{"text": "a"}\n{"t": 1}', ".jsonl", ":2: expected an object"),
        (b"[1]", ".jsonl", ":1: expected an object"),
        (b'{"text": "a"}\n\n{"text": 5}', ".jsonl", ":3: expected an object"),
        (b'{"text": "a"}\n{', ".jsonl", ":2: not JSON"),
        (b'{"text": "a"}\n{"text": "\\ud800"}', ".jsonl", ":2: .* is half a character"),
        (b"[" * 100_000, ".jsonl", "nested too deeply"),
        (None, ".txt", "cannot be read"),
    ],
)
def test_bad_texts_are_named(tmp_path: Path, content: bytes | None, suffix: str, message: str) -> None:
    file = tmp_path / f"text{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_documents(file)


def test_a_mark_is_no_text_and_lines_end_at_newlines_only(tmp_path: Path) -> None:
    file = tmp_path / "docs.jsonl"
    file.write_bytes('\ufeff{"text": "Z\u00fcrich\u2028and\u0085on"}\r\n{"text": "b"}\r\n'.encode())
    assert read_documents(file) == ["Z\u00fcrich\u2028and\u0085on", "b"]
    plain = tmp_path / "text.txt"
    plain.write_bytes("\ufeffZ\u00fcrich\u2028\r\n".encode())
    assert read_documents(plain) == ["Z\u00fcrich\u2028\n"]


def trained_elsewhere(folder: Path, importer: str) -> tuple[Path, GDN2ForCausalLM]:
    """A checkpoint as an import leaves it, whose tokenizer adds BOS."""
    model = small_model()
    model.save_pretrained(folder)
    tokenizer(adds_bos=True).save_pretrained(folder)
    (folder / "import.json").write_text(json.dumps({"importer": importer}))
    return folder, model


def test_a_prefix_that_is_a_guess_is_said_and_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = trained_elsewhere(tmp_path / "official", "official")
    result = check(options(folder, text_file(tmp_path), true_loss(model), hints=False))
    assert "is a guess" in str(result.guess)
    assert sorted(result.beside) == ["eos", "none"]
    assert result.beside["none"] == pytest.approx(true_loss(model), abs=1e-5)
    assert result.beside["eos"] == pytest.approx(result.loss, abs=1e-6)  # its BOS is its EOS
    command = ["check", str(folder), "--text", str(tmp_path / "text.txt"), "--length", str(LENGTH), "--no-hints"]
    assert main([*command, "--expect-loss", "5", "--device", "cpu"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "by --context-prefix none" in printed
    assert "is a guess for a checkpoint of the GDN-2 training code" in printed
    for folder_, prefix in ((folder, "bos"), (trained_elsewhere(tmp_path / "fla", "fla")[0], "tokenizer")):
        sure = check(options(folder_, tmp_path / "text.txt", 5, hints=False, context_prefix=prefix))
        assert (sure.guess, sure.beside) == (None, {})


def test_the_command_exits_with_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, text, expected = save(tmp_path / "model", small_model()), text_file(tmp_path), true_loss(small_model())
    command = ["check", str(folder), "--text", str(text), "--length", str(LENGTH), "--device", "cpu"]
    assert main([*command, "--expect-loss", str(expected)]) == 0
    assert "reproduces the loss" in capsys.readouterr().out
    assert main([*command, "--expect-loss", str(expected + 1), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert not printed["reproduces"]
    assert printed["difference"] == pytest.approx(-1)
    assert main([*command, "--expect-loss", str(expected + 1)]) == 1
    assert "does not reproduce" in capsys.readouterr().out
    assert main([*command, "--expect-loss", "-1"]) == 2
    assert "argument --expect-loss: must be a number above 0" in capsys.readouterr().err
    assert main([*command, "--expect-loss", "1", "--tolerance", "0"]) == 2
    assert main([*command, "--expect-loss", "1", "--num-tokens", "0"]) == 2
