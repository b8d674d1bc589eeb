"""Whether the right answer of a retrieval sample can be given, and is scored as right; pure functions of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.errors import TaskError
from tasks.needle.scoring import ANY, RULES


def scoring_problem(answer: str, rules: str | Sequence[str]) -> str | None:
    """Why an answer of a task is no measure of anything: one of its rules cannot tell that it was given.

    Args:
        answer: the right answer.
        rules: the task's `scoring`, a rule or several.

    Returns:
        What is wrong and the way out; None if every rule gives the answer 1 and no answer at all 0.
    """
    for name in (rules,) if isinstance(rules, str) else rules:
        if RULES[name](answer, [answer]) < 1:
            return (
                f"{answer!r} is not right by {name} even if it is given to the letter: leave out white space at its "
                "ends, line ends and control characters, or score by another rule"
            )
        if RULES[name]("", [answer]) > 0:
            return (
                f"{answer!r} is right by {name} even if nothing is answered, for punctuation and articles do not "
                "count: use values of letters or digits, or score by another rule"
            )
    return None


def refuse_unanswerable(
    where: str, answers: Sequence[str], rules: str | Sequence[str], room: int, tokenizer: Any
) -> None:
    """See that the answers of a sample are scored as right and fit into the tokens that the model may generate.

    Args:
        where: what messages begin with.
        answers: the right answers of the sample.
        rules: the task's `scoring`.
        room: the tokens that the model may generate.
        tokenizer: of the model.

    Raises:
        TaskError: an answer that a rule cannot tell, or more tokens of answers than may be generated.
    """
    for answer in answers:
        if problem := scoring_problem(answer, rules):
            raise TaskError(f"{where}: value {problem}").at("value")
    lengths = [len(tokenizer.encode(answer, add_special_tokens=False)) for answer in answers]
    needed = min(lengths) if is_one_enough(rules) else sum(lengths)
    if needed > room:
        which = f"{answers[0]!r} takes" if len(answers) == 1 else f"{len(answers)} answers take"
        raise TaskError(
            f"{where}: {which} {needed} tokens with this tokenizer, but generated_tokens is {room}, so that no model "
            "can be right: leave more room, in max_gen_toks as well"
        ).at("generated_tokens")


def stop_in(answers: Sequence[str], stops: str | Sequence[str], rules: str | Sequence[str]) -> tuple[str, str] | None:
    """An answer that the model cannot finish because a stop text lies in it, with that text; None if all can be.

    Where one answer is enough, one that can be finished is.
    """
    found = {
        answer: stop for answer in answers for stop in ([stops] if isinstance(stops, str) else stops) if stop in answer
    }
    if not found or (is_one_enough(rules) and len(found) < len(set(answers))):
        return None
    return next(iter(found.items()))


def refuse_repetition(where: str, index: int, prompt: str, answers: Sequence[str]) -> None:
    """See that every answer of sample `index` occurs in its prompt exactly once, case ignored.

    Raises:
        TaskError: one that occurs there twice, or not at all.
    """
    low = prompt.lower()
    for answer in answers:
        if (times := low.count(answer.lower())) != 1:
            raise TaskError(
                f"{where}: answer {answer!r} of sample {index} occurs {times} times in its prompt, not once; use "
                "another kind of values"
            ).at("value")


def is_one_enough(rules: str | Sequence[str]) -> bool:
    """Whether an answer is right by every rule as soon as one of several references is given."""
    return all(name in ANY for name in ((rules,) if isinstance(rules, str) else rules))
