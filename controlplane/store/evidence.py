"""What a verification reads of a database that others go on writing.

Decides how much is read at a time, and in which transactions. Promises that nothing is written (the
session itself is read-only); that all rows about one run come from one snapshot, which is one state
that was committed; that no snapshot lasts longer than a page; and that memory is bounded by a page,
or by one run where that is larger. Between two pages no transaction is open. Does not know what the
rows have to satisfy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar

import asyncpg

from controlplane.core.types import MICROS_PER_DAY, day_of, uuid7_instant_us
from controlplane.store.connections import StoreSettings, connect, deadline, reader_parameters
from controlplane.store.evidence_rows import (
    AttemptEvidence,
    CommandEvidence,
    InstantEvidence,
    LateEvidence,
    LiveEvidence,
    RequestEvidence,
    RunEvidence,
    ShardEvidence,
    VersionEvidence,
    WaitEvidence,
    WaitPlace,
)
from controlplane.store.migrations import check, own_migrations, read_applied
from controlplane.store.queries import query
from controlplane.store.records import RunItem
from controlplane.store.transaction import known_failure

_NOW = query("verify_now")
_SHARDS = query("verify_shards")
_RUN_KEYS = query("verify_run_keys")
_LIVE_RUN_KEYS = query("verify_live_run_keys")
_RUN_KEY = query("verify_run_key")
_RUNS = query("verify_runs")
_ATTEMPTS = query("verify_attempts")
_LATE = query("verify_late")
_WAITS = query("verify_waits")
_SEALED = query("verify_sealed")
_EPOCHS = query("verify_epochs")
_RESTORES = query("verify_restores")
_INSTANTS_OF = query("verify_instants_of")
_LIVE_PAGE = query("verify_live_page")
_WAIT_PAGE = query("verify_wait_page")
_INSTANT_PAGE = query("verify_instant_page")
_COMMAND_PAGE = query("verify_command_page")
_RUNS_BY_ID = query("verify_runs_by_id")
_VERSION_USES = query("verify_version_uses")
_REQUEST_PAGE = query("verify_request_page")
_VERSION_PAGE = query("verify_version_page")
_SPECS = query("read_specs")

T = TypeVar("T")

# Pages go on behind a key: whatever the statistics of a moment say, no page may read, or sort, all
# that comes after it.
_BY_KEY = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}
# The clock that named a run and the one that made its row may differ.
_DAYS_APART = 1


class RunPlace(NamedTuple):
    """Where a run is stored; `spec_bytes`: the size of its version."""

    day: int
    run: int
    shard: int
    digest: bytes
    spec_bytes: int


@dataclass(frozen=True, slots=True)
class PageSizes:
    """Most rows of a page. A page of runs ends also where their versions reach `spec_bytes`."""

    rows: int = 1_000
    runs: int = 100
    spec_bytes: int = 256 * 1_024


class EvidenceStore:
    """One read-only connection. Use `opened`. Every method raises StoreUnavailable."""

    def __init__(
        self, connection: asyncpg.Connection, sizes: PageSizes, settings: StoreSettings
    ) -> None:
        self._connection = connection
        self._sizes = sizes
        self._settings = settings

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        dsn: str,
        sizes: PageSizes | None = None,
        settings: StoreSettings | None = None,
    ) -> AsyncIterator[Self]:
        """A connection to a database of this program's schema. Raises SchemaError too."""
        settings = settings or StoreSettings()
        parameters = {
            **reader_parameters(settings),
            "application_name": "mainspring verify",
            "default_transaction_read_only": "on",
            **_BY_KEY,
        }
        connection = await connect(dsn, parameters, settings)
        try:
            with deadline(connection, settings.statement_ms):
                async with known_failure():
                    applied = await read_applied(connection)
            check(own_migrations(), applied)
            yield cls(connection, sizes or PageSizes(), settings)
        finally:
            connection.terminate()

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """One statement: one snapshot."""
        with deadline(self._connection, self._settings.statement_ms):
            async with known_failure():
                return await self._connection.fetch(sql, *arguments)

    async def _pages(
        self, kind: Callable[..., T], sql: str, first: tuple[Any, ...], width: int, *more: Any
    ) -> AsyncIterator[list[T]]:
        """Rows in the order of a key of `width` columns, which come first, from behind `first`."""
        after, limit = first, self._sizes.rows
        while True:
            rows = await self._fetch(sql, *after, *more, limit)
            if rows:
                yield [kind(*row) for row in rows]
            if len(rows) < limit:
                return
            after = tuple(rows[-1])[:width]

    async def now_us(self) -> int:
        """The clock of the database."""
        [[now_us]] = await self._fetch(_NOW)
        return int(now_us)

    async def shards(self) -> list[ShardEvidence]:
        """Every shard with its book of takeovers."""
        return [ShardEvidence(*row) for row in await self._fetch(_SHARDS)]

    async def find_run(self, run_id: bytes) -> tuple[RunPlace, str] | None:
        """Where a run is, and its DAG."""
        rows = await self._fetch(_RUN_KEY, day_of(uuid7_instant_us(run_id)), run_id)
        return (RunPlace(*rows[0][:-1]), rows[0][-1]) if rows else None

    async def run_pages(self, since_us: int) -> AsyncIterator[list[RunEvidence]]:
        """Runs created since an instant, and older ones that are live."""
        since_day = max(day_of(since_us) - _DAYS_APART, 0)
        places = self._places(_RUN_KEYS, lambda last: (last.day, last.run), since_day, since_us)
        async for page in places:
            yield await self.read_runs(page)
        if since_us > 0:
            older = self._places(_LIVE_RUN_KEYS, lambda last: (last.shard, last.run), since_us)
            async for page in older:
                yield await self.read_runs(page)

    async def _places(
        self, sql: str, key_of: Callable[[RunPlace], tuple[int, int]], *more: Any
    ) -> AsyncIterator[list[RunPlace]]:
        after = (-1, -1)
        while True:
            rows = await self._fetch(sql, *after, *more, self._sizes.runs)
            places = [RunPlace(*row) for row in rows]
            for page in _cut(places, self._sizes.spec_bytes):
                yield page
            if len(places) < self._sizes.runs:
                return
            after = key_of(places[-1])

    async def read_runs(self, places: Sequence[RunPlace]) -> list[RunEvidence]:
        """All rows about some runs, in one snapshot."""
        connection = self._connection
        with deadline(connection, self._settings.statement_ms):
            async with (
                known_failure(),
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await _read_runs(connection, places)

    async def specs(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Definitions by digest. They never change, so they need not be of any snapshot."""
        rows = await self._fetch(_SPECS, list(digests))
        return {row["digest"]: row["spec"] for row in rows}

    def live_pages(self) -> AsyncIterator[list[LiveEvidence]]:
        """Every live attempt, wherever its row is."""
        return self._pages(LiveEvidence, _LIVE_PAGE, (-1, -1, -1, -1), 4)

    def wait_pages(self) -> AsyncIterator[list[WaitPlace]]:
        """Every wait, wherever its row is."""
        return self._pages(WaitPlace, _WAIT_PAGE, (-1, -1, -1, -1, -1), 5)

    def instant_pages(self, since_us: int) -> AsyncIterator[list[InstantEvidence]]:
        """The ledger of instants from an instant on, schedule by schedule."""
        return self._pages(InstantEvidence, _INSTANT_PAGE, ("", "", "", -LAST), 4, since_us)

    def command_pages(self, since_us: int) -> AsyncIterator[list[CommandEvidence]]:
        """The commands that were acknowledged since an instant."""
        return self._pages(CommandEvidence, _COMMAND_PAGE, (-1,), 1, since_us)

    def request_pages(self) -> AsyncIterator[list[RequestEvidence]]:
        """The keys of requests."""
        return self._pages(RequestEvidence, _REQUEST_PAGE, ("", b""), 2)

    async def version_pages(self) -> AsyncIterator[list[VersionEvidence]]:
        """Every use of a version; one at a time, for a definition may have megabytes."""
        after: tuple[Any, ...] = ("", "", b"")
        while rows := await self._fetch(_VERSION_PAGE, *after, 1):
            yield [VersionEvidence(*rows[0])]
            after = tuple(rows[0])[:3]

    async def runs_by_id(self, run_ids: Iterable[bytes]) -> dict[bytes, tuple[str, int]]:
        """Tenant and state of the runs that exist."""
        wanted = list(set(run_ids))
        days = [day_of(uuid7_instant_us(each)) for each in wanted]
        return {row[0]: (row[1], row[2]) for row in await self._fetch(_RUNS_BY_ID, days, wanted)}

    async def version_uses(
        self, wanted: Iterable[tuple[str, str, bytes]]
    ) -> set[tuple[str, str, bytes]]:
        """Of (tenant, DAG, digest) those that are in the list of versions."""
        columns = [list(column) for column in zip(*set(wanted), strict=True)] or [[], [], []]
        return {(row[0], row[1], row[2]) for row in await self._fetch(_VERSION_USES, *columns)}


LAST = 2**63 - 1
# What `since` means where everything is asked for.
EVER_US = -MICROS_PER_DAY


def _cut(places: Sequence[RunPlace], spec_bytes: int) -> Iterable[list[RunPlace]]:
    """Pages of runs whose versions together are not much larger than a bound."""
    page: list[RunPlace] = []
    size = 0
    for place in places:
        if page and size + place.spec_bytes > spec_bytes:
            yield page
            page, size = [], 0
        page.append(place)
        size += place.spec_bytes
    if page:
        yield page


@dataclass(slots=True)
class _Gathered:
    """What belongs to one run."""

    attempts: list[AttemptEvidence] = field(default_factory=list)
    late: list[LateEvidence] = field(default_factory=list)
    waits: list[WaitEvidence] = field(default_factory=list)
    states: bytes | None = None
    instant: tuple[int, bytes | None] | None = None

    def epochs(self) -> Iterator[int]:
        """The epochs that its rows name."""
        for attempt in self.attempts:
            yield from attempt.epochs
        for late in self.late:
            yield from late.epochs


async def _read_runs(
    connection: asyncpg.Connection, places: Sequence[RunPlace]
) -> list[RunEvidence]:
    days = [each.day for each in places]
    keys = [each.run for each in places]
    heads = [RunItem(*row) for row in await connection.fetch(_RUNS, days, keys)]
    shards = {head.run: head.shard for head in heads}
    found: defaultdict[int, _Gathered] = defaultdict(_Gathered)
    of_shards = [shards.get(each.run, each.shard) for each in places]
    for run, *rest in await connection.fetch(_ATTEMPTS, days, keys, of_shards):
        found[run].attempts.append(AttemptEvidence(*rest))
    for run, *rest in await connection.fetch(_LATE, days, keys):
        found[run].late.append(LateEvidence(*rest))
    for run, *rest in await connection.fetch(_WAITS, keys, of_shards):
        found[run].waits.append(WaitEvidence(*rest))
    for run, states in await connection.fetch(_SEALED, days, keys):
        found[run].states = states
    scheduled = [
        (each.run, each.tenant, each.dag, each.schedule, each.logical_us)
        for each in heads
        if each.schedule
    ]
    columns = [list(column) for column in zip(*scheduled, strict=True)] or [[]] * 5
    for run, outcome, run_id in await connection.fetch(_INSTANTS_OF, *columns):
        found[run].instant = (outcome, run_id)
    restores = {row[0]: row[1] for row in await connection.fetch(_RESTORES)}
    epochs = await _epochs(connection, found, shards)
    return [
        RunEvidence(
            head,
            tuple(found[head.run].attempts),
            tuple(found[head.run].late),
            tuple(found[head.run].waits),
            found[head.run].states,
            found[head.run].instant,
            epochs[head.shard],
            restores.get(head.shard, 0),
        )
        for head in heads
    ]


async def _epochs(
    connection: asyncpg.Connection, found: dict[int, _Gathered], shards: dict[int, int]
) -> defaultdict[int, dict[int, int | None]]:
    """Of the epochs that rows name, those that were taken over and their last batches, by shard."""
    named = {
        (shards[run], epoch)
        for run, rows in found.items()
        for epoch in rows.epochs()
        if run in shards
    }
    columns = [list(column) for column in zip(*named, strict=True)] or [[], []]
    known: defaultdict[int, dict[int, int | None]] = defaultdict(dict)
    for shard, epoch, last_batch in await connection.fetch(_EPOCHS, *columns):
        known[shard][epoch] = last_batch
    return known
