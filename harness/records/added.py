"""Where a record comes from that no run of ours made: a result file of lm-eval."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.fields import Name

UNKNOWN = "unknown"
"""Stands where a record must name something that nobody said; numbers that nobody said are null."""
SHOWN_LETTERS = 120


@dataclass(frozen=True, kw_only=True)
class Added:
    """The file that a record was made of.

    Attributes:
        lm_eval: the version of lm-eval that wrote it; None where the file does not say (before 0.4.9 none does).
        model: lm-eval's name of the kind of model, such as `hf` or `vllm`.
        model_args: what that was given, as `name=value` with commas, without what may be a password.
        file: the name of the file.
        sha256: of its bytes.
        chat_template: whether prompts were put into the model's chat template.
        system_instruction: whether prompts began with a system's message.
        without_samples: lm-eval's names of tasks whose samples were not beside the file.
    """

    lm_eval: str | None
    model: Name
    model_args: str
    file: Name
    sha256: Name
    chat_template: bool = False
    system_instruction: bool = False
    without_samples: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """What tables say of its numbers."""
        version = f"lm-eval {self.lm_eval}" if self.lm_eval else "lm-eval (version unknown)"
        args = self.model_args if len(self.model_args) <= SHOWN_LETTERS else self.model_args[: SHOWN_LETTERS - 1] + "…"
        said = [f"added from {version}: {' '.join(part for part in (self.model, args) if part)}"]
        said += ["in its chat template"] if self.chat_template else []
        said += ["after a system's message"] if self.system_instruction else []
        return "; ".join([", ".join(said), "protocol partly unknown"])
