"""What a watcher sees of a run, in a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from harness.engine.meter import Meter, NullProgress
from harness.show import progress
from harness.show.progress import RunProgress
from harness.words import short


def test_a_log_file_gets_lines_with_requests_tokens_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    out = io.StringIO()
    sink = RunProgress(Console(file=out, width=120))
    sink.begin_tasks("niah")
    sink.begin("generating", 4, 1000)
    sink.advance(1, 200, saved=50)
    sink.end()
    assert "niah generating: 1/4 requests, 250 of 1,000 tokens," in out.getvalue()
    assert "s left" in out.getvalue()


def test_saved_tokens_move_the_bar_as_read_ones_do() -> None:
    out = io.StringIO()
    sink = RunProgress(Console(file=out, force_terminal=True, width=120))
    sink.begin("generating", 2, 100)
    sink.advance(1, 10, saved=40)
    sink.advance(1, 50)
    sink.end()
    assert "2/2 · 100/100 tokens" in out.getvalue()


def test_what_is_read_again_does_not_move_the_bar_beyond_its_end() -> None:
    told: list[tuple[int, int, int]] = []

    class Sink(NullProgress):
        def advance(self, requests: int, tokens: int, saved: int = 0) -> None:
            told.append((requests, tokens, saved))

    meter = Meter(Sink())
    meter.begin("generating", 2, 100)
    for told_tokens, saved in ((70, 0), (25, 20), (9, 3)):
        meter.advance(1, told_tokens, saved)
    meter.end()
    assert told == [(1, 70, 0), (1, 25, 5), (1, 0, 0)]
    meter.begin("generating", 2, 100)
    meter.advance(1, 30)
    meter.end()
    assert told[3:] == [(1, 30, 0), (0, 0, 70)]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9_999, "9,999"), (12_345, "12.3K"), (457_789, "458K"), (1_234_567, "1.2M")]
)
def test_counts_are_exact_while_they_are_short(number: int, text: str) -> None:
    assert short(number) == text
