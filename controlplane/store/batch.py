"""Decides how the rows of a batch become statements: few, and each changes a row at most once.

What a batch says twice of one row is made one here: the start of an attempt that also ended, a wait
that also went, a run that is new and also changed. The order of statements matters only where a row
may go and another of the same key come: ends before assignments, drops before puts. Late results
come after the ends, for they are of attempts that ended in this batch or before it. Does not know
connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from controlplane.core.effects import DoneRow, LiveRow, RunChangeRow, RunRow, StartedRow, Writes
from controlplane.store.queries import query
from controlplane.store.records import Fence

Row = Sequence[Any]

_END = query("end_attempts")
_ASSIGN = query("assign_attempts")
_TURN = query("turn_attempts")
_STARTS = query("note_starts")
_ADD_LATE = query("add_late_results")
_ADD_RUNS = query("add_runs")
_CHANGE_RUNS = query("change_runs")
_SEAL_RUNS = query("seal_runs")
_CHANGE_AND_SEAL = query("change_and_seal_runs")
_DROP_WAITS = query("drop_waits")
_ADD_WAITS = query("add_waits")
_ANSWER = query("answer_commands")
_PUT_DAGS = query("put_dags")
_ADD_VERSIONS = query("add_versions")
_DROP_SCHEDULES = query("drop_schedules")
_PUT_SCHEDULES = query("put_schedules")
_ADD_INSTANTS = query("add_instants")
_CHANGE_HOLD = query("change_hold")


class Statement(NamedTuple):
    """One round trip. `tag`: what PostgreSQL must answer, where fewer rows would be our bug."""

    sql: str
    arguments: Row
    tag: str | None = None


def statements_of(fence: Fence, writes: Writes) -> list[Statement]:
    """The statements of a batch, in order; none when there is nothing to write."""
    return [
        *_heads(writes),
        *_attempts(fence, writes),
        *_late(fence, writes),
        *_runs(fence.shard, writes),
        *_waits(fence.shard, writes),
        *_commands(fence.shard, writes),
        *(Statement(_CHANGE_HOLD, [fence.shard, *row], "UPDATE 1") for row in writes.holds),
    ]


def _columns(rows: Sequence[Row]) -> list[Row]:
    return list(zip(*rows, strict=True))


def _heads(writes: Writes) -> Iterator[Statement]:
    kinds: tuple[tuple[str, Sequence[Row]], ...] = (
        (_PUT_DAGS, writes.dags),
        (_ADD_VERSIONS, writes.versions),
        (_DROP_SCHEDULES, writes.schedules_gone),
        (_PUT_SCHEDULES, writes.schedules),
        (_ADD_INSTANTS, writes.instants),
    )
    return (Statement(sql, _columns(rows)) for sql, rows in kinds if rows)


def _instance(row: DoneRow | LiveRow | StartedRow) -> tuple[int, int, int]:
    return (row.run, row.task, row.expansion)


def _attempts(fence: Fence, writes: Writes) -> Iterator[Statement]:
    done, live = writes.done, writes.live
    ended = {_instance(row) for row in done} if done else set()
    starts = [row for row in writes.started if _instance(row) not in ended]
    if starts:
        columns = [fence.shard, *_columns(starts)]
        yield Statement(_STARTS, columns, f"UPDATE {len(starts)}")
    moved = f"INSERT 0 {len(done)}"
    if done and live and ended.isdisjoint(map(_instance, live)):
        yield Statement(_TURN, [*fence, *_columns(done), *_columns(live)], moved)
        return
    if done:
        yield Statement(_END, [*fence, *_columns(done)], moved)
    if live:
        yield Statement(_ASSIGN, [*fence, *_columns(live)])


def _late(fence: Fence, writes: Writes) -> Iterator[Statement]:
    if writes.late:
        yield Statement(_ADD_LATE, [fence.epoch, fence.batch, *_columns(writes.late)])


def _merged(new: RunRow, change: RunChangeRow | None) -> Row:
    if change is None:
        return (*new, "", None)
    now = new._replace(state=change.state, started_us=change.started_us)
    return (*now, change.reason, change.finished_us)


def _runs(shard: int, writes: Writes) -> Iterator[Statement]:
    changes = {(row.day, row.run): row for row in writes.run_changes}
    if writes.runs:
        rows = [_merged(new, changes.pop((new.day, new.run), None)) for new in writes.runs]
        yield Statement(_ADD_RUNS, [shard, *_columns(rows)])
    changed = f"UPDATE {len(changes)}"
    columns = [shard, *_columns(list(changes.values()))]
    if changes and writes.sealed:
        yield Statement(_CHANGE_AND_SEAL, [*columns, *_columns(writes.sealed)], changed)
    elif changes:
        yield Statement(_CHANGE_RUNS, columns, changed)
    elif writes.sealed:
        yield Statement(_SEAL_RUNS, _columns(writes.sealed))


def _waits(shard: int, writes: Writes) -> Iterator[Statement]:
    if writes.waits_gone:
        yield Statement(_DROP_WAITS, [shard, *_columns(writes.waits_gone)])
    gone = set(writes.waits_gone)
    rows = [row for row in writes.waits if (row.run, row.task, row.expansion, row.kind) not in gone]
    if rows:
        yield Statement(_ADD_WAITS, [shard, *_columns(rows)])


def _commands(shard: int, writes: Writes) -> Iterator[Statement]:
    rows = writes.applied
    if rows:
        yield Statement(_ANSWER, [shard, *_columns(rows)], f"UPDATE {len(rows)}")
