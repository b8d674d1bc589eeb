"""The shipped checkpoints: they load, they retrieve, and cards and records speak of these very weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance

from gdn2.checkpoints import fingerprint, load_checkpoint, tokenizer_fingerprint
from gdn2.checkpoints.training import training_of
from gdn2.train.recipe import Recipe
from gdn2.train.rivals.plan import load_rivals
from harness.checkpoints.find import find_checkpoint
from harness.lm.model import GDN2LM
from harness.paths import ZOO
from harness.records.store import find_records
from tasks.ruler.build import make_generator
from tasks.scoring import score_needles

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "results" / "leaderboard"
CHECKPOINTS = sorted(path.parent for path in ZOO.glob("*/config.json"))
RIVALS, SHARE = "text-4m", 0.25  # what the shipped rivals were trained by
STUDIED = (RIVALS, "text-4m-gates", "text-20m")  # whose models have records, trained by the same share
SHIPPED_RIVALS = {"gdn2-4m", "kda-4m", "gated-deltanet-4m", "mamba2-4m", "gdn2-swa-4m"}


def texts(value: Any) -> Iterator[str]:
    """Every text in what a JSON or YAML file holds."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def is_rival(name: str) -> bool:
    return name.partition("-seed")[0] in {model for rivals in STUDIED for model in load_rivals(rivals).models}


def studied() -> list[Recipe]:
    return [recipe for rivals in STUDIED for recipe in load_rivals(rivals).recipes(SHARE)]


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_checkpoints_are_small_and_whole(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    model = load_checkpoint(folder)
    assert bool(torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all())
    assert {"README.md", "recipe.yaml", "log.jsonl", "tokenizer.json"} <= {file.name for file in folder.iterdir()}
    assert find_checkpoint(folder.name) == folder


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_cards_speak_of_these_weights_and_this_training_and_of_no_machines_folders(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    model = load_checkpoint(folder)
    assert card.startswith(f"# {folder.name}\n")
    assert recipe["name"] == folder.name
    assert f"| parameters | {sum(p.numel() for p in model.parameters()):,} (" in card
    assert f"| tokens seen | {sum(s['steps'] * s['rows'] * s['length'] for s in recipe['stages']):,}, of" in card
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == sum(stage["steps"] for stage in recipe["stages"])
    written = [recipe, log, *(json.loads(file.read_text()) for file in folder.glob("*config.json"))]
    assert not [text for text in texts(written) if text.startswith("/")]
    assert not [word for word in card.split() if word.lstrip("`(").startswith("/")]
    (bits,) = [float(line.split("|")[2]) for line in card.splitlines() if line.startswith("| this model |")]
    for _, record in find_records([SHIPPED / folder.name]):
        for cell in record.cells:
            if cell.protocol.name == "wiki_perplexity":  # in bfloat16
                assert abs(cell.scores["bits_per_byte"].value - bits) < 0.015


def test_the_shipped_rivals_are_small_together_and_their_cards_say_how_to_train_them_again() -> None:
    folders = [folder for folder in CHECKPOINTS if is_rival(folder.name)]
    assert {folder.name for folder in folders} == SHIPPED_RIVALS
    assert sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < 40_000_000
    for folder in folders:
        assert f"`python -m gdn2.train.rivals {RIVALS} --share {SHARE}`" in (folder / "README.md").read_text()


@pytest.mark.parametrize(("name", "least"), [("gdn2-tiny", 9), ("gdn2-4m", 6)])
def test_models_that_retrieve_find_needles_that_they_never_saw(name: str, least: int) -> None:
    """S-NIAH-1 at 600 tokens, seed 7, ten samples: a model that guesses finds none."""
    model = GDN2LM(str(ZOO / name), batch_size=5)
    generator = make_generator({"task": "niah_single_1", "length": 600, "seed": 7}, model.tokenizer)
    docs = [generator.sample(index) for index in range(10)]
    requests = [
        Instance(
            request_type="generate_until",
            doc=doc,
            arguments=(f"{doc['input']} {doc['gen_prefix']}", {"until": [], "max_gen_toks": 12}),
            idx=index,
        )
        for index, doc in enumerate(docs)
    ]
    texts = model.generate_until(requests)
    assert sum(score_needles(doc, [text])["acc"] for doc, text in zip(docs, texts, strict=True)) >= least


def test_shipped_records_are_of_shipped_weights() -> None:
    records = find_records([SHIPPED])
    assert records
    of_zoo = [(path, record) for path, record in records if (ZOO / record.name).is_dir()]
    assert of_zoo
    for path, record in of_zoo:
        folder = ZOO / record.name
        assert record.model.checkpoint_sha256 == fingerprint(folder), path
        assert record.protocol.tokenizer_sha256 == tokenizer_fingerprint(folder), path


def test_other_shipped_records_are_of_checkpoints_that_anyone_can_stage_or_train(tmp_path: Path) -> None:
    declared = yaml.safe_load((ROOT / "tasks" / "sources.yaml").read_text(encoding="utf-8"))
    recipes = {recipe.name: recipe for recipe in studied()}
    for path, record in find_records([SHIPPED]):
        assert record.command[:2] == ("run", record.name), path
        assert not [text for text in texts(json.loads(path.read_text())) if text.startswith("/")], path
        if record.name in declared["checkpoints"]:
            assert record.model.quantised, path
        elif is_rival(record.name):
            (tmp_path / "recipe.yaml").write_text(recipes[record.name].text, encoding="utf-8")
            trained = training_of(tmp_path)
            assert trained is not None
            assert (record.model.training, record.model.training_seed) == (trained.recipe, trained.seed), path
            assert record.protocol.tokenizer_sha256 == tokenizer_fingerprint(ZOO / "gdn2-4m"), path
        else:
            assert (ZOO / record.name).is_dir(), path


def test_every_shipped_rival_has_the_record_of_each_of_its_seeds_in_one_protocol() -> None:
    found = [record for _, record in find_records([SHIPPED]) if record.suite == "rivals"]
    assert sorted(record.name for record in found) == sorted(recipe.name for recipe in studied())
    assert len({record.protocol_hash for record in found}) == 1
    assert len({record.model.checkpoint_sha256 for record in found}) == len(found)
