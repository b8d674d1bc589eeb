"""Who is told how work goes: by requests and tokens, because requests differ a hundredfold in length."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Status = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Shows a text while its context lasts; the context gives a function that changes the text."""


def no_status(text: str) -> AbstractContextManager[Callable[[str], None]]:
    """A `Status` that shows nothing."""
    del text
    return nullcontext(lambda _: None)


class ProgressSink(Protocol):
    """Hears of the phases of a call."""

    def begin(self, kind: str, requests: int, tokens: int) -> None:
        """Announce a phase: what it does, and with how much."""
        ...

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        """Report what was finished since the last call.

        Args:
            requests: finished ones.
            tokens: read or generated ones.
            saved: announced tokens that turned out not to be needed: a generation that stopped early.
        """
        ...

    def end(self) -> None:
        """Close the phase."""
        ...


class NullProgress:
    """Tells nobody."""

    def begin(self, kind: str, requests: int, tokens: int) -> None:
        """As every sink has it; nothing happens."""

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        """As every sink has it; nothing happens."""

    def end(self) -> None:
        """As every sink has it; nothing happens."""


class Meter:
    """Passes on to a sink as many tokens as were announced, no more and in the end no fewer.

    What never came is told as saved at the end of a phase: a journal or a kept state made it needless. What comes
    beyond is not told: what several requests share is announced once, and read again by another worker, or when its
    state was not kept.
    """

    def __init__(self, sink: ProgressSink) -> None:
        self.sink, self._left = sink, 0

    def begin(self, kind: str, requests: int, tokens: int) -> None:
        """Pass on the announcement, and note how much is to come."""
        self._left = tokens
        self.sink.begin(kind, requests, tokens)

    def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
        """Pass on what was finished."""
        tokens = min(tokens, self._left)
        saved = min(saved, self._left - tokens)
        self._left -= tokens + saved
        self.sink.advance(requests, tokens, saved)

    def end(self) -> None:
        """Tell as saved what never came, and close the phase."""
        if self._left > 0:
            self.sink.advance(0, 0, self._left)
        self.sink.end()
