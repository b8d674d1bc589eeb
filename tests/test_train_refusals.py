"""What a training refuses before it begins: one line that names the file and the field, and nothing lost."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from trials import LINE, Trial

from gdn2.checkpoints import load_checkpoint
from gdn2.train import export, loop
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    return Trial(tmp_path, capsys)


def put(recipe: dict[str, Any], place: str, value: Any) -> None:
    """Set a field by a dotted name."""
    *above, last = place.split(".")
    inside: Any = recipe
    for name in above:
        inside = inside[int(name) if name.isdigit() else name]
    inside[last] = value


class TestRecipes:
    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            ("name", "../elsewhere", "name must be letters"),
            ("name", 5, "name must be a text, got 5"),
            ("name", None, "name must be a text, got nothing"),
            ("seed", 1 << 64, "seed must be a whole number from"),
            ("seed", -(1 << 300), "got a number of more than 80 digits"),
            ("seed", True, "seed must be a whole number, got True"),
            ("sead", 3, "the recipe has no field 'sead'; did you mean 'seed'"),
            (5, 3, "a field that is no name: 5"),
            ("text", "x", "no field 'text'"),
            ("data", [], "data must be a mapping of fields, got a list"),
            ("data.train", 5, "data.train must be a text"),
            ("data.train", "nowhere.jsonl", "nowhere.jsonl: text not found"),
            ("data.heldout", "nowhere.jsonl", "nowhere.jsonl: text not found"),
            ("data.heldout", "\0", "data.heldout has a control character"),
            ("tokenizer.vocab_size", -5, "tokenizer.vocab_size must be a whole number from 257 to 65536, got -5"),
            ("tokenizer.vocab_size", 10**9, "tokenizer.vocab_size"),
            ("tokenizer.documents", 0, "tokenizer.documents"),
            ("tokenizer.digits", 9, "tokenizer.digits"),
            (
                "optimizer.learning_rate",
                float("nan"),
                "learning_rate must be a number above 0 to 10, got nan",
            ),
            ("optimizer.learning_rate", "fast", "optimizer.learning_rate must be a number, got 'fast'"),
            ("optimizer.learning_rate", "1e-3", "only behind a point: 1.0e-3"),
            ("optimizer.learning_rate", 1e30, "optimizer.learning_rate"),
            ("optimizer.beta2", 1, "optimizer.beta2"),
            ("optimizer.warmup", 2, "optimizer has no field 'warmup'; did you mean 'warmup_share' or 'warmup_steps'"),
            ("model", None, "model must be a mapping"),
            ("model", {5: 6}, "model has a field that is no name: 5"),
            ("model.vocab_size", 9, "model.vocab_size follows from the tokenizer"),
            ("model.torch_dtype", "float16", "model.torch_dtype does nothing in a training; `precision` is what"),
            ("model.architectures", ["x"], "model.architectures does nothing in a training; remove it"),
            ("model.head_dims", 9, "no field 'head_dims'"),
            ("model.head_dim", "8", "model: "),
            ("model.head_dim", 10**9, "model: "),
            ("model.max_position_embeddings", 63, "63 is the training length, and stages have rows of 64 tokens"),
            ("model.num_hidden_layers", 10**6, "model.num_hidden_layers must be at most"),
            ("stages", [], "stages must be a list"),
            ("stages.0.steps", 0, "stages[0].steps must be a whole number from 1"),
            ("stages.0.steps", -5, "stages[0].steps must be a whole number from 1"),
            ("stages.0.rows", 0, "stages[0].rows"),
            ("stages.0.length", 0, "stages[0].length"),
            ("stages.0.length", 5, "stages[0].length: none of 100 retrieval documents fits in 5 tokens"),
            ("stages.0.length", 5000, "stages[0].length: rows of 5,000 tokens need a training text of over"),
            ("stages.0.max_keys", 900, "stages[0].max_keys: 900 keys need more words"),
            ("stages.0.retrieval", 1.5, "stages[0].retrieval"),
            ("stages.0", {"steps": 1, "rows": 70000, "length": 1, "retrieval": 0}, "stages[0].rows"),
            ("stages.0", {"steps": 1, "rows": 60000, "length": 60000, "retrieval": 0}, "tokens a step"),
            ("stages.0", {"rows": 1}, "stages[0] lacks the field 'steps'"),
            ("save_every", 0, "save_every must be a whole number from 1"),
            ("log_every", 2.5, "log_every must be a whole number, got 2.5"),
            ("about", "\x1b]0;title\x07", "about has a control character"),
        ],
    )
    def test_a_field_that_cannot_be_followed_is_named(self, trial: Trial, place: Any, value: Any, message: str) -> None:
        if (isinstance(place, str) and not place.startswith("stages.0")) or place == "stages":
            put(trial.recipe, place, value)
        elif place == "stages.0":
            trial.recipe["stages"][0] = value
        elif isinstance(place, str):
            trial.recipe["stages"][0][place.rpartition(".")[2]] = value
        else:
            trial.recipe[place] = value
        assert message in trial.refused()
        assert not trial.out.exists()
        assert not (trial.work / "state.pt").exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"name: Z\xfcrich\n", "recipe.yaml:1: not UTF-8"),
            ("", "the file must be a mapping of fields, got nothing"),
            ("- 1", "the file must be a mapping of fields, got a list"),
            ("name: [", "recipe.yaml:1:8: not valid YAML"),
            ("name: a\nname: b\n", "recipe.yaml:2:1: not valid YAML: the field 'name' is given twice"),
            ("a: &a [*a]\n", "*a refers to itself"),
            ("[" * 100_000, "nested deeper"),
            ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)), "aliases"),
            ('name: "\\ud800"\n', "half a character"),
        ],
    )
    def test_a_file_that_is_no_recipe_is_named(self, trial: Trial, text: str | bytes, message: str) -> None:
        assert message in trial.refused(text)

    def test_a_byte_order_mark_is_no_part_of_a_recipe(self, trial: Trial) -> None:
        assert trial.run("\ufeff" + yaml.safe_dump(trial.recipe)) == 0

    @pytest.mark.parametrize(("said", "trained"), [(None, 96), (96, 96), (500, 500)])
    def test_a_model_is_trained_at_its_longest_rows_unless_it_says_a_longer_length(
        self, trial: Trial, said: int | None, trained: int
    ) -> None:
        trial.recipe["model"] |= {} if said is None else {"max_position_embeddings": said}
        trial.recipe["stages"].append({"steps": 1, "rows": 1, "length": 96, "retrieval": 0})
        assert trial.run() == 0
        assert load_checkpoint(trial.out).config.max_position_embeddings == trained

    def test_heads_may_be_wider_than_the_model(self, trial: Trial) -> None:
        trial.recipe["model"]["head_dim"] = 48
        assert trial.run() == 0

    def test_no_generated_recipe_ends_in_anything_but_a_line(
        self, trial: Trial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every field in turn gets values of every kind: a recipe is followed or refused."""
        monkeypatch.setattr(export, "HELDOUT_PARAGRAPHS", 1)
        trial.recipe["stages"][0].update(steps=1, rows=1, retrieval=0)
        places = list(_places(trial.recipe))
        values: list[Any] = [None, True, -1, 0, 1, 2, 7, 10**12, 1 << 70, 0.5, float("nan"), float("inf")]
        values += ["", "x", "1e-3", [], [1], {}, {"a": 1}, {1: 2}, "\u2028", "\x00", "é" * 500]
        rng, original, codes = random.Random(5), copy.deepcopy(trial.recipe), []
        for trial_number in range(100):
            trial.recipe = copy.deepcopy(original)
            trial.out, trial.work = trial.folder / f"o{trial_number}", trial.folder / f"w{trial_number}"
            for place in rng.sample(places, rng.choice([1, 1, 2])):
                inside: Any = trial.recipe
                try:
                    for name in place[:-1]:
                        inside = inside[name]
                    inside[rng.choice([place[-1], place[-1], "extra"])] = rng.choice(values)
                except (TypeError, KeyError, IndexError):  # the first change took the second's place away
                    continue
            codes.append(trial.run(yaml.safe_dump(trial.recipe, allow_unicode=True)))
        assert set(codes) == {0, 2}


def _places(value: Any, above: tuple[Any, ...] = ()) -> Any:
    """Every field at every depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in items:
        yield (*above, name)
        yield from _places(below, (*above, name))


class TestData:
    @pytest.mark.parametrize("name", ["train", "heldout"])
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "no "),
            (b'{"text": ""}\n', "no "),
            (LINE.encode() + b'{"text": "Z\xfcrich"}\n', ".jsonl:2: not UTF-8"),
            (LINE.encode() + b"{\n", ".jsonl:2: not JSON"),
            (LINE.encode() + b'{"text": 5}\n', '.jsonl:2: expected a JSON object with a "text"'),
            (b"[" * 100_000, ".jsonl:1: nested too deeply"),
            (b'{"text": "a \\ud800"}\n', ".jsonl:1: \\ud800 is half a character"),
        ],
    )
    def test_text_that_cannot_be_used_is_named_before_training(
        self, trial: Trial, name: str, data: bytes, message: str
    ) -> None:
        (trial.folder / f"{name}.jsonl").write_bytes(data)
        said = trial.refused()
        assert name in said
        assert message in said
        assert not (trial.work / "state.pt").exists()

    def test_held_out_text_is_another_file_by_whatever_name(self, trial: Trial) -> None:
        (trial.folder / "link.jsonl").symlink_to("train.jsonl")
        for name in ("train.jsonl", "link.jsonl", "../" + trial.folder.name + "/train.jsonl"):
            trial.recipe["data"]["heldout"] = f"{trial.folder}/{name}"
            assert "data.heldout is the file of data.train" in trial.refused()

    def test_text_without_words_for_keys_is_named(self, trial: Trial) -> None:
        (trial.folder / "train.jsonl").write_text('{"text": "天地玄黃宇宙洪荒"}\n' * 400)
        assert "more words than the 0 of 4 to 9 letters" in trial.refused()

    def test_lines_end_at_newlines_only(self, trial: Trial) -> None:
        text = json.dumps({"text": "one\u2028two"}, ensure_ascii=False)
        (trial.folder / "lines.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n" + text.encode())
        assert list(export.read_texts(trial.folder / "lines.jsonl")) == ["one\u2028two"] * 2

    def test_held_out_text_without_spaces_has_a_card(self, trial: Trial) -> None:
        (trial.folder / "heldout.jsonl").write_text(json.dumps({"text": "天地玄黃" * 100}) + "\n")
        assert trial.run() == 0
        assert "| inf |" in (trial.out / "README.md").read_text()


class TestFolders:
    def test_nothing_is_overwritten(self, trial: Trial) -> None:
        trial.out.mkdir()
        (trial.out / "config.json").write_text("precious")
        assert "out: exists already, and training never overwrites" in trial.refused()
        assert not (trial.work / "state.pt").exists()
        assert [file.name for file in trial.out.iterdir()] == ["config.json"]

    def test_without_out_the_recipes_folder_is_left_alone(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(trial.folder)
        trial.file.write_text(yaml.safe_dump(trial.recipe))
        before = set(trial.folder.iterdir())
        assert main([str(trial.file)]) == 0
        assert {path.name for path in set(trial.folder.iterdir()) - before} == {"runs"}
        assert (trial.folder / "runs" / "small" / "checkpoint" / "model.safetensors").is_file()
        assert main([str(trial.file)]) == 2  # finished, and still there

    def test_places_that_cannot_be_used_are_named(self, trial: Trial) -> None:
        trial.out = Path("/proc/nothing/out")
        assert "/proc/nothing/out: cannot be written" in trial.refused()
        trial.out = trial.folder / "train.jsonl"
        assert "exists already" in trial.refused()
        trial.out = trial.folder / "link"
        trial.out.symlink_to(trial.folder / "gone")
        assert "exists already" in trial.refused()
        trial.out, trial.work = trial.folder / "both", trial.folder / "both" / "work"
        assert "the work folder cannot lie in the checkpoint's" in trial.refused()
        trial.work = trial.folder / "train.jsonl"
        assert "train.jsonl: cannot be used as the work folder" in trial.refused()

    @pytest.mark.parametrize("option", ["--out", "--work"])
    def test_a_folder_needs_a_name(self, trial: Trial, option: str) -> None:
        assert f"argument {option}: a file or folder needs a name" in trial.refused(None, option, "")

    def test_an_export_that_fails_loses_nothing(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(export.os, "rename", full)
            assert "No space left on device); the trained state is kept" in trial.refused()
        assert not trial.out.exists()
        assert not [path for path in trial.folder.iterdir() if path.name.startswith(".")]
        steps = []
        monkeypatch.setattr(loop, "backward", lambda *_: steps.append(1))
        assert trial.run() == 0
        assert not steps
