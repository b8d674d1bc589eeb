"""How steps are computed: in parts, in half precision, recomputed; devices; batches ahead; what the log says of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fakes import small_config, small_model
from trials import Trial

from gdn2.checkpoints import load_checkpoint
from gdn2.train import loop
from gdn2.train import place as places
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.batches import Batch
from gdn2.train.feed import Feed, cut
from gdn2.train.initial import initialise
from gdn2.train.loop import learning_rate, operations_a_token
from gdn2.train.place import Place
from gdn2.train.recipe import InitialSpec, load_recipe


@pytest.fixture
def trial(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setattr(tokenizer_module, "NUMBER_REPEATS", 20)
    trial = Trial(tmp_path, capsys)
    trial.recipe["stages"][0] = {"steps": 3, "rows": 4, "length": 64, "retrieval": 0.5, "max_keys": 1}
    return trial


def trained(trial: Trial, name: str, **sections: Any) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The log and the state's weights of a training with more sections."""
    trial.recipe = {**trial.recipe, **sections}
    trial.out, trial.work = trial.folder / f"{name}-out", trial.folder / f"{name}-work"
    assert trial.run() == 0
    log = [json.loads(line) for line in (trial.work / "log.jsonl").read_text().splitlines()]
    return log, torch.load(trial.work / "state.pt", weights_only=True)["model"]


class TestSteps:
    def test_parts_of_a_step_give_the_whole_step_to_rounding(self, trial: Trial) -> None:
        log, weights = trained(trial, "whole")
        for parts in (2, 4):
            other_log, other = trained(trial, f"in{parts}", compute={"accumulation": parts})
            for entry, again in zip(log, other_log, strict=True):
                assert again["text_loss"] == pytest.approx(entry["text_loss"], abs=2e-4)
                assert again["answer_loss"] == pytest.approx(entry["answer_loss"], abs=2e-4)
            assert all((other[name] - x).abs().max() < 1e-4 for name, x in weights.items())

    def test_recomputed_blocks_change_nothing(self, trial: Trial) -> None:
        _, weights = trained(trial, "kept")
        _, again = trained(trial, "recomputed", compute={"checkpointing": True, "device": "cpu"})
        assert all(torch.equal(again[name], x) for name, x in weights.items())

    def test_half_precision_keeps_float32_weights_and_comes_near(self, trial: Trial) -> None:
        log, _ = trained(trial, "float32")
        halved, weights = trained(trial, "bfloat16", compute={"precision": "bfloat16"})
        assert {x.dtype for x in weights.values()} == {torch.float32}
        further, _ = trained(trial, "residual", compute={"precision": "bfloat16", "residual": "bfloat16"})
        losses = [[entry["text_loss"] for entry in found] for found in (log, halved, further)]
        assert losses[0] != losses[1] != losses[2]
        assert losses[1] == pytest.approx(losses[0], rel=5e-3)
        assert losses[2] == pytest.approx(losses[0], rel=1e-2)

    def test_muon_takes_the_matrices_of_blocks_and_goes_on_where_it_was(
        self, trial: Trial, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trial.recipe["optimizer"]["name"] = "muon"
        _, weights = trained(trial, "whole")
        optimizers = torch.load(trial.work / "state.pt", weights_only=True)["optimizer"]
        matrices = [x for name, x in weights.items() if x.ndim == 2 and "embed" not in name and "lm_head" not in name]
        assert len(optimizers["0"]["state"]) == len(matrices)
        assert all(set(state) == {"momentum_buffer"} for state in optimizers["0"]["state"].values())
        saved = trial.folder / "cut-work"
        with monkeypatch.context() as patch:
            patch.setattr("gdn2.train.loop.SAVE_SECONDS", 0.0)
            calls: list[int] = []

            def dies(*args: Any) -> Any:
                calls.append(1)
                if len(calls) == 3:
                    raise KeyboardInterrupt
                return original(*args)

            original = loop.backward
            patch.setattr(loop, "backward", dies)
            trial.out, trial.work = trial.folder / "cut-out", saved
            assert trial.run() == 130
        _, again = trained(trial, "cut")
        assert all(torch.equal(again[name], x) for name, x in weights.items())

    def test_a_pytorch_without_muon_is_named(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(torch.optim, "Muon", raising=False)
        trial.recipe["optimizer"]["name"] = "muon"
        assert "has no Muon; install 2.9 or newer, or choose adamw" in trial.refused()


class TestFields:
    @pytest.mark.parametrize(
        ("section", "fields", "message"),
        [
            ("compute", {"device": "cuda:7"}, "there is no cuda:7, this machine has"),
            (
                "compute",
                {"device": "gpu"},
                "compute.device: no device is called 'gpu'; choose auto, cpu, cuda or cuda:N",
            ),
            ("compute", {"device": "cuda:x"}, "no device is called 'cuda:x'"),
            ("compute", {"device": "cpu:1"}, "no device is called 'cpu:1'"),
            ("compute", {"precision": "float16"}, "compute.precision must be one of float32, bfloat16, got 'float16'"),
            ("compute", {"checkpointing": 1}, "compute.checkpointing must be true or false, got 1"),
            ("compute", {"accumulation": 3}, "stages[0].rows: 4 rows cannot be cut evenly into 1 process x 3"),
            ("compute", {"residual": "bfloat16"}, "compute.residual: bfloat16 needs compute.precision: bfloat16"),
            ("compute", {"sharded": True}, "compute.sharded: there is one process only"),
            ("compute", {"shards": True}, "compute has no field 'shards'; did you mean 'sharded'"),
            ("initial", {"xavier_gain": 0}, "initial.xavier_gain must be a number above 0"),
            (
                "optimizer",
                {"learning_rate": 1.0, "name": "sgd"},
                "optimizer.name must be one of adamw, muon, got 'sgd'",
            ),
            ("optimizer", {"learning_rate": 1.0, "warmup_share": 0.1, "warmup_steps": 1}, "has both warmup_share and"),
            ("optimizer", {"learning_rate": 1.0, "warmup_share": 2}, "warmup_share must be a number from 0 to 1"),
        ],
    )
    def test_what_cannot_be_computed_is_named(self, trial: Trial, section: str, fields: Any, message: str) -> None:
        trial.recipe[section] = fields
        assert message in trial.refused()
        assert not trial.work.exists()

    def test_the_command_lines_device_comes_before_the_recipes(self, trial: Trial) -> None:
        trial.recipe["compute"] = {"device": "cuda:9"}
        assert "no device is called 'abacus'" in trial.refused(None, "--device", "abacus")
        assert trial.run(None, "--device", "cpu") == 0

    def test_a_gpu_without_bfloat16_is_named(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
        trial.recipe["compute"] = {"precision": "bfloat16"}
        assert "compute.precision: Tesla V100 has no bfloat16; choose float32" in trial.refused()
        assert "there is no cuda:2, this machine has 2 GPUs" in trial.refused(None, "--device", "cuda:2")

    def test_processes_take_a_gpu_each_and_rows_evenly(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("WORLD_SIZE", "3"), ("MASTER_ADDR", "here"), ("MASTER_PORT", "1")):
            monkeypatch.setenv(name, value)
        assert "4 rows cannot be cut evenly into 3 processes x 1 (compute.accumulation); choose a multiple of 3" in (
            trial.refused()
        )
        assert "cuda:0 is one device for 3 processes; cuda is one for each" in trial.refused(None, "--device", "cuda:0")
        monkeypatch.setenv("WORLD_SIZE", "many")
        assert "WORLD_SIZE must be a whole number, as torchrun sets it, got 'many'" in trial.refused()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        recipe = load_recipe(trial.file)
        assert places.choose_device(recipe, "cuda", local=2, processes=3) == torch.device("cuda", 2)
        assert places.choose_device(recipe, "auto", local=3, processes=4) == torch.device("cuda", 3)
        assert places.choose_device(recipe, "cuda:1") == torch.device("cuda", 1)

    @pytest.mark.parametrize("name", ["adamw", "muon"])
    def test_numbers_may_be_whole(self, trial: Trial, name: str) -> None:
        if not hasattr(torch.optim, "Muon"):
            name = "adamw"
        whole = dict.fromkeys(("warmup_share", "final_fraction", "weight_decay", "beta2", "answer_weight"), 0)
        trial.recipe["optimizer"] = {"name": name, "learning_rate": 1, "clip_norm": 1, **whole}
        trial.recipe["initial"] = {"xavier_gain": 1}
        trial.recipe["stages"][0]["retrieval"] = 0
        assert trial.run() == 0

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be at least 1"),
            ({"WORLD_SIZE": "1", "RANK": "1"}, "process RANK=1 of WORLD_SIZE=1; 1 have the numbers from 0 to 0"),
            ({"WORLD_SIZE": "2", "RANK": "2"}, "process RANK=2 of WORLD_SIZE=2"),
            ({"WORLD_SIZE": "2"}, "MASTER_ADDR is not set, where they meet; start them with torchrun"),
            ({"WORLD_SIZE": "2", "MASTER_ADDR": "here"}, "MASTER_PORT is not set"),
            ({"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "x"}, "MASTER_PORT must be a whole number"),
        ],
    )
    def test_an_environment_that_torchrun_would_not_make_is_named(
        self, trial: Trial, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
    ) -> None:
        for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert message in trial.refused()


def test_a_warm_up_by_share_ends_before_the_cosine_begins(trial: Trial) -> None:
    trial.recipe["stages"][0]["steps"] = 300
    trial.recipe["optimizer"] = {"learning_rate": 1e-3, "warmup_share": 0.01, "final_fraction": 0.1, "beta2": 0.95}
    trial.file.write_text(yaml.safe_dump(trial.recipe))
    rates = [learning_rate(step, load_recipe(trial.file)) for step in range(300)]
    assert rates[:4] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])
    assert rates[3 + 148] == pytest.approx(0.55e-3, rel=0.01)
    assert rates[-1] == pytest.approx(0.1e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True)


class TestFeed:
    @staticmethod
    def batch(step: int) -> Batch:
        ids = torch.arange(8).view(4, 2) + 10 * step
        kinds = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 0]])
        return Batch(ids, ids + 1, kinds == 0, kinds == 1)

    def test_batches_come_in_order_as_they_are_drawn(self) -> None:
        with Feed(self.batch, range(3, 20), Place()) as feed:
            for step in range(3, 20):
                (part,) = feed.take().parts
                assert torch.equal(part.input_ids, self.batch(step).input_ids)
        assert not [thread for thread in threading.enumerate() if thread.name == "batches"]

    def test_what_drawing_raises_comes_where_its_batch_would(self) -> None:
        def drawn(step: int) -> Batch:
            if step == 2:
                raise ValueError("no batch 2")
            return self.batch(step)

        with Feed(drawn, range(9), Place()) as feed:
            feed.take()
            feed.take()
            with pytest.raises(ValueError, match="no batch 2"):
                feed.take()

    def test_a_training_that_ends_early_ends_the_thread(self) -> None:
        def ends() -> None:
            with Feed(self.batch, range(100), Place()) as feed:
                feed.take()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ends()
        assert not [thread for thread in threading.enumerate() if thread.name == "batches"]

    @pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 1)])
    def test_processes_and_parts_have_every_target_once(self, processes: int, accumulation: int) -> None:
        batch, rows, texts, answers = self.batch(0), [], [], []
        for rank in range(processes):
            found = cut(batch, Place(rank=rank, processes=processes), accumulation)
            assert (len(found.parts), found.length, found.tokens) == (accumulation, 2, 8)
            for part in found.parts:
                assert (part.text.total, part.answer.total) == (4, 3)
                rows += part.input_ids.tolist()
                texts += part.text.targets.tolist()
                answers += part.answer.targets.tolist()
        assert sorted(rows) == batch.input_ids.tolist()
        assert sorted(texts) == batch.targets[batch.is_text].tolist()
        assert sorted(answers) == batch.targets[batch.is_answer].tolist()


class TestLog:
    def test_a_cpu_has_no_utilisation_and_no_memory(self, trial: Trial) -> None:
        log, _ = trained(trial, "cpu")
        assert {(entry["utilisation"], entry["memory_gib"]) for entry in log} == {(None, None)}

    @pytest.mark.parametrize(
        ("gpu", "precision", "peak"),
        [
            ("NVIDIA H100 80GB HBM3", "bfloat16", 2 * 989e12),
            ("NVIDIA H100 PCIe", "bfloat16", 2 * 756e12),
            ("NVIDIA A100-SXM4-40GB", "float32", 2 * 19.5e12),
            ("NVIDIA GeForce GTX 960", "bfloat16", None),
        ],
    )
    def test_the_peak_is_that_of_the_device_and_of_all_processes(
        self, monkeypatch: pytest.MonkeyPatch, gpu: str, precision: str, peak: float | None
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: gpu)
        assert Place(torch.device("cuda", 0), 0, 2).peak_rate(precision) == peak
        assert Place().peak_rate(precision) is None

    def test_operations_are_six_a_number_of_each_matrix_that_a_token_meets(self) -> None:
        model = small_model(small_config())
        matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name)
        assert operations_a_token(model) == 6 * matrices
        tied = small_model(small_config(tie_word_embeddings=True))
        assert operations_a_token(tied) == 6 * matrices
        sizes = {"num_experts": 4, "experts_per_token": 2, "expert_size": 8}
        experts = small_model(small_config(mlps="experts", **sizes))
        idle = sum(p.numel() for name, p in experts.named_parameters() if ".experts." in name) / 2
        whole = sum(p.numel() for name, p in experts.named_parameters() if p.ndim == 2 and "embed" not in name)
        assert operations_a_token(experts) == 6 * (whole - idle)

    def test_means_are_of_the_steps_that_have_answers(self, trial: Trial) -> None:
        with_answers = {"steps": 2, "rows": 2, "length": 64, "retrieval": 0.5, "max_keys": 1}
        trial.recipe["stages"] = [with_answers, {**with_answers, "steps": 6, "retrieval": 0}]
        single, _ = trained(trial, "single")
        trial.recipe["log_every"] = 4
        (first, second), _ = trained(trial, "fours")
        answers, texts = ([entry[name] for entry in single] for name in ("answer_loss", "text_loss"))
        assert answers[2:] == [0.0] * 6
        assert first["answer_loss"] == pytest.approx(sum(answers[:2]) / 2, abs=2e-4)
        assert first["text_loss"] == pytest.approx(sum(texts[:4]) / 4, abs=2e-4)
        assert second["answer_loss"] == 0

    def test_small_rates_and_short_steps_are_not_rounded_away(self, trial: Trial) -> None:
        trial.recipe["optimizer"]["learning_rate"] = 1.0e-9
        log, _ = trained(trial, "small")
        assert [entry["learning_rate"] for entry in log] == pytest.approx([1.0e-9, 5.25e-10, 5.0e-11])
        assert all(entry["seconds"] > 0 for entry in log)

    def test_a_state_of_before_goes_on(self, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
        _, weights = trained(trial, "whole")
        original, calls = loop.backward, []

        def dies(*args: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(*args)

        trial.out, trial.work = trial.folder / "old-out", trial.folder / "old-work"
        with monkeypatch.context() as patch:
            patch.setattr(loop, "backward", dies)
            assert trial.run() == 130
        state = torch.load(trial.work / "state.pt", weights_only=True)
        for entry in state["log"]:
            del entry["utilisation"], entry["memory_gib"]
        state["sums"]["steps"] = state["sums"].pop("text_steps")
        del state["sums"]["answer_steps"]
        torch.save(state, trial.work / "state.pt")
        log, again = trained(trial, "old")
        assert "utilisation" not in log[0]
        assert "utilisation" in log[1]
        assert all(torch.equal(again[name], x) for name, x in weights.items())


class TestInitial:
    def test_xavier_is_within_its_bound_and_residual_outputs_are_scaled(self) -> None:
        gain = 2**-2.5
        torch.manual_seed(0)
        model = small_model(small_config(num_hidden_layers=3, layers=["gdn2", "swa", "mamba2"], attention_heads=2))
        embedding, taps = model.lm_head.weight.clone(), model.model.layers[0].mixer.q_conv1d.weight.clone()
        torch.manual_seed(0)
        initialise(model, InitialSpec(xavier_gain=gain, scaled_residuals=True))
        for name, p in model.model.layers.named_parameters():
            if p.ndim == 2:
                last = name.split(".")[-2] in ("o_proj", "out_proj", "down_proj")
                bound = gain * (6 / sum(p.shape)) ** 0.5 * (6**-0.5 if last else 1)
                assert 0.8 * bound < p.abs().max() <= bound, name
        assert torch.equal(model.lm_head.weight, embedding)
        assert torch.equal(model.model.layers[0].mixer.q_conv1d.weight, taps)

    def test_a_recipe_decides_the_fresh_weights(self, trial: Trial) -> None:
        trial.recipe["stages"][0]["steps"] = 1
        trial.recipe["optimizer"]["learning_rate"] = 1e-9
        _, usual = trained(trial, "usual")
        _, scaled = trained(trial, "scaled", initial={"scaled_residuals": True})
        name = "model.layers.0.mlp.down_proj.weight"
        torch.testing.assert_close(scaled[name], usual[name] * 2**-0.5, atol=1e-6, rtol=0)
        assert torch.equal(scaled["model.embed_tokens.weight"].sign(), usual["model.embed_tokens.weight"].sign())
        assert load_checkpoint(trial.out).config.initializer_range == 0.02
