"""Judges the ledger of instants: each ended once, as what it says, and none was left out.

Rows come schedule by schedule in the order of their instants, over as many pages as there are. That
an instant is missing can be said only of the time since the DAG was changed last, for the ledger
does not keep old timetables; and only of timetables that follow from themselves (not of `@once`).
It takes for granted that no wall clock had gone back by more than an instant when a timetable was
changed. Does not know pages.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.core.effects import InstantOutcome
from controlplane.core.shard.schedules import parse_definition
from controlplane.core.time.timetable import Once, Timetable, next_instant
from controlplane.core.types import uuid_text
from controlplane.store.evidence_rows import InstantEvidence
from controlplane.verify.findings import Fact, Invariant, Violation


class LedgerJudge:
    """Takes the rows in, in their order."""

    def __init__(self) -> None:
        self._last: InstantEvidence | None = None

    def page(self, rows: list[InstantEvidence]) -> Iterator[Violation]:
        """The violations that a page shows. All of it is of one snapshot."""
        previous = self._last
        for place, row in enumerate(rows):
            yield from _outcome(row)
            if previous is not None and previous.owner == row.owner:
                yield from _between(previous, row)
            # A later row of the page proves that this one was the last of its schedule then.
            if place + 1 < len(rows) and rows[place + 1].owner != row.owner:
                yield from _next(row)
            previous = row
        self._last = previous

    def end(self, rows: list[InstantEvidence]) -> Iterator[Violation]:
        """After the last page, given once more: nothing came behind its last row."""
        if rows:
            yield from _next(rows[-1])


def _name(row: InstantEvidence) -> str:
    return f"{row.tenant}/{row.dag}/{row.schedule}@{row.instant_us}"


def _violation(row: InstantEvidence, detail: str) -> Violation:
    facts: tuple[tuple[str, Fact], ...] = (
        ("instant_us", row.instant_us),
        ("outcome", InstantOutcome(row.outcome).name),
        ("run", uuid_text(row.run_id) if row.run_id else None),
        ("definition", row.definition),
        ("next_us", row.next_us),
    )
    return Violation(Invariant.I7, _name(row), detail, facts)


def _outcome(row: InstantEvidence) -> Iterator[Violation]:
    """What the row says is so."""
    outcome = InstantOutcome(row.outcome)
    if outcome is InstantOutcome.SKIPPED:
        if row.run_id is not None or not row.reason:
            yield _violation(row, "it was skipped, but has a run, or no reason")
        return
    owner = (row.run_tenant, row.run_dag, row.run_schedule)
    if row.run_logical_us is None:
        yield _violation(row, "the run that it names does not exist")
    elif owner != row.owner:
        yield _violation(row, f"the run that it names is of {'/'.join(map(str, owner))}")
    elif outcome is InstantOutcome.RUN and row.run_logical_us != row.instant_us:
        yield _violation(row, f"the run that it names is for instant {row.run_logical_us}")
    elif outcome is InstantOutcome.COALESCED and row.run_logical_us <= row.instant_us:
        yield _violation(row, f"it was coalesced into a run for instant {row.run_logical_us}")


def _timetable(row: InstantEvidence) -> Timetable | None:
    """The timetable that made the row, where that can be told."""
    if row.definition is None or row.dag_updated_us is None:
        return None
    if row.instant_us <= row.dag_updated_us:
        return None
    try:
        timetable = parse_definition(row.definition, 0)
    except ValueError:
        # Damaged, or the tz data here lacks its zone: a leader sets such a schedule aside.
        return None
    if isinstance(timetable, Once) or next_instant(timetable, row.instant_us - 1) != row.instant_us:
        return None
    return timetable


def _between(before: InstantEvidence, after: InstantEvidence) -> Iterator[Violation]:
    """No instant is missing between two neighbours."""
    # Both as the later page knows the schedule: it may have been changed since the earlier one.
    known = before._replace(definition=after.definition, dag_updated_us=after.dag_updated_us)
    timetable = _timetable(known)
    if timetable is None or _timetable(after) is None:
        return
    due_us = next_instant(timetable, before.instant_us)
    if due_us != after.instant_us:
        yield _violation(after, f"instant {due_us} before it is missing")


def _next(last: InstantEvidence) -> Iterator[Violation]:
    """The schedule goes on right behind its last row."""
    timetable = _timetable(last)
    if timetable is None:
        return
    due_us = next_instant(timetable, last.instant_us)
    if due_us != last.next_us:
        yield _violation(last, f"the next instant is {due_us}, the schedule waits for another")
