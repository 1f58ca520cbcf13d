"""Decides how the rows of a shard are read for its new leader: one snapshot, each table once.

Each read has a deadline of its own, so that what one shard may hold is bounded by the slowest
table, not by their sum. Specs come along for the versions that the leader needs at once: those of
live runs, and those of DAGs with schedules. Does not compile them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from controlplane.core.events import (
    DagRecord,
    EndRecord,
    LiveRecord,
    RestoredRecord,
    RunRecord,
    ScheduleRecord,
    WaitRecord,
)
from controlplane.core.types import DagKey
from controlplane.store.connections import deadline
from controlplane.store.queries import query
from controlplane.store.records import RecoveredRows, VersionRow
from controlplane.store.transaction import known_failure

_RESTORED = query("recover_restored")
_RUNS = query("recover_runs")
_LIVE = query("recover_live")
_ENDED = query("recover_ended")
_WAITS = query("recover_waits")
_UNSAID = query("recover_unsaid")
_DAGS = query("recover_dags")
_SCHEDULES = query("recover_schedules")
_SPECS = query("read_specs")


async def read_live_rows(
    connection: asyncpg.Connection, shard: int, limit_ms: int
) -> RecoveredRows:
    """See ShardStore.recover. `limit_ms`: the deadline of each read; the connection is cut then."""

    async def read(sql: str, *arguments: Any) -> list[asyncpg.Record]:
        with deadline(connection, limit_ms):
            return await connection.fetch(sql, *arguments)

    async with known_failure(), _snapshot(connection, limit_ms):
        found = [RestoredRecord(*row) for row in await read(_RESTORED, shard)]
        restored = found[0] if found else RestoredRecord()
        unsaid = [row[0] for row in await read(_UNSAID, shard)] if restored.hold else []
        runs = [run_record(row) for row in await read(_RUNS, shard)]
        live = [LiveRecord(*row) for row in await read(_LIVE, shard)]
        ended = [EndRecord(*row) for row in await read(_ENDED, shard)]
        waits = [WaitRecord(*row) for row in await read(_WAITS, shard)]
        dags = [_dag_record(row) for row in await read(_DAGS, shard)]
        schedules = [_schedule_record(row) for row in await read(_SCHEDULES, shard)]
        with deadline(connection, limit_ms):
            versions = await read_specs(connection, needed_versions(dags, schedules, runs))
    return RecoveredRows(
        tuple(versions),
        tuple(dags),
        tuple(schedules),
        tuple(runs),
        tuple(live),
        tuple(ended),
        tuple(waits),
        restored,
        tuple(unsaid),
    )


@asynccontextmanager
async def _snapshot(connection: asyncpg.Connection, limit_ms: int) -> AsyncIterator[None]:
    """One snapshot for all reads of the block; its own two messages have deadlines as well."""
    snapshot = connection.transaction(isolation="repeatable_read", readonly=True)
    with deadline(connection, limit_ms):
        await snapshot.start()
    yield
    with deadline(connection, limit_ms):
        await snapshot.commit()


def needed_versions(
    dags: Iterable[DagRecord], schedules: Iterable[ScheduleRecord], runs: Iterable[RunRecord]
) -> list[tuple[DagKey, bytes]]:
    """What a leader must have compiled before it serves, each once.

    The current version of a DAG says what its schedules make, and how many runs it may have at a
    time: also of runs whose own version is an older one.
    """
    wanted = {(row.key, row.digest) for row in runs}
    heeded = {row.key for row in schedules} | {key for key, _ in wanted}
    wanted |= {(row.key, row.digest) for row in dags if row.key in heeded}
    return sorted(wanted)


async def read_specs(
    connection: asyncpg.Connection, wanted: Sequence[tuple[DagKey, bytes]]
) -> list[VersionRow]:
    """See ShardStore.read_versions."""
    if not wanted:
        return []
    digests = list({digest for _, digest in wanted})
    async with known_failure():
        rows = await connection.fetch(_SPECS, digests)
        specs: dict[bytes, bytes] = {row["digest"]: row["spec"] for row in rows}
    return [VersionRow(*key, digest, specs[digest]) for key, digest in wanted if digest in specs]


def run_record(row: Iterable[Any]) -> RunRecord:
    day, run, run_id, tenant, dag, *rest = row
    return RunRecord(day, run, run_id, DagKey(tenant, dag), *rest)


def _dag_record(row: Iterable[Any]) -> DagRecord:
    tenant, dag, *rest = row
    return DagRecord(DagKey(tenant, dag), *rest)


def _schedule_record(row: Iterable[Any]) -> ScheduleRecord:
    tenant, dag, *rest = row
    return ScheduleRecord(DagKey(tenant, dag), *rest)
