"""Rows of the data sets that tasks of lm-eval and of the papers read, as staging writes them."""

from __future__ import annotations

from typing import Any

CHOICES = {"text": ["a rock ", "the Sun", "42", "it's"], "label": ["A", "B", "C", "D"]}
SCIENCE = [
    {"id": "1", "question": " What is  hot?", "choices": CHOICES, "answerKey": "B"},
    {"id": "2", "question": "Which, {{x}}?", "choices": {**CHOICES, "label": ["1", "2", "3", "4"]}, "answerKey": "4"},
]
ENDINGS = ["goes on [substeps] twice.", " stops  now.", "is é.", "[title] ends."]
TASKS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "wikitext": (
        "wikitext/wikitext.yaml",
        [{"page": ' = Title = \n It \'s 5 @,@ 000 km ( long ) , N of " here " .\n'}],
    ),
    "lambada_openai": ("lambada/lambada_openai.yaml", [{"text": "He said\n to the naïve dog"}, {"text": "one two"}]),
    "piqa": (
        "piqa/piqa.yaml",
        [{"goal": "To cool,", "sol1": "wait.", "sol2": " heat!", "label": 0}]
        + [{"goal": "X {{goal}}", "sol1": "a", "sol2": "b\n", "label": 1}],
    ),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        [{"ind": 4, "activity_label": "Running", "ctx_a": "A man [header] runs.", "ctx_b": "he THEN", "label": "3"}]
        + [{"ind": 5, "activity_label": "Food [title] x", "ctx_a": "Cook.", "ctx_b": "", "label": "0"}],
    ),
    "winogrande": (
        "winogrande/default.yaml",
        [{"sentence": "Ann met Eve so _ was glad .", "option1": "Ann", "option2": "Eve", "answer": "2"}]
        + [{"sentence": "The _ broke.", "option1": "cup", "option2": "jar", "answer": "1"}],
    ),
    "arc_easy": ("arc/arc_easy.yaml", SCIENCE),
    "arc_challenge": ("arc/arc_challenge.yaml", SCIENCE[::-1]),
    "openbookqa": (
        "openbookqa/openbookqa.yaml",
        [{"id": "7", "question_stem": "The sun is", "choices": CHOICES, "answerKey": " B"}],
    ),
    "social_iqa": (
        "siqa/siqa.yaml",
        [{"context": "Al ate.", "question": "Why?", "answerA": "x", "answerB": "y z", "answerC": "w", "label": "3"}],
    ),
    "boolq": (
        "super_glue/boolq/default.yaml",
        [{"question": "is it so", "passage": "It -- It is — so.\n", "idx": 0, "label": 1}]
        + [{"question": "no", "passage": "Not.", "idx": 1, "label": 0}],
    ),
}
for _row in TASKS["hellaswag"][1]:
    _row["endings"] = ENDINGS
MARKED = ("goal", "ctx_a", "question", "passage", "question_stem", "sentence")
TRAINING = {  # of every four rows one is a row that is asked as well, several times
    name: [
        {key: f"{value} ({place})" if key in MARKED and place % 4 else value for key, value in row.items()}
        for place, row in enumerate([*rows * 4, *rows[::-1] * 3])
    ]
    for name, (_, rows) in TASKS.items()
    if name not in ("wikitext", "lambada_openai")
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "based_swde.jsonl": [{"text": "Film. year: 1999 and so on.", "key": "year", "value": "1999"}] * 2
    + [{"text": "Film. age: 7", "key": "age", "value": "7"}],
    "based_fda.jsonl": [{"text": "Device. class: II. More.", "key": "class", "value": "II"}],
    "based_squad.jsonl": [
        {
            "text": "Rome is a city. Rome is a",
            "value": "city",
            "question": "What is Rome?",
            "context": "Rome is a city.",
        }
    ],
    "based_nq_2048.jsonl": [
        {"context": "Paris is in France.", "question": "where is paris?", "orig_question": "where is paris"}
        | {"answers": ["France", "in France"], "tok_pos": 3}
    ],
    "based_triviaqa.jsonl": [
        {
            "context": "[DOC] Lima is big.",
            "question": "what is big?",
            "orig_question": "what is big?",
            "answers": ["Lima"],
        }
    ],
    "based_drop.jsonl": [
        {"context": "They won 7 games.", "question": "How many?", "orig_question": "How many?", "answers": "7"}
    ],
}
