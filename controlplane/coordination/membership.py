"""Which nodes there are.

Decides nothing. Promises that this node's record is in etcd whenever it holds a lease, and that
`members` follows the records of all nodes. Knows nothing of shards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import aclosing

import structlog

from controlplane.coordination.errors import EtcdError
from controlplane.coordination.keys import Keyspace
from controlplane.coordination.ports import HeldLease, Keys
from controlplane.coordination.records import (
    Change,
    Changed,
    LeaseChange,
    Record,
    Removed,
    Snapshot,
)
from controlplane.coordination.settings import CoordinationSettings

_log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node says of itself.

    address: "host:port" of its gRPC API. Times are wall clock, milliseconds since 1970.
    eligible: it campaigns; a node that may not lead keeps its record and takes no shards.
    committed_at_ms: its last commit to the store, or answer of it to a node that leads nothing; 0 =
    none yet.
    """

    node: str
    address: str
    started_at_ms: int
    eligible: bool = True
    committed_at_ms: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class LiveNode:
    """A node with a record in etcd. since: instant of our monotonic clock when we first saw it."""

    info: NodeInfo
    create_revision: int
    since: float


class Membership:
    """`run` for the life of the node."""

    def __init__(
        self, client: Keys, lease: HeldLease, settings: CoordinationSettings, me: NodeInfo
    ) -> None:
        self._client = client
        self._lease = lease
        self._settings = settings
        self._me = me
        self._keyspace = Keyspace(settings.cluster)
        self._key = self._keyspace.node(me.node)
        self._members: dict[str, LiveNode] = {}
        self._known = False
        self._listeners: list[Callable[[], None]] = []
        self._dirty = asyncio.Event()
        lease.add_listener(self._on_lease)

    @property
    def me(self) -> NodeInfo:
        return self._me

    @property
    def known(self) -> bool:
        """False until the records were read once."""
        return self._known

    @property
    def members(self) -> Mapping[str, LiveNode]:
        """Live nodes by name; this one is among them once its record was seen."""
        return self._members

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call the listener after every change of `members`; it must not block."""
        self._listeners.append(listener)

    def publish(self, *, eligible: bool | None = None, committed_at_ms: int | None = None) -> None:
        """Change what this node says of itself; written within about `report_ms`."""
        me = self._me
        self._me = dataclasses.replace(
            me,
            eligible=me.eligible if eligible is None else eligible,
            committed_at_ms=me.committed_at_ms if committed_at_ms is None else committed_at_ms,
        )
        if self._me != me:
            self._dirty.set()

    async def retire(self) -> None:
        """Says at once that this node campaigns no more, so that nobody leaves it a head start.

        Without an answer of etcd the others find out when the lease is over.
        """
        self.publish(eligible=False)
        lease = self._lease.current
        if lease is None:
            return
        try:
            await self._client.put(self._key, self._value(), lease=lease)
        except EtcdError as error:
            _log.info("membership_not_written", error=str(error))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._advertise())

    async def _watch(self) -> None:
        changes = self._client.watch_prefix(self._keyspace.nodes, poll_ms=self._settings.poll_ms)
        async with aclosing(changes):
            async for change in changes:
                self._apply(change)
                for listener in self._listeners:
                    listener()

    def _apply(self, change: Change) -> None:
        match change:
            case Snapshot(records=records):
                self._members = dict(filter(None, map(self._live, records)))
                self._known = True
            case Changed(record=record):
                self._members.update(filter(None, [self._live(record)]))
            case Removed(key=key):
                self._members.pop(self._keyspace.node_of(key), None)
        mine = self._members.get(self._me.node)
        if mine is None and self._lease.current is not None:
            self._dirty.set()  # somebody deleted it, or the store was wiped

    def _live(self, record: Record) -> tuple[str, LiveNode] | None:
        node = self._keyspace.node_of(record.key)
        info = _parse(node, record.value)
        if info is None:
            return None
        before = self._members.get(node)
        same = before is not None and before.create_revision == record.create_revision
        since = before.since if before is not None and same else asyncio.get_running_loop().time()
        return node, LiveNode(info, record.create_revision, since)

    async def _advertise(self) -> None:
        backoff = self._settings.backoff
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            pause_s = self._settings.report_ms / 1_000
            if self._lease.current is not None:
                try:
                    await self._client.put(self._key, self._value(), lease=self._lease.current)
                    backoff.reset()
                except EtcdError as error:
                    _log.info("membership_not_written", error=str(error))
                    self._dirty.set()
                    pause_s = backoff.next_s()
            await asyncio.sleep(pause_s)

    def _value(self) -> bytes:
        return json.dumps(dataclasses.asdict(self._me), separators=(",", ":")).encode()

    def _on_lease(self, _change: LeaseChange) -> None:
        self._dirty.set()


def _parse(node: str, value: bytes) -> NodeInfo | None:
    """Read a record; fields of a newer version are skipped, an unreadable record is no member."""
    try:
        fields = json.loads(value)
        return NodeInfo(
            node=node,
            address=str(fields["address"]),
            started_at_ms=int(fields["started_at_ms"]),
            eligible=bool(fields.get("eligible", True)),
            committed_at_ms=int(fields.get("committed_at_ms", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("membership_record_unreadable", node=node, error=str(error))
        return None
