"""The ledger that tasks write themselves, and what it proves about a run.

A task appends one line when it starts and one when it ends; nothing else writes the file, so it is
evidence that does not depend on the scheduler. Decides the format of a line, the script that writes
it, and how lines become findings: started twice, lost, out of order. Promises to read only whole
lines and to name the one that it cannot read. Does not know DAG files or the API.

Both lines of an attempt carry the process id of its shell, as the task itself sees it: an attempt
whose end has the id of its start was one process all along, whoever watched over it meanwhile.

Lines are appended by one write each, so their order in the file is the order of what happened; the
order of two tasks is judged by it, never by comparing clocks. Times are wall clock nanoseconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

# For `sh -c`, with the seconds to sleep as $1. `date` writes each line itself, with one write, and
# replaces the shell for the last one: two processes fewer than printing what it answers. $$ is the
# shell's own number on both.
LEDGER_SCRIPT = """\
set -eu
ledger=${MAINSPRING_LEDGER:-/dev/null}
line="$MAINSPRING_ATTEMPT_ID $MAINSPRING_RUN $MAINSPRING_TASK $$"
date "+start $line %s%N" >>"$ledger"
[ "$1" = 0 ] || sleep "$1"
exec date "+end $line %s%N" >>"$ledger"
"""

Edge: TypeAlias = tuple[str, str]
Instance: TypeAlias = tuple[str, str]


class LedgerError(ValueError):
    """A line that no task can have written; the message names file and line."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line: an attempt of a task of a run started or ended at `wall_ns`, as process `pid`."""

    kind: Literal["start", "end"]
    attempt_id: str
    run: str
    task: str
    pid: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What a ledger proves; a task instance is (run, task), an order is (run, parent, child)."""

    started: int = 0
    finished: int = 0
    started_twice: list[str] = field(default_factory=list)
    lost: list[Instance] = field(default_factory=list)
    out_of_order: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.started_twice or self.lost or self.out_of_order)


def read_ledger(path: Path) -> list[LedgerEntry]:
    """The entries of a ledger in the order in which they were written."""
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        raise LedgerError(f"{path}: the last line is cut off")
    lines = text.split("\n")[:-1]
    return [_entry(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _entry(line: str, place: str) -> LedgerEntry:
    match line.split(" "):
        case [("start" | "end") as kind, attempt_id, run, task, pid, wall] if (
            pid.isdecimal() and wall.isdecimal()
        ):
            return LedgerEntry(kind, attempt_id, run, task, int(pid), int(wall))
        case _:
            raise LedgerError(f"{place}: not a line of a ledger: {line[:100]!r}")


def check_ledger(
    entries: Sequence[LedgerEntry], edges: Iterable[Edge], *, tasks: Iterable[str] = ()
) -> LedgerReport:
    """Judges a ledger of runs of one DAG with these edges (parent, child) and tasks.

    `started` and `finished` count task instances. An attempt id that started more than once is
    started twice; a second attempt of a task is not. An instance of a run that never ended is lost;
    a child is out of order when it started before its parent's last end, or without one.
    """
    edges = list(edges)
    starts = Counter(entry.attempt_id for entry in entries if entry.kind == "start")
    first_start, last_end = _moments(entries)
    runs = dict.fromkeys(entry.run for entry in entries)
    expected = dict.fromkeys([*tasks, *(task for edge in edges for task in edge)])
    instances = dict.fromkeys((run, task) for run in runs for task in expected) | first_start
    return LedgerReport(
        started=len(first_start),
        finished=len(last_end),
        started_twice=[attempt for attempt, count in starts.items() if count > 1],
        lost=[instance for instance in instances if instance not in last_end],
        out_of_order=[
            (run, parent, child)
            for run in runs
            for parent, child in edges
            if (run, child) in first_start
            and first_start[run, child] < last_end.get((run, parent), len(entries))
        ],
    )


def _moments(
    entries: Sequence[LedgerEntry],
) -> tuple[dict[Instance, int], dict[Instance, int]]:
    """Places in the ledger of each instance's first start and last end."""
    first_start: dict[Instance, int] = {}
    last_end: dict[Instance, int] = {}
    for place, entry in enumerate(entries):
        instance = (entry.run, entry.task)
        if entry.kind == "start":
            first_start.setdefault(instance, place)
        else:
            last_end[instance] = place
    return first_start, last_end


def hops_ns(entries: Sequence[LedgerEntry], edges: Iterable[Edge]) -> list[int]:
    """For each child that started: nanoseconds from its last parent's end to its own start.

    It includes what a task needs to write both lines.
    """
    parents: dict[str, list[str]] = defaultdict(list)
    for parent, child in edges:
        parents[child].append(parent)
    first_start, last_end = _moments(entries)
    hops = []
    for (run, task), place in first_start.items():
        ends = [last_end[run, name] for name in parents[task] if (run, name) in last_end]
        if ends:
            hops.append(entries[place].wall_ns - entries[max(ends)].wall_ns)
    return hops


def running_at(entries: Iterable[LedgerEntry], wall_ns: int) -> dict[str, LedgerEntry]:
    """The attempts that had started and not ended at a moment, with their starts."""
    running: dict[str, LedgerEntry] = {}
    for entry in entries:
        if entry.kind == "start" and entry.wall_ns <= wall_ns:
            running.setdefault(entry.attempt_id, entry)
        elif entry.kind == "end" and entry.wall_ns <= wall_ns:
            running.pop(entry.attempt_id, None)
    return running


def ended_as_started(entries: Iterable[LedgerEntry], starts: Iterable[LedgerEntry]) -> list[str]:
    """Those of the attempts that ended once, as the very process that they started as."""
    ends: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if entry.kind == "end":
            ends[entry.attempt_id].append(entry.pid)
    return [start.attempt_id for start in starts if ends[start.attempt_id] == [start.pid]]


def makespan_ns(entries: Sequence[LedgerEntry]) -> int:
    """Nanoseconds from the first line to the last; 0 for an empty ledger."""
    moments = [entry.wall_ns for entry in entries]
    return max(moments) - min(moments) if moments else 0
