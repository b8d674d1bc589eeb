"""`GDN2LM`, the lm-eval model "gdn2": a checkpoint, checked and loaded, its engine, and what a record says of them."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.registry import register_model

from basis.names import way_out
from gdn2.checkpoints import (
    choose_dtype,
    fingerprint,
    load_checkpoint,
    quantised,
    read_config,
    saved_dtype,
    training_of,
)
from gdn2.ops import resolve_backend
from harness.engine.engine import Engine, Executor
from harness.engine.executor import LocalExecutor
from harness.engine.journal import Journal
from harness.engine.memory import limits_of
from harness.engine.meter import NullProgress, ProgressSink
from harness.engine.self_test import operator_self_test
from harness.engine.stops import StopRule
from harness.engine.trunks import Trunks
from harness.engine.units import SEGMENT
from harness.engine.workers import RayExecutor, WorkerSpec
from harness.errors import UserError
from harness.lm.asked_texts import changes_of_text
from harness.lm.text import TextModel
from harness.records.fields import read_fields
from harness.records.model_info import ModelInfo
from tasks.text.tokenizer_loading import tokenizer_note

log = logging.getLogger(__name__)


@register_model("gdn2")
class GDN2LM(TextModel):
    """A checkpoint of this project as an lm-eval model.

    Args:
        pretrained: folder of the checkpoint.
        batch_size: the most rows read together, or "auto": as many as memory holds. Scores do not depend on it.
        max_batch_size: accepted for lm-eval's command line; caps `batch_size`.
        batch_tokens: the most tokens a step; default: from the free memory of the device.
        device: where the model runs.
        dtype: what it runs in; "auto" is float32 on a CPU, elsewhere what the checkpoint was saved in.
        max_length: tokens of context and continuation that fit; longer ones lose their beginning, as in HFLM.
            Default: the config's max_position_embeddings. The recurrence itself has no limit.
        context_prefix: what comes before every context: a name of
            `tasks.text.tokenizers.CONTEXT_PREFIXES`, "tokenizer" (what the tokenizer adds by itself) by default.
        tokenizer: folder of the tokenizer, if it is not the checkpoint's.
        stop_at_references: whether a generation ends when every reference of its document ("outputs") has appeared;
            only for tasks whose score asks for nothing else.
        journal: a file that keeps finished requests; the same run finds them again.
        workers: processes with a copy of the model each, by Ray (harness/engine/workers.py); 0: this one.
        prefix_states: a folder that keeps the states of long prefixes that many requests share.
        progress: who is told about finished requests and tokens.

    Raises:
        gdn2.checkpoints.CheckpointError: a checkpoint that cannot be used, or a tokenizer that does not fit it.
        UserError: an argument that cannot be used, or an operator that is wrong on this machine (its self-test).
    """

    engine: Engine

    def __init__(
        self,
        pretrained: str,
        *,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        batch_tokens: int | None = None,
        device: str | None = "cpu",
        dtype: str = "auto",
        max_length: int | None = None,
        context_prefix: str = "tokenizer",
        tokenizer: str | None = None,
        stop_at_references: bool = False,
        journal: str | None = None,
        prefix_states: str | None = None,
        workers: int = 0,
        progress: ProgressSink | None = None,
        **unknown: Any,
    ) -> None:
        """Check the arguments, load tokenizer and model, and test the operator; see the class."""
        if unknown:
            name, known = sorted(unknown)[0], inspect.signature(type(self).__init__).parameters
            hint = way_out(name, [one for one in known if one not in ("self", "unknown", "progress")])
            raise UserError(f"the model gdn2 has no argument {name!r}; {hint}")
        self.path = Path(str(pretrained))
        rows = _rows(batch_size, max_batch_size)
        workers, batch_tokens = _whole("workers", workers, 0) or 0, _whole("batch_tokens", batch_tokens)
        self.run_device = device or "cpu"
        self.dtype_name = dtype = choose_dtype(self.path, dtype, self.run_device)
        super().__init__(read_config(self.path), str(tokenizer or pretrained), context_prefix, max_length)
        self.model = load_checkpoint(self.path, dtype=dtype, device="cpu" if workers else self.run_device)
        if unlike := changes_of_text(self.model.generation_config.to_dict()):
            log.warning(
                "%s: generation_config.json has %s, which texts here are generated without: greedily, as a task asks",
                self.path,
                ", ".join(unlike),
            )
        self.stop_at_references = stop_at_references
        self.checkpoint_sha256 = fingerprint(self.path)
        executor: Executor
        if workers:
            spec = WorkerSpec(
                checkpoint=str(self.path.resolve()),
                tokenizer=str(self.tokenizer_path.resolve()),
                dtype=dtype,
                device=self.run_device,
                batch_size=rows,
                batch_tokens=batch_tokens,
            )
            executor = RayExecutor(spec, int(workers))
            self.self_test = executor.self_test
        else:
            self.self_test = operator_self_test(self.model, dtype)
            limits = limits_of(self.model, batch_size=rows, tokens=batch_tokens)
            trunks = Trunks(Path(prefix_states), f"{self.checkpoint_sha256} {dtype}") if prefix_states else None
            executor = LocalExecutor(self.model, limits, StopRule(self.tokenizer), trunks)
        self.batch_size = executor.limits.rows
        kept = self.open_journal(Path(journal)) if journal else None
        self.engine = Engine(executor, progress or NullProgress(), kept)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> GDN2LM:
        """As lm-eval's, for models named on its command line, whose default device is a GPU that may not be there."""
        extra = {key: value for key, value in (additional_config or {}).items() if value is not None}
        if str(extra.get("device")).startswith("cuda") and not torch.cuda.is_available():
            log.warning("no CUDA device here: running on the CPU instead of %s", extra["device"])
            extra["device"] = "cpu"
        if "pretrained" not in arg_dict:
            raise UserError("the model gdn2 needs a checkpoint: --model_args pretrained=FOLDER")
        return cls(**{**extra, **arg_dict})

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.device

    def open_journal(self, path: Path, **identity: Any) -> Journal:
        """The journal at `path` of what this checkpoint finishes; `identity` has what else fixes a result."""
        own = {"checkpoint_sha256": self.checkpoint_sha256, "dtype": self.dtype_name}
        own["tokenizer_sha256"] = self.tokenizer_sha256
        return Journal(path, {**own, **identity})

    def _generation_ends(self) -> int | list[int] | None:
        return getattr(self.model.generation_config, "eos_token_id", None)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results."""
        return self.model_info().as_dict()

    def model_info(self) -> ModelInfo:
        """What a record says of the model, with what the engine has done so far."""
        config, state = self.model.config, self.model.model.empty_state(1)
        said: dict[str, Any] = {
            "name": self.path.resolve().name,
            "architecture": " + ".join(dict.fromkeys(config.layers)),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "layers": config.num_hidden_layers,
            "state_bytes": state.num_bytes,
            "state_bytes_a_token": state.num_bytes_a_token,
            "checkpoint_sha256": self.checkpoint_sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
            "own_tokenizer": self.tokenizer_path.resolve() == self.path.resolve(),
            **self._said(),
            "dtype": self.dtype_name,
            "saved_dtype": saved_dtype(self.path),
            "device": self.run_device if isinstance(self.engine.executor, RayExecutor) else str(self.device),
            "operator_backend": self._operator_backend(),
            "self_test": self.self_test,
            "context_prefix": self.context_prefix,
            "max_length": self.max_length,
        }
        return read_fields(ModelInfo, {**said, **self.engine.executor.describe()})

    def _said(self) -> dict[str, Any]:
        """What is worth a word only where it is not as usual: how the tokenizer was loaded, further ends, training."""
        said = {"tokenizer_note": tokenizer_note(self.tokenizer), "further_end_ids": self.further_end_ids}
        said["quantised"] = quantised(self.path)
        found = {name: value for name, value in said.items() if value}
        training = training_of(self.path)
        return found if training is None else {**found, "training": training.recipe, "training_seed": training.seed}

    def _operator_backend(self) -> str | None:
        heads = self.model.model.operator_heads()
        if not heads:
            return None
        return resolve_backend("auto", SEGMENT, self.device, self.model.dtype, max(d_k for d_k, _ in heads))


def _rows(batch_size: int | str, max_batch_size: int | None) -> int | None:
    """The most rows a step, or None for as many as memory holds."""
    rows = None if str(batch_size).startswith("auto") else _whole("batch_size", batch_size)
    most = _whole("max_batch_size", max_batch_size or None)
    return rows if most is None else most if rows is None else min(rows, most)


def _whole(name: str, value: Any, least: int = 1) -> int | None:
    """An argument that is a whole number; it may be written as text, and None stays None."""
    try:
        number = None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a whole number, got {value!r}") from error
    if number is not None and number < least:
        raise UserError(f"{name} must be at least {least}, got {value}")
    return number
