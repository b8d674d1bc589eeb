"""YAML that cannot hurt: a loader that counts depth and aliases and refuses a field that is given twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml

from basis.errors import FileError, reason

MAX_DEPTH = 100
MAX_ALIASED = 10_000
"""Values that aliases may add to those which the file spells out."""
MAX_BITS = 3000
"""Of a whole number: Python does not write out those of over 4,300 digits, in no message either."""


class GuardedLoader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds on depth and aliases, and with every failure at a line."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._open: set[str] = set()
        self._sizes: dict[int, int] = {}
        self._aliased = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next value.

        Raises:
            yaml.MarkedYAMLError: nested too deeply, an alias to what contains it, too much behind aliases, a field
                twice, or half a surrogate pair.
        """
        node: Any
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._open:
                raise yaml.MarkedYAMLError(problem=f"*{event.anchor} refers to itself", problem_mark=mark)
            node = super().compose_node(parent, index)
            self._aliased += self._sizes[id(node)]
            if self._aliased > MAX_ALIASED:
                raise yaml.MarkedYAMLError(problem=f"aliases stand for over {MAX_ALIASED:,} values", problem_mark=mark)
            return node
        if self._depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        self._depth += 1
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._open.add(anchor)
        node = super().compose_node(parent, index)
        self._open.discard(anchor or "")
        self._depth -= 1
        self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        _check(node)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make the value of a node.

        Raises:
            yaml.MarkedYAMLError: text that is no value of its type, such as a date in month 13, or a number that YAML
                reads as another one, such as 0123 or 12:30.
        """
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            kind = str(node.tag).rsplit(":", 1)[-1]
            raise yaml.MarkedYAMLError(
                problem=f"not a value of the type {kind} ({reason(error)})", problem_mark=node.start_mark
            ) from error
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise yaml.MarkedYAMLError(problem="a whole number of too many digits", problem_mark=node.start_mark)
        _check_number(node, value)
        return value


def compose(text: str, where: str) -> yaml.Node | None:
    """Parse one document into nodes, which know their lines.

    Args:
        text: the YAML.
        where: what messages begin with.

    Returns:
        The root; None if the text holds nothing.

    Raises:
        FileError: the text is not YAML that the loader takes; the message has the line.
    """
    found: yaml.Node | None = _read(GuardedLoader, text, where, lambda loader: loader.get_single_node())
    return found


def construct(text: str, where: str, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Parse one document.

    Args:
        text: the YAML.
        where: what messages begin with.
        loader: a subclass of GuardedLoader with constructors of its own.

    Returns:
        What the text holds; None if it holds nothing.

    Raises:
        FileError: the text is not YAML that the loader takes; the message has the line.
    """
    return _read(loader or GuardedLoader, text, where, lambda reading: reading.get_single_data())


def _read(kind: type[yaml.SafeLoader], text: str, where: str, take: Callable[[yaml.SafeLoader], Any]) -> Any:
    """What a function takes from a loader of a text; every failure is a FileError with its line."""
    reading: yaml.SafeLoader | None = None
    try:
        reading = kind(text)
        return take(reading)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise FileError(f"{place}: not valid YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FileError(f"{where}:{line}: not valid YAML: a character of code {error.character!r}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        line = reading.line + 1 if reading else 1
        raise FileError(f"{where}:{line}: not valid YAML: {reason(error)}") from error


def _parts(node: yaml.Node) -> list[yaml.Node]:
    """The nodes right below a node, names of fields included."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_number(node: yaml.Node, value: Any) -> None:
    """Refuse a number that is not the one which is written: 0123 (octal, 83), 12:30 (base 60, 750), 0x1F."""
    if not isinstance(node, yaml.ScalarNode) or isinstance(value, bool) or not isinstance(value, int | float):
        return
    if ":" in node.value or (isinstance(value, int) and not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", node.value)):
        shown = str(value)
        raise yaml.MarkedYAMLError(
            problem=f"{node.value[:50]} is the number {shown} in YAML; put it in quotes if it is text",
            problem_mark=node.start_mark,
        )


def _check(node: yaml.Node) -> None:
    """Refuse half a character, and a field that is given twice (of which YAML would silently keep the last)."""
    if isinstance(node, yaml.ScalarNode) and any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise yaml.MarkedYAMLError(
            problem="half a character (a lone surrogate) in a text", problem_mark=node.start_mark
        )
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[tuple[str, str]] = set()
    for name, _ in node.value:
        if not isinstance(name, yaml.ScalarNode):
            continue
        if (name.tag, name.value) in seen:
            raise yaml.MarkedYAMLError(problem=f"the field {name.value!r} is given twice", problem_mark=name.start_mark)
        seen.add((name.tag, name.value))
