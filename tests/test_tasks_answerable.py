"""A retrieval task that no model could get right, or one that is silent, is refused, whatever makes it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from needle_tasks import needle_generator, write_task

from basis.errors import FileError
from basis.yaml_loader import construct
from tasks import own
from tasks.check import check_file
from tasks.errors import TaskError
from tasks.needle.answerable import scoring_problem, stop_in
from tasks.needle.scoring import RULES

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")


@pytest.mark.parametrize(
    ("rule", "answer", "message"),
    [
        ("all", "crim\tson", "not right by all"),
        ("any", " crimson ", "not right by any"),
        ("first_line", "crim\nson", "not right by first_line"),
        ("first_line", "crim\u2028son", "not right by first_line"),
        ("exact_match", "crim\x0bson", "not right by exact_match"),
        ("exact", "...", "right by exact even if nothing is answered"),
        ("f1", "the", "right by f1 even if nothing is answered"),
        ("f1", "+-+", "right by f1 even if nothing is answered"),
    ],
)
def test_an_answer_that_a_rule_cannot_tell_is_named_with_the_rule(rule: str, answer: str, message: str) -> None:
    assert message in str(scoring_problem(answer, ["contains", rule]))


@pytest.mark.parametrize("answer", ["Acme Inc.", "1,200,111", "Straße", "İzmir", "ΟΔΟΣ", "cafe\u0301", "東京都", '"q"'])
def test_every_rule_takes_an_answer_as_it_is_written(answer: str) -> None:
    assert scoring_problem(answer, tuple(RULES)) is None


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"value": ["violet ", "scarlet"]}, "value: 'violet ' is not right by all"),
        ({"value": {"kind": "regex", "pattern": "[A-Z]{5} "}}, "value: mine@700: value"),
        ({"value": {"kind": "regex", "pattern": "[A-Z]{4}\\n[A-Z]{4}"}, "scoring": "f1"}, "value: mine@700: value"),
        ({"value": "uuids", "generated_tokens": 4}, "generated_tokens: mine@700: "),
        ({"values": 4, "generated_tokens": 5}, "generated_tokens: mine@700: 4 answers take "),
        ({"needle": "The code is {value}.", "distractors": 2}, "needle: lacks the placeholder {key}"),
        ({"needle": "The code is {value}.", "haystack": "needle"}, "needle: lacks the placeholder {key}"),
        ({"question": "Which?", "answer_prefix": "It is", "distractors": 1}, "question: lacks the placeholder {key}"),
    ],
)
def test_what_no_model_could_answer_is_found_by_check(
    tmp_path: Path, tokenizer_folder: str, fields: dict[str, Any], place: str
) -> None:
    (error,) = check_file(write_task(tmp_path, **fields), tokenizer_folder).errors
    assert f"dataset_kwargs.spec.{place}" in error


def test_a_stop_that_lies_in_a_right_answer_is_found_by_check(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_task(tmp_path, value={"kind": "regex", "pattern": "[A-Z]{4}, [A-Z]{4}"})
    file.write_text(file.read_text().replace('"until": ["\\n"]', '"until": ["\\n", ","]'))
    (error,) = check_file(file, tokenizer_folder).errors
    assert "generation_kwargs.until: stops the answer" in error
    assert "at ',', so that no model can be right" in error


@pytest.mark.parametrize(
    ("rules", "found"),
    [("all", ("a,b", ",")), (["f1", "any"], ("a,b", ",")), ("any", None), (["any", "contains"], None)],
)
def test_a_stop_hurts_unless_another_answer_is_enough(rules: Any, found: Any) -> None:
    assert stop_in(["a,b", "ab"], ["\n", ","], rules) == found


def test_one_answer_that_fits_is_enough_where_any_counts(tokenizer: Any) -> None:
    asked: dict[str, Any] = {"values": 3, "generated_tokens": 12}
    assert needle_generator(tokenizer, scoring="any", **asked).sample(0)["outputs"]
    with pytest.raises(TaskError, match=r"3 answers take .* but generated_tokens is 12"):
        needle_generator(tokenizer, scoring="all", **asked).sample(0)


def test_false_needles_in_other_words_leave_the_asked_one_alone(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_task(tmp_path, needle="The code is {value}.", distractors=2, distractor="A false code is {value}.")
    assert check_file(file, tokenizer_folder).errors == ()


@pytest.mark.parametrize("written", ["0123", "-017", "12:30", "190:20:30.15", "0x1F", "0b101"])
def test_a_number_that_yaml_reads_as_another_one_is_refused(written: str) -> None:
    with pytest.raises(FileError, match=f"a.yaml:1:8: .*{written} is the number .*; put it in quotes if it is text"):
        construct(f"a: [1, {written}]", "a.yaml")
    assert construct(f"a: [1, '{written}']", "a.yaml") == {"a": [1, written]}


@pytest.mark.parametrize("written", ["0", "-3", "+7", "1_000", "1.5", "1.0e-3", ".5", "-.inf", "007.5", "true"])
def test_other_numbers_are_taken(written: str) -> None:
    assert json.dumps(construct(f"a: {written}", "a.yaml"))


@pytest.mark.parametrize("folder", ["me@host", "a@1024", "b.yaml@7"])
def test_folders_may_have_an_at_in_their_names(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    file = write_task(tmp_path / folder)
    assert own.find(str(file)) == own.find(f"{file}@900")[:1] + (None,)
    assert own.find(f"{file}@900")[1] == 900
    assert own.spellings(str(file)) == [f"{file}@700"]
    assert own.spellings(f"{file}@900") == [f"{file}@900"]
