"""Histories made by the production core, written by the production store into a real PostgreSQL.

`History` is the bench of one shard that also keeps what it would commit; `write` commits it batch
by batch behind the fence, with the commands in the inbox as the API would have put them there.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import asyncpg
from mainspring.v1 import dag_pb2

from controlplane.codec import commands
from controlplane.codec.dag import canonical, compile_version
from controlplane.core.effects import Writes
from controlplane.core.events import ApplyDag, CancelRun, DecideApproval, PauseDag, TriggerRun
from controlplane.core.types import Adjacency, DagVersion, OnDisconnect, bucket_of
from controlplane.store.connections import StoreSettings
from controlplane.store.records import Fence
from controlplane.store.shards import PostgresShardStore
from tests.unit.core.bench import ShardBench
from tests.unit.core.store_model import StoreModel

APPEND = """
INSERT INTO inbox (command, created_us, bucket, shard, run_id, tenant, body)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
PUT_SPEC = """
INSERT INTO dag_version (digest, spec, created_us) VALUES ($1, $2, 1) ON CONFLICT DO NOTHING
"""
PUT_KEY = """
INSERT INTO request_key (tenant, key_hash, body_hash, command, run_id, expires_us)
VALUES ($1, sha256($2::bytea), $2, $3, $4, 1)
"""


@dataclass(frozen=True)
class Command:
    """A row of the inbox to be."""

    number: int
    tenant: str
    body: bytes
    bucket: int
    run_id: bytes | None = None


@dataclass(frozen=True)
class Takeover:
    """Another leader."""


@dataclass(frozen=True)
class Restore:
    """The store went back to where it was after the entries before this one."""


class History(ShardBench):
    def __init__(self) -> None:
        self.log: list[Command | Writes | Takeover | Restore] = [Takeover()]
        self.specs: dict[bytes, bytes] = {}
        super().__init__()

    def step(self, *events: Any):
        self.log += [row for row in map(command_of, events) if row is not None]
        effects = super().step(*events)
        if effects.writes:
            self.log.append(effects.writes)
        return effects

    def recover(self) -> None:
        self.log.append(Takeover())
        super().recover()

    def backup(self) -> tuple[StoreModel, int]:
        """The store as it is now."""
        return deepcopy(self.store), len(self.log)

    def put_back_backup(self, backup: tuple[StoreModel, int]) -> None:
        """What came after the backup was never committed."""
        store, length = backup
        self.log = [*self.log[:length], Restore()]
        self.put_back(store)

    def applying(self, version: DagVersion, etag: str = "") -> ApplyDag:
        """A version with the digest of its definition, which is stored."""
        stored, digest = canonical(spec_of(version))
        self.specs[digest] = stored
        compiled = compile_version(version.key.tenant, stored, digest)
        return super().applying(compiled, etag)


def command_of(event: Any) -> Command | None:
    """The inbox row that an event came from."""
    match event:
        case ApplyDag(number, version, etag):
            key, run_id = version.key, None
            body = commands.apply_dag(key.dag, version.digest, etag)
        case TriggerRun(number, key, run_id, logical_us):
            body = commands.trigger_run(key.dag, run_id, logical_us)
        case CancelRun(number, key, cancelled, reason):
            body, run_id = commands.cancel_run(key.dag, cancelled, reason), None
        case PauseDag(number, key, paused, reason):
            body, run_id = commands.pause_dag(key.dag, reason, paused=paused), None
        case DecideApproval(number, key, of_run, task, approved, reason):
            body = commands.decide_approval(key.dag, of_run, task, reason, approved=approved)
            run_id = None
        case _:
            return None
    return Command(number, key.tenant, body, bucket_of(key), run_id)


async def write(
    dsn: str, history: History, watch: Callable[[], Awaitable[None]] | None = None, shard: int = 0
) -> None:
    """Commits a history as the leaders of a shard. `watch` is called after every commit."""
    connection = await asyncpg.connect(dsn)
    store = PostgresShardStore(dsn, StoreSettings())
    epoch = batch = 0
    try:
        for digest, spec in history.specs.items():
            await connection.execute(PUT_SPEC, digest, spec)
        for entry in history.log:
            match entry:
                case Takeover():
                    holder = epoch.to_bytes(16, "big")
                    epoch = await store.take_over(shard, epoch, holder, f"node-{epoch}", "h:1")
                    batch = 0
                case Restore():
                    epoch = (await store.mark_restored("put back"))[shard]
                case Command():
                    place = (entry.number, 1, entry.bucket, shard)
                    await connection.execute(APPEND, *place, entry.run_id, entry.tenant, entry.body)
                    key = str(entry.number).encode()
                    await connection.execute(PUT_KEY, entry.tenant, key, entry.number, entry.run_id)
                case Writes():
                    batch += 1
                    assert await store.commit(Fence(shard, epoch, batch), entry)
                    if watch is not None:
                        await watch()
    finally:
        await store.close()
        await connection.close()


def spec_of(version: DagVersion) -> dag_pb2.DagSpec:
    """The definition of a version that was made without one."""
    spec = dag_pb2.DagSpec(dag=version.key.dag, max_active_runs=version.max_active_runs)
    if version.run_timeout_ms:
        spec.run_timeout.FromMilliseconds(version.run_timeout_ms)
    names = [task.task for task in version.tasks]
    for number, task in enumerate(version.tasks):
        made = spec.tasks.add(task=task.task, process=dag_pb2.ProcessSpec(argv=["work"]))
        made.depends_on.extend(names[parent] for parent in parents_of(version.edges, number))
        made.resources.cpu = task.request.cpu_millis / 1_000
        made.resources.memory_bytes = task.request.memory_bytes
        made.trigger_rule = task.rule.value
        made.priority = task.priority
        made.idempotent = task.idempotent
        made.retry.max_attempts = task.retry.max_attempts
        made.retry.initial_backoff.FromMilliseconds(task.retry.initial_backoff_ms)
        made.retry.max_backoff.FromMilliseconds(task.retry.max_backoff_ms)
        made.retry.multiplier, made.retry.jitter = task.retry.multiplier, task.retry.jitter
        made.on_disconnect = task.on_disconnect.value
        if task.on_disconnect is not OnDisconnect.FENCE:
            made.disconnect_limit.FromMilliseconds(task.overtime_ms)
    for schedule in version.schedules:
        kind, _, rest = schedule.definition.partition(" ")
        made_schedule = spec.schedules.add(schedule=schedule.schedule)
        if kind == "interval":
            made_schedule.interval.FromMilliseconds(int(rest))
        else:
            made_schedule.timezone, _, made_schedule.cron = rest.partition(" ")
    return spec


def parents_of(edges: Adjacency, task: int) -> array[int]:
    """The numbers of a task's parents."""
    found = array("i")
    for parent in range(len(edges.parent_counts)):
        if task in edges.children[edges.starts[parent] : edges.starts[parent + 1]]:
            found.append(parent)
    return found
