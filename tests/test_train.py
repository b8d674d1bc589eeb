"""The trainer: a pure function of its recipe, whether or not it was interrupted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TEXT
from transformers import AutoTokenizer

from gdn2.checkpoints import load_checkpoint
from gdn2.train import corpus as corpus_module
from gdn2.train import loop
from gdn2.train import tokenizer as train_tokenizer_module
from gdn2.train.__main__ import main
from gdn2.train.batches import ANSWER, BatchMaker
from gdn2.train.corpus import load_corpus
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import load_recipe
from gdn2.train.retrieval import draw_document
from gdn2.train.tokenizer import train_tokenizer

RECIPE = """
name: small
seed: 3
data: {train: DATA/train.jsonl, heldout: DATA/heldout.jsonl}
tokenizer: {vocab_size: 420, documents: 50, digits: 2}
model: {hidden_size: 32, num_hidden_layers: 1, num_heads: 1, head_dim: 16, intermediate_size: 32}
optimizer: {learning_rate: 1.0e-2, warmup_steps: 2}
stages:
  - {steps: 4, rows: 4, length: 96, retrieval: 0.5, max_keys: 2}
  - {steps: 4, rows: 2, length: 128, retrieval: 0.5}
log_every: 2
save_every: 2
"""


@pytest.fixture(autouse=True)
def quick_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers repeated just so often that their groups still become tokens of this little text."""
    monkeypatch.setattr(train_tokenizer_module, "NUMBER_REPEATS", 500)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rng = random.Random(0)
    words = TEXT.replace("\n", " ").split()
    lines = [json.dumps({"title": str(i), "text": " ".join(rng.choices(words, k=60))}) + "\n" for i in range(80)]
    (tmp_path / "train.jsonl").write_text("".join(lines[:70]))
    (tmp_path / "heldout.jsonl").write_text("".join(lines[70:]))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("DATA", str(tmp_path)))
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder).state_dict()


def test_training_makes_a_checkpoint_with_log_and_card(recipe: Path, tmp_path: Path) -> None:
    assert main([str(recipe), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 0
    model = load_checkpoint(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == model.config.vocab_size
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [2, 4, 6, 8]
    assert log[-1]["text_loss"] < log[0]["text_loss"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 96 | 4 | 4 | 50% | 2 |" in card
    assert "gdn2/zoo" not in card
    assert "On the first 10 held-out paragraphs, of heldout.jsonl" in card
    assert " paragraphs of train.jsonl, " in card
    assert " minutes of steps on a CPU, whatever else ran there |" in card
    assert (tmp_path / "out" / "recipe.yaml").read_text() == recipe.read_text()
    assert "unigram over its tokens" in card


@pytest.mark.parametrize(
    ("retrieval", "said", "unsaid"),
    [
        (("0", ""), "There were no retrieval documents.", "gdn2/train/"),
        (("0.5", "own"), "gdn2/train/facts.py", "RULER"),
        (("0.5", "ruler"), "the wording of RULER's needle tasks", "facts.py"),
    ],
)
def test_a_card_says_of_retrieval_documents_what_there_was(
    recipe: Path, tmp_path: Path, retrieval: tuple[str, str], said: str, unsaid: str
) -> None:
    share, wording = retrieval
    stages = f"[{{steps: 1, rows: 2, length: 160, retrieval: {share}, wording: {wording or 'ruler'}}}]"
    text = recipe.read_text()
    before, after = text[: text.index("stages:")], text[text.index("log_every") :]
    recipe.write_text(f"{before}stages: {stages}\n{after}")
    assert main([str(recipe), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert said in card
    assert unsaid not in card
    assert "never seen" not in card  # of whatever an evaluation asks nothing is known here


def test_a_recipe_can_train_rivals_and_hybrids(recipe: Path, tmp_path: Path) -> None:
    rivals = "num_hidden_layers: 3, layers: [kda, mamba3_mimo, attention], attention_heads: 2"
    recipe.write_text(recipe.read_text().replace("num_hidden_layers: 1", rivals))
    assert main([str(recipe), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 0
    assert load_checkpoint(tmp_path / "out").config.layers == ["kda", "mamba3_mimo", "attention"]
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["text_loss"] < log[0]["text_loss"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| layers | 1 kda, 1 mamba3_mimo, 1 attention |" in card
    assert "and the keys and values of full attention" in card


def test_an_interrupted_run_ends_with_the_same_weights(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(recipe), "--out", str(tmp_path / "whole"), "--work", str(tmp_path / "a")]) == 0
    original, calls = loop.backward, []

    def dies_at_the_sixth(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(loop, "backward", dies_at_the_sixth)
    assert main([str(recipe), "--out", str(tmp_path / "cut"), "--work", str(tmp_path / "b")]) == 130
    assert not (tmp_path / "cut").exists()
    assert main([str(recipe), "--out", str(tmp_path / "cut"), "--work", str(tmp_path / "b")]) == 0
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert len(calls) == 10  # step 5 was not saved, so it ran twice; step 6 had not run
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in "ab"]
    whole_losses, cut_losses = ([entry["text_loss"] for entry in log] for log in logs)
    assert whole_losses == cut_losses


def test_a_folder_of_another_recipe_is_refused(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(recipe), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    assert main(arguments) == 0
    recipe.write_text(recipe.read_text().replace("seed: 3", "seed: 4"))
    arguments[2] = str(tmp_path / "another")
    assert main(arguments) == 2
    assert "belongs to another recipe" in capsys.readouterr().err


def test_a_batch_depends_on_recipe_and_step_only(recipe: Path) -> None:
    parsed = load_recipe(recipe)
    train_path, _ = parsed.data.paths()
    tokenizer = train_tokenizer([TEXT] * 20, 420, 2)
    corpus = load_corpus(train_path, tokenizer)
    corpus.key_words.extend(["river", "valley", "magic"])
    first, second = BatchMaker(parsed, corpus, tokenizer), BatchMaker(parsed, corpus, tokenizer)
    for step in (5, 2):
        a, b = first.batch(step), second.batch(step)
        assert torch.equal(a.input_ids, b.input_ids)
        assert torch.equal(a.is_answer, b.is_answer)
        assert a.input_ids.shape == (parsed.stage_of(step).rows, parsed.stage_of(step).length)
        assert torch.equal(a.input_ids[:, 1:], a.targets[:, :-1])
    assert not torch.equal(first.batch(0).input_ids, first.batch(1).input_ids)


def test_text_is_tokenised_some_at_a_time_into_the_same_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["", "The quick brown fox", "", "", "jumps over the lazy dog. " * 9, "It is 4071398.", ""]
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer = train_tokenizer([TEXT] * 20, 420, 2)
    whole = load_corpus(path, tokenizer)
    expected = [i for text in texts for i in (tokenizer.eos_token_id, *tokenizer.encode(text))]
    assert whole.stream.tolist() == expected
    for together in (1, 50, 150, 400):
        monkeypatch.setattr(corpus_module, "TOGETHER", together)
        assert [text for some in corpus_module._batches(texts) for text in some] == texts
        sizes = [
            sum(len(text) + corpus_module.OF_A_TEXT for text in some)
            for some in corpus_module._batches(texts)
            if some[1:]
        ]
        assert max(sizes, default=0) <= together
        assert load_corpus(path, tokenizer).fingerprint == whole.fingerprint


def test_every_answer_stands_in_its_document() -> None:
    rng = random.Random(1)
    for _ in range(200):
        segments = draw_document(rng, 400, 3, ["river", "valley", "north"], ["A sentence."], lambda t: len(t) // 3)
        text = "".join(segment.text for segment in segments)
        answers = [segment.text for segment in segments if segment.is_answer]
        assert answers
        for answer in answers:
            assert text.count(answer.strip()) == 2  # planted once, given once


def test_only_answers_of_retrieval_documents_are_learned(recipe: Path) -> None:
    parsed = load_recipe(recipe)
    tokenizer = train_tokenizer([TEXT] * 20, 420, 2)
    corpus = load_corpus(parsed.data.paths()[0], tokenizer)
    corpus.key_words.extend(["river", "valley", "magic"])
    batch = BatchMaker(parsed, corpus, tokenizer).batch(0)
    assert batch.is_answer[:2].any(1).all()
    assert not batch.is_answer[2:].any()
    assert batch.is_text[2:].all()
    assert ANSWER == 2
    decoded = tokenizer.decode(batch.targets[0][batch.is_answer[0]])
    assert any(character.isdigit() for character in decoded)


def test_learning_rate_warms_up_and_falls(recipe: Path) -> None:
    parsed = load_recipe(recipe)
    rates = [loop.learning_rate(step, parsed) for step in range(8)]
    assert rates[0] == pytest.approx(0.5e-2)
    assert max(rates) == rates[1]
    assert rates[-1] == pytest.approx(0.05e-2)


def test_recipes_of_the_zoo_can_be_read() -> None:
    zoo = Path(__file__).parent.parent / "gdn2" / "zoo"
    recipes = sorted(zoo.glob("*/recipe.yaml"))
    assert recipes
    for path in recipes:
        assert load_recipe(path).name == path.parent.name
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(zoo / "nothing.yaml")
