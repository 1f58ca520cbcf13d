"""Values as text, and texts that cannot harm a terminal."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from mainspring.cli import text
from mainspring.cli.output import Table, print_tables


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (3_599.4, "59 min 59 s"),
        (3_600, "1 h 00 min"),
        (172_000, "47 h 46 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_spans(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_moments() -> None:
    assert text.moment(Timestamp(seconds=0)) == "1970-01-01 00:00:00Z"
    assert text.moment(Timestamp(), known=False) == "-"
    assert text.moment(Timestamp(seconds=10**15)) == "1000000000000000 s"


def test_texts_are_printable_and_bounded() -> None:
    assert text.printable("a\x1b[2J\r\nb\u202e") == "a\\x1b[2J\\r\nb\\u202e"
    assert text.one_line("a\nb" * 100, 5) == "a ba … (295 more characters)"


def test_counted_nouns() -> None:
    assert [text.plural(count, "task") for count in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]


def table() -> Table:
    made = Table(("NAME", "STATE"))
    made.add("[bold]a", "failed")
    made.add("b" * 300, "succeeded")
    return made


def test_plain_tables_are_aligned_and_never_cut_by_a_width(capsys) -> None:
    print_tables([table(), Table()])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["[bold]a", "failed"]
    assert lines[0].index("STATE") == lines[1].index("failed")
    assert lines[2].startswith("b" * 120 + "… (180 more characters)")


def test_tables_on_a_terminal_are_coloured_and_take_no_markup(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_tables([table()])
    out = capsys.readouterr().out
    assert "[bold]a" in out
    assert "\x1b[31mfailed" in out


def test_local_times_have_the_form_of_all_times() -> None:
    assert text.local_moment("2026-11-22T06:00:00+01:00") == "2026-11-22 06:00:00+01:00"
    assert text.local_moment("2026-11-22T06:00:00+00:00") == "2026-11-22 06:00:00Z"
    assert text.local_moment("local") == "local"


def test_signals_have_their_names() -> None:
    assert text.signal_word(9) == "SIGKILL (9)"
    assert text.signal_word(99) == "signal 99"
