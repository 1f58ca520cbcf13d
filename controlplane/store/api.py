"""What services read, and the commands they append.

Pages are asked for by the last key of the page before (keyset): stable under writes, the same cost
everywhere; services wrap the key into an opaque token. Does not know the wire, nor who may ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg

from controlplane.core.events import WaitRecord
from controlplane.core.types import day_of, uuid7_instant_us
from controlplane.store.connections import ReaderConnections, StoreSettings
from controlplane.store.errors import (
    CommitUnknown,
    NotInitialised,
    RequestConflict,
    connection_lost,
    refusal_of,
)
from controlplane.store.queries import query
from controlplane.store.records import (
    AgentItem,
    AgentRow,
    Appended,
    ApprovalItem,
    ApprovalKey,
    AttemptItem,
    AttemptKey,
    CommandState,
    DagItem,
    LateItem,
    PendingRun,
    RequestKey,
    RunItem,
    RunTaskRows,
    ScheduleItem,
    ShardItem,
    TokenItem,
    VersionItem,
)
from controlplane.store.transaction import known_failure

_APPEND = query("append_command")
_READ_REQUEST = query("read_request")
_READ_COMMAND = query("read_command")
_FIND_PENDING = query("find_pending_run")
_READ_DAG = query("read_dag")
_LIST_DAGS = query("list_dags")
_LIST_VERSIONS = query("list_versions")
_LIST_SCHEDULES = query("list_schedules")
_READ_SPECS = query("read_specs")
_FIND_RUN = query("find_run")
_READ_RUN = query("read_run")
_LIST_RUNS_OF_DAG = query("list_runs_of_dag")
_LIST_RUNS_OF_TENANT = query("list_runs_of_tenant")
_READ_LIVE = query("read_live_attempts")
_READ_LAST = query("read_last_attempts")
_READ_WAITS = query("read_waits")
_READ_SEALED = query("read_sealed")
_LIST_ATTEMPTS = query("list_attempts")
_LIST_APPROVALS = query("list_approvals")
_LIST_APPROVALS_OF_RUN = query("list_approvals_of_run")
_LIST_SHARDS = query("list_shards")
_LIST_STANDBYS = query("list_asynchronous_standbys")
_LIST_AGENTS = query("list_agents")
_PUT_AGENT = query("put_agent")
_PUT_TOKEN = query("put_token")
_READ_TOKEN = query("read_token")
_LIST_TOKENS = query("list_tokens")
_DROP_TOKEN = query("drop_token")

T = TypeVar("T")

LAST = 2**63 - 1
_TASKS_MOST = 2**31 - 1
_LAST_DIGEST = b"\xff" * 33
_ATTEMPT_WIDTH = AttemptItem._fields.index("late")


class VersionKey(NamedTuple):
    """Where a page of versions goes on: strictly before this one."""

    created_us: int = LAST
    digest: bytes = _LAST_DIGEST


class RunPosition(NamedTuple):
    """Where a page of runs goes on: strictly before this one."""

    created_us: int = LAST
    run: int = LAST


class ApiStore:
    """Reads raise StoreUnavailable; writes also CommitUnknown (repeat with the same key)."""

    def __init__(self, dsn: str, settings: StoreSettings) -> None:
        self._connections = ReaderConnections(dsn, settings)

    async def close(self) -> None:
        """Ends all connections."""
        await self._connections.close()

    async def _read(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._connections.lend() as connection, known_failure():
            return await connection.fetch(sql, *arguments)

    async def _write(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """One statement, one transaction."""
        async with self._connections.lend() as connection:
            try:
                return await connection.fetch(sql, *arguments)
            except Exception as error:
                if connection_lost(error):
                    raise CommitUnknown(f"the connection failed in a write: {error}") from error
                raise refusal_of(error) from error

    async def append_command(
        self,
        tenant: str,
        bucket: int,
        body: bytes,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
        request: RequestKey | None = None,
    ) -> Appended:
        """Makes a command durable, with the definition (digest, spec) that it names.

        The same `request` again gets the first answer; with another body RequestConflict.
        """
        digest, spec = version or (None, None)
        key: tuple[bytes | None, bytes | None, int] = (None, None, 0)
        if request is not None:
            key = (request.key_hash, request.body_hash, request.window_ms * 1_000)
        rows = await self._write(_APPEND, tenant, bucket, body, run_id, digest, spec, *key)
        if rows:
            [[command, shard]] = rows
            return Appended(command, shard, run_id, repeated=False)
        if request is None:
            raise NotInitialised(f"the database has no bucket {bucket}")
        rows = await self._read(_READ_REQUEST, tenant, request.key_hash, bucket)
        return _first_answer(rows, bucket, request)

    async def read_command(self, command: int) -> CommandState | None:
        """What became of a command; None: its row is gone."""
        return _one(CommandState, await self._read(_READ_COMMAND, command))

    async def read_dag(self, tenant: str, dag: str) -> DagItem | None:
        return _one(DagItem, await self._read(_READ_DAG, tenant, dag))

    async def list_dags(self, tenant: str, after: str, limit: int) -> list[DagItem]:
        """In the order of their ids, from the first one behind `after`."""
        return _all(DagItem, await self._read(_LIST_DAGS, tenant, after, limit))

    async def list_versions(
        self, tenant: str, dag: str, before: VersionKey, limit: int
    ) -> list[VersionItem]:
        """The newest first."""
        return _all(VersionItem, await self._read(_LIST_VERSIONS, tenant, dag, *before, limit))

    async def list_schedules(self, tenant: str, dag: str) -> list[ScheduleItem]:
        return _all(ScheduleItem, await self._read(_LIST_SCHEDULES, tenant, dag))

    async def read_spec(self, digest: bytes) -> bytes | None:
        """The definition of a version; it never changes, so it may be kept."""
        rows = await self._read(_READ_SPECS, [digest])
        return rows[0]["spec"] if rows else None

    async def find_run(self, tenant: str, run_id: bytes) -> RunItem | PendingRun | None:
        """A run, or the command that will make it."""
        found = await self._find_run(tenant, run_id)
        if found is not None:
            return found
        pending = _one(PendingRun, await self._read(_FIND_PENDING, run_id, tenant))
        # Between the two reads the command may have been applied.
        return await self._find_run(tenant, run_id) or pending if pending else None

    async def _find_run(self, tenant: str, run_id: bytes) -> RunItem | None:
        day = day_of(uuid7_instant_us(run_id))
        return _one(RunItem, await self._read(_FIND_RUN, day, run_id, tenant))

    async def list_runs(
        self,
        tenant: str,
        dag: str | None,
        states: Iterable[int],
        before: RunPosition,
        limit: int,
    ) -> list[RunItem]:
        """The newest first; of one DAG, or of all."""
        page = (list(states), *before, limit)
        if dag is None:
            return _all(RunItem, await self._read(_LIST_RUNS_OF_TENANT, tenant, *page))
        return _all(RunItem, await self._read(_LIST_RUNS_OF_DAG, tenant, dag, *page))

    async def run_task_rows(self, day: int, run: int) -> RunTaskRows | None:
        """All rows about the tasks of a run, in one snapshot; None: there is no such run."""
        async with (
            self._connections.lend() as connection,
            known_failure(),
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            head = _one(RunItem, await connection.fetch(_READ_RUN, day, run))
            if head is None:
                return None
            return RunTaskRows(
                head,
                tuple(_all(AttemptItem, await connection.fetch(_READ_LIVE, head.shard, run))),
                tuple(map(_decided, await connection.fetch(_READ_LAST, day, run))),
                tuple(_all(WaitRecord, await connection.fetch(_READ_WAITS, head.shard, run))),
                await connection.fetchval(_READ_SEALED, day, run),
            )

    async def list_attempts(
        self, run: RunItem, task: int | None, after: AttemptKey, limit: int
    ) -> list[AttemptItem]:
        """Of one task (by number) or of all, in the order of task, number and assignment.

        Each as it ended, with what was said of it late.
        """
        tasks = (0, _TASKS_MOST) if task is None else (task, task)
        rows = await self._read(_LIST_ATTEMPTS, run.day, run.run, run.shard, *tasks, *after, limit)
        return [_attempt(row) for row in rows]

    async def list_approvals(
        self, tenant: str, parent: str | RunItem | None, after: ApprovalKey, limit: int
    ) -> list[ApprovalItem]:
        """What waits for a person, the oldest first: of a DAG, of a run, or (None) of the tenant.

        A run must be the tenant's, as find_run gives it.
        """
        if not isinstance(parent, RunItem):
            rows = await self._read(_LIST_APPROVALS, tenant, parent, *after, limit)
            return _all(ApprovalItem, rows)
        place = (after.since_us, after.task, after.expansion)
        key = (parent.shard, parent.run)
        rows = await self._read(_LIST_APPROVALS_OF_RUN, *key, *place, limit)
        head = (parent.run_id, parent.dag, parent.digest, parent.day, parent.run)
        return [ApprovalItem(*head, *row) for row in rows]

    async def list_shards(self) -> list[ShardItem]:
        """In the order of their numbers."""
        return _all(ShardItem, await self._read(_LIST_SHARDS))

    async def list_asynchronous_standbys(self) -> list[str]:
        """Names of standbys that may lack what was committed; without the right to look, none."""
        return [str(row[0]) for row in await self._read(_LIST_STANDBYS)]

    async def list_agents(self, after: str, limit: int) -> list[AgentItem]:
        """In the order of their names, from the first one behind `after`."""
        return _all(AgentItem, await self._read(_LIST_AGENTS, after, limit))

    async def put_agent(self, agent: AgentRow) -> None:
        """Notes the latest session of an agent."""
        await self._write(_PUT_AGENT, *agent)

    async def put_token(self, hashed: bytes, tenant: str, role: str, name: str) -> None:
        """Stores a credential by the SHA-256 of its secret; one of the same name is replaced."""
        await self._write(_PUT_TOKEN, hashed, tenant, role, name)

    async def read_token(self, hashed: bytes) -> TokenItem | None:
        return _one(TokenItem, await self._read(_READ_TOKEN, hashed))

    async def list_tokens(self, tenant: str) -> list[TokenItem]:
        return _all(TokenItem, await self._read(_LIST_TOKENS, tenant))

    async def drop_token(self, tenant: str, name: str) -> None:
        await self._write(_DROP_TOKEN, tenant, name)


def _first_answer(rows: Sequence[asyncpg.Record], bucket: int, request: RequestKey) -> Appended:
    """What the same request was told before."""
    if not rows:
        raise NotInitialised(f"the database has no bucket {bucket}")
    [[body_hash, command, run_id, shard]] = rows
    if body_hash != request.body_hash:
        raise RequestConflict("the request id was used with another request")
    return Appended(command, shard, run_id, repeated=True)


def _all(kind: Callable[..., T], rows: Sequence[asyncpg.Record]) -> list[T]:
    return [kind(*row) for row in rows]


def _attempt(row: asyncpg.Record) -> AttemptItem:
    """An attempt with what was said of it late, from columns of both."""
    own, late = tuple(row)[:_ATTEMPT_WIDTH], tuple(row)[_ATTEMPT_WIDTH:]
    item = AttemptItem(*own)
    return item if late[0] is None else item._replace(late=LateItem(*late))


def _decided(row: asyncpg.Record) -> AttemptItem:
    return _attempt(row).decided()


def _one(kind: Callable[..., T], rows: Sequence[asyncpg.Record]) -> T | None:
    return kind(*rows[0]) if rows else None
