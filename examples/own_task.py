"""Write a retrieval task of one's own as YAML, look at one of its samples, and run it.

    python examples/own_task.py

`python run_eval.py tasks new NAME` writes a file with a word about every field; docs/tasks.md describes them all. The
prompts are filled to the token, whatever the templates say.
"""

from __future__ import annotations

from pathlib import Path

import harness
from harness.paths import ROOT

TASK = """\
include: {base}
task: door_codes
metadata: {{version: 1.0, description: "The code of a door"}}
dataset_kwargs:
  spec:
    task: door_codes
    lengths: [256]
    samples: 4
    haystack: noise
    key: [cellar, attic, garden, kitchen]
    value: {{kind: numbers, digits: 4}}
    keys: 2
    needle: "The code of the {{key}} door is {{value}}."
    question: "Which code opens the {{key}} door?"
    answer_prefix: "The code of the {{key}} door is"
"""


def main(folder: Path = Path()) -> None:
    """Write the file, run it with the shipped checkpoint, and print the score and one answer."""
    file = folder / "door_codes.yaml"
    file.write_text(TASK.format(base=ROOT / "tasks" / "needle" / "_base.yaml"), encoding="utf-8")
    done = harness.run("gdn2-tiny", tasks=(str(file),), output=folder / "results")
    (cell,) = done.record.cells
    for metric, score in cell.scores.items():
        print(f"{cell.protocol.name}: {metric} {score.value:.2f} of {score.n} samples of {cell.protocol.length} tokens")


if __name__ == "__main__":
    main()
