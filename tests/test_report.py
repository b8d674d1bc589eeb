"""The page of a report without a browser: its sections, its policy, its data, and texts of others that stay texts."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_pages import HOSTILE, LENGTHS, TASKS, data_in, page_of, report_of, write_hostile_runs, write_run

from harness.analysis.asked import INCORRECT, KINDS, UNSCORED
from harness.analysis.report import Bounds
from harness.cli import main as cli
from harness.errors import UserError
from harness.records.samples import MOST_LETTERS as KEPT_LETTERS
from harness.show.report.embed import policy, to_script_json
from harness.show.report.page import asset, to_html
from harness.show.report.samples import MOST_LETTERS, clip

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", "alpha", 10, every=5)
    write_run(folder / "b", "beta", 10, every=3)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return to_html(report_of(folder))


def test_every_section_is_there_and_the_bar_leads_to_each(page: str) -> None:
    sections = re.findall(r'<section id="([\w-]+)" aria-labelledby="([\w-]+)"', page)
    assert [name for name, _ in sections] == [
        *("leaderboard", "comparison", "length", "depth", "failures", "samples"),
        *("protocol", "self-test", "environment", "commands"),
    ]
    assert re.findall(r'<li><a href="#([\w-]+)">', page) == [name for name, _ in sections]
    for name, title in sections:
        assert f'<h2 id="{title}">' in page, name
        body = page.split(f'<section id="{name}"')[1].split("</section>")[0]
        assert 'class="none"' not in body, f"{name} is empty"


def test_equal_runs_give_equal_bytes(folder: Path, page: str) -> None:
    assert to_html(report_of(folder)) == page


def test_the_policy_names_the_one_style_and_the_one_script_by_their_hash(page: str) -> None:
    (said,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    rules = dict(rule.split(" ", 1) for rule in html.unescape(said).split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert policy("a", "b") != policy("a", "c")


def test_the_page_names_nothing_outside_itself(page: str) -> None:
    markup = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.findall(r"\b(?:src|srcset|action|poster)=", markup)
    assert not [target for target in re.findall(r'\bhref="([^"]*)"', markup) if not target.startswith("#")]
    assert not re.findall(r'\b(?:style|on\w+)="', markup), "what the policy would stop"
    assert not re.findall(r"url\(|@import|https?:", asset("style.css"))


def test_our_scripts_write_texts_only() -> None:
    for path in sorted((ROOT / "harness/show/report/templates/scripts").glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        assert "</" not in text
        assert path.name in (ROOT / "harness/show/report/page.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", HOSTILE)
def test_data_are_read_back_as_they_were_and_hold_nothing_that_html_or_a_script_understands(text: str) -> None:
    written = to_script_json({text: [text, 0.5, None]})
    assert json.loads(written) == {text: [text, 0.5, None]}
    assert not re.findall(r"[<>&\u2028\u2029\u202e\x00-\x1f\x7f]", written)
    written.encode("utf-8")


def test_a_number_that_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_script_json([float("nan")])


def test_hostile_names_and_answers_open_no_element(tmp_path: Path) -> None:
    write_hostile_runs(tmp_path / "runs")
    page = page_of(tmp_path / "runs", tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<script", page)) == 2
    assert len(re.findall(r"</script", page)) == 2
    assert not re.findall(r"<(?:img|svg onload|!--)", page)
    assert "49" not in re.findall(r'<span class="who">\{\{ (.*?) \}\}', page)
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    data = data_in(page)["samples"]
    asked = {question[4] for question in data["questions"]}
    assert asked <= set(HOSTILE)
    assert len(asked) == 12, "as many models as are shown in detail"


def test_the_browser_has_each_question_once_with_every_models_answer(page: str) -> None:
    data = data_in(page)["samples"]
    assert data["models"] == ["alpha", "beta"]
    assert len(data["questions"]) == 10 * len(data["tasks"]) == 90
    task, index, _, depth, query, references, excerpts, tail, answers, alike = data["questions"][0]
    assert (data["tasks"][task], index, depth, query) == (["niah_single_1", 1024], 0, 0.0, "key-niah_single_1-0")
    assert alike == 1
    assert references == ["1001024"]
    assert (excerpts, tail) == ([["the key is ", "1001024", ". More text"]], "What is the key?")
    assert answers == [[model, list(KINDS).index("wrong"), 0.0, " 1001025.", 0] for model in (0, 1)]


def test_what_is_asked_in_contexts_of_other_tokenizers_is_one_question_that_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "alpha", 2, every=2)
    write_run(tmp_path / "b", "beta", 2, change=lambda _, length, index: {"sample": f"other{length}{index}"})
    data = data_in(to_html(report_of(tmp_path)))["samples"]
    assert len(data["questions"]) == 2 * len(data["tasks"])
    assert [question[9] for question in data["questions"]] == [0] * len(data["questions"])
    write_run(tmp_path / "c", "gamma", 2, change=lambda _, length, index: {"sample": f"{length}{index}", "query": None})
    assert len(report_of(tmp_path).asked.questions) == 4 * len(data["tasks"]), (
        "without a query only equal content pairs"
    )


def test_the_matrix_has_each_pair_from_both_sides_and_every_task_of_it(page: str) -> None:
    matrix = page.split('class="grid matrix"')[1].split("</table>")[0]
    values = re.findall(r'<span class="value">([^<]*)</span><span class="interval">([^<]*)</span>', matrix)
    assert values == [("+20.0", "0–0–9"), ("−20.0", "0–0–9")]
    view = page.split('class="pair-view"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]*)</th>', view) == [
        *(f"{task}@{length}" for task in TASKS for length in LENGTHS),
        "mean of 9",
    ]
    assert view.count("3/1/6") == 9, "samples won, lost and tied"
    assert view.count('<circle cx="') == 10


def test_charts_call_a_checkpoint_by_its_training_and_step(tmp_path: Path) -> None:
    for name in ("tiny@2000", "tiny@4000", "other"):
        write_run(tmp_path / name.replace("@", "-"), name, 4)
    page = to_html(report_of(tmp_path))
    assert ">step 2000<" in page.split('<section id="leaderboard"')[1].split("</section>")[0]
    charts = page.split('<section id="length"')[1].split("</section>")[0]
    assert re.findall(r'<text class="label"[^>]*>([^<]*)<', charts)[:3] == ["other", "tiny@2000", "tiny@4000"]
    assert "tiny@4000, 1,024 tokens: " in charts
    assert "step 2000, " not in page


def test_heatmaps_say_where_depths_are_means_of_several_places(tmp_path: Path, page: str) -> None:
    write_run(tmp_path / "a", "a", 4, change=lambda task, *_: {"references": ("1", "2")} if task == TASKS[0] else {})
    depth = to_html(report_of(tmp_path)).split('<section id="depth"')[1].split("</section>")[0]
    assert [part.count("the mean of several places") for part in depth.split("<h3>")] == [0, 1, 0, 0]
    assert "the mean of several places" not in page


def test_effective_lengths_are_a_table_with_threshold_base_and_interval(page: str, tmp_path: Path) -> None:
    section = page.split('<section id="length"')[1].split("</section>")[0]
    assert "<h3>Effective length</h3>" in section
    heads = re.findall(r'<th scope="col">([^<]*)</th>', section)
    assert heads == ["model", "task", "tested", "&gt; 85.6 %", "base", "≥ 85 % of base", "trained"]
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in section.split("<tr>")[2:]]
    assert [row[:2] for row in rows[:4]] == [*(["alpha", task] for task in TASKS), ["alpha", "ruler, mean of 3"]]
    assert rows[0][2:] == ["1K to 4K", "&lt;1K (&lt;1K to 2K)", "80.0", "≥4K (1K to ≥4K)", "1K"]
    write_run(tmp_path / "a", "a", 4, lengths=LENGTHS[:1])
    assert "Effective length" not in to_html(report_of(tmp_path))


def test_models_with_nothing_in_common_are_said_to_have_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "alpha", tasks=TASKS[:1])
    assert "There is one model here" in to_html(report_of(tmp_path))
    write_run(tmp_path / "b", "beta", tasks=TASKS[1:2])
    page = to_html(report_of(tmp_path))
    assert "Nothing can be compared: alpha and beta: no task and length in common" in page
    assert 'class="grid matrix"' not in page


def test_numbers_that_nobody_said_are_unknown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "alpha", 4)
    raw = json.loads((tmp_path / "a" / "record.json").read_text())
    for name in ("parameters", "layers", "state_bytes", "state_bytes_a_token", "max_length"):
        raw["model"][name] = None
    for name in ("threads", "memory_gib", "cores"):
        raw["machine"][name] = None
    for cell in raw["cells"]:
        cell |= {"truncated": None, "tokens": None, "shared_tokens": None, "seconds": None}
        cell["protocol"] |= {"version": None, "seed": None, "max_length": None, "data": None, "shots": None}
    raw["added"] = {"lm_eval": None, "model": "hf", "model_args": "", "file": "results.json", "sha256": "0"}
    raw |= {"seconds": None, "peak_memory_mib": None}
    (tmp_path / "a" / "record.json").write_text(json.dumps(raw))
    page = to_html(report_of(tmp_path))
    assert run.run_id in page
    assert page.count(">unknown</td>") >= 6 * 9
    assert "None" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_excerpts_that_differ_by_model_are_each_kept(tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        write_run(tmp_path / name, name, 1, change=lambda *_, name=name: {"excerpt": ("a", name, "b")})
    question = data_in(to_html(report_of(tmp_path)))["samples"]["questions"][0]
    assert question[6] == [["a", "alpha", "b"], ["a", "beta", "b"]]
    assert [answer[4] for answer in question[8]] == [0, 1]


def test_an_answer_is_partly_right_or_not_scored_by_its_score(tmp_path: Path) -> None:
    scores = [{"acc": 1.0}, {"acc": 0.4}, {"acc": 0.0}, {"acc": None}, {}, {"acc": math.nan}, {"acc": -math.inf}]
    write_run(
        tmp_path / "run",
        "alpha",
        len(scores),
        lengths=(1024,),
        tasks=TASKS[:1],
        change=lambda _, __, index: {"scores": scores[index], "verdict": None},
    )
    report = report_of(tmp_path)
    kinds = [question.answers[0].kind for question in report.asked.questions]
    assert kinds == ["right", "partly", INCORRECT, *[UNSCORED] * 4]
    assert "alpha" in to_html(report)


def test_a_bound_takes_the_first_samples_of_every_cell_and_is_said(folder: Path) -> None:
    report = report_of(folder, bounds=Bounds(answers=40))
    assert report.asked.of == 180
    assert report.asked.answers == 2 * 9 * 2
    assert {question.sample.index for question in report.asked.questions} == {0, 1}
    assert "the first of each cell, of 180 answers in the runs" in to_html(report)


def test_models_beyond_the_bound_are_in_the_table_only(folder: Path) -> None:
    report = report_of(folder, bounds=Bounds(models=1))
    assert ([entrant.title for entrant in report.entrants], report.others) == (["alpha"], 1)
    assert '<span class="who">beta</span>' in to_html(report)


def test_two_runs_of_one_model_that_are_named_are_two_models(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "alpha")
    text = (tmp_path / "a" / "record.json").read_text()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "record.json").write_text(text.replace(run.run_id, "alpha/other"))
    both = report_of(tmp_path, names=[run.run_id, "alpha/other"])
    assert [entrant.title for entrant in both.entrants] == sorted([f"alpha {run.run_id[6:]}", "alpha other"])
    assert [entrant.title for entrant in report_of(tmp_path, names=["alpha"]).entrants] == ["alpha"]


def test_a_run_without_samples_is_in_the_table_and_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "alpha", has_samples=False)
    report = report_of(tmp_path)
    assert not report.asked.questions
    (problem,) = report.problems
    assert "no samples beside the record" in problem
    page = to_html(report)
    assert "No run here has samples beside its record." in page
    assert problem.split(";")[0] in html.unescape(page)


def test_another_run_of_the_same_protocol_lends_its_samples_and_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "alpha", 10, has_samples=False)
    write_run(tmp_path / "b", "alpha", 4)
    other = (tmp_path / "b" / "record.json").read_text().replace("alpha/2026-01-01", "alpha/2025-01-01")
    (tmp_path / "b" / "record.json").write_text(other)
    report = report_of(tmp_path)
    assert report.problems == ()
    assert report.asked.answers == 4 * 9
    (sentence,) = report.entrants[0].stand_ins
    assert re.fullmatch(r"alpha: alpha/2026\S* has kept no samples, those of alpha/2025\S* stand in", sentence)
    assert sentence in to_html(report)


def test_a_long_text_is_cut_and_says_how_much(tmp_path: Path) -> None:
    assert clip("x" * MOST_LETTERS) == "x" * MOST_LETTERS
    assert clip("x" * 400_000).endswith("… [398,000 more characters]")
    long = {"answer": "word " * 80_000, "query": "key " * 80_000, "references": ("value " * 80_000,) * 50}
    write_run(tmp_path / "a", "alpha", 1, tasks=TASKS[:1], lengths=(1024,), change=lambda *_: long)
    page = to_html(report_of(tmp_path))
    assert len(page) < 200_000
    assert KEPT_LETTERS <= MOST_LETTERS


@pytest.mark.parametrize(
    ("names", "suite", "message"),
    [
        (["alhpa"], "ruler_table3", "did you mean 'alpha'"),
        ([], "perplexity", "--suite perplexity: none of 2 runs has a cell of it; they are of ruler_table3"),
    ],
)
def test_names_and_suites_that_give_nothing_are_named(folder: Path, names: list[str], suite: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        report_of(folder, names=names, suite=suite)


def test_no_runs_at_all_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no runs yet; make one with"):
        report_of(tmp_path)


def test_the_command_writes_the_page_and_says_what_is_in_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    assert cli.main(["report", "alpha", "--results", str(folder), "--output", str(output)]) == 0
    assert "page.html: 1 model, 90 samples, " in capsys.readouterr().out
    page = output.read_text(encoding="utf-8")
    assert f"report alpha --results {folder}" in page
    assert cli.main(["report", "--results", str(folder), "--output", str(tmp_path / "no" / "page.html")]) == 2
    assert "page.html: cannot be written" in capsys.readouterr().err


def test_one_broken_folder_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "runs" / "a", "alpha")
    write_run(tmp_path / "runs" / "b", "beta")
    (tmp_path / "runs" / "b" / "samples.jsonl.gz").write_bytes(b"broken")
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "record.json").write_text('{"schema": 999}')
    output = tmp_path / "page.html"
    assert cli.main(["report", "--results", str(tmp_path / "runs"), "--output", str(output)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("left out: ") for line in said)
    page = output.read_text(encoding="utf-8")
    assert '<span class="who">beta</span>' in page
    assert data_in(page)["samples"]["models"] == ["alpha", "beta"]


def test_help_and_mistakes_need_no_template_library() -> None:
    code = (
        "import sys; from harness.cli.main import main; print([main(line.split()) for line in "
        "('report --suite quikc', 'report --most-models 13')]); "
        "print([name for name in ('jinja2', 'torch', 'lm_eval', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:2] == ["[2, 2]", "[]"]
