"""Why a model failed, in a terminal: verdicts by task, length and depth, two models side by side, answers to read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.failures import Contrast, Failures, Tally
from harness.analysis.judged_runs import JudgedAnswer
from harness.show.plain import plain
from harness.words import counted
from tasks.verdicts import MEANINGS, TITLES, VERDICTS, Verdict

LETTERS: Mapping[Verdict, str] = {
    "right": "R",
    "partly": "P",
    "wrong": "W",
    "stale": "S",
    "invented": "I",
    "form": "F",
    "echo": "E",
    "none": "N",
    "empty": "_",
    "cut": "C",
}
"""What stands for a verdict in a bar, with or without colours."""
STYLES: Mapping[Verdict, str] = {
    "right": "bold blue",
    "partly": "cyan",
    "wrong": "red",
    "stale": "magenta",
    "invented": "yellow",
}
LABEL_WIDTH = 24
OTHER_WIDTH = 40
"""Of the numbers beside a label, and what is between columns."""
MOST_ANSWER = 300


def print_failures(failures: Failures, console: Console) -> None:
    """Draw how often each verdict was given, then by task, length and depth."""
    total = failures.total
    tasks = counted(len(failures.groups["task"]), "task")
    console.print(Text(f"why answers are wrong: {plain(failures.model.label)}", style="bold"))
    console.print(f"{counted(total.n, 'answer')} to {tasks}", style="dim")
    for note in failures.model.notes:
        console.print(Text(plain(note), style="dim"))
    if failures.model.unjudged:
        console.print(Text(f"without verdicts: {plain(', '.join(failures.model.unjudged))}", style="dim"))
    console.print()
    console.print(_verdicts(total))
    labels = [plain(tally.label) for tallies in failures.groups.values() for tally in tallies]
    label_width = min(LABEL_WIDTH, max(map(len, labels)))
    for name, tallies in failures.groups.items():
        is_new = name != "task and length" or len(tallies) > max(len(failures.groups["task"]), 1)
        if tallies and is_new and not (name == "length" and len(tallies) == 1):
            console.print()
            console.print(_group(f"by {name}", tallies, label_width, console.width))


def print_contrast(found: Contrast, console: Console) -> None:
    """Draw verdict by verdict of two models, and by task of which samples only one is right."""
    console.print()
    console.print(Text(f"{plain(found.a)} (rows) beside {plain(found.b)} (columns)", style="bold"))
    for sentence in contrast_remarks(found):
        console.print(Text(plain(sentence), style="dim"))
    rows, columns = used(found)
    crossed = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    crossed.add_column("", no_wrap=True)
    for verdict in columns:
        crossed.add_column(LETTERS[verdict], justify="right", style=STYLES.get(verdict, ""))
    for verdict in rows:
        counts = [found.crossed[verdict, other] for other in columns]
        crossed.add_row(_title(verdict), *(str(count) if count else "·" for count in counts))
    console.print(crossed)
    console.print(Text(", ".join(f"{LETTERS[verdict]} {TITLES[verdict]}" for verdict in columns), style="dim"))
    console.print()
    by_task = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    by_task.add_column("right", no_wrap=True, max_width=LABEL_WIDTH, overflow="ellipsis")
    for title in ("n", "both", "only A", "only B", "neither"):
        by_task.add_column(title, justify="right")
    for label, numbers in by_place(found):
        by_task.add_row(Text(plain(label)), *map(str, numbers))
    console.print(by_task)
    console.print(Text(f"A is {plain(found.a)}, B is {plain(found.b)}", style="dim"))


def print_examples(answers: Iterable[JudgedAnswer], console: Console) -> None:
    """Write answers to read, each with its needle in its place."""
    for answer in answers:
        console.print()
        console.print(_heading(answer))
        _facts(answer, console)
        _line("answer", _shortened(answer.sample.answer or ""), console)


def print_pairs(pairs: Iterable[tuple[JudgedAnswer, JudgedAnswer]], console: Console) -> None:
    """The same of two models that were asked the same."""
    for a, b in pairs:
        console.print()
        console.print(Text(f"{won_by(a)}  {place_of(a)}", style="bold"))
        _facts(a, console)
        for side, answer in (("A", a), ("B", b)):
            title = Text(f"{TITLES[answer.verdict]}: ", style=STYLES.get(answer.verdict, ""))
            _line(f"answer {side}", title + _shortened(answer.sample.answer or ""), console)


def failures_to_text(
    failures: Sequence[Failures],
    found: Contrast | None,
    answers: Sequence[JudgedAnswer] = (),
    pairs: Sequence[tuple[JudgedAnswer, JudgedAnswer]] = (),
    width: int = 100,
) -> str:
    """The same without colours, as text."""
    console = Console(width=width, record=True, file=io.StringIO(), color_system=None)
    for each in failures:
        print_failures(each, console)
        console.print()
    if found is not None:
        print_contrast(found, console)
    print_examples(answers, console)
    print_pairs(pairs, console)
    return console.export_text()


def place_of(answer: JudgedAnswer) -> str:
    """The task, the number and the depth of a sample in one line."""
    depth = answer.sample.depth
    return plain(f"{answer.label} #{answer.sample.index}") + ("" if depth is None else f", depth {depth:.0%}")


def spaced(text: str) -> str:
    """A text in one line: ends of lines are arrows, everything that could do something is its code."""
    return " ⏎ ".join(plain(line.replace("\t", " ")) for line in text.replace("\r\n", "\n").split("\n"))


def contrast_remarks(found: Contrast) -> list[str]:
    """What is to be known of a contrast."""
    said = [f"{counted(len(found.pairs), 'sample')} that both were asked"]
    if found.alike == "question":
        said[0] += ": the same questions; tokenizers differ, and so does how much context fills the length"
    for label, count in ((found.a, found.only_a), (found.b, found.only_b)):
        if count:
            said.append(f"{count:,} of {label} that the other was not asked")
    return said


def used(found: Contrast) -> tuple[list[Verdict], list[Verdict]]:
    """The verdicts that A and B have, in their order."""
    return tuple([v for v in VERDICTS if any(pair[side] == v for pair in found.crossed)] for side in (0, 1))  # type: ignore[return-value]


def by_place(found: Contrast) -> list[tuple[str, tuple[int, int, int, int, int]]]:
    """Of each task and length, and of all: samples, and how many both, only A, only B or neither has right."""
    places: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in found.pairs:
        places.setdefault(a.label, []).append((a.verdict == "right", b.verdict == "right"))
    rows = {**places, "all": [pair for own in places.values() for pair in own]}
    kinds = ((True, True), (True, False), (False, True), (False, False))
    return [(label, (len(own), *(own.count(kind) for kind in kinds))) for label, own in rows.items()]  # type: ignore[misc]


def won_by(a: JudgedAnswer) -> str:
    """Which of two answers is right, of which only one is, by A's."""
    return "A is right, B is not" if a.verdict == "right" else "B is right, A is not"


def percent(share: float | None) -> str:
    """A share in percent; — where there is none."""
    return "—" if share is None else f"{100 * share:.1f}"


def _verdicts(tally: Tally) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for title, how in (("", "left"), ("verdict", "left"), ("n", "right"), ("%", "right"), ("", "left")):
        drawn.add_column(title, justify=how, no_wrap=title != "" or how != "left")  # type: ignore[arg-type]
    for verdict, count in tally.counts.items():
        if count:
            style = STYLES.get(verdict, "")
            share = percent(count / tally.n)
            letter = Text(LETTERS[verdict], style=style)
            drawn.add_row(letter, _title(verdict), str(count), share, Text(MEANINGS[verdict], style="dim"))
    return drawn


def _group(title: str, tallies: Sequence[Tally], label_width: int, width: int) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    drawn.add_column(title, no_wrap=True, width=max(label_width, len(title)), overflow="ellipsis")
    for name in ("n", "score", "answered", "right when\nanswered"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("verdicts", no_wrap=True)
    room = max(10, min(50, width - max(label_width, len(title)) - OTHER_WIDTH))
    for tally in tallies:
        numbers = (percent(share) for share in (tally.score, tally.answered, tally.score_when_answered))
        drawn.add_row(Text(plain(tally.label)), f"{tally.n:5}", *numbers, _bar(tally, room))
    return drawn


def _bar(tally: Tally, width: int) -> Text:
    """Letters in proportion to the verdicts; the largest remainders get what is left."""
    shares = {verdict: count * width / tally.n for verdict, count in tally.counts.items()}
    letters = {verdict: int(share) for verdict, share in shares.items()}
    left = sorted(shares, key=lambda verdict: letters[verdict] - shares[verdict])
    for verdict in left[: width - sum(letters.values())]:
        letters[verdict] += 1
    bar = Text()
    for verdict, count in letters.items():
        bar.append(LETTERS[verdict] * count, style=STYLES.get(verdict, "dim"))
    return bar


def _title(verdict: Verdict) -> Text:
    return Text(TITLES[verdict], style=STYLES.get(verdict, ""))


def _heading(answer: JudgedAnswer) -> Text:
    return Text.assemble((TITLES[answer.verdict], f"bold {STYLES.get(answer.verdict, '')}"), f"  {place_of(answer)}")


def _facts(answer: JudgedAnswer, console: Console) -> None:
    sample = answer.sample
    if sample.query:
        _line("asked", Text(spaced(sample.query)), console)
    _line("right", Text(spaced(", ".join(sample.references)) or "—"), console)
    if sample.excerpt is not None:
        before, needle, behind = map(spaced, sample.excerpt)
        marked = Text.assemble("…", before, (f"[{needle}]", "bold reverse"), behind, "…")
        _line("context", marked, console)


def _line(name: str, text: Text, console: Console) -> None:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=10, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(f"  {name}", text)
    console.print(grid)


def _shortened(answer: str) -> Text:
    return Text(spaced(answer[:MOST_ANSWER]) + ("…" if len(answer) > MOST_ANSWER else "") or "—")
