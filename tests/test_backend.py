"""The lm-eval model against lm-eval's own HFLM at batch size 1, and against itself at other batch sizes and orders."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import TEXT, small_checkpoint, small_config, small_model, small_tokenizer
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from gdn2.checkpoints import CheckpointError
from harness.engine import units as plan
from harness.engine.executor import LocalExecutor
from harness.engine.units import Limits
from harness.errors import UserError
from harness.lm.model import GDN2LM
from tasks.scoring import string_match_all

AGREEMENT = 1e-4  # nats of a whole request, float32
WORDS = TEXT.replace("\n", " ").split()


@pytest.fixture(scope="module", params=[False, True], ids=["no BOS", "adds BOS"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"), adds_bos=request.param)


@pytest.fixture(scope="module")
def hflm(folder: Path) -> HFLM:
    return HFLM(pretrained=str(folder), batch_size=1, device="cpu", dtype="float32")


def words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def pairs() -> list[tuple[str, str]]:
    """Contexts of many lengths: empty, ending in spaces, longer than the window, starting with the BOS text."""
    rng = random.Random(3)
    drawn = [(words(rng, 1, 60), " " + words(rng, 1, 8)) for _ in range(20)]
    special = [("", "The lazy dog"), ("trailing spaces  ", "and more"), (words(rng, 300, 300), " cut on the left")]
    return [*drawn, *special, ("<|endoftext|>A text", " that brings its own"), ("one", "."), drawn[0]]


def assert_same_scores(found: list[Any], expected: list[Any]) -> None:
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    torch.testing.assert_close(
        torch.tensor([x for x, _ in found]), torch.tensor([x for x, _ in expected]), atol=AGREEMENT, rtol=0
    )


def test_loglikelihoods_agree_with_hflm(folder: Path, hflm: HFLM) -> None:
    requests = instances("loglikelihood", pairs())
    expected = hflm.loglikelihood(requests, disable_tqdm=True)
    for batch_size in (1, 3, 16):
        found = GDN2LM(str(folder), batch_size=batch_size).loglikelihood(requests, disable_tqdm=True)
        assert_same_scores(found, expected)
    order = random.Random(0).sample(range(len(requests)), len(requests))
    shuffled = GDN2LM(str(folder), batch_size=3).loglikelihood([requests[i] for i in order], disable_tqdm=True)
    assert_same_scores(shuffled, [expected[i] for i in order])


def test_a_greedy_continuation_is_recognised(folder: Path, hflm: HFLM) -> None:
    (text,) = hflm.generate_until(
        instances("generate_until", [("The quick brown", {"until": [], "max_gen_toks": 5})]), disable_tqdm=True
    )
    request = instances("loglikelihood", [("The quick brown", text), ("The quick brown", " zebra")])
    expected = hflm.loglikelihood(request, disable_tqdm=True)
    assert_same_scores(GDN2LM(str(folder)).loglikelihood(request, disable_tqdm=True), expected)
    assert not expected[1][1]


def test_rolling_loglikelihoods_agree_with_hflm(folder: Path, hflm: HFLM) -> None:
    """Under its own name: HFLM scores a BOS that the tokenizer adds. Without one, `tokenizer` is the same."""
    rng = random.Random(5)
    texts = [(words(rng, 1, 20),), (words(rng, 400, 400),), ("a",), (words(rng, 100, 100),)]
    requests = instances("loglikelihood_rolling", texts)
    expected = hflm.loglikelihood_rolling(requests, disable_tqdm=True)
    for batch_size in (1, 3):
        found = GDN2LM(str(folder), batch_size=batch_size, context_prefix="lm-eval").loglikelihood_rolling(requests)
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=AGREEMENT, rtol=1e-6)


def test_generations_agree_with_hflm(folder: Path, hflm: HFLM) -> None:
    rng = random.Random(7)
    stops: list[Any] = [[], ["\n"], ["e"], ["\n", " the"], "o", ["1", "2"]]
    arguments = [
        (words(rng, 1, 50), {"until": stops[i % len(stops)], "max_gen_toks": 4 + 6 * (i % 3), "do_sample": False})
        for i in range(12)
    ]
    arguments.append((words(rng, 300, 300), {"until": [], "max_gen_toks": 8}))
    arguments.append(("<|endoftext|>The quick", {"until": ["."], "max_gen_toks": 8}))
    requests = instances("generate_until", arguments)
    expected = hflm.generate_until(requests, disable_tqdm=True)
    assert len(set(expected)) > 5
    for batch_size in (1, 3, 16):
        assert GDN2LM(str(folder), batch_size=batch_size).generate_until(requests) == expected


def test_texts_whose_characters_span_tokens_agree_with_hflm(folder: Path, hflm: HFLM) -> None:
    """Bytes of a character in several tokens, special tokens spelt out, and stops inside and across tokens."""
    rng = random.Random(11)
    strange = [*WORDS, "naïve", "日本語", "🙂🙃", "<|endoftext|>", "</s>", "\t", "Straße", "a\u0301", "\n"]
    drawn = [" ".join(rng.choices(strange, k=rng.randint(1, 40))) for _ in range(24)]
    stops = [["日"], ["🙂"], ["é", "ox j"], ["  "], ["st", "th"], [" number is"]]
    scored = instances("loglikelihood", [(text, " " + rng.choice(strange).strip() + "!") for text in drawn])
    asked = [(text, {"until": stops[i % 6], "max_gen_toks": (1, 2, 17, 40)[i % 4]}) for i, text in enumerate(drawn)]
    requests = instances("generate_until", asked)
    texts, scores = hflm.generate_until(requests, disable_tqdm=True), hflm.loglikelihood(scored, disable_tqdm=True)
    for batch_size in (1, 16):
        ours = GDN2LM(str(folder), batch_size=batch_size)
        assert ours.generate_until(requests) == texts
        assert_same_scores(ours.loglikelihood(scored, disable_tqdm=True), scores)


def test_no_token_to_generate_is_an_empty_text(folder: Path) -> None:
    ours = GDN2LM(str(folder))
    arguments: list[tuple[Any, ...]] = [("The quick", {"until": [], "max_gen_toks": n}) for n in (0, 1)]
    nothing, one = ours.generate_until(instances("generate_until", arguments))
    assert nothing == ""
    assert len(one) > 0


@pytest.mark.parametrize("segment", [1, 7, 64])
def test_segments_do_not_change_scores(folder: Path, monkeypatch: pytest.MonkeyPatch, segment: int) -> None:
    requests = instances("loglikelihood", pairs()[::3])
    generation = instances("generate_until", [(c or "x", {"until": [], "max_gen_toks": 6}) for c, _ in pairs()[::3]])
    model = GDN2LM(str(folder), batch_size=4)
    expected, texts = model.loglikelihood(requests, disable_tqdm=True), model.generate_until(generation)
    monkeypatch.setattr(plan, "SEGMENT", segment)
    assert isinstance(model.engine.executor, LocalExecutor)
    model.engine.executor.reader.limits = Limits(tokens=segment, rows=4)
    assert_same_scores(model.loglikelihood(requests, disable_tqdm=True), expected)
    assert model.generate_until(generation) == texts


def test_truncations_are_counted_and_max_length_lifts_them(folder: Path) -> None:
    long = instances("loglikelihood", [(" ".join(WORDS * 12), " dog")])
    short = GDN2LM(str(folder))
    whole = GDN2LM(str(folder), max_length=5000)
    cut, full = short.loglikelihood(long, disable_tqdm=True), whole.loglikelihood(long, disable_tqdm=True)
    assert (short.measures.truncated.total(), whole.measures.truncated.total()) == (1, 0)
    assert abs(cut[0][0] - full[0][0]) > 1e-3


def test_context_prefix_decides_what_stands_in_front(folder: Path) -> None:
    plain = small_tokenizer().encode("The dog", add_special_tokens=False)
    assert GDN2LM(str(folder), context_prefix="none").tok_encode("The dog") == plain
    for prefix in ("bos", "eos"):
        model = GDN2LM(str(folder), context_prefix=prefix)
        assert model.tok_encode("The dog") == [0, *plain]
        assert model.tok_encode("<|endoftext|>The dog") == [0, *plain]


def test_a_bos_is_context_and_not_scored_unless_asked_for_as_lm_eval_does(tmp_path: Path) -> None:
    folder = small_checkpoint(tmp_path, adds_bos=True)
    request = instances("loglikelihood_rolling", [("The quick brown fox",), ("<|endoftext|>The quick brown fox",)])
    scores = {
        prefix: GDN2LM(str(folder), context_prefix=prefix).loglikelihood_rolling(request)
        for prefix in ("tokenizer", "bos", "lm-eval")
    }
    pair = instances("loglikelihood", [("", "The quick brown fox")])
    expected = GDN2LM(str(folder)).loglikelihood(pair, disable_tqdm=True)[0][0]
    torch.testing.assert_close(scores["tokenizer"], [expected, expected], atol=AGREEMENT, rtol=0)
    assert scores["bos"] == scores["tokenizer"]
    assert scores["lm-eval"][0] < expected - 0.5


def test_bad_arguments_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no argument 'batchsize'"):
        GDN2LM(str(folder), batchsize=4)
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        GDN2LM(str(folder), batch_size=0)
    with pytest.raises(UserError, match="max_length must be at least 1"):
        GDN2LM(str(folder), max_length=-5)
    with pytest.raises(UserError, match="greedily only"):
        GDN2LM(str(folder)).generate_until(instances("generate_until", [("a", {"do_sample": True, "temperature": 1})]))
    with pytest.raises(UserError, match="leaves no room"):
        GDN2LM(str(folder)).generate_until(instances("generate_until", [("a", {"until": [], "max_gen_toks": 256})]))
    other = small_checkpoint(tmp_path)
    small_model(small_config(vocab_size=300)).save_pretrained(other)
    with pytest.raises(CheckpointError, match="tokens but the model's embedding only 300 rows"):
        GDN2LM(str(other))


def test_lm_eval_command_line_knows_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.registry import get_model

    assert get_model("gdn2") is GDN2LM
    assert get_model("hf") is not None
    model = get_model("gdn2").create_from_arg_obj(
        {"pretrained": str(folder)}, {"batch_size": "auto", "max_batch_size": 2, "device": "cuda:0"}
    )
    assert model.batch_size == 2
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    from harness.cli import lm_eval as lm_eval_cli

    monkeypatch.setattr(sys, "argv", ["gdn2-lm-eval", "--help"])
    with pytest.raises(SystemExit) as stopped:
        lm_eval_cli.main()
    assert stopped.value.code == 0


def test_requests_that_cannot_be_scored_are_named(folder: Path) -> None:
    model = GDN2LM(str(folder))
    named = "needs at least one token of context and one to score; the context ends in 'A fox'"
    with pytest.raises(UserError, match=named):
        model.loglikelihood(instances("loglikelihood", [("A fox", "")]), disable_tqdm=True)
    long = " ".join(WORDS * 12)
    with pytest.raises(UserError, match=r"a continuation of \d+ tokens does not fit into max_length 256"):
        model.loglikelihood(instances("loglikelihood", [("A fox", " " + long)]), disable_tqdm=True)


def test_a_continuation_that_merges_with_its_context_is_scored_apart_and_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = GDN2LM(str(folder))
    requests = [("A fox", " jumps"), ("The quick bro", "wn"), ("   ", "The dog")]
    assert len(model.tok_encode("The quick bro")) >= len(model.tok_encode("The quick brown"))
    asked = instances("loglikelihood", requests)
    found = model.loglikelihood(asked, disable_tqdm=True)
    assert model.measures.apart.total() == 1
    assert "encoded apart" in caplog.text
    assert all(score < -0.01 for score, _ in found)
    alone = GDN2LM(str(folder)).loglikelihood(instances("loglikelihood", requests[:1]), disable_tqdm=True)
    assert_same_scores(found[:1], alone)


def test_one_call_shares_contexts_between_tasks_and_kinds_of_choice(folder: Path) -> None:
    context = " ".join(WORDS * 2)
    requests = instances("loglikelihood", [(context, f" {end}") for end in ("one", "two", "three four", "five")])
    model = GDN2LM(str(folder), max_length=2048)
    scores = model.loglikelihood(requests, disable_tqdm=True)
    assert isinstance(model.engine.executor, LocalExecutor)
    read = model.engine.executor.reader.tokens_read
    assert read < 1.2 * len(model.tok_encode(context))
    assert model.measures.accounts.shared > 2.9 * len(model.tok_encode(context))
    alone = [GDN2LM(str(folder), max_length=2048).loglikelihood([each], disable_tqdm=True)[0] for each in requests]
    assert_same_scores(scores, alone)


def test_stopping_at_references_changes_no_score_and_saves_tokens(folder: Path) -> None:
    rng = random.Random(11)
    arguments = [(words(rng, 5, 40), {"until": [], "max_gen_toks": 40}) for _ in range(8)]
    whole = GDN2LM(str(folder)).generate_until(instances("generate_until", arguments))
    found = [re.findall("[a-z]{2,}", text)[:2] for text in whole[:6]]
    docs: list[dict[str, Any]] = [{"outputs": [name.upper() for name in names]} for names in found]
    docs += [{"outputs": ["absent"]}, {}]
    requests = [
        Instance(request_type="generate_until", doc=doc, arguments=a, idx=i)
        for i, (doc, a) in enumerate(zip(docs, arguments, strict=True))
    ]
    sooner = GDN2LM(str(folder), stop_at_references=True).generate_until(requests)
    assert sum(map(len, sooner[:6])) < sum(map(len, whole[:6]))
    assert sooner[6:] == whole[6:]
    for doc, short, long in zip(docs[:6], sooner, whole, strict=False):
        assert long.startswith(short)
        assert string_match_all(short, doc["outputs"]) == string_match_all(long, doc["outputs"]) == 1.0
    assert GDN2LM(str(folder)).generate_until(requests) == whole


def test_a_journal_of_plain_lm_eval_calls_answers_again(folder: Path, tmp_path: Path) -> None:
    requests = instances("loglikelihood", pairs()[:6])
    path = str(tmp_path / "journal.jsonl")
    first = GDN2LM(str(folder), journal=path)
    scores = first.loglikelihood(requests, disable_tqdm=True)
    first.engine.journal.close()
    again = GDN2LM(str(folder), journal=path)
    assert again.loglikelihood(requests, disable_tqdm=True) == scores
    assert isinstance(again.engine.executor, LocalExecutor)
    assert again.engine.executor.reader.tokens_read == 0
    again.engine.journal.close()
    with pytest.raises(UserError, match="another dtype"):
        GDN2LM(str(folder), dtype="bfloat16", journal=path)
