"""ShardStore in memory, for simulations: the semantics of PostgreSQL, no I/O, no clock of its own.

A MemoryDatabase survives the nodes; each node has a MemoryStore of its own over it, with its own
Faults. Promises what the contract suite holds both stores to: the lock on the row of a shard, the
fence, COMMITs whose outcome the client does not learn and which may still land later, batches that
are refused as a whole. All waits are on the running loop, so virtual time works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from enum import Enum
from typing import Any

from controlplane.core.effects import WRITE_KINDS, CommandOutcome, Writes
from controlplane.core.events import (
    DagRecord,
    EndRecord,
    LiveRecord,
    RestoredRecord,
    RunRecord,
    ScheduleRecord,
    WaitRecord,
)
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import BUCKETS, DagKey
from controlplane.store.errors import (
    BatchRefused,
    CommitUnknown,
    NotInitialised,
    RowsLostError,
    StoreUnavailable,
    TakeoverRefused,
)
from controlplane.store.ports import EPOCH_LEAP, RUN_KEYS_MOST
from controlplane.store.records import (
    Appended,
    CommandRow,
    CommandState,
    Fence,
    RecoveredRows,
    ShardState,
    ShardWord,
    VersionRow,
)
from controlplane.store.recovery import needed_versions
from controlplane.store.transaction import judge_fence

Row = dict[str, Any]
Key = tuple[Any, ...]
# By table and key; None: the row goes.
Changes = dict[tuple[str, Key], Row | None]

LOCK_TIMEOUT_S = 2.0
TABLES = (
    *("dag", "dag_version_use", "schedule", "schedule_instant", "run", "sealed_run"),
    *("attempt_live", "attempt", "attempt_late", "task_wait", "inbox", "quarantine"),
)


class ConnectionLost(Exception):  # noqa: N818
    """Raised by Faults: the client's connection is gone; its backend is not, during COMMIT."""


class Point(Enum):
    """Where a fault can strike."""

    OPEN = "before anything"
    WRITE = "behind the fence, before COMMIT"
    COMMIT = "COMMIT is sent, and not yet done"
    ANSWER = "COMMIT is done, and not yet answered"
    READ = "before a read"


class Faults:
    """None; override `at` to wait there (a stall) or to raise ConnectionLost."""

    async def at(self, point: Point, shard: int) -> None:
        """Called at each point."""


class Transaction:
    """An open transaction that holds the row of a shard."""

    def __init__(self, database: MemoryDatabase, shard: int) -> None:
        self._database = database
        self._shard = shard
        self.state: ShardState | None = None
        self.server = ""
        self.hold: tuple[int, int] | None = None
        self.changes: Changes = {}
        self.open = True
        self.finished = asyncio.Event()

    def commit(self) -> None:
        """Makes its changes true, unless it has ended."""
        if self.open:
            self._database.apply(self.state, self.changes)
            if self.state is not None and self.server:
                self._database.note_server(self.state, self.server)
            if self.hold is not None:
                self._database.change_hold(self._shard, *self.hold)
            self.rollback()

    def rollback(self) -> None:
        """Ends it and frees the row."""
        if self.open:
            self.open = False
            del self._database.locks[self._shard]
            self.finished.set()

    def find(self, table: str, key: Key) -> Row | None:
        """A row as this transaction sees it."""
        if (table, key) in self.changes:
            return self.changes[table, key]
        return self._database.tables[table].get(key)

    def insert(self, table: str, key: Key, row: Row) -> None:
        """Raises BatchRefused when the key is taken."""
        if self.find(table, key) is not None:
            raise BatchRefused(f"duplicate key {key} in {table}", "23505")
        self.changes[table, key] = row

    def change(self, table: str, key: Key, **values: Any) -> None:
        """Raises RowsLostError when the row is not there."""
        row = self.find(table, key)
        if row is None:
            raise RowsLostError(f"{table} has no {key}")
        self.changes[table, key] = {**row, **values}

    def delete(self, table: str, key: Key) -> Row | None:
        """The row that was there."""
        row = self.find(table, key)
        self.changes[table, key] = None
        return row


_BACKED_UP = ("shards", "takeovers", "last_batches", "restored", "hold_until_us", "servers")


class MemoryDatabase:
    """The rows, which outlive every client. `tables`: dicts by primary key, for checks."""

    def __init__(self, shards: int, now_us: Callable[[], int]) -> None:
        self.now_us = now_us
        self.shards = {k: ShardState(k, 0, 0, b"", "", "", 0) for k in range(shards)}
        self.takeovers: list[ShardState] = []
        # The last batch of each epoch that is over; what a shard knows of restores and its server.
        self.last_batches: dict[tuple[int, int], int] = {}
        self.restored = dict.fromkeys(range(shards), RestoredRecord())
        self.hold_until_us = dict.fromkeys(range(shards), 0)
        self.servers = dict.fromkeys(range(shards), "")
        self.server = "1/00000001"
        self.tables: dict[str, dict[Key, Row]] = {name: {} for name in TABLES}
        self.specs: dict[bytes, bytes] = {}
        self.locks: dict[int, Transaction] = {}
        self.waiting: dict[int, int] = dict.fromkeys(range(shards), 0)
        self.commands = 0
        self.run_keys = RUN_KEYS_MOST
        # Called at every COMMIT with what it will do, the rows being as they were.
        self.watchers: list[Callable[[ShardState | None, Changes], None]] = []

    def apply(self, state: ShardState | None, changes: Changes) -> None:
        """What a COMMIT does."""
        for watch in self.watchers:
            watch(state, changes)
        if state is not None:
            before = self.shards[state.shard]
            if state.epoch != before.epoch:
                self.takeovers.append(state)
                self.last_batches[before.shard, before.epoch] = before.batch
            self.shards[state.shard] = state
        for (table, key), row in changes.items():
            if row is None:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = row

    def note_server(self, state: ShardState, server: str) -> None:
        """The server of a takeover or of a batch. Another one than before may lack commits; not of
        a leader whose batch passes there.
        """
        shard, before = state.shard, self.servers[state.shard]
        self.servers[shard] = server
        if before not in ("", server) and not state.batch:
            reason = f"the server is {server} and was {before}"
            self.restored[shard] = RestoredRecord(state.epoch, self.now_us(), 2, reason)

    def change_hold(self, shard: int, hold: int, until_us: int) -> None:
        """What the leader of a shard holds back."""
        self.restored[shard] = self.restored[shard]._replace(hold=hold)
        self.hold_until_us[shard] = until_us

    def backup(self) -> dict[str, Any]:
        """All that a backup has. Numbers that are handed out are never handed out again, so that
        tests can tell what was there before and after.
        """
        kept = {name: copy(getattr(self, name)) for name in _BACKED_UP}
        return {**kept, "tables": {name: dict(rows) for name, rows in self.tables.items()}}

    def put_back(self, backup: dict[str, Any]) -> None:
        """The backup is the database from now on; what was under way is over."""
        for transaction in list(self.locks.values()):
            transaction.rollback()
        for name in _BACKED_UP:
            setattr(self, name, copy(backup[name]))
        for name, rows in self.tables.items():
            rows.clear()
            rows.update(backup["tables"][name])

    def contradicted(self, words: Sequence[ShardWord]) -> list[ShardWord]:
        """As ShardStore.contradicted."""
        return [word for word in words if word.shard in self.shards and self._lacks(word)]

    def _lacks(self, word: ShardWord) -> bool:
        shard, epoch, holder, batch = word
        if epoch < self.restored[shard].epoch:
            return False
        taken = [row for row in self.takeovers if (row.shard, row.epoch) == (shard, epoch)]
        if not taken or (holder and holder != taken[0].holder):
            return True
        row = self.shards[shard]
        last = row.batch if epoch == row.epoch else self.last_batches[shard, epoch]
        return batch > last

    def mark_restored(self, reason: str, words: Sequence[ShardWord]) -> dict[int, int]:
        """As ShardStore.mark_restored; what was under way on the rows has to be begun anew."""
        if words and not self.contradicted(words):
            return {}
        for transaction in list(self.locks.values()):
            transaction.rollback()
        for shard, row in self.shards.items():
            above = max((word.epoch for word in words if word.shard == shard), default=0)
            epoch = max(row.epoch, above) + EPOCH_LEAP
            self.last_batches[shard, row.epoch] = row.batch
            self.shards[shard] = row._replace(epoch=epoch, batch=0, holder=b"")
            self.restored[shard] = RestoredRecord(epoch, self.now_us(), 2, reason)
            self.hold_until_us[shard] = 0
        return {shard: row.epoch for shard, row in self.shards.items()}

    async def lock(self, shard: int, *, terminate: bool) -> Transaction:
        """Opens a transaction on the row of a shard; with `terminate` whoever has it loses it."""
        if shard not in self.shards:
            raise NotInitialised(f"the database has no shard {shard}")
        self.waiting[shard] += 1
        try:
            while (holder := self.locks.get(shard)) is not None:
                if terminate:
                    holder.rollback()
                    continue
                async with asyncio.timeout(LOCK_TIMEOUT_S):
                    await holder.finished.wait()
        except TimeoutError as error:
            raise StoreUnavailable("lock timeout") from error
        finally:
            self.waiting[shard] -= 1
        transaction = self.locks[shard] = Transaction(self, shard)
        return transaction

    def land(self, shard: int) -> None:
        """The backend of a lost connection finishes its COMMIT."""
        if (holder := self.locks.get(shard)) is not None:
            holder.commit()

    def append_command(
        self,
        tenant: str,
        bucket: int,
        body: bytes,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
    ) -> Appended:
        """As ApiStore.append_command, without keys of requests."""
        if version is not None:
            self.specs.setdefault(*version)
        self.commands += 1
        shard = self.shard_of(bucket)
        row = {"shard": shard, "tenant": tenant, "body": body, "run_id": run_id}
        row |= {"outcome": None, "detail": "", "applied_us": None}
        self.tables["inbox"][self.commands,] = row
        return Appended(self.commands, shard, run_id, repeated=False)

    def read_command(self, command: int) -> CommandState | None:
        """As ApiStore.read_command."""
        row = self.tables["inbox"].get((command,))
        if row is None:
            return None
        state = (row["shard"], row["outcome"], row["detail"], row["applied_us"])
        return CommandState(command, *state)

    def shard_of(self, bucket: int) -> int:
        """The shard of a bucket."""
        return bucket * len(self.shards) // BUCKETS


class MemoryStore:
    """ShardStore over a MemoryDatabase."""

    def __init__(self, database: MemoryDatabase, faults: Faults | None = None) -> None:
        self.database = database
        self.faults = faults or Faults()

    async def close(self) -> None:
        """Nothing to end."""

    def release(self, shard: int) -> None:
        """Nothing to give up."""

    async def _read(self, shard: int) -> None:
        try:
            await self.faults.at(Point.READ, shard)
        except ConnectionLost as error:
            raise StoreUnavailable("connection lost") from error

    async def read_shard(self, shard: int) -> ShardState:
        await self._read(shard)
        if shard not in self.database.shards:
            raise NotInitialised(f"the database has no shard {shard}")
        hold, until_us = self.database.restored[shard].hold, self.database.hold_until_us[shard]
        return self.database.shards[shard]._replace(hold=hold, hold_until_us=until_us)

    async def take_over(
        self, shard: int, expected_epoch: int, holder: bytes, node: str, address: str
    ) -> int:
        for _ in range(2):
            try:
                transaction = await self._open(shard, terminate=True)
                found = self.database.shards[shard]
                if found.epoch == expected_epoch:
                    moved = self.database.servers[shard] not in ("", self.database.server)
                    epoch = expected_epoch + (EPOCH_LEAP if moved else 1)
                    now_us, transaction.server = self.database.now_us(), self.database.server
                    transaction.state = ShardState(shard, epoch, 0, holder, node, address, now_us)
                    await self._finish(transaction, shard)
                    return epoch
            except CommitUnknown:
                continue
            transaction.rollback()
            if found.holder == holder:
                return found.epoch
            raise TakeoverRefused(shard, found.epoch)
        raise StoreUnavailable(f"whether shard {shard} was taken over is not known")

    async def contradicted(self, words: Sequence[ShardWord]) -> list[ShardWord]:
        await self._read(-1)
        return self.database.contradicted(words)

    async def mark_restored(self, reason: str, words: Sequence[ShardWord] = ()) -> dict[int, int]:
        await self._read(-1)
        return self.database.mark_restored(reason, words)

    async def commit(self, fence: Fence, writes: Writes, *, settle: bool = False) -> bool:
        return await self._write(
            fence, lambda transaction: plan(transaction, fence, writes), settle=settle
        )

    async def quarantine(
        self, fence: Fence, source: int | str, reason: str, *, settle: bool = False
    ) -> bool:
        def set_aside(transaction: Transaction) -> None:
            if isinstance(source, int):
                values = {"outcome": CommandOutcome.QUARANTINED, "detail": reason}
                now_us = self.database.now_us()
                _answer(transaction, fence.shard, source, applied_us=now_us, **values)
            row = {"shard": fence.shard, "source": str(source), "reason": reason}
            transaction.insert("quarantine", tuple(fence), row)

        return await self._write(fence, set_aside, settle=settle)

    async def _open(self, shard: int, *, terminate: bool) -> Transaction:
        try:
            await self.faults.at(Point.OPEN, shard)
        except ConnectionLost as error:
            raise StoreUnavailable("connection lost") from error
        return await self.database.lock(shard, terminate=terminate)

    async def _write(
        self, fence: Fence, fill: Callable[[Transaction], None], *, settle: bool
    ) -> bool:
        shard, epoch, batch = fence
        try:
            transaction = await self._open(shard, terminate=settle)
        except StoreUnavailable as error:
            if settle:
                raise CommitUnknown(str(error)) from error
            raise
        found = self.database.shards[shard]
        with _ended_by_failure(transaction):
            if (found.epoch, found.batch) != (epoch, batch - 1):
                transaction.rollback()
                return judge_fence(fence, found)
            transaction.state = found._replace(batch=batch)
            transaction.server = self.database.server
            fill(transaction)
            await self._at_write(transaction, shard)
        await self._finish(transaction, shard)
        return True

    async def _at_write(self, transaction: Transaction, shard: int) -> None:
        try:
            await self.faults.at(Point.WRITE, shard)
        except ConnectionLost as error:
            raise StoreUnavailable("connection lost") from error
        if not transaction.open:
            raise StoreUnavailable("terminated by an administrator")

    async def _finish(self, transaction: Transaction, shard: int) -> None:
        """COMMIT. When the client goes, its transaction stays, until it lands or is ended."""
        try:
            await self.faults.at(Point.COMMIT, shard)
            if not transaction.open:
                raise ConnectionLost
            transaction.commit()
            await self.faults.at(Point.ANSWER, shard)
        except ConnectionLost as error:
            raise CommitUnknown("connection lost during COMMIT") from error

    async def recover(self, shard: int) -> RecoveredRows:
        await self._read(shard)
        return recovered_rows(self.database, shard)

    async def read_commands(
        self, shard: int, limit: int, after_failed: frozenset[int]
    ) -> list[CommandRow]:
        await self._read(shard)
        rows = self.database.tables["inbox"].items()
        found = [
            CommandRow(command, row["tenant"], row["body"])
            for (command,), row in sorted(rows)
            if row["shard"] == shard and row["outcome"] is None and command not in after_failed
        ]
        return found[:limit]

    async def read_versions(self, wanted: Sequence[tuple[DagKey, bytes]]) -> list[VersionRow]:
        await self._read(-1)
        return _versions(self.database, wanted)

    async def reserve_run_keys(self, count: int) -> range:
        if not 0 < count <= RUN_KEYS_MOST:
            raise ValueError(f"{count} keys; at most {RUN_KEYS_MOST} at a time")
        await self._read(-1)
        first = self.database.run_keys
        self.database.run_keys += RUN_KEYS_MOST
        return range(first, first + count)


@contextmanager
def _ended_by_failure(transaction: Transaction) -> Iterator[None]:
    try:
        yield
    except BaseException:
        transaction.rollback()
        raise


def plan(transaction: Transaction, fence: Fence, writes: Writes) -> None:
    """Puts the rows of a batch into a transaction, as the statements of PostgreSQL would."""
    if not writes:
        return
    for kind in WRITE_KINDS:
        for row in getattr(writes, kind):
            _check_texts(row)
    _plan_heads(transaction, writes)
    _plan_runs(transaction, fence, writes)
    _plan_attempts(transaction, fence, writes)
    _plan_late(transaction, fence, writes)
    _plan_waits(transaction, fence, writes)
    for row in writes.applied:
        values = row._asdict()
        _answer(transaction, fence.shard, values.pop("command"), **values)
    for hold in writes.holds:
        transaction.hold = hold.hold, hold.until_us


def _check_texts(row: Sequence[Any]) -> None:
    for value in row:
        if isinstance(value, str):
            if "\0" in value:
                raise BatchRefused("a text with a NUL", "22021")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise BatchRefused(str(error), "") from error


def _answer(transaction: Transaction, shard: int, command: int, **values: Any) -> None:
    row = transaction.find("inbox", (command,))
    if row is None or row["shard"] != shard or row["outcome"] is not None:
        raise RowsLostError(f"command {command} is not open")
    transaction.change("inbox", (command,), **values)


def _plan_heads(transaction: Transaction, writes: Writes) -> None:
    for dag in writes.dags:
        row = dag._asdict()
        if (known := transaction.find("dag", dag[:2])) is not None:
            row["created_us"] = known["created_us"]
        transaction.changes["dag", dag[:2]] = row
    for use in writes.versions:
        if transaction.find("dag_version_use", use[:3]) is None:
            transaction.insert("dag_version_use", use[:3], use._asdict())
    for gone in writes.schedules_gone:
        transaction.delete("schedule", tuple(gone))
    for schedule in writes.schedules:
        transaction.changes["schedule", schedule[:3]] = schedule._asdict()
    for instant in writes.instants:
        transaction.insert("schedule_instant", instant[:4], instant._asdict())


def _plan_runs(transaction: Transaction, fence: Fence, writes: Writes) -> None:
    for new in writes.runs:
        row = {**new._asdict(), "shard": fence.shard, "reason": "", "finished_us": None}
        transaction.insert("run", new[:2], row)
    for change in writes.run_changes:
        values = change._asdict()
        key = (values.pop("day"), values.pop("run"))
        transaction.change("run", key, **values)
    for row in (*writes.runs, *writes.run_changes):
        stored = transaction.find("run", row[:2])
        assert stored is not None
        if RunState(stored["state"]).final != (stored["finished_us"] is not None):
            raise BatchRefused("check run_final is violated", "23514")
    for sealed in writes.sealed:
        transaction.insert("sealed_run", sealed[:2], sealed._asdict())


def _plan_attempts(transaction: Transaction, fence: Fence, writes: Writes) -> None:
    shard = fence.shard
    ended = {(shard, row.run, row.task, row.expansion) for row in writes.done}
    for start in writes.started:
        key = (shard, *start[:3])
        if key not in ended:
            transaction.change("attempt_live", key, started_us=start.started_us)
    for done in writes.done:
        live = transaction.delete("attempt_live", (shard, done.run, done.task, done.expansion))
        if live is None or live["attempt_id"] != done.attempt_id:
            raise RowsLostError(f"{done} is not live")
        row = {**live, **done._asdict(), "ended_epoch": fence.epoch, "ended_batch": fence.batch}
        row["started_us"] = done.started_us or live["started_us"]
        transaction.insert("attempt", done[:5], row)
    for item in writes.live:
        values = {"epoch": fence.epoch, "batch": fence.batch, "started_us": None}
        key = (shard, item.run, item.task, item.expansion)
        transaction.insert("attempt_live", key, {**item._asdict(), **values, "shard": shard})


def _plan_late(transaction: Transaction, fence: Fence, writes: Writes) -> None:
    for late in writes.late:
        if late.adopted and late.state is not AttemptState.SUCCEEDED:
            raise BatchRefused("check attempt_late_adopted is violated", "23514")
        if transaction.find("attempt_late", late[:5]) is None:
            row = {**late._asdict(), "epoch": fence.epoch, "batch": fence.batch}
            transaction.insert("attempt_late", late[:5], row)


def _plan_waits(transaction: Transaction, fence: Fence, writes: Writes) -> None:
    gone = {(fence.shard, *row) for row in writes.waits_gone}
    for key in gone:
        transaction.delete("task_wait", key)
    for wait in writes.waits:
        key = (fence.shard, wait.run, wait.task, wait.expansion, wait.kind)
        if key not in gone:
            transaction.insert("task_wait", key, {**wait._asdict(), "shard": fence.shard})


def _versions(database: MemoryDatabase, wanted: Sequence[tuple[DagKey, bytes]]) -> list[VersionRow]:
    specs = database.specs
    return [VersionRow(*key, digest, specs[digest]) for key, digest in wanted if digest in specs]


def _records(kind: Any, rows: Iterator[Row]) -> tuple[Any, ...]:
    return tuple(
        kind(*(DagKey(row["tenant"], row["dag"]) if name == "key" else row[name] for name in names))
        for names in (kind._fields,)
        for row in rows
    )


def recovered_rows(database: MemoryDatabase, shard: int) -> RecoveredRows:
    """What ShardStore.recover gives."""
    tables = database.tables

    def mine(table: str) -> Iterator[Row]:
        return (row for row in tables[table].values() if row["shard"] == shard)

    def heads(table: str) -> Iterator[Row]:
        rows = tables[table].values()
        return (row for row in rows if database.shard_of(row["bucket"]) == shard)

    live_runs = sorted(
        (row for row in mine("run") if row["finished_us"] is None), key=lambda row: row["run"]
    )
    numbers = {(row["day"], row["run"]) for row in live_runs}
    waits = (row for row in mine("task_wait") if (row["day"], row["run"]) in numbers)
    runs = _records(RunRecord, iter(live_runs))
    dags = _records(DagRecord, heads("dag"))
    schedules = _records(ScheduleRecord, heads("schedule"))
    return RecoveredRows(
        tuple(_versions(database, needed_versions(dags, schedules, runs))),
        dags,
        schedules,
        runs,
        _records(LiveRecord, mine("attempt_live")),
        _records(EndRecord, _last_ends(database, numbers)),
        _records(WaitRecord, waits),
        database.restored[shard],
        tuple(_unsaid(database, numbers)) if database.restored[shard].hold else (),
    )


def _unsaid(database: MemoryDatabase, numbers: set[Key]) -> Iterator[bytes]:
    for key, row in database.tables["attempt"].items():
        if key[:2] in numbers and row["state"] in _SILENT:
            yield row["attempt_id"]


_SILENT = frozenset({AttemptState.REJECTED, AttemptState.LOST, AttemptState.UNKNOWN})


def _last_ends(database: MemoryDatabase, numbers: set[Key]) -> Iterator[Row]:
    """The last ended attempt of each task instance of these runs, as it counts."""
    last: dict[Key, tuple[Key, Row]] = {}
    for key, row in database.tables["attempt"].items():
        telling = row["state"] not in _SILENT
        order = (row["number"], row["ended_epoch"], row["ended_batch"], telling, row["attempt_id"])
        if key[:2] in numbers and order > last.get(key[:4], ((0,), row))[0]:
            last[key[:4]] = (order, row)
    for _, row in last.values():
        late = database.tables["attempt_late"].get((*_place(row), row["attempt_id"]))
        if late is not None and late["adopted"]:
            yield {**row, "state": late["state"], "finished_us": late["finished_us"]}
        else:
            yield row


def _place(row: Row) -> Key:
    return (row["day"], row["run"], row["task"], row["expansion"])
