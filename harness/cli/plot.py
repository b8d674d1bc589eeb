"""`plot`: pictures of results as PNG, SVG or PDF, and the data behind them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from basis.names import or_near
from harness.cli.arguments import positive, whole
from harness.cli.console import console
from harness.cli.recorded import add_results_option, left_out, recorded_runs
from harness.cli.study import OUTPUT
from harness.errors import UserError
from harness.show.plots.look import WIDTHS, Look, parse_width
from harness.show.plots.registry import KINDS, PICTURES, STUDIES, Picture, Subject, render, require_matplotlib

if TYPE_CHECKING:
    from typing import Any

    from harness.analysis.picture_data import PictureData

DATA_KINDS = ("json", "csv")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and one below it for each picture."""
    plot = commands.add_parser("plot", help="pictures of results: PNG, SVG, PDF")
    pictures = plot.add_subparsers(title="pictures", required=True, metavar="PICTURE")
    pictures.add_parser("list", help="the pictures, and what each needs").set_defaults(command=_list)
    for name, picture in (PICTURES | STUDIES).items():
        parser = pictures.add_parser(name, help=picture.shows.replace("%", "%%"), description=f"Draw {picture.shows}.")
        parser.set_defaults(command=_plot, picture=name)
        if name in STUDIES:
            parser.add_argument("study", help="a study that is shipped (mqar-laptop, mqar, …), or a YAML file")
            parser.add_argument(
                "--results", type=Path, default=OUTPUT, help=f"folder of studies' results (default: {OUTPUT})"
            )
            parser.add_argument(
                "--models",
                nargs="+",
                default=(),
                metavar="GLOB",
                help="only these, such as GDN-2 'KDA*' (default: all)",
            )
        else:
            _add_options(parser, picture)
        _add_output(parser)


def _add_options(parser: argparse.ArgumentParser, picture: Picture) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="models, runs, folders or patterns such as 'kda-*' (default: every model there is; those of a suite that "
        "stands apart by --suite)",
    )
    parser.add_argument("--tasks", help="only these, separated by commas: niah_single_1, 'niah_*@4096'")
    parser.add_argument("--suite", help="columns of this suite or YAML file (default: of every suite of the runs)")
    add_results_option(parser)
    if "published" in picture.options:
        parser.add_argument(
            "--published", action="append", metavar="ROW", help="a paper's row, or a pattern; repeatable"
        )
    if picture.has_means:
        parser.add_argument(
            "--seeds",
            action="store_true",
            help="the mean of each training instead of its seeds, as records say which they are",
        )
    if "length" in picture.options:
        parser.add_argument("--length", type=whole(1), help="tokens (default: the longest that most models have)")
    if "threshold" in picture.options:
        parser.add_argument("--threshold", type=positive, metavar="PERCENT", help="draw a line at this score")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, help="a file that ends in .png, .svg, .pdf, or .json or .csv for the data"
    )
    parser.add_argument("--data", type=Path, help="write the data, too: a file that ends in .json or .csv")
    parser.add_argument(
        "--width", default="column", help=f"{', '.join(WIDTHS)} of a paper, or inches (default: column)"
    )
    parser.add_argument("--dark", action="store_true", help="light on dark")


def _list(_args: argparse.Namespace) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("picture", "shows", "needs"):
        table.add_column(heading)
    for name, picture in (PICTURES | STUDIES).items():
        table.add_row(name, picture.shows, picture.needs)
    console().print(table)


def _plot(args: argparse.Namespace) -> None:
    look = Look(parse_width(args.width), args.dark)
    output = args.output or Path(_name_of(args))
    kind = _kind(output, "--output", (*KINDS, *DATA_KINDS))
    data_kind = None if args.data is None else _kind(args.data, "--data", DATA_KINDS)
    if kind in KINDS:
        require_matplotlib()
    data = _study_data(args) if args.picture in STUDIES else _data(args)
    files: list[tuple[Path, bytes | str]] = [
        (output, render(args.picture, data, look, kind) if kind in KINDS else _text(data, kind))
    ]
    if data_kind is not None:
        files.append((args.data, _text(data, data_kind)))
    _write(files)
    for note in data.notes:
        _say("note", note)


def _data(args: argparse.Namespace) -> PictureData[Any]:
    from harness.analysis.seed_means import over_seeds
    from harness.analysis.shown import models_of, spots_of

    runs = recorded_runs(args.results)
    models = models_of(args.names, runs, left_out, args.suite)
    spots = spots_of(models, args.suite, _split(args.tasks), left_out)
    extra = {name: getattr(args, name) for name in PICTURES[args.picture].options if getattr(args, name) is not None}
    data = PICTURES[args.picture].prepare(Subject(models, spots, bool(args.suite or args.tasks), **extra))
    return over_seeds(data, models) if getattr(args, "seeds", False) else data


def _study_data(args: argparse.Namespace) -> PictureData[Any]:
    from gdn2.train.rivals.plan import is_rivals
    from harness.study.plan import load_study
    from harness.study.results import StudyResults, folder_of

    if is_rivals(args.study):
        raise UserError(_on_text(args.study))
    study = load_study(args.study)
    results = StudyResults(study, folder_of(study, args.results), left_out)
    return STUDIES[args.picture].prepare(results, args.models)


def _on_text(name: str) -> str:
    """Where the scores of models trained on text are, and what draws them."""
    from gdn2.train.rivals.plan import load_rivals
    from harness.study.on_text import RESULTS, suite_file

    rivals = load_rivals(name)
    suite = "" if rivals.suite is None else f" --suite {suite_file(rivals)}"
    return (
        f"{name}: its models are trained on text and their scores are in records: "
        f"`plot length --seeds{suite} --results {Path('runs') / rivals.name / RESULTS}` draws them"
    )


def _split(tasks: str | None) -> list[str]:
    return [part.strip() for part in (tasks or "").split(",") if part.strip()]


def _name_of(args: argparse.Namespace) -> str:
    """A name for the file: the picture's, and the model's where one was named."""
    names = [Path(args.study).stem] if args.picture in STUDIES else args.names
    name = names[0] if len(names) == 1 else ""
    safe = re.sub(r"[^\w.@-]+", "-", Path(name).name).strip("-.")[:60]
    return f"{args.picture}-{safe}.png" if safe else f"{args.picture}.png"


def _kind(path: Path, flag: str, kinds: tuple[str, ...]) -> str:
    kind = path.suffix.lower().removeprefix(".")
    if kind not in kinds:
        endings = ", ".join(f".{known}" for known in kinds)
        raise UserError(f"{flag} {path}: must end in one of {endings}{or_near(kind, kinds)}")
    return kind


def _text(data: PictureData[Any], kind: str) -> str:
    from harness.show.plots.values import values_csv, values_json

    return values_json(data) if kind == "json" else values_csv(data)


def _write(files: Sequence[tuple[Path, bytes | str]]) -> None:
    from basis.files import write_atomically
    from harness.show.plain import plain

    for path, content in files:
        write_atomically(path, content)
        print(plain(str(path)))


def _say(what: str, text: str) -> None:
    from harness.show.plain import plain

    print(f"{what}: {plain(text)}", file=sys.stderr)
