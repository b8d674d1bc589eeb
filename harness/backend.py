"""`GDN2LM`, the lm-eval model "gdn2": the border between lm-eval's text and the engine's token ids.

Tokenisation, truncation and stop strings follow lm-eval's HFLM at batch size 1 to the token; how a model is run is
the engine's business.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

import lm_eval.models  # noqa: F401 (lm-eval fills its registry only while it is empty, so its own models go first)
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gdn2.checkpoints import DTYPES, CheckpointError, fingerprint, load_checkpoint, tokenizer_fingerprint
from gdn2.ops import resolve_backend
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.self_test import SelfTestError, self_test
from harness.engine import SEGMENT, Engine
from harness.errors import UserError
from harness.progress import NullProgress, ProgressSink
from harness.requests import GenerateRequest, ScoreRequest
from tasks.tokenizers import load_tokenizer, prefix_ids

log = logging.getLogger(__name__)

DEFAULT_GENERATED_TOKENS = 256  # lm-eval's default when a task does not say
AUTO_BATCH_SIZE = 8
SELF_TEST_VARIABLE = "GDN2_SELF_TEST"
self_test_once = lru_cache(maxsize=32)(self_test)  # a process that loads many models asks a device once


@register_model("gdn2")
class GDN2LM(TemplateLM):
    """A checkpoint of this project as an lm-eval model.

    Args:
        pretrained: folder of the checkpoint.
        batch_size: rows read together; scores do not depend on it. "auto" means 8.
        max_batch_size: accepted for lm-eval's command line; caps `batch_size`.
        device, dtype: where and in what the model runs.
        max_length: tokens of context and continuation that fit; longer ones lose their beginning, as in HFLM.
            Default: the config's max_position_embeddings. The recurrence itself has no limit.
        context_prefix: what stands before every context: "tokenizer" (its default), "none", "bos" or "eos".
        tokenizer: folder of the tokenizer, if it is not the checkpoint's.
        progress: who is told about finished requests and tokens.

    Raises:
        gdn2.checkpoints.CheckpointError: a checkpoint that cannot be used, or a tokenizer that does not fit it.
        UserError: an argument that cannot be used, or an operator that is wrong on this machine (its self-test).
    """

    backend = "causal"

    def __init__(
        self,
        pretrained: str,
        *,
        batch_size: int | str = AUTO_BATCH_SIZE,
        max_batch_size: int | None = None,
        device: str | None = "cpu",
        dtype: str = "float32",
        max_length: int | None = None,
        context_prefix: str = "tokenizer",
        tokenizer: str | None = None,
        progress: ProgressSink | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise UserError(f"the model gdn2 has no argument {sorted(unknown)[0]!r}; see harness/backend.py for those")
        self.path = Path(pretrained)
        self.dtype_name = dtype
        self.model = load_checkpoint(self.path, dtype=dtype, device=device or "cpu")
        self.tokenizer = load_tokenizer(tokenizer or pretrained)
        self.tokenizer_path = Path(tokenizer or pretrained)
        self.context_prefix = context_prefix
        self._prefix = prefix_ids(self.tokenizer, context_prefix)
        self._check_vocabulary()
        rows = AUTO_BATCH_SIZE if str(batch_size).startswith("auto") else int(batch_size)
        if rows < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = min(rows, int(max_batch_size)) if max_batch_size else rows
        if max_length is not None and int(max_length) < 1:
            raise UserError(f"max_length must be at least 1, got {max_length}")
        self.max_length = int(max_length or self.model.config.max_position_embeddings)
        self.num_truncated = 0
        self.self_test = self._test_operator()
        self.engine = Engine(self.model, self.batch_size, progress or NullProgress())

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> GDN2LM:
        """As lm-eval's, for models named on its command line, whose default device is a GPU that may not be there."""
        extra = {key: value for key, value in (additional_config or {}).items() if value is not None}
        if str(extra.get("device")).startswith("cuda") and not torch.cuda.is_available():
            log.warning("no CUDA device here: running on the CPU instead of %s", extra["device"])
            extra["device"] = "cpu"
        return cls(**arg_dict, **extra)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is replaced by: the chosen prefix, else BOS, else EOS."""
        if self.context_prefix in ("bos", "eos"):
            return self._prefix[0]
        bos = self.tokenizer.bos_token_id
        return self.tokenizer.eos_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; a text that spells out the prefix token does not get it a second time."""
        if add_special_tokens is not None:
            return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)
        if string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            return self.tokenizer.encode(string, add_special_tokens=False)
        if self.context_prefix == "tokenizer":
            return self.tokenizer.encode(string)
        return self._prefix + self.tokenizer.encode(string, add_special_tokens=False)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The tokenizer's chat template, for tasks that are run with one."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results, and we into our records."""
        config = self.model.config
        return {
            "name": self.path.resolve().name,
            "architecture": config.model_type,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "layers": config.num_hidden_layers,
            "state_bytes": self.model.model.empty_state(1).num_bytes,
            "checkpoint_sha256": fingerprint(self.path),
            "tokenizer_sha256": tokenizer_fingerprint(self.tokenizer_path),
            "dtype": self.dtype_name,
            "device": str(self.device),
            "operator_backend": resolve_backend("auto", SEGMENT, self.device, self.model.dtype, config.head_dim),
            "self_test": self.self_test,
            "context_prefix": self.context_prefix,
            "max_length": self.max_length,
        }

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, every token once, in windows of `max_length` as lm-eval cuts them."""
        del disable_tqdm  # progress is the sink's
        # An explicit prefix is the first window's context; only a tokenizer's own BOS is scored as well, as in HFLM.
        add_special_tokens = False if self.context_prefix in ("bos", "eos") else None
        windows, owners = [], []
        for index, request in enumerate(requests):
            (text,) = cast("tuple[str]", request.args)
            ids = self.tok_encode(text, add_special_tokens)
            for pair in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                windows.append(ScoreRequest(*make_disjoint_window(pair)))
                owners.append(index)
        totals, left = [0.0] * len(requests), Counter(owners)

        def done(window: int, result: tuple[float, bool]) -> None:
            index = owners[window]
            totals[index] += result[0]
            left[index] -= 1
            if left[index] == 0:
                self.cache_hook.add_partial("loglikelihood_rolling", requests[index].args, totals[index])

        self.engine.score(windows, "perplexity", done)
        return totals

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        parsed = []
        for _, context_ids, target_ids in requests:
            if not context_ids or not target_ids:
                raise UserError("a log-likelihood needs at least one token of context and one to score")
            if len(target_ids) > self.max_length:
                raise UserError(
                    f"a continuation of {len(target_ids)} tokens does not fit into max_length {self.max_length}; "
                    "give a larger max_length"
                )
            ids = self._truncate(context_ids + target_ids, self.max_length + 1)
            parsed.append(ScoreRequest(ids[: -len(target_ids)], target_ids))

        def done(index: int, result: tuple[float, bool]) -> None:
            if requests[index][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[index][0], result)

        return self.engine.score(parsed, "scoring", done)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, without their stop string.

        Raises:
            UserError: a task that asks for sampling, or a generation that leaves no room for a prompt.
        """
        del disable_tqdm
        arguments = [cast("tuple[str, dict[str, Any]]", request.args) for request in requests]
        stops = [self._stops(gen_kwargs) for _, gen_kwargs in arguments]
        parsed = [self._parse_generation(*pair, stop) for pair, stop in zip(arguments, stops, strict=True)]
        texts = [""] * len(requests)

        def done(index: int, ids: list[int]) -> None:
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            texts[index] = postprocess_generated_text(text, stops[index], None)
            self.cache_hook.add_partial("generate_until", arguments[index], texts[index])

        self.engine.generate(parsed, done)
        return texts

    def _stops(self, gen_kwargs: dict[str, Any]) -> list[str]:
        """The task's stop strings and the end of text."""
        until = normalize_gen_kwargs(gen_kwargs, DEFAULT_GENERATED_TOKENS).get("until")
        eos = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        return [stop for stop in handle_stop_sequences(until, eos=eos) if stop]

    def _parse_generation(self, context: str, gen_kwargs: dict[str, Any], stops: list[str]) -> GenerateRequest:
        kwargs = normalize_gen_kwargs(gen_kwargs, DEFAULT_GENERATED_TOKENS)
        if kwargs.get("do_sample"):
            raise UserError(f"the model gdn2 generates greedily only; a task asks for sampling: {gen_kwargs}")
        max_tokens = kwargs["max_gen_toks"]
        if max_tokens >= self.max_length:
            raise UserError(
                f"max_gen_toks {max_tokens} leaves no room for a prompt in max_length {self.max_length}; "
                "give a larger max_length"
            )
        ids = self._truncate(self.tok_encode(context) or [self.prefix_token_id], self.max_length - max_tokens)

        def is_finished(generated: list[int]) -> bool:
            text = self.tokenizer.decode(generated, skip_special_tokens=False)
            return any(stop in text for stop in stops)

        return GenerateRequest(ids, max_tokens, self._end_ids, is_finished)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        ids = getattr(self.model.generation_config, "eos_token_id", None)
        listed = ids if isinstance(ids, list) else [ids]
        return frozenset(i for i in [*listed, self.eot_token_id] if i is not None)

    def _truncate(self, ids: list[int], limit: int) -> list[int]:
        if len(ids) <= limit:
            return ids
        self.num_truncated += 1
        if self.num_truncated == 1:
            log.warning(
                "a request of %d tokens loses its beginning: it does not fit into max_length %d; later ones are "
                "counted, not shown",
                len(ids),
                self.max_length,
            )
        return ids[-limit:]

    def _check_vocabulary(self) -> None:
        size, rows = len(self.tokenizer), self.model.config.vocab_size
        if size > rows:
            raise CheckpointError(
                f"{self.tokenizer_path}: the tokenizer has {size} tokens but the model's embedding only {rows} rows; "
                "they do not belong together"
            )
        if self.tokenizer.eos_token_id is None:
            raise CheckpointError(f"{self.tokenizer_path}: the tokenizer has no eos_token; set one in its config")

    def _test_operator(self) -> dict[str, Any]:
        """The self-test of the operator as this model uses it, for the record."""
        if os.environ.get(SELF_TEST_VARIABLE) == "0":
            return {"passed": None, "skipped": f"{SELF_TEST_VARIABLE}=0"}
        heads = self.model.model.operator_heads()
        if not heads:
            return {"passed": None, "skipped": "no layer of the model uses the operator"}
        backend = os.environ.get(BACKEND_VARIABLE, "auto")
        try:
            found = self_test_once(self.device, heads=heads, dtype=DTYPES[self.dtype_name], backend=backend)
            found.require()
        except (SelfTestError, ValueError) as error:
            raise UserError(str(error)) from error
        return found.as_dict()
