"""The 13 tasks of RULER: their strings, the tokens they generate, and the axes that tell needle tasks apart.

Source: NVIDIA/RULER scripts/data/synthetic/constants.py and synthetic.yaml (Apache-2.0). An answer prefix begins with
the space that joins it to the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
DOCUMENT = "Document {number}:\n{text}"
DEPTHS = tuple(round(step * 100 / 39) for step in range(40))
"""Percent; RULER's list of 40 depths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What surrounds a context: the prompt, the answer prefix behind it, and how many tokens are generated."""

    prompt: str
    answer_prefix: str
    generated_tokens: int


NEEDLES = Template(
    prompt=(
        "Some special magic {kind} are hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the {kind} afterwards.\n{context}\n"
        "What are all the special magic {kind} for {query} mentioned in the provided text?"
    ),
    answer_prefix=" The special magic {kind} for {query} mentioned in the provided text are",
    generated_tokens=128,
)
ONE_NEEDLE = Template(
    prompt=(
        "A special magic {kind} is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the {kind} afterwards.\n{context}\n"
        "What is the special magic {kind} for {query} mentioned in the provided text?"
    ),
    answer_prefix=" The special magic {kind} for {query} mentioned in the provided text is",
    generated_tokens=128,
)
"""NEEDLES where one value is asked for; `kind` is then singular in the template, plural in the needles."""

VARIABLES = Template(
    prompt=(
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
        "Question: Find all variables that are assigned the value {query} in the text above."
    ),
    answer_prefix=(
        " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are "
        "assigned the value {query}, they are: "
    ),
    generated_tokens=30,
)
COMMON_WORDS = Template(
    prompt=(
        "Below is a numbered list of words. In these words, some appear more often than others. "
        "Memorize the ones that appear most often.\n{context}\n"
        "Question: What are the 10 most common words in the above list?"
    ),
    answer_prefix=" Answer: The top 10 words that appear most often in the list are:",
    generated_tokens=120,
)
FREQUENT_WORDS = Template(
    prompt=(
        "Read the following coded text and track the frequency of each coded word. "
        "Find the three most frequently appeared coded words. {context}\n"
        "Question: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?"
    ),
    answer_prefix=" Answer: According to the coded text above, the three most frequently appeared words are:",
    generated_tokens=50,
)
_ONLY_THE_ANSWER = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
)
QUESTION = Template(
    prompt=(
        f"{_ONLY_THE_ANSWER}\n\nThe following are given documents.\n\n{{context}}\n\n"
        f"{_ONLY_THE_ANSWER}\n\nQuestion: {{query}}"
    ),
    answer_prefix=" Answer:",
    generated_tokens=32,
)

HOPS = 4
"""Variables of a chain after its first."""
COMMON_WORDS_ASKED = 10
CODED_WORDS_ASKED = 3
QUESTION_SOURCES = {"qa_1": "squad", "qa_2": "hotpotqa"}
OTHER_TASKS = {"vt": VARIABLES, "cwe": COMMON_WORDS, "fwe": FREQUENT_WORDS, "qa_1": QUESTION, "qa_2": QUESTION}
"""The tasks of RULER that are not needles."""


def needle_template(num_answers: int) -> Template:
    """The template of a needle task that asks for `num_answers` values."""
    return ONE_NEEDLE if num_answers == 1 else NEEDLES


def listed(queries: tuple[str, ...] | list[str]) -> str:
    """Queries as RULER joins them: `a`, or `a, b, and c`; with two `a, and b`."""
    return queries[0] if len(queries) == 1 else ", ".join(queries[:-1]) + ", and " + queries[-1]


def numbered(words: list[str] | tuple[str, ...]) -> str:
    """Words as a numbered list: `1. first 2. second`."""
    return " ".join(f"{number}. {word}" for number, word in enumerate(words, start=1))
