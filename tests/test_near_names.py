"""A mistyped name is answered with the one that was meant, everywhere in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from import_graph import ROOT, top_packages

from basis.arguments import Parser
from basis.errors import UserError, shown
from basis.names import CUTOFF, MOST_LISTED, listed, must_be_one_of, near_names, or_near, there_are, way_out
from gdn2.config import GDN2Config
from gdn2.train.__main__ import main as train
from gdn2.train.recipe import load_recipe
from gdn2.train.rivals.plan import load_rivals
from harness.cli.main import main
from harness.study.plan import load_study
from tasks.suite import load_suite
from tasks.text.tokenizers import load_tokenizer

ZOO = ("gated-deltanet-4m", "gdn2-4m", "gdn2-swa-4m", "gdn2-tiny", "kda-4m", "mamba2-4m")


class TestWhatIsNear:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("gdn2-tyni", ["gdn2-tiny"]),
            ("GDN2_4M", ["gdn2-4m"]),
            ("gdn3-tiny", ["gdn2-tiny"]),
            ("gdn2", ["gdn2-4m", "gdn2-swa-4m", "gdn2-tiny"]),
            ("mamba", ["mamba2-4m"]),
            ("kad-4m", ["kda-4m"]),
            ("gdn2-tiny", []),
            ("nonsense", []),
            ("4m", []),
            ("", []),
        ],
    )
    def test_of_names_in_use(self, typed: str, meant: list[str]) -> None:
        assert near_names(typed, ZOO) == meant

    def test_names_that_are_equally_near_stay_in_their_order(self) -> None:
        assert near_names("S-NIAH-9", ["S-NIAH-1", "S-NIAH-2", "S-NIAH-3"]) == ["S-NIAH-1", "S-NIAH-2", "S-NIAH-3"]

    def test_the_cutoff_is_met_by_a_name_that_is_just_as_alike(self) -> None:
        assert CUTOFF == 0.7
        assert near_names("abcdefgxyz", ["abcdefghij"]) == ["abcdefghij"]
        assert near_names("abcdefwxyz", ["abcdefghij"]) == []

    def test_letters_that_are_swapped_are_near_however_short_the_name(self) -> None:
        assert near_names("gal", ["gla", "gdn2"]) == ["gla"]
        assert near_names("gpu", ["cpu", "cuda"]) == []

    def test_names_of_one_spelling_but_for_case_are_all_meant(self) -> None:
        assert near_names("kda", ["KDA", "Kda", "kda-4m"]) == ["KDA", "Kda"]

    @pytest.mark.parametrize("typed", [None, 7, True, 1.5, ["all"], {"a": 1}])
    def test_what_is_no_text_is_near_to_nothing_or_to_its_name(self, typed: Any) -> None:
        assert near_names(typed, ["none", "all"]) == (["none"] if typed is None else [])

    def test_a_huge_name_takes_no_time(self) -> None:
        assert near_names("x" * 10**6, [f"name_{number}" for number in range(2000)]) == []


class TestWords:
    def test_a_near_name_is_asked_for_and_others_are_listed(self) -> None:
        assert way_out("kad-4m", ZOO) == "did you mean 'kda-4m'?"
        assert way_out("x", ("b", "a", "b")) == "there are 'b', 'a'"
        assert way_out("x", ("a, b",)) == "there is only 'a, b'"
        assert way_out("x", ()) == "there are none"

    def test_aliases_are_meant_but_not_listed(self) -> None:
        assert way_out("alais", ["name"], also=["alias"]) == "did you mean 'alias'?"
        assert way_out("nmae", ["name"], also=["namee"]) == "did you mean 'name'?"
        assert way_out("x", ["name"], also=["alias"]) == "there is only 'name'"

    def test_many_names_are_counted_or_left_to_the_command_that_lists_them(self) -> None:
        many = [f"run-{number:03}" for number in range(MOST_LISTED + 10)]
        assert there_are(many).endswith("'run-019' and 10 more")
        assert way_out("zz", many, listed_by="results list") == "`results list` lists all"
        assert way_out("rn-001", many[1:2], listed_by="results list") == "did you mean 'run-001'?"
        assert way_out("RUN-001", many, listed_by="l") == "did you mean 'run-001'? `l` lists all"

    def test_a_few_values_are_listed_and_the_near_one_is_asked_for(self) -> None:
        assert (
            must_be_one_of(("ruler", "own"), "rulr") == "must be one of ruler, own, got 'rulr'; did you mean 'ruler'?"
        )
        assert must_be_one_of((1.0, 2.0), 3.0, "three") == "must be one of 1.0, 2.0, got three"
        assert or_near("x", ["ruler"]) == ""

    def test_a_list_says_how_many_it_leaves_out(self) -> None:
        assert listed("abc", 3) == "a, b, c"
        assert listed("abcde", 2, "; ") == "a; b and 3 more"

    @pytest.mark.parametrize(
        ("value", "said"),
        [("a\nb", r"'a\nb'"), (10**80, "a number of more than 80 digits"), (-(10**80) + 1, f"-{'9' * 76}...")],
    )
    def test_a_value_is_shown_on_one_line_of_a_bounded_length(self, value: object, said: str) -> None:
        assert shown(value) == said
        assert len(must_be_one_of("ab", "x" * 10**6)) < 120

    def test_no_other_place_looks_for_near_names(self) -> None:
        """One cutoff, one wording: what asks `did you mean` or compares names is in basis/names.py."""
        own = re.compile(r"get_close_matches|SequenceMatcher|f?\"[^\"\n]*did you mean \{")
        found = {
            str(path.relative_to(ROOT))
            for package in top_packages()
            for path in (ROOT / package).rglob("*.py")
            if own.search(path.read_text(encoding="utf-8"))
        }
        assert found == {"basis/names.py"}

    def test_no_other_place_cuts_a_list(self) -> None:
        own = re.compile(r"""['"][,;] ['"]\.join\([^\n]*\[: ?[A-Z0-9_]+(?: - 1)?\]\)?(?!\w| for)""")
        found = {
            f"{path.relative_to(ROOT)}: {line.strip()}"
            for package in top_packages()
            for path in (ROOT / package).rglob("*.py")
            for line in path.read_text(encoding="utf-8").splitlines()
            if own.search(line)
        }
        assert found == set()


def _changed(folder: Path, file: str, old: str, new: str) -> Path:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert old in text
    (folder / "mine.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    return folder / "mine.yaml"


RECIPE, RIVALS = "gdn2/zoo/gdn2-tiny/recipe.yaml", "gdn2/train/rivals/text-4m.yaml"
STUDY, SUITE = "tasks/studies/mqar-laptop.yaml", "tasks/suites/quick.yaml"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (RECIPE, "seed:", "sead:", "the recipe has no field 'sead'; did you mean 'seed'?"),
        (RECIPE, "{steps:", "{stepz:", "stages[0] has no field 'stepz'; did you mean 'steps'?"),
        (
            RECIPE,
            "max_keys: 3}",
            "max_keys: 3, wording: rulr}",
            "stages[0].wording must be one of ruler, own, got 'rulr'; did",
        ),
        (RECIPE, "optimizer: {", "optimizer: {name: adamv, ", "got 'adamv'; did you mean 'adamw'?"),
        (RIVALS, "models:", "modles:", "a file of rivals has no field 'modles'; did you mean 'models'?"),
        (RIVALS, "precision: bf", "precision: b", "float32, bfloat16, got 'bloat16'; did you mean 'bfloat16'"),
        (STUDY, "layers: mamba2", "layers: mambo2", "no mixer 'mambo2'; did you mean 'mamba2'"),
        (RIVALS, "log_every", "log_evry", "the recipe has no field 'log_evry'; did you mean 'log_every'?"),
        (STUDY, "rates:", "rats:", "a study has no field 'rats'; did you mean 'rates'?"),
        (STUDY, "reference: GDN-2", "reference: gdn2", "reference must be one of GDN-2, KDA, "),
        (STUDY, "  head_dim", "  head_dimm", "GDN2Config has no field 'head_dimm'; did you mean 'head_dim'"),
        (STUDY, "{length: 64, keys: 8", "{lenght: 64, keys: 8", "has no field 'lenght'; did you mean 'length'?"),
        (SUITE, "columns:", "columms:", "unknown field 'columms'; did you mean 'columns'?"),
        (
            SUITE,
            "task: niah_single_1",
            "task: niah_singel_1",
            "task 'niah_singel_1'; did you mean 'niah_single_1'",
        ),
        (SUITE, "metric: ", "metric: x", "metric 'xacc'; did you mean 'acc'?"),
    ],
)
def test_a_mistyped_name_in_a_file_is_one_line_with_the_file_and_the_name(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    load: Any = {RECIPE: load_recipe, RIVALS: load_rivals, STUDY: load_study, SUITE: load_suite}[file]
    path = _changed(tmp_path, file, old, new)
    argument = path if file == RECIPE else str(path)
    with pytest.raises(UserError) as refused:
        load(argument)
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hiden_size": 64}, "no field 'hiden_size'; did you mean 'hidden_size'"),
        ({"layers": "gated_delta_net"}, "no mixer 'gated_delta_net'; did you mean 'gated_deltanet'"),
        ({"output_gate": "silo"}, "output_gate must be one of sigmoid, silu, none, got 'silo'; did you mean 'silu'?"),
        ({"dtype": "bflota16"}, "got 'bflota16'; did you mean 'bfloat16' or 'float16'?"),
    ],
)
def test_a_configuration_says_what_was_meant(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        GDN2Config(**fields)


def test_a_preset_that_is_mistyped_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'gdn2_1\.3b'; did you mean 'gdn2_1\.3B'\?"):
        GDN2Config.from_preset("gdn2_1.3b")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--formt", "json"], "unrecognized argument --formt; did you mean '--format'? `prog --help` says"),
        (["--formt=json"], "unrecognized argument --formt; did you mean '--format'? `prog --help` says"),
        (["--zzz"], "unrecognized arguments: --zzz; `prog --help` says"),
        (["--format", "jsno"], "; did you mean 'json'? `prog --help` says"),
    ],
)
def test_a_flag_that_is_mistyped_is_answered_with_the_one_that_was_meant(typed: list[str], said: str) -> None:
    parser = Parser(prog="prog")
    parser.add_argument("--format", choices=("json", "csv"))
    with pytest.raises(UserError, match=re.escape(said)):
        parser.parse_args(typed)


def test_a_field_of_the_model_is_refused_before_any_text_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("wiki_train", "wiki_heldout"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "A line."}\n', encoding="utf-8")
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    path = _changed(tmp_path, RECIPE, "  hidden_size", "  hiden_size")
    assert train([str(path)]) == 2
    said = capsys.readouterr()
    assert "model: GDN2Config has no field 'hiden_size'; did you mean 'hidden_size'?" in said.err
    assert "paragraphs" not in said.out


def test_the_suite_of_a_study_is_named_with_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _changed(tmp_path, RIVALS, "suite: rivals", "suite: rivlas")
    for more in ([], ["--plan"]):
        assert main(["study", str(path), *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            f"error: {path}: suite: neither a suite nor a file beside it is 'rivlas'; did you mean 'rivals'?"
        )


@pytest.mark.parametrize(
    ("table", "said"),
    [("gdn2_papr.table_2", "; did you mean 'gdn2_paper'"), ("gdn2_paper.table2", "; did you mean 'table_2'?")],
)
def test_a_table_of_a_paper_is_named_with_the_suite_that_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, said: str
) -> None:
    path = _changed(tmp_path, "tasks/suites/ruler_table3.yaml", "gdn2_paper.", f"{table}, gdn2_paper.")
    assert main(["leaderboard", "--suite", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: published.tables: ")
    assert said in error


def test_a_device_that_is_none_is_refused_before_a_worker_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study", "mqar-laptop", "--output", str(tmp_path), "--devices", "cpu,cdua"]
    assert main(arguments) == 2
    assert "--devices 'cdua': no such device; known: " in capsys.readouterr().err


def test_a_staged_tokenizer_is_found_by_a_name_that_looks_like_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    (tmp_path / "tokenizers" / "some--small-model").mkdir(parents=True)
    with pytest.raises(UserError, match=r"on a connected machine; did you mean 'some/small-model'\?"):
        load_tokenizer("some/smal-model")
