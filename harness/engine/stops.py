"""When a generation is over. Only the end of the generated text is looked at, and only if the last token can have ended
a stop string: the rest was looked at before.
"""

from __future__ import annotations

from typing import Any

from harness.engine.requests import GenerateRequest

CUT = "\ufffd"  # what a part of a character decodes to
SPARE = 4  # tokens before the longest possible stop: a character may be cut in two, a tokenizer may drop a first space


class StopRule:
    """Decides with `tokenizer`, a transformers tokenizer, how the ids of a generation read as text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._characters: dict[int, frozenset[str] | None] = {}

    def is_over(self, request: GenerateRequest, ids: list[int]) -> bool:
        """Whether the last of the generated ids ends the generation; asked after each one."""
        if len(ids) >= request.max_tokens or ids[-1] in request.end_ids:
            return True
        if request.stops and self._may_end(request.stops, ids[-1]):
            longest = max(len(stop.encode()) for stop in request.stops)  # a token is a byte or more
            text = self.tokenizer.decode(ids[-longest - SPARE :], skip_special_tokens=False)
            if any(stop in text for stop in request.stops):
                return True
        if request.references:
            text = self.tokenizer.decode(ids, skip_special_tokens=True).lower()
            return all(reference.lower() in text for reference in request.references)
        return False

    def _may_end(self, stops: tuple[str, ...], token: int) -> bool:
        """Whether one of the strings may end in this token. Decoding a text's end takes ten times as long as this."""
        if token not in self._characters:
            piece = self.tokenizer.decode([token], skip_special_tokens=False)
            # A part of a character, or nothing, says little by itself; a first space may have been dropped.
            unclear = not piece or CUT in piece
            self._characters[token] = None if unclear else frozenset(piece) | {" "}
        characters = self._characters[token]
        return characters is None or any(stop[-1] in characters for stop in stops)
