"""What a result file of lm-eval says of the model and the machine; what it does not say is unknown."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from harness.records.added import UNKNOWN, Added
from harness.records.lm_eval_files import LmEvalResults
from harness.records.model_info import Machine, ModelInfo

LONGEST_NAME = 150
NAMED_BY = ("peft", "delta", "pretrained", "model", "path", "engine")
"""Arguments that say which model it is, in lm-eval's order."""
SECRET = re.compile(r"(?i)(?:^|_)(?:token|key|password|secret|auth)s?$|api_?key")
"""Arguments of models that may be passwords, which no record repeats."""


def model_info(results: LmEvalResults, name: str) -> ModelInfo:
    """The model, as far as the file describes it."""
    config, args = results.config, _arguments(results.config)
    sha = text_of(config.get("model_sha"))
    pretrained = _given(args)
    return ModelInfo(
        name=name,
        architecture=UNKNOWN,
        parameters=count_of(config.get("model_num_parameters")) or None,
        layers=None,
        state_bytes=None,
        state_bytes_a_token=None,
        checkpoint_sha256=UNKNOWN,
        tokenizer_sha256=UNKNOWN,
        source=f"{pretrained}@{sha}" if pretrained and sha else pretrained or None,
        dtype=(text_of(config.get("model_dtype")) or UNKNOWN).removeprefix("torch."),
        device=text_of(config.get("model_device")) or text_of(config.get("device")) or UNKNOWN,
        context_prefix=UNKNOWN,
        max_length=count_of(results.raw.get("max_length")) or None,
    )


def source_of(results: LmEvalResults) -> Added:
    """Where a record comes from: this file."""
    raw = results.raw
    return Added(
        lm_eval=text_of(raw.get("lm_eval_version")) or None,
        model=text_of(results.config.get("model")) or UNKNOWN,
        model_args=",".join(f"{name}={value}" for name, value in _arguments(results.config).items()),
        file=results.path.name,
        sha256=results.sha256,
        chat_template=bool(raw.get("chat_template")),
        system_instruction=bool(raw.get("system_instruction")),
        without_samples=tuple(task.name for task in results.tasks if task.samples is None),
    )


def _arguments(config: Mapping[str, Any]) -> dict[str, str]:
    """What the model was given, without what may be a password."""
    given = config.get("model_args")
    if isinstance(given, str):
        pairs = [part.partition("=") for part in given.split(",") if part.strip()]
        found = {name.strip(): value for name, _, value in pairs}
    else:
        found = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    return {name: value for name, value in found.items() if not SECRET.search(name)}


def _given(arguments: Mapping[str, str]) -> str:
    """The model's path or name; empty where a backend takes none, and lm-eval makes a random one up."""
    return next((arguments[name] for name in NAMED_BY if arguments.get(name)), "")


def name_of(results: LmEvalResults) -> str:
    """The last part of the model's path or name, as a folder can be called."""
    full = _given(_arguments(results.config)) or text_of(results.config.get("model"))
    last = re.split(r"[/\\]", full.rstrip("/\\"))[-1].lstrip(".").strip()
    last = "".join(letter for letter in last if letter.isprintable())
    return last.encode()[:LONGEST_NAME].decode(errors="ignore") or UNKNOWN


def started_at(raw: Mapping[str, Any]) -> datetime.datetime:
    """When lm-eval began, in UTC; the beginning of time where the file does not say."""
    try:
        return datetime.datetime.fromtimestamp(float(raw.get("date", 0)), datetime.timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        return datetime.datetime.fromtimestamp(0, datetime.timezone.utc)


def machine_of(raw: Mapping[str, Any]) -> Machine:
    """What the report on the environment says of the machine."""
    report = text_of(raw.get("pretty_env_info"))

    def said(pattern: str) -> str | None:
        found = re.search(pattern, report, flags=re.MULTILINE)
        return found[1].strip() if found and found[1].strip() not in ("N/A", "Could not collect") else None

    cores = said(r"^\s*CPU\(s\):\s+(\d+)$")
    return Machine(
        cpu=said(r"^\s*Model name:\s+(.+)$") or UNKNOWN,
        cores=int(cores) if cores else None,
        threads=None,
        memory_gib=None,
        system=said(r"^OS: (.+)$") or UNKNOWN,
        python=said(r"^Python version: ([\d.]+)") or UNKNOWN,
        gpu=said(r"^\s*(?:GPU models and configuration: )?GPU 0: (.+)$"),
    )


def packages_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """Versions of packages that the file says."""
    torch = re.search(r"^PyTorch version: (\S+)", text_of(raw.get("pretty_env_info")), flags=re.MULTILINE)
    versions = {
        "lm_eval": text_of(raw.get("lm_eval_version")),
        "transformers": text_of(raw.get("transformers_version")),
        "torch": torch[1] if torch else "",
    }
    return {name: version for name, version in versions.items() if version}


def text_of(value: Any) -> str:
    """A text on one line; empty for anything else."""
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int:
    """A whole number above 0; 0 for anything else."""
    return value if type(value) is int and value > 0 else 0


def amount_of(value: Any) -> float | None:
    """A number from 0, also one that is written as text, with one decimal; None for anything else."""
    try:
        number = round(float(value), 1)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 1e12 else None
