"""Decides what a due instant becomes, and when a schedule is due next.

Every due instant ends in the ledger as exactly one of run, skipped or coalesced. The next instant
always follows from the one before, never from the clock. What was missed while nobody led the shard
is coalesced into the latest missed instant; after a long absence only the last of it, the rest is
skipped. What is due during a pause is skipped when it is due, so that no pause, however long, has
to be made up for at its end. An edited schedule goes on after the last instant of the one before,
whatever the clock says. The stored text of a timetable is `cron <zone> <expression>` or
`interval <milliseconds>`.
"""

from __future__ import annotations

from controlplane.core.effects import InstantOutcome, InstantRow
from controlplane.core.shard.book import Book, DagHead, Schedule, ScheduleDue
from controlplane.core.shard.runs import Runs
from controlplane.core.time.deadlines import to_monotonic
from controlplane.core.time.timetable import (
    LATEST_INSTANT_US,
    Timetable,
    next_instant,
    parse_timetable,
)
from controlplane.core.types import DagKey, DagVersion, RunCause, uuid7

# Ledger rows of one schedule in one step; the rest of a long absence follows in the next steps.
MAX_INSTANTS_A_STEP = 1_000
PAUSED = "the DAG was paused"
ABSENT = "missed while the shard had no leader"
# Keys of runs that schedules leave to the commands of the same step.
KEYS_FOR_COMMANDS = 1_024


def parse_definition(definition: str, start_us: int) -> Timetable:
    """The timetable of a stored text; `start_us` is when `@once` is due."""
    kind, _, rest = definition.partition(" ")
    if kind == "interval":
        return parse_timetable("interval", every_ms=int(rest))
    zone, _, expression = rest.partition(" ")
    return parse_timetable("cron", expression=expression, zone=zone, start_us=start_us)


class Schedules:
    """The schedules of one shard."""

    def __init__(self, book: Book, runs: Runs) -> None:
        self._book = book
        self._runs = runs

    def apply(self, head: DagHead, version: DagVersion) -> None:
        """The schedules of a new version: kept where unchanged, never fired in the past."""
        now_us = self._book.now.wall_us
        wanted = {item.schedule: item.definition for item in version.schedules}
        after: dict[str, int] = {}
        for name, schedule in list(head.schedules.items()):
            if wanted.get(name) != schedule.definition:
                after[name] = _last_taken(schedule, now_us - 1)
                self._drop(head, schedule)
            elif schedule.timetable is None:
                # What kept it from being read may have been the rest of the version.
                schedule.timetable = parse_definition(schedule.definition, 0)
                self.arm(head, schedule)
        for name, definition in wanted.items():
            if name not in head.schedules:
                # `@once` is due at once: hence strictly after the moment before.
                after_us = max(after.get(name, now_us - 1), self._told(head.key, name))
                timetable = parse_definition(definition, after_us + 1)
                due_us = next_instant(timetable, after_us)
                schedule = Schedule(name, definition, timetable, due_us)
                head.schedules[name] = schedule
                self._book.touch_schedule(head.key, schedule)
                self.arm(head, schedule)

    def _told(self, key: DagKey, name: str) -> int:
        """The last instant of a schedule that has come to its end in this step; 0: none has."""
        rows = self._book.effects.writes.instants
        mine = (row.instant_us for row in rows if row[:3] == (*key, name))
        return max(mine, default=0)

    def _drop(self, head: DagHead, schedule: Schedule) -> None:
        self._disarm(schedule)
        del head.schedules[schedule.schedule]
        self._book.drop_schedule(head.key, schedule)

    def arm(self, head: DagHead, schedule: Schedule) -> None:
        """Sets the timer of a schedule; a finished one, or one that is set aside, has none."""
        self._disarm(schedule)
        if schedule.next_us is not None and schedule.timetable is not None:
            deadline = to_monotonic(schedule.next_us, self._book.now)
            due = ScheduleDue(head.key, schedule.schedule)
            schedule.timer = self._book.wheel.insert(deadline, due)

    def arm_again(self) -> None:
        """Sets the timers of all schedules by the clock as it is now."""
        for head in self._book.dags.values():
            for schedule in head.schedules.values():
                self.arm(head, schedule)

    def _disarm(self, schedule: Schedule) -> None:
        if schedule.timer is not None:
            self._book.wheel.cancel(schedule.timer)
            schedule.timer = None

    def resume(self, head: DagHead) -> None:
        """Skips what was due during the pause and has not been skipped yet: nobody led.

        A step's worth; the timer brings the rest.
        """
        for schedule in head.schedules.values():
            schedule.paused_until_us = self._book.now.wall_us
            self._skip(head, schedule, self._take_due(head, schedule), PAUSED)
            self.arm(head, schedule)

    def due(self, key: DagKey, name: str) -> None:
        """The timer of a schedule: the latest due instant becomes a run."""
        head = self._book.dags[key]
        schedule = head.schedules[name]
        schedule.timer = None
        next_us, until_us = schedule.next_us, schedule.paused_until_us
        if head.paused:
            self._skip(head, schedule, self._take_due(head, schedule), PAUSED)
        elif next_us is not None and next_us <= until_us:
            self._skip(head, schedule, self._take_due(head, schedule, until_us), PAUSED)
        elif self._may_fire:
            missed = self._take_due(head, schedule)
            if schedule.next_us is not None and schedule.next_us <= self._book.now.wall_us:
                self._skip(head, schedule, missed, ABSENT)
            elif missed:
                self._fire(head, schedule, missed)
        self.arm(head, schedule)

    def _skip(self, head: DagHead, schedule: Schedule, due: list[int], reason: str) -> None:
        for instant_us in due:
            self._note(head.key, schedule, instant_us, InstantOutcome.SKIPPED, None, reason)

    @property
    def _may_fire(self) -> bool:
        """Whether ids are left; if not, the schedule stays due and fires in the next step."""
        book = self._book
        return len(book.run_keys) > KEYS_FOR_COMMANDS and bool(book.attempt_ids)

    def _take_due(
        self, head: DagHead, schedule: Schedule, until_us: int | None = None
    ) -> list[int]:
        """The next due instants, at most a step's worth; moves the schedule behind them."""
        now_us = self._book.now.wall_us
        last_us = now_us if until_us is None else min(now_us, until_us)
        due: list[int] = []
        while (
            schedule.timetable is not None
            and schedule.next_us is not None
            and schedule.next_us <= last_us
            and len(due) < MAX_INSTANTS_A_STEP
        ):
            due.append(schedule.next_us)
            schedule.next_us = next_instant(schedule.timetable, schedule.next_us)
        if due:
            self._book.touch_schedule(head.key, schedule)
        return due

    def _fire(self, head: DagHead, schedule: Schedule, due: list[int]) -> None:
        book, version = self._book, head.version
        assert version is not None, head.key
        run_id = uuid7(book.now.wall_us, book.attempt_ids.popleft())
        self._runs.create(
            head,
            version,
            run_id,
            cause=RunCause.SCHEDULE,
            schedule=schedule.schedule,
            logical_us=due[-1],
        )
        for instant_us in due[:-1]:
            self._note(head.key, schedule, instant_us, InstantOutcome.COALESCED, run_id, ABSENT)
        self._note(head.key, schedule, due[-1], InstantOutcome.RUN, run_id, "")

    def _note(
        self,
        key: DagKey,
        schedule: Schedule,
        instant_us: int,
        outcome: InstantOutcome,
        run_id: bytes | None,
        reason: str,
    ) -> None:
        self._book.effects.writes.instants.append(
            InstantRow(*key, schedule.schedule, instant_us, outcome, run_id, reason)
        )


def _last_taken(schedule: Schedule, after_us: int) -> int:
    """The last instant later than `after_us` that the schedule is past, or `after_us`.

    There is one only when the wall clock went back: its instants must not become due twice.
    """
    while schedule.timetable is not None:
        instant_us = next_instant(schedule.timetable, after_us)
        if instant_us is None or instant_us >= (schedule.next_us or LATEST_INSTANT_US):
            break
        after_us = instant_us
    return after_us
