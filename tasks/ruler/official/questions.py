"""Questions among documents as NVIDIA's scripts and lm-eval draw them.

Source of the algorithm: NVIDIA/RULER scripts/data/synthetic/qa.py, and its older form.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from tasks.errors import TaskError
from tasks.ruler.documents import Questions
from tasks.ruler.official.drawn import Drawn
from tasks.ruler.templates import DOCUMENT, QUESTION


class DocumentQuestions:
    """Draws of question answering: the gold documents, those of the same article, and others."""

    step = 10
    generated_tokens = QUESTION.generated_tokens

    def __init__(
        self, data: Questions, rng: random.Random, *, seed: int, older: bool = False, at_least_gold: bool = False
    ) -> None:
        """`older`: the whole corpus is asked for once at most, and then shuffled in place.

        `at_least_gold`: sizes below the number of gold documents ask for these alone instead of failing.
        """
        self._questions = data.questions
        self._all = data.documents
        self.documents = list(data.documents)  # shuffled by the older form
        self._rng = rng
        self._seed = seed
        self._older = older
        self._at_least_gold = at_least_gold
        self._index = 0

    def ask(self, index: int) -> None:
        """Ask question `index` of the file from now on."""
        if index >= len(self._questions):
            raise TaskError(f"there are {len(self._questions)} questions: sample {index} does not exist")
        self._index = index

    @property
    def num_gold(self) -> int:
        """Gold documents of the present question."""
        return len(self._questions[self._index].gold)

    def draw(self, size: int) -> Drawn:
        """The present question with `size` documents."""
        question = self._questions[self._index]
        if size < len(self.documents):
            texts = [self.documents[number] for number in self._chosen(size)]
        elif self._older:
            texts = self.documents
        else:
            texts = (self.documents * -(-size // len(self.documents)))[:size]
        gold = [self.documents[number] for number in question.gold]
        random.Random(self._seed).shuffle(texts)
        context = "\n\n".join(DOCUMENT.format(number=number, text=text) for number, text in enumerate(texts, start=1))
        prefix = QUESTION.answer_prefix
        return Drawn(
            prompt=QUESTION.prompt.format(context=context, query=question.text) + prefix,
            prefix=prefix,
            outputs=question.answers,
            evidence=tuple(text for text in gold if text in texts),
            facts={"query": question.text, "cluster": question.cluster(self._all)},
        )

    def _chosen(self, size: int) -> list[int]:
        question = self._questions[self._index]
        wanted = size - len(question.gold)
        if self._at_least_gold:
            wanted = max(0, wanted)
        if wanted <= len(question.more):
            return [*question.gold, *self._rng.sample(question.more, wanted)]
        others = _Others(len(self.documents), {*question.gold, *question.more})
        drawn = self._rng.sample(range(len(others)), wanted - len(question.more))
        return [*question.gold, *question.more, *(others[number] for number in drawn)]


class _Others:
    """All document numbers but these, in ascending order, by index."""

    def __init__(self, total: int, without: Collection[int]) -> None:
        self._total = total
        self._without = sorted(without)

    def __len__(self) -> int:
        return self._total - len(self._without)

    def __getitem__(self, index: int) -> int:
        for skipped in self._without:
            if skipped > index:
                break
            index += 1
        return index
