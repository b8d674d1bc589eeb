"""Names and groups of a table's rows, as a YAML file of the user's says them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.errors import shown
from basis.files import load_yaml
from basis.names import way_out
from harness.errors import UserError
from harness.records.patterns import matches, quoted

FIELDS = ("rename", "groups")
GROUP_FIELDS = ("title", "models")


@dataclass(frozen=True)
class RowGroup:
    """Rows that stand below a heading of their own.

    Attributes:
        title: the heading.
        models: patterns of their names, in the order in which they stand.
    """

    title: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class RowNames:
    """What a file says of the names of rows.

    Attributes:
        file: that says it.
        rename: what a model is to be called, by what it is called.
        groups: in the order in which they stand.
    """

    file: Path
    rename: Mapping[str, str]
    groups: tuple[RowGroup, ...]

    def check(self, known: Collection[str], ours: Collection[str]) -> None:
        """See that every name of the file is one that there is.

        Args:
            known: the names of all models, of whatever suite, published ones too.
            ours: those that have records.

        Raises:
            UserError: a name or a pattern that means no model, or a new name that another model has already.
        """
        for old, new in self.rename.items():
            if old not in known:
                raise UserError(f"{self.file}: rename: no model is called {old!r}; {way_out(old, known)}")
            if new in ours and new not in self.rename and new != old:
                raise UserError(f"{self.file}: rename.{old}: another model is called {new!r} already")
        for position, group in enumerate(self.groups):
            for pattern in group.models:
                if not matches(pattern, known):
                    place = f"groups[{position}].models"
                    raise UserError(f"{self.file}: {place}: no model is called {pattern!r}; {way_out(pattern, known)}")

    def shown(self, *names: str, training: str | None = None) -> str:
        """What a model is called in the table.

        Args:
            names: what it is called now, then further names by which the file may mean it.
            training: whose checkpoint it is; a new name of that keeps the step behind it.
        """
        if (old := next((name for name in names if name in self.rename), None)) is not None:
            return self.rename[old]
        if training is not None and training in self.rename:
            return self.rename[training] + names[0].removeprefix(training)
        return names[0]

    def place(self, names: Sequence[str]) -> tuple[int, int] | None:
        """The first group whose patterns mean a model of these names, and the place of the pattern in it."""
        for position, group in enumerate(self.groups):
            for order, pattern in enumerate(group.models):
                if matches(pattern, names):
                    return position, order
        return None


def read_row_names(file: Path) -> RowNames:
    """Read such a file.

    Raises:
        FileError: it cannot be read, is not YAML, or gives a field twice.
        UserError: a field that is unknown, of another type, empty or given twice; names file and field.
    """
    raw = _mapping(load_yaml(file), f"{file}", FIELDS)
    if not raw:
        raise UserError(f"{file}: says nothing; it takes {', '.join(FIELDS)}")
    rename = _mapping(raw.get("rename", {}), f"{file}: rename")
    for old, new in rename.items():
        _text(new, f"{file}: rename.{old}")
    if twice := _twice(list(rename.values())):
        both = quoted(old for old, new in rename.items() if new == twice)
        raise UserError(f"{file}: rename: {both} would all be called {twice!r}")
    listed = _listed(raw.get("groups", []), f"{file}: groups", may_be_empty=True)
    groups = tuple(_group(item, f"{file}: groups[{position}]") for position, item in enumerate(listed))
    if twice := _twice([group.title for group in groups]):
        raise UserError(f"{file}: groups: two have the title {twice!r}")
    if twice := _twice([pattern for group in groups for pattern in group.models]):
        raise UserError(f"{file}: groups: {twice!r} is listed twice")
    return RowNames(file, rename, groups)


def _group(raw: Any, where: str) -> RowGroup:
    fields = _mapping(raw, where, GROUP_FIELDS)
    for field in GROUP_FIELDS:
        if field not in fields:
            raise UserError(f"{where}: field {field!r} is missing")
    models = _listed(fields["models"], f"{where}.models")
    return RowGroup(
        title=_text(fields["title"], f"{where}.title"),
        models=tuple(_text(item, f"{where}.models[{position}]") for position, item in enumerate(models)),
    )


def _mapping(raw: Any, where: str, known: Sequence[str] | None = None) -> dict[str, Any]:
    """Fields with names that are text, and of those that are known."""
    if not isinstance(raw, dict):
        raise UserError(f"{where}: must be a mapping of fields, got {shown(raw)}")
    for name in raw:
        _text(name, f"{where}: a name")
        if known is not None and name not in known:
            raise UserError(f"{where}: unknown field {name!r}; {way_out(name, known)}")
    return raw


def _listed(raw: Any, where: str, may_be_empty: bool = False) -> list[Any]:
    if not isinstance(raw, list) or not (raw or may_be_empty):
        raise UserError(f"{where}: must be a list{'' if may_be_empty else ' that is not empty'}, got {shown(raw)}")
    return raw


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw.strip():
        raise UserError(
            f"{where}: must be text that is not empty (in quotes if it looks like a number), got {shown(raw)}"
        )
    return raw


def _twice(texts: Sequence[str]) -> str | None:
    return next((text for i, text in enumerate(texts) if text in texts[:i]), None)
