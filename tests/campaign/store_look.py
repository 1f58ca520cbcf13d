"""What the campaign reads from PostgreSQL by itself: what is not done, and who leads since when.

Decides the queries. Promises to read only, on connections of its own that pass no proxy, and to
stand an outage of PostgreSQL. Does not judge.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import asyncpg

from controlplane.store.connections import LOST_CONNECTIONS
from tests.campaign.evidence import Evidence, Lines, boot_ns

_DEADLINE_S = 10.0

OPEN_RUNS = """
SELECT run.run_id, run.dag, run.state, run.shard, run.run
FROM run WHERE run.finished_us IS NULL ORDER BY run.run
"""
LIVE_ATTEMPTS = """
SELECT shard, run, task, number, attempt_id, agent, incarnation, epoch, assigned_us, started_us
FROM attempt_live ORDER BY shard, run, task
"""
WAITS = "SELECT shard, run, task, kind, number, due_us, reason FROM task_wait ORDER BY shard, run"
OPEN_COMMANDS = """
SELECT command, shard, tenant, run_id, created_us FROM inbox
WHERE applied_us IS NULL ORDER BY command
"""
SHARDS = "SELECT shard, epoch, batch, node FROM shard ORDER BY shard"
TABLES = {
    "runs": OPEN_RUNS,
    "attempts": LIVE_ATTEMPTS,
    "waits": WAITS,
    "commands": OPEN_COMMANDS,
    "shards": SHARDS,
}
KNOWN_RUNS = "SELECT run_id FROM run WHERE run_id = ANY($1)"


@dataclass(frozen=True, slots=True)
class Undone:
    """Work that is not over: rows of each table; `missing` are runs that do not exist (yet)."""

    runs: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    commands: list[dict[str, Any]]
    shards: list[dict[str, Any]]
    missing: list[str]

    @property
    def nothing(self) -> bool:
        return not (self.runs or self.attempts or self.commands or self.missing)

    def __str__(self) -> str:
        dags = ", ".join(sorted({str(run["dag"]) for run in self.runs}))
        return (
            f"{len(self.runs)} runs not final ({dags}), {len(self.attempts)} live attempts,"
            f" {len(self.waits)} waits, {len(self.commands)} commands not applied,"
            f" {len(self.missing)} acknowledged runs without a row"
        )


def undone(dsn: str, acknowledged: Collection[str]) -> Undone:
    """What is not over. Raises what asyncpg raises when there is no PostgreSQL."""
    return asyncio.run(_undone(dsn, acknowledged))


async def _undone(dsn: str, acknowledged: Collection[str]) -> Undone:
    connection = await asyncpg.connect(dsn, timeout=_DEADLINE_S, command_timeout=_DEADLINE_S)
    try:
        tables = {
            name: [_plain(row) for row in await connection.fetch(query)]
            for name, query in TABLES.items()
        }
        wanted = {bytes.fromhex(run.replace("-", "")): run for run in acknowledged}
        known = {row["run_id"] for row in await connection.fetch(KNOWN_RUNS, list(wanted))}
        missing = [run for run_id, run in wanted.items() if run_id not in known]
        return Undone(**tables, missing=missing)
    finally:
        await connection.close()


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    """As JSON can hold it."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}


class EpochWatch:
    """Notes when each epoch of a shard was first seen, on the clock since boot; under `with`."""

    def __init__(self, dsn: str, evidence: Evidence) -> None:
        self._dsn = dsn
        self._lines = Lines(evidence.epochs)
        self._seen: dict[int, int] = {}
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="epochs")
        self._watching: Future[None] | None = None

    def __enter__(self) -> Self:
        self._watching = self._pool.submit(lambda: asyncio.run(self._watch()))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        self._lines.close()
        assert self._watching is not None
        self._watching.result()  # a watch that broke has seen too little

    async def _watch(self) -> None:
        while not self._over.is_set():
            try:
                connection = await asyncpg.connect(
                    self._dsn, timeout=_DEADLINE_S, command_timeout=_DEADLINE_S
                )
            except LOST_CONNECTIONS:
                await asyncio.sleep(0.05)
                continue
            try:
                await self._follow(connection)
            except LOST_CONNECTIONS:
                pass  # it was restarted, or threw us out: ask again
            finally:
                connection.terminate()

    async def _follow(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        while not self._over.is_set():
            for row in await connection.fetch(SHARDS):
                if row["epoch"] > self._seen.get(row["shard"], 0):
                    self._seen[row["shard"]] = row["epoch"]
                    self._lines.write(
                        at_ns=boot_ns(),
                        shard=row["shard"],
                        epoch=row["epoch"],
                        node=row["node"],
                    )
            await asyncio.sleep(0.05)
