"""What the numbers of a comparison look like, in the terminal and in Markdown alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.comparison import ALPHA, MeanComparison, ModelComparison, PairComparison, TaskComparison
from harness.records.table import LARGE
from harness.words import counted
from tasks.metrics import Unit

DECIMALS: dict[Unit, int] = {"share": 1, "bits": 3, "perplexity": 2, "number": 2}
FEW_MODELS = 3
"""Up to so many models every pair is shown task by task; more are a matrix."""
CORRECTION = f"p after Holm's correction over all tests, by which alone the verdict goes (at most {ALPHA:g})"
LEGEND = (
    "Shares in percent; A−B with its 95 % interval; wins, losses and ties: samples on which A is better, B is, or "
    f"neither; {CORRECTION}; found: the smallest difference that so many samples show in four cases of five."
)
SEEDS_LEGEND = (
    "Shares in percent, means over seeds; A−B with its 95 % interval (Student's t over seeds, uncut); "
    f"{CORRECTION}; found: the smallest difference that so many seeds show in four cases of five."
)
MATRIX_LEGEND = (
    "Row against column: mean difference over the cells (positive: the row is better), the cells in which the row is "
    "better / the column is better / they are not told apart, and p of the mean, corrected over the pairs."
)


def legend(comparison: ModelComparison) -> str:
    """What the columns of a pair's table are: of trainings alone there are no samples to speak of."""
    tasks = [task for pair in comparison.pairs for task in pair.tasks]
    return SEEDS_LEGEND if all(task.pairing == "seeds" for task in tasks) else LEGEND


def corrected(tests: int) -> str:
    """How many tests Holm's correction is over."""
    if tests == 0:
        return "nothing was tested"
    return "1 test: nothing to correct" if tests == 1 else f"{tests:,} tests were corrected together"


def apart_alone(comparison: ModelComparison) -> Iterator[str]:
    """Say so where an interval leaves out 0 and the corrected p does not: a sentence, or none."""
    rows = [row for pair in comparison.pairs for row in pair.tasks]
    means = [mean for pair in comparison.pairs for mean in pair.means]
    count = sum(_is_apart_alone(row) for row in rows) + sum(_is_apart_alone(mean) for mean in means)
    if count:
        yield (
            f"In {count:,} of {len(rows) + len(means):,} rows the interval leaves out 0 and nothing is told apart: an "
            "interval is of one difference alone, p is corrected for all."
        )


def _is_apart_alone(row: TaskComparison | MeanComparison) -> bool:
    if row.low is None or row.high is None or row.verdict != "not told apart":
        return False
    return row.low > 0 or row.high < 0


class Notes:
    """Notes with their numbers; the same text is one note."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def numbers(self, texts: Sequence[str]) -> tuple[int, ...]:
        """The numbers of these notes, from 1."""
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
        return tuple(self.texts.index(text) + 1 for text in texts)


def number(value: float, unit: Unit, signed: bool = False, beside: float = 0.0) -> str:
    """A value in its unit, shares in percent; in the notation of a larger one that stands beside it."""
    value *= 100 if unit == "share" else 1
    if max(abs(value), abs(beside)) >= LARGE:
        return (f"{value:+.2g}" if signed else f"{value:.2g}").replace("-", "−")
    text = f"{value:+.{DECIMALS[unit]}f}" if signed else f"{value:.{DECIMALS[unit]}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{DECIMALS[unit]}f}"


def interval(low: float | None, high: float | None, unit: Unit, wide: bool = True) -> str:
    """An interval of a difference; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"{number(low, unit, True, high)} … {number(high, unit, True, low)}".replace(" ", " " if wide else "")


def p_value(value: float | None) -> str:
    """A p with as many digits as anyone compares."""
    if value is None:
        return "—"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def counts(task: TaskComparison) -> str:
    """Wins, losses and ties; the numbers of samples or seeds where none are paired."""
    if task.wins is not None:
        return f"{task.wins}/{task.losses}/{task.ties}"
    return f"{'seeds' if task.pairing == 'seeds' else 'n'} {task.n_a}, {task.n_b}"


def found(row: TaskComparison | MeanComparison) -> str:
    """The smallest difference that could have been found; two shares are never more than 100 % apart."""
    if row.detectable is None:
        return "—"
    return ">100" if row.unit == "share" and row.detectable > 1 else number(row.detectable, row.unit)


def label(task: TaskComparison, pair: PairComparison) -> str:
    """The name of a place, with the metric where a task is there by several."""
    same = [
        other for other in pair.tasks if (other.place.task, other.place.length) == (task.place.task, task.place.length)
    ]
    return task.place.label + (f" {task.place.metric}" if len(same) > 1 else "")


def remarks(task: TaskComparison) -> list[str]:
    """What is to be known of a row: samples that were not compared, its pairing, seeds, its own notes."""
    said = []
    if task.only_a or task.only_b:
        said.append(f"not compared: {counted(task.only_a, 'sample')} that only A has, {task.only_b:,} that only B has")
    if task.unscored:
        said.append(f"not compared: {counted(task.unscored, 'common sample')} without a finite score of both")
    if task.pairing == "prompt":
        said.append("paired by prompt and target: the runs name their samples differently")
    if task.groups is not None and task.n_a is not None and task.groups < task.n_a:
        said.append(f"{counted(task.n_a, 'sample')} in {counted(task.groups, 'group')} that share text")
    if task.pairing == "seeds":
        said.append(f"seeds of A: {seeds(task.seeds_a, task.unit)}; of B: {seeds(task.seeds_b, task.unit)}")
    if task.p is None:
        said.append(f"not tested ({task.test.removeprefix('none: ')})")
    return [*said, *task.notes]


def common_remarks(pair: PairComparison) -> list[str]:
    """What is to be known of every task of a pair, said once above its table; nothing for a single task."""
    each = [remarks(task) for task in pair.tasks]
    return [text for text in each[0] if all(text in other for other in each)] if len(each) > 1 else []


def seeds(values: Sequence[float], unit: Unit) -> str:
    """The values of seeds, as a list."""
    return ", ".join(number(value, unit) for value in values)


def verdict(row: TaskComparison | MeanComparison, pair: PairComparison) -> str:
    """Who is better, by name."""
    winner = {"A better": pair.a, "B better": pair.b}.get(row.verdict)
    return row.verdict if winner is None else f"{winner} better"


def sentences(comparison: ModelComparison) -> Iterator[str]:
    """What was left out, pair by pair, and what is to be known of the whole."""
    for pair in comparison.pairs:
        names = f"{pair.a} and {pair.b}"
        if pair.problem is not None:
            yield f"{names}: {pair.problem}"
            continue
        reasons: dict[str, dict[str, None]] = {}
        for place, reason in pair.left_out:
            reasons.setdefault(reason, {})[place] = None  # once, also of several metrics
        for reason, places in reasons.items():
            yield f"{names}, not compared: {', '.join(places)} ({reason})"
    yield from comparison.notes


def mean_of(pair: PairComparison) -> MeanComparison | None:
    """The mean over all cells of a pair, if there is one."""
    return pair.means[0] if pair.means else None
