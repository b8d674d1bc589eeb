"""What a document wants to be answered, and the values that a text gives. Pure functions of texts.

Each family says what its documents want (`tasks.families.wanted_by`); `tasks.verdicts` judges an answer by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
FEW_WORDS = 10
"""A text of so many words may be an answer to a question; more are prose."""
_LETTER = r"[^\W\d_]"
_ITEM = re.compile(r"[\n,;]|\.(?=\s|$)|(?:^|(?<=\s))\d+[.)]\s")
_SENTENCE = re.compile(r"[\n;]|[.?!](?=\s|$)")
_CUE = re.compile(r".*:(?=\s|$)", re.DOTALL)
"""What leads to an answer: "The answer is:"."""
_NUMBER = re.compile(r"\\d\{\d+\}")
_AROUND = " \t\r\"'*`_.:()[]<>"


@dataclass(frozen=True)
class ValueKind:
    """What values look like, so that one which the context does not hold is known for a value.

    Attributes:
        shapes: of values with digits or of capitals, found anywhere in a text.
        items: of values in small letters, found only where they stand alone: between commas, numbers and ends of lines
            or sentences.
        most_words: of values that may be any words; these stand alone as well. 0: there are none.
        only_first: whether nothing but what a text begins with is a value: up to the end of its first sentence.
        is_loose: whether letters may touch a number, as where the score looks for it anywhere.
    """

    shapes: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    most_words: int = 0
    only_first: bool = False
    is_loose: bool = False

    def find(self, text: str) -> Iterator[tuple[int, str]]:
        """Every value of the kind with its place; in no order."""
        for match in self._shaped.finditer(text) if self.shapes else ():
            yield match.start(), match[0]
        if not self.items and not self.most_words:
            return
        start = 0
        for end, behind in [*((m.start(), m.end()) for m in self._ends.finditer(text)), (len(text), len(text))]:
            raw = text[start:end]
            item = (_CUE.sub("", raw) if self.only_first else raw).strip(_AROUND)
            if item and self._is_item(item):
                yield start + raw.rindex(item), item
            if raw.strip() and self.only_first:
                return
            start = behind

    @property
    def _ends(self) -> re.Pattern[str]:
        return _SENTENCE if self.only_first else _ITEM

    def _is_item(self, item: str) -> bool:
        return len(item.split()) <= self.most_words or any(re.fullmatch(shape, item) for shape in self.items)

    @cached_property
    def _shaped(self) -> re.Pattern[str]:
        return re.compile("|".join(_alone(one, self.is_loose and bool(_NUMBER.fullmatch(one))) for one in self.shapes))


FREE_TEXT = ValueKind(most_words=FEW_WORDS, only_first=True)
"""Answers to questions in words: what stands in the first sentence, if it is short."""


def kind_of(values: Collection[str], is_loose: bool = False) -> ValueKind:
    """The kind of some values: numbers of as many digits, UUIDs, codes of the same shape, words as many as theirs."""
    shapes, items, most_words = dict[str, None](), dict[str, None](), 0
    for value in values:
        if UUID.fullmatch(value):
            shapes[rf"(?i:{UUID.pattern})"] = None
        elif re.search(r"\d", value) or re.fullmatch(r"[A-Z]{2,}", value):
            shapes["".join(map(_exact, re.findall(r"\w+|\W+", value)))] = None
        elif re.search(r"\w[^\w\s]+\w", value):
            parts = re.findall(rf"{_LETTER}+|[\W\d_]+", value)
            items["".join(f"{_LETTER}+" if part.isalpha() else re.escape(part) for part in parts)] = None
        else:
            most_words = max(most_words, len(value.split()))
    return ValueKind(tuple(shapes), tuple(items), most_words, is_loose=is_loose)


def _exact(part: str) -> str:
    """The shape of a word or of what separates words: its length, and which of letters and digits it has."""
    if not re.match(r"\w", part):
        return re.escape(part)
    if part.isdecimal():
        return rf"\d{{{len(part)}}}"
    if part.isalpha():
        return f"{'[A-Z]' if part.isascii() and part.isupper() else _LETTER}{{{len(part)}}}"
    return rf"(?=[^\W\d]*\d)\w{{{len(part)}}}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a document wants.

    Attributes:
        right: the references; empty where nothing, or a denial, is right.
        stale: values that the context gives, and which no longer hold.
        others: further values that the context is known to give.
        kind: what else counts as a value.
        denial: what says that there is no value, where a question may be answered so.
        may_be_silent: whether an answer without a value is right.
        query: what is asked in words; what repeats it is no value.
        reads: the part of an answer that is scored.
    """

    right: tuple[str, ...]
    stale: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    kind: ValueKind = field(default_factory=ValueKind)
    denial: re.Pattern[str] | None = None
    may_be_silent: bool = False
    query: str = ""
    reads: Callable[[str], str] = str

    @property
    def needles(self) -> tuple[str, ...]:
        """The values that the context holds for what is asked."""
        return self.right or self.stale

    def values(self, answer: str) -> list[str]:
        """The values in the part of an answer that is scored, in their order; of those at one place the longest first.

        A denial counts as a value.
        """
        text = self.reads(answer)
        found = [(match.start(), match[0]) for match in self._known.finditer(text) if match[0]]
        found += [(place, value) for place, value in self.kind.find(text) if not bordered(value).search(self.query)]
        if self.denial and (match := self.denial.search(text)):
            found.append((match.start(), match[0]))
        return list(dict.fromkeys(value for _, value in sorted(found, key=lambda each: (each[0], -len(each[1])))))

    @cached_property
    def _known(self) -> re.Pattern[str]:
        known = sorted({*self.right, *self.stale, *self.others}, key=lambda value: (-len(value), value))
        patterns = (bordered(value, self.kind.is_loose).pattern for value in known if value)
        return re.compile("|".join(patterns), re.IGNORECASE)


def bordered(value: str, is_loose: bool = False) -> re.Pattern[str]:
    """What finds a value as a word of its own, case ignored; `is_loose` as a `ValueKind` has it."""
    return re.compile(_alone(re.escape(value), is_loose and value.isdecimal()), re.IGNORECASE)


def _alone(pattern: str, beside_letters: bool) -> str:
    """A pattern that no letter or digit touches, or no digit."""
    return rf"(?<!\d){pattern}(?!\d)" if beside_letters else rf"(?<!\w){pattern}(?!\w)"


def texts(raw: object) -> tuple[str, ...]:
    """The texts of a field of a document that should hold a list of them."""
    return tuple(str(item) for item in raw if item is not None) if isinstance(raw, (list, tuple)) else ()
