"""A shard is a value: events and the time go in, writes and messages come out.

The caller's duties, in this order:
1. Call `recover` once, on rows read after the takeover.
2. Before every step offer what `attempt_ids_wanted`, `run_keys_wanted` and `missing_versions` ask.
3. Call `step` with the events that arrived and the time; again at `next_deadline` at the latest.
4. Write all rows of the effects in one fenced transaction. Only when it is known to have committed,
   send the messages, in order.
5. When it is known to have failed, throw the shard away and recover: its memory is ahead.

No async, clock, randomness, logging or I/O in here; the same calls give the same effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from controlplane.core.effects import Effects
from controlplane.core.events import (
    AgentGone,
    ApplyDag,
    Beat,
    CancelRun,
    DecideApproval,
    Event,
    Finished,
    Inventory,
    PauseDag,
    Recovered,
    Rejected,
    Started,
    TriggerRun,
)
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.admission import Admission
from controlplane.core.shard.approvals import Approvals
from controlplane.core.shard.attempts import Attempts
from controlplane.core.shard.backoffs import Backoffs
from controlplane.core.shard.book import (
    BackoffDue,
    Book,
    HeldDue,
    HoldDue,
    LeaseDue,
    RestOver,
    ResultDue,
    RunDeadline,
    ScheduleDue,
    SetAside,
    StartedDue,
)
from controlplane.core.shard.commands import Commands
from controlplane.core.shard.leases import Leases
from controlplane.core.shard.outcomes import Outcomes
from controlplane.core.shard.queue import Want
from controlplane.core.shard.recovery import Recovery
from controlplane.core.shard.restored import Aftermath
from controlplane.core.shard.runs import Runs
from controlplane.core.shard.schedules import Schedules
from controlplane.core.time.deadlines import Now
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import DagKey, DagVersion

# Enough for the largest batch of commands and due schedules, and for a burst of assignments; topped
# up in blocks, so that a single hop seldom pays for it.
RUN_KEYS_KEPT = 4_096
ATTEMPT_IDS_KEPT = 4_096
TOP_UP = 1_024
LEASE_TIMES = LeaseTimes()


class Shard:
    """One shard in the memory of its leader."""

    def __init__(
        self, shard: int, fleet: Fleet, now: Now, leases: LeaseTimes = LEASE_TIMES
    ) -> None:
        self._book = book = Book(shard, fleet, now)
        runs = Runs(book)
        schedules = Schedules(book, runs)
        approvals, backoffs = Approvals(book, runs), Backoffs(book, runs)
        commands = Commands(book, runs, schedules, approvals)
        admission = Admission(book)
        aftermath = Aftermath(book, approvals, leases)
        watched = Leases(book, admission, aftermath, leases)
        outcomes = Outcomes(book, runs, admission, watched, backoffs, approvals, aftermath)
        self._attempts = attempts = Attempts(book, admission, watched, outcomes, aftermath)
        self._recovery = Recovery(book, runs, attempts, watched, backoffs, schedules, aftermath)
        self._by_instants = (schedules, runs, backoffs)
        self._growth = -1
        self._on_event: dict[type, Callable[[Any], None]] = {
            ApplyDag: commands.apply_dag,
            TriggerRun: commands.trigger_run,
            CancelRun: commands.cancel_run,
            PauseDag: commands.pause_dag,
            DecideApproval: commands.decide_approval,
            Finished: outcomes.finished,
            Started: attempts.started,
            Rejected: outcomes.rejected,
            Inventory: attempts.inventory,
            Beat: watched.beat,
            AgentGone: attempts.gone,
        }
        self._on_timer: dict[type, Callable[[Any], None]] = {
            BackoffDue: lambda timer: backoffs.due(*timer),
            RunDeadline: lambda timer: runs.time_out(*timer),
            ScheduleDue: lambda timer: schedules.due(*timer),
            StartedDue: lambda timer: attempts.store_start(*timer),
            RestOver: lambda timer: admission.rest_over(*timer),
            LeaseDue: lambda timer: outcomes.give_up(*timer),
            HoldDue: lambda _: aftermath.turn(),
            HeldDue: lambda _: aftermath.release(),
            ResultDue: lambda timer: outcomes.told(timer.event),
        }

    def recover(self, stored: Recovered, now: Now) -> tuple[SetAside, ...]:
        """Takes over what the store holds; the shard must be new. Returns what it cannot read."""
        self._book.begin(now)
        return self._recovery.restore(stored)

    def step(self, events: Sequence[Event], now: Now) -> Effects:
        """Takes everything that happened until `now` in, and returns what follows from it."""
        if self._book.begin(now):
            for part in self._by_instants:
                part.arm_again()
        for timer in self._book.wheel.advance(now.mono_ms):
            self._on_timer[type(timer)](timer)
        for event in events:
            self._on_event[type(event)](event)
        fleet = self._book.fleet
        if fleet.growth != self._growth:
            self._book.queue.begin()
        self._attempts.assign_ready()
        # What this shard itself left to others or claims is no news to it.
        self._growth = fleet.growth
        return self._book.close()

    def next_deadline(self) -> int | None:
        """When to step at the latest, in milliseconds of the monotonic clock; None: no need."""
        queue = self._book.queue
        grown = self._book.fleet.growth != self._growth
        if queue.untried or (grown and queue.parked):
            # The last step ran out of attempt ids, or there may be more room than it saw.
            return self._book.now.mono_ms
        return self._book.wheel.next_deadline()

    @property
    def want(self) -> Want:
        """What ready tasks that found no place would use."""
        return self._book.queue.want()

    @property
    def attempt_ids_wanted(self) -> int:
        """How many attempt ids (16 random bytes each) to offer before the next step."""
        missing = ATTEMPT_IDS_KEPT - len(self._book.attempt_ids)
        return missing if missing >= TOP_UP else 0

    def offer_attempt_ids(self, ids: Iterable[bytes]) -> None:
        """Gives the shard ids that were never used anywhere."""
        self._book.attempt_ids.extend(ids)

    @property
    def run_keys_wanted(self) -> int:
        """How many keys of runs to offer before the next step."""
        missing = RUN_KEYS_KEPT - len(self._book.run_keys)
        return missing if missing >= TOP_UP else 0

    def offer_run_keys(self, keys: Iterable[int]) -> None:
        """Gives the shard keys that were never used anywhere."""
        self._book.run_keys.extend(keys)

    def missing_versions(self, events: Iterable[Event]) -> set[tuple[DagKey, bytes]]:
        """The (DAG, digest) of versions that the events need and that are not in memory."""
        missing: set[tuple[DagKey, bytes]] = set()
        for event in events:
            if isinstance(event, TriggerRun):
                head = self._book.dags.get(event.key)
                if head is not None and head.version is None:
                    missing.add((head.key, head.digest))
        return missing

    def offer_versions(self, versions: Iterable[DagVersion]) -> None:
        """Gives the shard current versions of its DAGs."""
        for version in versions:
            head = self._book.dags[version.key]
            if head.digest == version.digest:
                head.version = version

    @property
    def live_runs(self) -> int:
        """Number of runs that are not final."""
        return len(self._book.runs)

    @property
    def live_attempts(self) -> int:
        """Number of attempts that have not ended."""
        return len(self._book.attempts)
