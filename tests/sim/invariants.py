"""What must hold in every simulated cluster, told by independent witnesses.

The numbers are those of the design: I1 epochs of a shard strictly grow; I2 no batch of an epoch
follows the takeover of the next one; I3 at most one live attempt of a task instance, and under
fence and continue at most one living process; I4 an attempt is spawned at most once, over all
agents, supervisors and restarts, and assigned under one id once; I5 no assignment without a
committed attempt; I6 no task is assigned, or starts, before its trigger rule holds over final
parents; I7 every due instant ends once, as an exact ledger; I8 what was acknowledged exists; I9 no
agent grants more than it has or runs more than it has, no DAG has more runs than it may; I10 every
attempt ends; I11 only transitions of the tables, final is final; I12 the recorded result is the one
that happened, and what is said to have never run never does; I13 healed, everything proceeds; I14
after the acknowledgement of a cancel nothing is assigned, and nothing starts in a run that is over;
I15 sealed states are those of a recount; I17 what is scheduled begins in time while nothing is
broken; I18 no success without a journalled exit status 0.

What rows must be is judged in `rows` and `instants`, at every commit; here is judged what processes
and agents do. Not judged, because it does not exist yet: audit records (I16), pools, quotas and
slices (of I9), aggregated counters (of I15). I17 is judged of schedules alone.
"""

from __future__ import annotations

from collections import Counter

from agent.core.entries import Assign, Result
from agent.core.types import NOTHING, Amount, Outcome
from controlplane.core.effects import CommandOutcome, WaitKind
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import DagVersion, OnDisconnect
from tests.sim.memory_store import MemoryDatabase, Row
from tests.sim.rows import Asked, Rows
from tests.sim.violation import ViolationError, hold

__all__ = ["Invariants", "ViolationError", "hold"]
# Healed, a due instant waits no longer than a takeover takes, with the clocks as they are.
BEHIND_US = 10_000_000


class Invariants:
    """Watches one world."""

    def __init__(
        self,
        database: MemoryDatabase,
        versions: dict[bytes, DagVersion],
        asked: dict[int, Asked],
    ) -> None:
        self._database = database
        self._versions = versions
        self._asked = asked
        self.rows = Rows(database, versions, asked, self.result)
        self._spawned: dict[bytes, tuple[str, Assign]] = {}
        self._ended: dict[bytes, tuple[int, int]] = {}
        self._alive: Counter[tuple[str, str]] = Counter()
        self._used: dict[tuple[str, bytes], Amount] = {}
        self._journalled: set[bytes] = set()
        # Said to have never run: they must not be spawned later either.
        self._never_ran: set[bytes] = set()
        self._triggered: set[bytes] = set()
        self.assignments = 0

    @property
    def spawns(self) -> int:
        """How many processes were started."""
        return len(self._spawned)

    @property
    def alive(self) -> int:
        """How many processes run."""
        return len(self._spawned) - len(self._ended)

    def triggered(self, run_id: bytes) -> None:
        """A run was acknowledged."""
        self._triggered.add(run_id)

    def assigned(self, agent: str, assign: Assign) -> None:
        """An assignment arrived at an agent."""
        self.assignments += 1
        known = assign.attempt_id in self.rows.committed
        hold(known, "I5", lambda: f"{agent} got {assign.attempt_id.hex()}, not committed")

    def spawned(self, host: str, assign: Assign, capacity: Amount) -> None:
        """A process starts on a host of this capacity."""
        attempt_id = assign.attempt_id
        hold(attempt_id not in self._spawned, "I4", lambda: f"{attempt_id.hex()} again, at {host}")
        hold(
            attempt_id not in self._never_ran,
            "I12",
            lambda: f"{attempt_id.hex()} never ran, it was said",
        )
        self._spawned[attempt_id] = (host, assign)
        instance = (assign.run, assign.task)
        self._alive[instance] += 1
        self._use(host, assign, capacity)
        forgotten = attempt_id in self.rows.forgotten
        view = self.rows.view_of(assign.run) if forgotten else self.rows.run(assign.run)[1]
        tasks = view.version.tasks
        task = next(n for n, item in enumerate(tasks) if item.task == assign.task)
        if tasks[task].on_disconnect is OnDisconnect.RETRY:
            return
        hold(self._alive[instance] == 1, "I3", lambda: f"two processes of {instance}")
        if not forgotten:
            run, view = self.rows.run(assign.run)
            hold(
                not RunState(run["state"]).final,
                "I14",
                lambda: f"{instance} starts at {host}: {run}",
            )
            allowed, parents = view.may_start(task)
            hold(allowed, "I6", lambda: f"{instance} starts, its parents are {parents}")

    def _use(self, host: str, assign: Assign, capacity: Amount) -> None:
        """What an agent has running; with another journal it is another agent."""
        place = (host, assign.incarnation)
        used = self._used.get(place, NOTHING).plus(assign.request)
        self._used[place] = used
        hold(capacity.covers(used), "I9", lambda: f"{host} runs {used} of {capacity}")

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        """A process ended."""
        host, assign = self._spawned[attempt_id]
        self._alive[assign.run, assign.task] -= 1
        self._ended[attempt_id] = (exit_code, signal)
        place = (host, assign.incarnation)
        self._used[place] = self._used[place].minus(assign.request)

    def journalled(self, result: Result) -> None:
        """The end of an attempt is on the disk of its agent."""
        attempt_id = result.attempt_id
        if result.outcome is Outcome.SUCCEEDED:
            self._journalled.add(attempt_id)
        if result.outcome is Outcome.LOST and not result.started_at_us:
            hold(
                attempt_id not in self._spawned, "I12", lambda: f"{attempt_id.hex()} ran: {result}"
            )
            self._never_ran.add(attempt_id)

    def granted(self, agent: str, amount: Amount, capacity: Amount) -> None:
        """What an agent grants to all its nodes together."""
        hold(capacity.covers(amount), "I9", lambda: f"{agent} grants {amount} of {capacity}")

    def result(self, row: Row) -> None:
        """The end of an attempt, or a late result of it, is about to be committed."""
        attempt_id = row["attempt_id"]
        state, name = AttemptState(row["state"]), attempt_id.hex()
        happened = self._ended.get(attempt_id)
        if state is AttemptState.SUCCEEDED:
            hold(happened == (0, 0), "I18", lambda: f"{name} ended {happened}")
            hold(attempt_id in self._journalled, "I18", lambda: f"{name} is in no journal")
        if state is AttemptState.REJECTED:
            hold(attempt_id not in self._spawned, "I12", lambda: f"{name} was spawned")
        code = row["exit_code"] if row["exit_code"] is not None else -1
        if (code, row["signal"]) != (-1, 0):
            hold((code, row["signal"]) == happened, "I12", lambda: f"{row} instead of {happened}")
        elif state in {AttemptState.FAILED, AttemptState.TIMED_OUT}:
            hold(attempt_id not in self._spawned, "I12", lambda: f"{row} instead of {happened}")
        if state is AttemptState.LOST and attempt_id in self._spawned:
            hold(
                self.rows.may_be_repeated(row), "I12", lambda: f"{row} has run and is to run again"
            )

    def check_end(self) -> None:
        """What must hold when faults have stopped and time has passed."""
        tables = self._database.tables
        hold(not tables["attempt_live"], "I10", list(tables["attempt_live"].values())[:3])
        waits = [r for r in tables["task_wait"].values() if r["kind"] != WaitKind.MARK]
        hold(not waits, "I13", waits[:3])
        known = {row["run_id"] for row in tables["run"].values()}
        hold(
            self._triggered <= known,
            "I8",
            lambda: f"{len(self._triggered - known)} runs are missing",
        )
        for row in tables["run"].values():
            hold(RunState(row["state"]).final, "I13", row)
        for attempt_id in self._spawned:
            hold(attempt_id in self._ended, "I10", attempt_id.hex())
        for (command,), row in tables["inbox"].items():
            asked = self._asked.get(command)
            hold(row["outcome"] is not None, "I13", f"{asked} is not done")
            read = row["outcome"] != CommandOutcome.QUARANTINED
            hold(
                not (read and asked and asked.kind == "garbage"),
                "I8",
                f"{asked} was read: {row}",
            )
        aside = [row for row in tables["quarantine"].values() if not row["source"].isdigit()]
        hold(not aside, "I13", lambda: f"set aside: {aside}")
        self.rows.instants.check_end(BEHIND_US)
