"""The pictures there are: a name, what it shows and needs, where its data come from, how it is drawn. One a file.

Imports nothing heavy; matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UserError
from harness.show.plots.look import Look

if TYPE_CHECKING:
    from harness.analysis.picture_data import PictureData
    from harness.analysis.shown import Model, Spot
    from harness.show.plots.sheet import Sheet
    from harness.study.results import StudyResults

    Data = PictureData[Any]

MOST_MODELS = 40
"""Of one picture; data of more can be written."""
KINDS = ("png", "svg", "pdf")
"""Of files, which are their endings, too."""


@dataclass(frozen=True)
class Subject:
    """What a picture is to show.

    Attributes:
        models: in their order.
        spots: where numbers are looked for.
        is_chosen: whether they were named, by suite or tasks, instead of being all there are.
        published: names of papers' rows, or patterns.
        length: in tokens, of a picture at one length.
        threshold: a score in percent at which a line is drawn.
    """

    models: Sequence[Model]
    spots: Sequence[Spot]
    is_chosen: bool = False
    published: Sequence[str] = ()
    length: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        shows: what it shows, in a few words.
        needs: what records must have for it.
        prepare: its data, of a `Subject`; of a study's results and patterns of models for those of studies.
        draw: the sheet of its data; called within `drawn_as`.
        options: those of `Subject` beside models and spots that it understands.
        has_means: whether it can show trainings in the place of their seeds.
    """

    shows: str
    needs: str
    prepare: Callable[..., Data]
    draw: Callable[[Data, Look], Sheet]
    options: tuple[Literal["published", "length", "threshold"], ...] = ()
    has_means: bool = False


def _depth(subject: Subject) -> Data:
    from harness.analysis.depths import by_depth

    return by_depth(subject.models, subject.spots)


def _draw_depth(data: Data, look: Look) -> Sheet:
    from harness.show.plots.depth import draw_depth

    return draw_depth(data, look)


def _length(subject: Subject) -> Data:
    from harness.analysis.curves import over_length

    return over_length(subject.models, subject.spots, subject.published, subject.threshold)


def _draw_length(data: Data, look: Look) -> Sheet:
    from harness.show.plots.length import draw_length

    return draw_length(data, look)


def _state(subject: Subject) -> Data:
    from harness.analysis.curves import beside_state

    return beside_state(subject.models, subject.spots, subject.length)


def _draw_state(data: Data, look: Look) -> Sheet:
    from harness.show.plots.state import draw_state

    return draw_state(data, look)


def _position(subject: Subject) -> Data:
    from harness.analysis.curves import by_position

    return by_position(subject.models, subject.spots)


def _draw_position(data: Data, look: Look) -> Sheet:
    from harness.show.plots.position import draw_position

    return draw_position(data, look)


def _trajectory(subject: Subject) -> Data:
    from harness.analysis.curves import over_steps

    return over_steps(subject.models, subject.spots)


def _draw_trajectory(data: Data, look: Look) -> Sheet:
    from harness.show.plots.trajectory import draw_trajectory

    return draw_trajectory(data, look)


def _matrix(subject: Subject) -> Data:
    from harness.analysis.matrix import mean_differences

    return mean_differences(subject.models, subject.spots if subject.is_chosen else ())


def _draw_matrix(data: Data, look: Look) -> Sheet:
    from harness.show.plots.matrix import draw_matrix

    return draw_matrix(data, look)


def _norms(subject: Subject) -> Data:
    from harness.analysis.norm_grid import by_layer

    return by_layer(subject.models)


def _draw_norms(data: Data, look: Look) -> Sheet:
    from harness.show.plots.norms import draw_norms

    return draw_norms(data, look)


def _failures(subject: Subject) -> Data:
    from harness.analysis.verdict_shares import by_verdict

    return by_verdict(subject.models, subject.spots)


def _draw_failures(data: Data, look: Look) -> Sheet:
    from harness.show.plots.failures import draw_failures

    return draw_failures(data, look)


def _study(results: StudyResults, patterns: Sequence[str]) -> Data:
    from harness.study.curves import over_tests

    return over_tests(results, patterns)


def _draw_study(data: Data, look: Look) -> Sheet:
    from harness.show.plots.study import draw_study

    return draw_study(data, look)


PICTURES = {
    "depth": Picture(
        "accuracy over length and depth of the needle",
        "samples.jsonl.gz with depths: needles, editing",
        _depth,
        _draw_depth,
    ),
    "length": Picture(
        "scores over length with 95 % bands, papers beside them",
        "tasks with lengths",
        _length,
        _draw_length,
        ("published", "threshold"),
        has_means=True,
    ),
    "state": Picture(
        "scores at one length beside the bytes of the state",
        "tasks with lengths",
        _state,
        _draw_state,
        ("length",),
        has_means=True,
    ),
    "position": Picture(
        "bits per byte by position in long documents",
        "tasks by position: wiki_positions, essay_positions, pg19_positions",
        _position,
        _draw_position,
        has_means=True,
    ),
    "matrix": Picture(
        "every model against every other, corrected by Holm", "two models or more", _matrix, _draw_matrix
    ),
    "trajectory": Picture(
        "scores over the steps of a training", "checkpoints called NAME@STEP", _trajectory, _draw_trajectory
    ),
    "norms": Picture(
        "the largest norm of each layer's state by position",
        "records with model.state_norms: recurrent models",
        _norms,
        _draw_norms,
    ),
    "failures": Picture(
        "how answers end, by length", "samples.jsonl.gz with verdicts: generated answers", _failures, _draw_failures
    ),
}
"""Of records."""
STUDIES = {
    "study": Picture("a study's accuracy over pairs, writes and lengths", "a study's results", _study, _draw_study)
}
"""Of studies."""


def render(name: str, data: Data, look: Look, kind: str) -> bytes:
    """Draw a picture.

    Args:
        name: of the picture.
        data: as its `prepare` makes them.
        look: how it looks.
        kind: one of `KINDS`.

    Returns:
        The file; the same data give the same bytes.

    Raises:
        UserError: matplotlib is not installed, or there are more models than anybody could tell apart.
    """
    require_matplotlib()
    from harness.show.plots.sheet import drawn_as

    if (count := _models_in(data)) > MOST_MODELS:
        raise UserError(f"plot {name}: {count:,} models are too many for a picture; name at most {MOST_MODELS}")

    with drawn_as(look):
        sheet = (PICTURES | STUDIES)[name].draw(data, look)
        sheet.settle()
        return sheet.to_bytes(kind)  # type: ignore[arg-type]


def _models_in(data: Data) -> int:
    """How many lines, panels or rows a picture would need."""
    for name in ("training", "model", "a"):
        if hasattr(data.rows[0], name):
            return len(data.values(name))
    return 1


def inline_svg(name: str, data: Data, look: Look | None = None, prefix: str | None = None) -> str:
    """Draw a picture as an `<svg>` element for a page of HTML.

    Args:
        name: of the picture.
        data: as its `prepare` makes them.
        look: how it looks; as wide as a paper's column by default.
        prefix: what all ids in the element begin with, so that several can stand in one page; its name by default.

    Returns:
        The element, without declarations, metadata and rules of style for the whole page. Names
        in it are escaped: they are text, never markup.

    Raises:
        UserError: matplotlib is not installed.
    """
    text = render(name, data, look or Look(), "svg").decode("utf-8")
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text[text.index("<svg") :], flags=re.DOTALL).strip()
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix or name}-", text)
    return text.replace("<svg", '<svg style="stroke-linejoin: round; stroke-linecap: butt"', 1)


def require_matplotlib() -> None:
    """See that pictures can be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401 (only whether it is there)
    except ImportError as error:
        raise UserError("pictures need the package matplotlib: pip install 'gdn2[plot]'") from error
