"""What every synthetic task draws: rows of tokens, the positions that are asked, and the right answers.

Letters: B rows, T tokens, Q questions a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows of one size.

    Attributes:
        tokens: int64 [B, T].
        places: the positions whose next token is asked, int64 [B, Q], ascending.
        answers: the right tokens, int64 [B, Q].
    """

    tokens: Ints
    places: Ints
    answers: Ints

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, chosen: Ints) -> Rows:
        """Some of the rows, in that order."""
        return Rows(self.tokens[chosen], self.places[chosen], self.answers[chosen])
