"""When a generation is over.

What counts is the text of all its ids: a stop string ends it as soon as that text contains one. Only the end of the
text is decoded, and only if the last token can have ended a stop string; the rest was looked at before. The end of the
ids need not decode to the end of the text (bytes of a character belong together, a first space may go, spaces before
punctuation may go), so the window begins where characters begin, has room to spare, and what it finds is looked for
in the whole text.
"""

from __future__ import annotations

import re
from typing import Any

from harness.engine.requests import GenerateRequest

CUT = "\ufffd"  # what a part of a character decodes to
SPARE = 8  # characters at a window's beginning that may read otherwise in the whole text, and as many tokens
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # how vocabularies with a fallback to bytes write one


class StopRule:
    """Decides with `tokenizer`, a transformers tokenizer, how the ids of a generation read as text."""

    def __init__(self, tokenizer: Any) -> None:
        """Look at how the tokenizer decodes.

        Args:
            tokenizer: a transformers tokenizer.
        """
        self.tokenizer = tokenizer
        self._characters: dict[int, frozenset[str] | None] = {}
        self._bytes: dict[int, bool] = {}
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        self._rewrites = any(  # "do not" becomes "don't": a character that no token has
            (getattr(tokenizer, "clean_up_tokenization_spaces", False), getattr(decoder, "cleanup", False))
        )

    def is_over(self, request: GenerateRequest, ids: list[int]) -> bool:
        """Say whether the last of the generated ids ends the generation; asked after each one."""
        if len(ids) >= request.max_tokens or ids[-1] in request.end_ids:
            return True
        if request.stops and self._may_end(request.stops, ids[-1]) and self._has_stop(request.stops, ids):
            return True
        if request.references:
            text = self.tokenizer.decode(ids, skip_special_tokens=True).lower()
            return all(reference.lower() in text for reference in request.references)
        return False

    def _has_stop(self, stops: tuple[str, ...], ids: list[int]) -> bool:
        """Whether the text of the ids contains one of the strings, if it did not before the last id."""
        longest = max(map(len, stops))
        size = max(len(stop.encode()) for stop in stops) + SPARE  # nearly every token is a byte or more
        start = len(ids)
        while start > 0:
            start = self._character_start(ids, max(0, len(ids) - size))
            text = self._decode(ids[start:])
            if start and len(text) < longest + SPARE:
                size *= 2
                continue
            if not any(stop in text for stop in stops):
                return False
            whole = self._decode(ids) if start else text
            return any(stop in whole for stop in stops)
        return False

    def _character_start(self, ids: list[int], start: int) -> int:
        """The last place up to `start` where no run of byte tokens is cut: such a run is decoded as one."""
        while start > 0 and self._is_byte(ids[start]):
            start -= 1
        return start

    def _is_byte(self, token: int) -> bool:
        if token not in self._bytes:
            self._bytes[token] = bool(_BYTE.fullmatch(str(self.tokenizer.convert_ids_to_tokens(token))))
        return self._bytes[token]

    def _may_end(self, stops: tuple[str, ...], token: int) -> bool:
        """Whether one of the strings may end in this token. Decoding a text's end takes ten times as long as this."""
        if self._rewrites:
            return True
        if token not in self._characters:
            piece = self._decode([token])
            # A byte, part of a character or not, or nothing says little by itself; a first space may have been dropped.
            unclear = not piece or CUT in piece or self._is_byte(token)
            self._characters[token] = None if unclear else frozenset(piece) | {" "}
        characters = self._characters[token]
        return characters is None or any(stop[-1] in characters for stop in stops)

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))
