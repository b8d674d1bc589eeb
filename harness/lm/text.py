"""From lm-eval's requests to the engine's and back, as lm-eval's HFLM at batch size 1 does it, to the token.

How texts become ids is in encoding.py. What runs the ids is the `engine` of a subclass.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import lm_eval.models  # noqa: F401 (lm-eval fills its registry only while it is empty, so its own models go first)
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import postprocess_generated_text

from basis.errors import reason
from gdn2.checkpoints import CheckpointError, tokenizer_fingerprint
from gdn2.config import GDN2Config
from harness.engine.journal import Journal
from harness.engine.requests import GenerateRequest, ScoreRequest
from harness.errors import UserError
from harness.lm.asked_texts import AskedText, read_asked
from harness.lm.chat import fill_chat_template
from harness.lm.encoding import TextEncoder
from harness.lm.terms import Measures, RequestRunner, Terms
from tasks.text.tokenizer_loading import files_read
from tasks.text.tokenizers import load_tokenizer, tokenizer_folder

log = logging.getLogger(__name__)

REFERENCES = "outputs"  # the field of a document whose strings a needle task looks for


class TextModel(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """An lm-eval model without the model: tokenizer, windows, stop strings.

    Attributes:
        max_length, stop_at_references: the terms of requests that come outside of `under`, see `Terms`.
        measures: of all such requests.
    """

    backend = "causal"
    engine: RequestRunner

    def __init__(self, config: GDN2Config, tokenizer: str, context_prefix: str, max_length: int | None) -> None:
        """Load the tokenizer and check that it fits.

        Args:
            config: of the model.
            tokenizer: a folder or a name, as `tasks.text.tokenizers.load_tokenizer` takes it.
            context_prefix: the name of what is put before contexts.
            max_length: see `Terms`; None: the config's max_position_embeddings.

        Raises:
            CheckpointError: the tokenizer does not fit the model, or has no end of text.
            TaskError: no such tokenizer or prefix.
            UserError: a max_length below 1.
        """
        super().__init__()
        self.config = config
        self.tokenizer_path = tokenizer_folder(tokenizer)
        self.tokenizer = load_tokenizer(tokenizer)
        self.context_prefix = context_prefix
        self.encoder = TextEncoder(self.tokenizer, context_prefix)
        self._check_vocabulary()
        if max_length is not None and (not str(max_length).isdecimal() or int(max_length) < 1):
            raise UserError(f"max_length must be at least 1, a whole number, got {max_length}")
        self.max_length = int(max_length or config.max_position_embeddings)
        self.stop_at_references = False
        self.measures = Measures()
        self._terms_of: Mapping[str, Terms] = {}
        self._journal: Journal | None = None
        self._asking: list[str] = []

    @contextmanager
    def under(self, terms: Mapping[str, Terms], journal: Journal | None = None) -> Iterator[Measures]:
        """Answer requests on the terms of their tasks while the context lasts.

        lm-eval hands over requests and nothing else, so what holds for a call is said around it.

        Args:
            terms: by lm-eval's names of tasks; others are asked on the model's own terms.
            journal: what keeps the results, and knows earlier ones; by default the engine's own.

        Yields:
            What is measured meanwhile.
        """
        before = self._terms_of, self._journal, self.measures
        self._terms_of, self._journal, self.measures = terms, journal, Measures()
        try:
            yield self.measures
        finally:
            self._terms_of, self._journal, self.measures = before

    def _terms(self, task: str) -> Terms:
        own = Terms(max_length=self.max_length, stop_at_references=self.stop_at_references)
        return self._terms_of.get(task, own)

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What lm-eval replaces an empty context by."""
        return self.encoder.prefix_token_id

    @cached_property
    def tokenizer_sha256(self) -> str:
        """SHA-256 of every file that the tokenizer was read from."""
        return tokenizer_fingerprint(self.tokenizer_path, files_read(self.tokenizer))

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval keeps requests by that it built with a chat template: the tokenizer itself, and the prefix."""
        return f"{self.tokenizer_sha256}-{self.context_prefix}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids behind the context prefix, unless `add_special_tokens` is False."""
        return self.encoder.encode(string, prefixed=add_special_tokens is not False)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The tokenizer's chat template, for tasks that are run with one; as HFLM where it knows no system role.

        Raises:
            UserError: there is no template, or it cannot be applied.
        """
        try:
            return fill_chat_template(self.tokenizer, chat_history, add_generation_prompt)
        except Exception as error:
            raise UserError(f"{self.tokenizer_path}: its chat template gives no text: {reason(error)}") from error

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As lm-eval's; a context that several choices have is encoded once."""
        del disable_tqdm  # progress is the sink's
        self._asking = [request.task_name or "" for request in requests]
        encoded = []
        try:
            with self.encoder.remembering():
                for request, task in zip(requests, self._asking, strict=True):
                    pair = cast("tuple[str, str]", request.args)
                    context_ids, target_ids, apart = self.encoder.pair(*pair)
                    encoded.append((pair, context_ids, target_ids))
                    if apart:
                        self._count_apart(pair, task)
            return self._loglikelihood_tokens(encoded)
        finally:
            self._asking = []

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, every token once, in windows of `max_length` as lm-eval cuts them."""
        del disable_tqdm
        windows: list[ScoreRequest] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            (text,) = cast("tuple[str]", request.args)
            task = request.task_name or ""
            for context_ids, target_ids in self.encoder.windows(text, self._terms(task).max_length):
                windows.append(ScoreRequest(context_ids, target_ids, task))
                owners.append(index)
        totals, left = [0.0] * len(requests), Counter(owners)
        logprobs: dict[int, dict[int, float]] = {index: {} for index in left}

        def done(window: int, result: tuple[float, bool]) -> None:
            index = owners[window]
            logprobs[index][window] = result[0]
            left[index] -= 1
            if left[index] == 0:
                totals[index] = sum(
                    logprobs[index][window] for window in sorted(logprobs[index])
                )  # in the text's order
                self.cache_hook.add_partial("loglikelihood_rolling", requests[index].args, totals[index])

        self.engine.score(windows, "perplexity", done, self.measures.accounts, self._journal)
        return totals

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        parsed = []
        tasks = self._asking if len(self._asking) == len(requests) else [""] * len(requests)
        for task, (pair, context_ids, target_ids) in zip(tasks, requests, strict=True):
            if not context_ids or not target_ids:
                where = f"; the context ends in {pair[0][-40:]!r}" if pair else ""
                raise UserError(f"a log-likelihood needs at least one token of context and one to score{where}")
            max_length = self._terms(task).max_length
            if len(target_ids) > max_length:
                raise UserError(
                    f"a continuation of {len(target_ids)} tokens does not fit into max_length {max_length}; "
                    "give a larger max_length"
                )
            ids = self._truncate(context_ids + target_ids, max_length + 1, task)
            parsed.append(ScoreRequest(ids[: -len(target_ids)], target_ids, task))

        def done(index: int, result: tuple[float, bool]) -> None:
            if requests[index][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[index][0], result)

        return self.engine.score(parsed, "scoring", done, self.measures.accounts, self._journal)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations, without their stop string.

        Raises:
            UserError: a task that asks for what greedy decoding is not, see `read_asked`, or a generation that leaves
                no room for a prompt.
        """
        del disable_tqdm
        arguments = [cast("tuple[str, dict[str, Any]]", request.args) for request in requests]
        eos = str(self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False))
        asked = [
            read_asked(gen_kwargs, eos, request.task_name or "")
            for request, (_, gen_kwargs) in zip(requests, arguments, strict=True)
        ]
        parsed = [self._parse_generation(*each) for each in zip(requests, asked, strict=True)]
        texts = [""] * len(requests)

        def done(index: int, ids: list[int]) -> None:
            text = self.tokenizer.decode(ids, skip_special_tokens=True)
            texts[index] = postprocess_generated_text(text, list(asked[index].stops), None)
            self.cache_hook.add_partial("generate_until", arguments[index], texts[index])

        self.engine.generate(parsed, done, self.measures.accounts, self._journal)
        return texts

    def _parse_generation(self, request: Instance, asked: AskedText) -> GenerateRequest:
        context, max_tokens, task = str(request.args[0]), asked.max_tokens, request.task_name or ""
        terms = self._terms(task)
        if max_tokens >= terms.max_length:
            raise UserError(
                f"max_gen_toks {max_tokens} leaves no room for a prompt in max_length {terms.max_length}; "
                "give a larger max_length"
            )
        ids = self.tok_encode(context) or self.encoder.in_front
        ids = self._truncate(ids, terms.max_length - max_tokens, task)
        references = tuple(request.doc.get(REFERENCES) or ()) if terms.stop_at_references else ()
        return GenerateRequest(ids, max_tokens, self._end_ids, asked.stops, references, task)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        listed = self._generation_ends()
        ids = listed if isinstance(listed, list) else [listed]
        return frozenset(i for i in [*ids, self.eot_token_id] if i is not None)

    @property
    def further_end_ids(self) -> list[int]:
        """The ids that end a generation besides the tokenizer's end of text, which its files say."""
        return sorted(self._end_ids - {self.eot_token_id})

    def _generation_ends(self) -> int | list[int] | None:
        """The end of text as the model has it, besides the tokenizer's."""
        return self.config.eos_token_id

    def _truncate(self, ids: list[int], limit: int, task: str) -> list[int]:
        if len(ids) <= limit:
            return ids
        truncated = self.measures.truncated
        truncated[task] += 1
        if truncated.total() == 1:
            log.warning(
                "a request of %d tokens loses its beginning: it does not fit into max_length %d; later ones are "
                "counted, not shown",
                len(ids),
                self._terms(task).max_length,
            )
        return ids[-limit:]

    def _count_apart(self, pair: tuple[str, str], task: str) -> None:
        self.measures.apart[task] += 1
        if self.measures.apart.total() == 1:
            log.warning(
                "the continuation %r merges with the end of its context, %r: the two are encoded apart; later ones "
                "are counted, not shown",
                pair[1][:40],
                pair[0][-40:],
            )

    def _check_vocabulary(self) -> None:
        size, rows = len(self.tokenizer), self.config.vocab_size
        if size > rows:
            raise CheckpointError(
                f"{self.tokenizer_path}: the tokenizer has {size} tokens but the model's embedding only {rows} rows; "
                "they do not belong together"
            )
        if self.tokenizer.eos_token_id is None:
            raise CheckpointError(f"{self.tokenizer_path}: the tokenizer has no eos_token; set one in its config")
