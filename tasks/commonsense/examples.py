"""Solved examples in front of a question (shots), drawn from training rows exactly as lm-eval draws them.

lm-eval draws for one document after the other, so that its examples depend on which documents are asked. Here document
`row` of the data set gets the draw that lm-eval makes for it when all are asked in their order, whatever is asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.samplers import ContextSampler

from tasks import data
from tasks.commonsense import upstream
from tasks.errors import TaskError

Doc = Mapping[str, Any]


class RowSampler(ContextSampler):  # type: ignore[misc]
    """lm-eval's `fewshot_config: sampler:`. A document names its own rows in `source`, training rows in `examples`."""

    def set_rnd(self, rnd: int | None) -> RowSampler:
        """Begin anew from a seed; lm-eval calls it with its few-shot seed, 1234 unless told otherwise."""
        self._seed = rnd
        self._draws: dict[tuple[str, int], _Draws] = {}
        return self

    def sample(self, n: int, eval_doc: Doc | None = None, df: Any = None, **_lm_eval: Any) -> Sequence[Doc]:  # noqa: ARG002
        """`n` training rows for a document. Raises TaskError if there are not so many, DataNotStaged without them."""
        if n == 0:
            return []
        assert eval_doc is not None, "fewshot_config needs split: test"
        file = eval_doc["examples"]
        if (file, n) not in self._draws:
            rows, pool = self.processed(data.rows(eval_doc["source"])), self.processed(data.rows(file))
            if n >= len(pool):
                raise TaskError(f"{file} has {len(pool)} rows: {n} solved examples cannot be drawn; ask for fewer")
            self._draws[file, n] = self.draws(rows, pool, n, random.Random(self._seed))
        return self._draws[file, n].of(eval_doc["row"])

    def draws(self, rows: Sequence[Doc], pool: Sequence[Doc], n: int, rng: random.Random) -> _Draws:  # noqa: ARG002
        """What is drawn for each row of the data set, in order."""
        return _Draws(pool, n, rng)

    def processed(self, rows: Sequence[Doc]) -> Sequence[Doc]:
        """The rows as the task's templates read them."""
        return rows


class SpareSampler(RowSampler):
    """For tasks of lm-eval without a test split: it draws one more there, and leaves the question itself out."""

    def draws(self, rows: Sequence[Doc], pool: Sequence[Doc], n: int, rng: random.Random) -> _Draws:
        """What is drawn for each row of the data set, in order, never the row itself."""
        return _SpareDraws(pool, n, rng, rows)


class HellaswagSampler(SpareSampler):
    """The same for rows that lm-eval rewrites."""

    def processed(self, rows: Sequence[Doc]) -> Sequence[Doc]:
        """Endings and beginnings put together."""
        import datasets

        found: Sequence[Doc] = list(upstream.hellaswag_docs(datasets.Dataset.from_list([dict(row) for row in rows])))
        return found


class _Draws:
    """The examples of row 0, 1, … one after the other, as far as they were asked for."""

    def __init__(self, pool: Sequence[Doc], n: int, rng: random.Random) -> None:
        self._pool, self._n, self._rng = pool, n, rng
        self._drawn: list[Sequence[Doc]] = []

    def of(self, row: int) -> Sequence[Doc]:
        while len(self._drawn) <= row:
            self._drawn.append(self._next(len(self._drawn)))
        return self._drawn[row]

    def _next(self, row: int) -> Sequence[Doc]:  # noqa: ARG002
        return self._rng.sample(self._pool, self._n)


class _SpareDraws(_Draws):
    def __init__(self, pool: Sequence[Doc], n: int, rng: random.Random, rows: Sequence[Doc]) -> None:
        super().__init__(pool, n, rng)
        self._rows = rows

    def _next(self, row: int) -> Sequence[Doc]:
        question = self._rows[row]
        found = [doc for doc in self._rng.sample(self._pool, self._n + 1) if doc != question][: self._n]
        if len(found) < self._n:  # the question occurs several times among the training rows
            found = self._rng.sample([doc for doc in self._pool if doc != question], self._n)
        return found
