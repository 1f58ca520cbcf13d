"""The ledger: what its lines prove, and that the script writes such lines."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from mainspring.ledger import (
    LEDGER_SCRIPT,
    LedgerEntry,
    LedgerError,
    LedgerReport,
    check_ledger,
    ended_as_started,
    hops_ns,
    makespan_ns,
    read_ledger,
    running_at,
)

EDGES = [("a", "b"), ("b", "c")]


def ledger(text: str, tmp_path: Path) -> list[LedgerEntry]:
    """Entries of lines such as `start a`; the attempt is the task unless a third word names it."""
    lines = []
    for number, line in enumerate(text.split(", ")):
        kind, task, *attempt = line.split()
        lines.append(f"{kind} {attempt[0] if attempt else task} run {task} 7 {number * 10}\n")
    path = tmp_path / "ledger"
    path.write_text("".join(lines), "utf-8")
    return read_ledger(path)


def test_run_in_order_is_clean(tmp_path: Path) -> None:
    entries = ledger("start a, end a, start b, end b, start c, end c", tmp_path)
    report = check_ledger(entries, EDGES)
    assert report == LedgerReport(started=3, finished=3)
    assert report.clean
    assert hops_ns(entries, EDGES) == [10, 10]
    assert makespan_ns(entries) == 50


def test_attempt_that_started_twice_is_named(tmp_path: Path) -> None:
    report = check_ledger(ledger("start a x, start a x, end a x", tmp_path), [])
    assert report.started_twice == ["x"]
    assert not report.clean


def test_second_attempt_is_no_second_start(tmp_path: Path) -> None:
    report = check_ledger(ledger("start a x, start a y, end a y", tmp_path), [])
    assert report == LedgerReport(started=1, finished=1)


def test_task_that_never_ended_or_never_started_is_lost(tmp_path: Path) -> None:
    report = check_ledger(ledger("start a, end a, start b", tmp_path), EDGES, tasks=["d"])
    assert report.lost == [("run", "d"), ("run", "b"), ("run", "c")]


@pytest.mark.parametrize(
    "text", ["start a, start b, end a, end b", "start b, end b, start a, end a", "start b, end b"]
)
def test_child_before_its_parents_end_is_out_of_order(text: str, tmp_path: Path) -> None:
    report = check_ledger(ledger(text, tmp_path), [("a", "b")])
    assert report.out_of_order == [("run", "a", "b")]


def test_attempts_that_ran_at_a_moment_are_those_between_their_lines(tmp_path: Path) -> None:
    entries = ledger("start a, start b, end a, start c, end b", tmp_path)
    running = [list(running_at(entries, moment)) for moment in (-1, 0, 10, 20, 30, 40)]
    assert running == [[], ["a"], ["a", "b"], ["b"], ["b", "c"], ["c"]]


def test_an_attempt_ended_as_it_started_if_one_process_wrote_both_lines(tmp_path: Path) -> None:
    entries = ledger("start a, start b, start c, start d, end a, end b, end c, end c", tmp_path)
    entries[5] = replace(entries[5], pid=8)
    starts = running_at(entries, 30).values()
    assert ended_as_started(entries, starts) == ["a"]


def test_empty_ledger() -> None:
    assert check_ledger([], EDGES) == LedgerReport()
    assert makespan_ns([]) == 0
    assert hops_ns([], EDGES) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start a r t 7 1", "the last line is cut off"),
        ("start a r t 7 1\nstop a r t 7 1\n", ":2: not a line of a ledger: 'stop a r t 7 1'"),
        ("start a r t 7 now\n", ":1: not a line of a ledger"),
        ("start a r t me 1\n", ":1: not a line of a ledger"),
        ("start a r t 1\n", ":1: not a line of a ledger"),
        ("\n", ":1: not a line of a ledger"),
    ],
)
def test_line_of_no_task_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(text, "utf-8")
    with pytest.raises(LedgerError, match=message):
        read_ledger(path)


@pytest.mark.parametrize("seconds", ["0", "0.001"])
def test_script_writes_its_start_and_its_end(seconds: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    environment = {
        "PATH": os.environ["PATH"],
        "MAINSPRING_LEDGER": str(path),
        "MAINSPRING_ATTEMPT_ID": "ab12",
        "MAINSPRING_RUN": "etl-1",
        "MAINSPRING_TASK": "load",
    }
    task = subprocess.Popen(["sh", "-c", LEDGER_SCRIPT, "sh", seconds], env=environment)
    assert task.wait(10) == 0
    start, end = read_ledger(path)
    assert start.pid == end.pid == task.pid
    assert (start.kind, end.kind) == ("start", "end")
    assert (start.attempt_id, start.run, start.task) == ("ab12", "etl-1", "load")
    assert start.wall_ns < end.wall_ns
