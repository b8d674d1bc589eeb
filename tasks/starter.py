"""The file that `tasks new` writes: a whole task with a word about every field."""

from __future__ import annotations

import os
import re
from pathlib import Path

from basis.program import as_called
from tasks.errors import TaskError
from tasks.shipped import shipped_tasks
from tasks.task_files import ROOT

BASE = ROOT / "needle" / "_base.yaml"
TEXT = """\
# A retrieval task: needles in a haystack, then a question. Look at it, then run it:
#   python run_eval.py tasks check {name}.yaml
#   python run_eval.py run gdn2-tiny --tasks {name}.yaml --samples 10
include: {include}
task: {name}
metadata: {{version: 1.0, description: "The number of one of four keys"}}
dataset_kwargs:
  spec:
    task: {name}               # the same name; samples are drawn from it
    lengths: [1024, 2048]      # tokens of prompt and generation together; any others work with {name}.yaml@4096
    samples: 100               # at each length
    seed: 42

    # The text around the needles: essay, noise, needle (false needles), or one of your own:
    #   {{file: notes.txt}}   {{file: notes.jsonl, field: text}}   {{file: notes.parquet, field: text}}
    #   {{hub: owner/dataset, split: train, field: text, revision: main}}
    haystack: essay

    # Kinds of keys and values: words, uuids, numbers, [red, green, blue], or
    #   {{kind: numbers, digits: 4}}   {{kind: regex, pattern: "[A-Z]{{2}}[0-9]"}}   {{kind: file, path: names.txt}}
    key: words
    value: {{kind: numbers, digits: 7}}

    keys: 4                    # keys with a value of their own
    values: 1                  # values of a key, a needle each
    queries: 1                 # keys asked at once
    distractors: 0             # false needles (template `distractor`, else the needle's)
    depths: uniform            # or [0, 0.25, 0.5, 0.75, 1], or {{grid: 5}}: sample after sample along the grid

    # Templates: {{key}} and {{value}} in a needle; {{key}}, or {{keys}} where several are asked, in the question.
    opening: "Remember every number."
    needle: "The number of {{key}} is {{value}}."
    question: "Which number?"
    answer_prefix: "The number of {{key}} is"

    scoring: first_line        # string_match_all, string_match_part, contains, first_line, exact_match, f1
    generated_tokens: 32
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 32}}   # with "\\n", an answer behind a line end is lost
"""


def write_starter(name: str, folder: Path) -> Path:
    """Write `folder/name.yaml`.

    Raises:
        TaskError: not a name, a task of this project, an existing file, or a folder that cannot be written to.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise TaskError(f"task {name!r}: a name has letters, digits and _ and begins with a letter, such as door_codes")
    if name in shipped_tasks():
        raise TaskError(f"task {name!r} is a task of this project; choose another name")
    file = folder / f"{name}.yaml"
    text = as_called(TEXT).format(name=name, include=os.path.relpath(BASE, folder.resolve()))
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise TaskError(f"{file} exists; choose another name, or remove it") from error
    except OSError as error:
        raise TaskError(f"{file}: cannot write there ({error.strerror}); choose another --folder") from error
    return file
