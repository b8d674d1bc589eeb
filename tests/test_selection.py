"""Runs are found by the names that people type, and a name that finds nothing says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import records

from harness.analysis.selection import find_runs, select_runs
from harness.errors import UserError
from harness.records.record import FILE_NAME, RunRecord
from harness.records.samples import Sample, write_samples


def save(folder: Path, record: RunRecord) -> Path:
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, day in (("kda-s1", 1), ("kda-s2", 2), ("gdn2", 3), ("gdn2", 4)):
        run_id = f"{name}/2026-01-0{day}T00-00-00_abcdef0{day}"
        record = records.record(name, run_id=run_id, started=f"2026-01-0{day}T00:00:00+00:00")
        save(tmp_path / run_id, record)
    return tmp_path


def test_a_run_is_found_by_its_folder_its_file_its_id_and_the_ends_of_its_id(results: Path) -> None:
    runs = find_runs([results])
    folder = runs[2].folder
    run_id = runs[2].record.run_id
    names = (str(folder), str(folder / FILE_NAME), run_id, run_id.split("/")[1], run_id.split("_")[1])
    assert [[run.record.run_id for run in select_runs(name, runs)] for name in names] == [[run_id]] * 5


def test_a_model_and_a_pattern_find_all_their_runs_oldest_first(results: Path) -> None:
    runs = find_runs([results])
    assert [run.record.started[8:10] for run in select_runs("gdn2", runs)] == ["03", "04"]
    assert [run.record.name for run in select_runs("kda-s*", runs)] == ["kda-s1", "kda-s2"]
    assert len(select_runs(str(results), [])) == 4


def test_a_copy_of_a_run_is_not_a_second_one_and_is_said(results: Path) -> None:
    original = find_runs([results])[0]
    save(results / "copied", original.record)
    said: list[str] = []
    assert len(find_runs([results], said.append)) == 4
    assert len(said) == 1
    assert "a copy of" in said[0]


@pytest.mark.parametrize("copied", ["a-copy", "zz-copy"])
@pytest.mark.parametrize("of_ours", [True, False])
def test_of_two_copies_the_one_with_samples_is_the_run(tmp_path: Path, copied: str, of_ours: bool) -> None:
    run = records.record("m", (records.cell(),))
    bare, whole = save(tmp_path / "m", run), save(tmp_path / copied, run)
    (whole / ("samples.jsonl.gz" if of_ours else "samples_t_2026.jsonl")).touch()
    said: list[str] = []
    assert [found.folder for found in find_runs([tmp_path], said.append)] == [whole]
    assert said == [f"{bare / FILE_NAME}: a copy of {whole / FILE_NAME}"]


def test_a_name_that_finds_nothing_says_what_looks_like_it(results: Path) -> None:
    runs = find_runs([results])
    with pytest.raises(UserError, match="did you mean 'gdn2'"):
        select_runs("gdn3", runs)
    with pytest.raises(UserError, match="did you mean 'gdn2'"):
        select_runs("GDN2", runs)
    with pytest.raises(UserError, match=r"there are 'gdn2', 'kda-s1', 'kda-s2'$"):
        select_runs("zzzz", runs)
    with pytest.raises(UserError, match="no runs yet"):
        select_runs("zzzz", [])


def test_the_samples_of_a_found_run_are_read_once(results: Path) -> None:
    run = find_runs([results])[0]
    sample = Sample(task="t", index=0, sample="a", prompt="b", cluster="a", scores={"acc": 1.0})
    path = write_samples(run.folder, [sample])
    assert run.samples == {"t": [sample]}
    path.unlink()
    assert run.samples["t"][0].scores == {"acc": 1.0}


def test_of_many_models_the_command_is_named_that_lists_them(tmp_path: Path) -> None:
    for number in range(21):
        save(tmp_path / str(number), records.record(f"model-{number:02}", run_id=f"model-{number:02}/x"))
    with pytest.raises(UserError, match=r"has this name; `results list` lists all$"):
        select_runs("zzzz", find_runs([tmp_path]))


def test_a_broken_record_below_a_named_folder_hides_no_other_where_it_is_told(results: Path) -> None:
    broken = results / "broken" / FILE_NAME
    broken.parent.mkdir()
    broken.write_text("{")
    said: list[str] = []
    assert len(select_runs(str(results), [], said.append)) == 4
    assert len(said) == 1
    assert str(broken) in said[0]
    for on_problem in (None, said.append):
        with pytest.raises(UserError, match="broken"):
            select_runs(str(broken.parent), [], on_problem)
    with pytest.raises(UserError, match="broken"):
        select_runs(str(results), [])


def test_a_folder_that_is_named_twice_or_by_a_link_is_no_copy(results: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(results)
    said: list[str] = []
    assert len(find_runs([results, results, link], said.append)) == 4
    assert said == []
