"""Rows to write: small, valid, and told apart by a number."""

from __future__ import annotations

from controlplane.core.effects import (
    AppliedRow,
    CommandOutcome,
    DagRow,
    DoneRow,
    InstantOutcome,
    InstantRow,
    LateRow,
    LiveRow,
    RunChangeRow,
    RunRow,
    ScheduleRow,
    SealedRow,
    VersionUseRow,
    WaitGoneRow,
    WaitKind,
    WaitRow,
    Writes,
)
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import DagKey, RunCause, bucket_of, uuid7

DAY = 20_500
NOW_US = DAY * 86_400_000_000
TENANT = "acme"
DIGEST = b"d" * 32
AGENT = "agent-1"
INCARNATION = b"i" * 16


def attempt_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def run_id(run: int) -> bytes:
    return uuid7(NOW_US, attempt_id(run))


def dag_of(shard: int, shards: int = 4) -> DagKey:
    """A DAG that belongs to a shard."""
    numbers = range(1_000)
    keys = (DagKey(TENANT, f"dag-{number}") for number in numbers)
    return next(key for key in keys if bucket_of(key) * shards // 4096 == shard)


def run_row(run: int, state: RunState = RunState.RUNNING, shard: int = 0) -> RunRow:
    key = dag_of(shard)
    started_us = None if state is RunState.QUEUED else NOW_US + 2
    return RunRow(
        *(DAY, run, run_id(run), *key, bucket_of(key), DIGEST, state, RunCause.TRIGGER, ""),
        *(NOW_US, NOW_US + run, started_us, 1),
    )


def live_row(run: int, task: int, attempt: int, number: int = 1) -> LiveRow:
    ids = (attempt_id(attempt), number, AGENT, INCARNATION)
    return LiveRow(DAY, run, task, 0, *ids, NOW_US + attempt)


def done_row(
    run: int, task: int, attempt: int, state: AttemptState = AttemptState.SUCCEEDED
) -> DoneRow:
    ids = (DAY, run, task, 0, attempt_id(attempt))
    return DoneRow(*ids, state, NOW_US + 10, NOW_US + 20, 0, 0, 5, 6, "")


def late_row(
    run: int,
    task: int,
    attempt: int,
    state: AttemptState = AttemptState.SUCCEEDED,
    *,
    adopted: bool = False,
) -> LateRow:
    ids = (DAY, run, task, 0, attempt_id(attempt))
    times = (NOW_US + 11, NOW_US + 60)
    return LateRow(*ids, state, *times, 0, 0, 7, 8, "said late", adopted, NOW_US + 90)


def change_row(run: int, state: RunState, reason: str = "") -> RunChangeRow:
    finished_us = NOW_US + 30 if state.final else None
    return RunChangeRow(DAY, run, state, reason, NOW_US + 2, finished_us)


def sealed_row(run: int, states: bytes = b"\x06\x06") -> SealedRow:
    return SealedRow(DAY, run, states)


def wait_row(run: int, task: int, number: int = 2) -> WaitRow:
    return WaitRow(DAY, run, task, 0, WaitKind.BACKOFF, NOW_US + 40, number, "exit status 1")


def wait_gone_row(run: int, task: int, kind: WaitKind = WaitKind.BACKOFF) -> WaitGoneRow:
    return WaitGoneRow(run, task, 0, kind)


def approval_row(run: int, task: int, since_us: int = NOW_US + 40, number: int = 1) -> WaitRow:
    reason = "its outcome is unknown"
    return WaitRow(DAY, run, task, 0, WaitKind.APPROVAL, since_us, number, reason)


def mark_row(run: int, task: int, number: int = 1) -> WaitRow:
    return WaitRow(DAY, run, task, 0, WaitKind.MARK, NOW_US + 70, number, "rejected")


def dag_row(key: DagKey, digest: bytes = DIGEST, revision: int = 1) -> DagRow:
    words = (*key, bucket_of(key), digest, 2, False, "", revision)
    return DagRow(*words, NOW_US, NOW_US + revision)


def use_row(key: DagKey, digest: bytes = DIGEST, created_us: int = NOW_US) -> VersionUseRow:
    return VersionUseRow(*key, digest, 2, created_us)


def schedule_row(key: DagKey, name: str, next_us: int | None) -> ScheduleRow:
    return ScheduleRow(*key, name, bucket_of(key), "interval 60000", next_us)


def instant_row(key: DagKey, name: str, instant_us: int) -> InstantRow:
    return InstantRow(*key, name, instant_us, InstantOutcome.RUN, run_id(1), "")


def applied_row(command: int, outcome: CommandOutcome = CommandOutcome.APPLIED) -> AppliedRow:
    return AppliedRow(command, outcome, "", NOW_US + 50)


def first_hop() -> Writes:
    """A run with two tasks; the first is assigned as attempt 1."""
    return Writes(runs=[run_row(1)], live=[live_row(1, 0, 1)])


def second_hop() -> Writes:
    """Attempt 1 has ended, the second task is assigned as attempt 2."""
    return Writes(done=[done_row(1, 0, 1)], live=[live_row(1, 1, 2)])


def last_hop() -> Writes:
    """Attempt 2 has ended, and with it the run."""
    changes = [change_row(1, RunState.SUCCEEDED)]
    return Writes(done=[done_row(1, 1, 2)], run_changes=changes, sealed=[sealed_row(1)])
