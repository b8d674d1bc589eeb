"""What tasks ask of generated texts is done as lm-eval's HFLM does it, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from harness.engine.executor import LocalExecutor
from harness.errors import UserError
from harness.lm.asked_texts import changes_of_text, read_asked
from harness.lm.model import GDN2LM

SAYS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + SAYS
CHAT = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "The quick brown"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


def asked(**gen_kwargs: Any) -> list[Instance]:
    return [Instance(request_type="generate_until", doc={}, arguments=("The quick brown fox", gen_kwargs), idx=0)]


@pytest.mark.parametrize(
    "change",
    [
        {"num_beams": 4},
        {"num_return_sequences": 2},
        {"repetition_penalty": 1.05},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 3},
        {"suppress_tokens": [1]},
        {"max_length": 12},
        {"stop": ["a"]},
        {"max_gen_tokens": 4},
    ],
)
def test_what_greedy_decoding_is_not_is_refused_by_name_and_value(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(UserError) as caught:
        read_asked({"until": ["."], **change}, "</s>", "my_task")
    assert str(caught.value).startswith("my_task: the model gdn2 generates greedily only")
    assert f"{name} = {value!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_gen_toks": -3}, "max_gen_toks must be a whole number from 0 on, got -3"),
        ({"max_new_tokens": "x"}, "max_new_tokens must be a whole number from 0 on, got 'x'"),
        ({"max_gen_toks": float("inf")}, "max_gen_toks must be a whole number from 0 on, got inf"),
        ({"max_tokens": 2.5}, "max_tokens must be a whole number from 0 on, got 2.5"),
        ({"max_gen_toks": True}, "max_gen_toks must be a whole number from 0 on, got True"),
        ({"until": 5}, "until must be a string or a list of strings, got 5"),
        ({"until": ["a", 3]}, "until must be a string or a list of strings, got ['a', 3]"),
        ({"until": {"a": 1}}, "until must be a string or a list of strings, got {'a': 1}"),
        ({"until": ""}, "until has an empty text, at which lm-eval's HFLM ends every text behind its first token"),
        ({"until": ["a", ""]}, "write until: [] for no stop"),
        ({"temperature": None}, "temperature must be a number, got None"),
        ({"temperature": "cold"}, "temperature must be a number, got 'cold'"),
        ({"temperature": 0.7}, "set do_sample: false"),
    ],
)
def test_values_of_the_wrong_type_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        read_asked(wrong, "</s>")
    assert named in str(caught.value)


def test_a_refusal_comes_before_anything_is_generated(folder: Path) -> None:
    model = GDN2LM(str(folder))
    with pytest.raises(UserError, match="num_beams = 2"):
        model.generate_until([*asked(max_gen_toks=4), *asked(num_beams=2)])
    assert isinstance(model.engine.executor, LocalExecutor)
    assert model.engine.executor.reader.tokens_read == 0


def test_settings_that_change_nothing_give_the_text_of_hflm(folder: Path) -> None:
    theirs, ours = HFLM(pretrained=str(folder), batch_size=1, device="cpu", dtype="float32"), GDN2LM(str(folder))
    idle: list[dict[str, Any]] = [
        {"num_beams": 1, "repetition_penalty": 1.0},
        {"top_p": 0.3, "top_k": 5, "do_sample": False, "temperature": 0.7},
        {"until": "o", "max_gen_toks": "7"},
        {"length_penalty": 0.5, "no_repeat_ngram_size": 0, "suppress_tokens": None},
        {"max_new_tokens": 5},
        {"max_gen_toks": 6.0},
    ]
    one, cut = ({"until": until, "max_gen_toks": most} for until, most in (([""], 9), (["\n"], 1)))
    assert theirs.generate_until(asked(**one), disable_tqdm=True) == ours.generate_until(asked(**cut))
    for fields in idle:
        request = asked(**{"until": ["\n"], **({} if "max_new_tokens" in fields else {"max_gen_toks": 9}), **fields})
        assert ours.generate_until(request) == theirs.generate_until(request, disable_tqdm=True)


def test_what_a_checkpoint_asks_of_every_text_is_said_and_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = small_checkpoint(tmp_path)
    before = GDN2LM(str(folder)).generate_until(asked(max_gen_toks=12))
    assert "generated without" not in caplog.text
    file = folder / "generation_config.json"
    said = json.loads(file.read_text()) | {"repetition_penalty": 3.0, "do_sample": True, "top_p": 0.8}
    file.write_text(json.dumps(said))
    assert GDN2LM(str(folder)).generate_until(asked(max_gen_toks=12)) == before
    assert "generation_config.json has repetition_penalty = 3.0, which texts here are generated without" in caplog.text
    assert changes_of_text({"repetition_penalty": 1, "num_beams": None, "eos_token_id": 5}) == []


@pytest.mark.parametrize("template", [SAYS, NO_SYSTEM])
def test_a_chat_is_written_as_hflm_writes_it(folder: Path, template: str, caplog: pytest.LogCaptureFixture) -> None:
    theirs, ours = HFLM(pretrained=str(folder), batch_size=1, device="cpu", dtype="float32"), GDN2LM(str(folder))
    theirs.tokenizer.chat_template = ours.tokenizer.chat_template = template
    try:
        for history, prompt in ((CHAT, True), (CHAT[1:], True), ([*CHAT, {"role": "a", "content": "fox"}], False)):
            assert ours.apply_chat_template(history, prompt) == theirs.apply_chat_template(history, prompt)
        assert ("takes no system message (no system role): it is left out" in caplog.text) == (template == NO_SYSTEM)
    finally:
        ours.tokenizer.chat_template = None


@pytest.mark.parametrize("template", [None, "{{ broken", "{{ messages[0].nothing.x }}", "{{ raise_exception('no') }}"])
def test_a_template_that_gives_no_text_is_one_line(folder: Path, template: str | None) -> None:
    model = GDN2LM(str(folder))
    model.tokenizer.chat_template = template
    try:
        with pytest.raises(UserError, match="its chat template gives no text") as caught:
            model.apply_chat_template(CHAT)
        assert "\n" not in str(caught.value)
    finally:
        model.tokenizer.chat_template = None
