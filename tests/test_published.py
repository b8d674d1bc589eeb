"""The published figures as carried: their arithmetic, their shapes, and what the table reads from them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UserError
from harness.paths import PUBLISHED
from harness.records.published import table_rows

# Printed averages that are not the mean of their printed scores, carried as printed: (average, mean).
SLIPS = {
    ("gdn_paper.yaml", "hybrid/Samba"): (54.00, 53.98875),
    ("gdn_paper.yaml", "hybrid/Gated DeltaNet-H1"): (56.40, 56.46125),
}
FILES = sorted(PUBLISHED.glob("*.yaml"))


def tables() -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for file in FILES:
        raw = yaml.safe_load(file.read_text())
        found += [(file.name, name, table) for name, table in raw.items() if name.startswith("table_")]
    return found


def rows_of(table: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        f"{family}/{name}": values
        for family in ("recurrent", "hybrid", "rows")
        for name, values in table.get(family, {}).items()
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_names_its_source(file: Path) -> None:
    assert yaml.safe_load(file.read_text())["source"].startswith("arXiv:")


@pytest.mark.parametrize(("file", "name", "table"), tables(), ids=lambda value: value if isinstance(value, str) else "")
def test_averages_are_the_means_of_their_columns(file: str, name: str, table: dict[str, Any]) -> None:
    columns = table["columns"]
    if not isinstance(columns, list) or "avg" not in columns:
        return
    over = table.get("avg_over", [column for column in columns if column != "avg"])
    for row, values in rows_of(table).items():
        assert len(values) == len(columns), f"{file} {name} {row}"
        mean = sum(values[columns.index(column)] for column in over) / len(over)
        # The mean of rounded scores may be half a unit of the last place off, and so may its own rounding.
        printed = values[columns.index("avg")]
        if (file, row) in SLIPS:
            assert (printed, mean) == pytest.approx(SLIPS[file, row]), f"{file} {name} {row}"
        else:
            assert printed == pytest.approx(mean, abs=0.0101), f"{file} {name} {row}"


def test_needle_scores_are_percentages() -> None:
    """All but two cells are multiples of 0.2 (the two are hybrid S-NIAH-2 at 4K)."""
    odd = [
        (row.family, row.name, cell, score)
        for row in table_rows("gdn2_paper.table_3")
        for cell, score in row.scores.items()
        if not 0 <= score <= 100 or abs(score * 5 - round(score * 5)) > 1e-6
    ]
    assert sorted(score for *_, score in odd) == [57.3, 57.9]
    assert {(family, cell) for family, _, cell, _ in odd} == {("hybrid", ("niah_single_2", 4096))}


def test_rows_carry_family_source_and_only_known_cells() -> None:
    rows = {(row.family, row.name): row for row in table_rows("gdn2_paper.table_3")}
    gdn2 = rows["recurrent", "Gated DeltaNet-2"]
    assert gdn2.scores["niah_single_2", 8192] == 39.2
    assert len(gdn2.scores) == 14
    assert gdn2.source == "arXiv:2605.22791v1, table 3"
    assert {len(row.scores) for row in rows.values()} == {14}
    assert [rows["hybrid", name].scores["niah_multikey_1", 1024] for name in ("KDA", "Mamba-2")] == [91.4, 82.0]


def test_a_row_of_wrong_length_is_refused(tmp_path: Path) -> None:
    text = "source: x\ntable_3: {columns: {niah_single_1: [1024, 2048]}, recurrent: {A: {niah_single_1: [1.0]}}}\n"
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml: table_3: A: niah_single_1 has 1 figures for 2 lengths"):
        table_rows("bad.table_3", tmp_path)
