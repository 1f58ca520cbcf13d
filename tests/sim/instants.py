"""The exact ledger of instants: every due instant of every schedule ends once, as it should.

Judges I7 at every commit: a schedule moves past instants only together with their ledger rows, one
each, with none left out and none besides; a RUN has its run in the same commit, and no scheduled
run is without its instant. Judges I17 while nothing is broken: the lateness of a run. Timetables
are computed here a second time, for the intervals, minute steps and `@once` that simulated people
use. Does not know when nothing is broken: it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from controlplane.core.effects import InstantOutcome
from tests.sim.memory_store import Changes, Key, MemoryDatabase, Row
from tests.sim.violation import hold

MINUTE_US = 60_000_000
# A run of a schedule begins so long after its instant at most, while nothing is broken.
LATENESS_US = 1_000_000
# A schedule is stored so long after it was applied at most, be the store as slow as it may.
NEW_US = 60_000_000


def step_us(definition: str) -> int | None:
    """The distance of the instants of a stored timetable, which are multiples of it; None: once."""
    kind, _, rest = definition.partition(" ")
    if kind == "interval":
        return int(rest) * 1_000
    expression = rest.partition(" ")[2]
    if expression == "@once":
        return None
    minute, *others = expression.split()
    assert others == ["*"] * 4, definition
    return MINUTE_US * int(minute.removeprefix("*").removeprefix("/") or 1)


def following(definition: str, instant_us: int) -> int | None:
    """The instant after another one."""
    step = step_us(definition)
    return None if step is None else (instant_us // step + 1) * step


class Instants:
    """The schedules of one database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._tables = database.tables
        # Since when nothing is broken, on the wall clock; None: something is.
        self.healthy_since_us: Callable[[], int | None] = lambda: None
        # By how much the clocks of nodes may be apart from that of the store.
        self.skew_us = 0
        self.judged = 0

    def commit(self, changes: Changes) -> None:
        """A transaction is about to commit; raises ViolationError."""
        written: dict[Key, list[Row]] = {}
        runs: dict[bytes, Row] = {}
        for (table, key), row in changes.items():
            if table == "schedule_instant" and row is not None:
                written.setdefault(key[:3], []).append(row)
            elif table == "run" and self._new_of_a_schedule(key, row):
                runs[row["run_id"]] = row
        for (table, key), after in changes.items():
            if table == "schedule":
                mine = written.pop(key, [])
                self._moved(self._tables["schedule"].get(key), after, mine)
                self._ended(mine, runs)
        hold(not written, "I7", lambda: f"instants of schedules that do not move: {written}")
        hold(not runs, "I7", lambda: f"scheduled runs without an instant: {runs}")

    def _new_of_a_schedule(self, key: Key, row: Row | None) -> bool:
        return row is not None and bool(row["schedule"]) and key not in self._tables["run"]

    def _moved(self, before: Row | None, after: Row | None, written: list[Row]) -> None:
        """A schedule goes on; its rows are those of the instants that it has passed."""
        told = sorted(row["instant_us"] for row in written)
        if before is None:
            # New, or come and gone within the batch: it passes nothing that was due before it came.
            first_us = self._database.now_us() - self.skew_us - NEW_US
            hold(not told or told[0] > first_us, "I7", lambda: f"{after} is new: {told}")
            return
        passed = self._sequence(before)
        expected = [instant for _, instant in zip(told, passed, strict=False)]
        if after is not None and after["definition"] == before["definition"]:
            hold(told == expected, "I7", lambda: f"{before} passes {told} instead of {expected}")
            next_us = next(passed, None)
            hold(
                after["next_us"] == next_us,
                "I7",
                lambda: f"{before} becomes {after} and passes {told}",
            )
            return
        # Instants of the old timetable, then some of the new one, all in one batch.
        mine = sum(1 for one, other in zip(told, expected, strict=False) if one == other)
        last_us = self._last_of(before)
        later = all(one > last_us for one in told[mine:])
        hold(
            told[:mine] == expected[:mine] and later,
            "I7",
            lambda: f"{before}, then {after}: {told}",
        )
        behind = after is None or not told or (after["next_us"] or told[-1] + 1) > told[-1]
        hold(behind, "I7", lambda: f"{after} has passed {told}")

    def _last_of(self, schedule: Row) -> int:
        """The last instant in the ledger of a schedule, whatever its timetables were."""
        mine = (schedule["tenant"], schedule["dag"], schedule["schedule"])
        ledger = self._tables["schedule_instant"]
        return max((key[3] for key in ledger if key[:3] == mine), default=0)

    def _sequence(self, schedule: Row) -> Iterator[int]:
        instant_us = schedule["next_us"]
        while instant_us is not None:
            yield instant_us
            instant_us = following(schedule["definition"], instant_us)

    def _ended(self, written: list[Row], runs: dict[bytes, Row]) -> None:
        latest = max((row["instant_us"] for row in written), default=0)
        mine = [runs[row["run_id"]] for row in written if row["outcome"] == InstantOutcome.RUN]
        for row in written:
            self.judged += 1
            outcome = InstantOutcome(row["outcome"])
            if outcome is InstantOutcome.SKIPPED:
                hold(row["reason"] and row["run_id"] is None, "I7", row)
                continue
            run = runs.get(row["run_id"])
            hold(
                run is not None and run["schedule"] == row["schedule"],
                "I7",
                f"{row}: {run}",
            )
            assert run is not None
            hold(run["logical_us"] == latest, "I7", f"{row}: {run}")
            if outcome is InstantOutcome.RUN:
                hold(row["instant_us"] == latest, "I7", f"{row}: {run}")
                self._in_time(row["instant_us"])
        hold(len(mine) <= 1, "I7", lambda: f"several runs at one time: {mine}")
        for run in mine:
            del runs[run["run_id"]]

    def _in_time(self, instant_us: int) -> None:
        since_us = self.healthy_since_us()
        if since_us is not None and since_us <= instant_us:
            late_us = self._database.now_us() - instant_us - self.skew_us
            hold(late_us <= LATENESS_US, "I17", lambda: f"a run is {late_us} µs late")

    def check_end(self, slack_us: int) -> None:
        """Healed, no schedule is behind the time by more than `slack_us`."""
        now_us = self._database.now_us()
        for row in self._tables["schedule"].values():
            due_us = row["next_us"]
            hold(due_us is None or due_us > now_us - slack_us, "I13", f"{row} at {now_us}")
