"""The shipped checkpoint: it loads, it retrieves, and the records and the README speak of these very weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance

from gdn2.checkpoints import fingerprint, load_checkpoint, tokenizer_fingerprint
from harness.lm.model import GDN2LM
from harness.paths import ZOO
from harness.records.store import find_records
from tasks.ruler.build import make_generator
from tasks.scoring import score_needles

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "results" / "leaderboard"
CHECKPOINTS = sorted(path.parent for path in ZOO.glob("*/config.json"))


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_checkpoints_are_small_and_whole(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    model = load_checkpoint(folder)
    assert bool(torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all())
    assert {"README.md", "recipe.yaml", "log.jsonl", "tokenizer.json"} <= {file.name for file in folder.iterdir()}


def test_the_tiny_model_finds_needles_that_it_never_saw() -> None:
    """S-NIAH-1 at 600 tokens, seed 7: at least 9 of 10 (a model that guesses finds none)."""
    model = GDN2LM(str(ZOO / "gdn2-tiny"), batch_size=5)
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
    assert sum(score_needles(doc, [text])["acc"] for doc, text in zip(docs, texts, strict=True)) >= 9


def test_shipped_records_are_of_shipped_weights() -> None:
    records = find_records([SHIPPED])
    assert records
    of_zoo = [(path, record) for path, record in records if (ZOO / record.name).is_dir()]
    assert of_zoo
    for path, record in of_zoo:
        folder = ZOO / record.name
        assert record.model.checkpoint_sha256 == fingerprint(folder), path
        assert record.protocol.tokenizer_sha256 == tokenizer_fingerprint(folder), path


def test_other_shipped_records_are_of_checkpoints_that_anyone_can_stage() -> None:
    declared = yaml.safe_load((ROOT / "tasks" / "sources.yaml").read_text(encoding="utf-8"))
    for path, record in find_records([SHIPPED]):
        if not (ZOO / record.name).is_dir():
            assert record.name in declared["checkpoints"], path
            assert record.model.quantised, path
            assert record.command[:2] == ("run", record.name), path
