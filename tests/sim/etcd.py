"""An etcd in memory, on virtual time: keys, revisions, leases, watches.

Promises what the contract tests of coordination ask of it and of the real one. Belongs to no
process that can be stopped. Can be made to stand still, to go away, to forget its history, to lose
keys and leases, to tell changes late, and to go back to an older state of itself, empty or not.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

from controlplane.coordination.errors import CompactedError, EtcdUnavailable, LeaseNotFound
from controlplane.coordination.records import (
    Changed,
    DeleteOutcome,
    Grant,
    PutOutcome,
    Record,
    Removed,
    Snapshot,
)
from tests.sim.virtual import VirtualLoop

# Changes that are kept for watches; what is older has been compacted.
HISTORY = 1_000
# Below this, time does not move on for a float.
LEAST_S = 1e-6
Batch = tuple[Changed | Removed, ...]


@dataclasses.dataclass(slots=True)
class _Lease:
    ttl_s: int
    until_s: float = 0.0
    timer: asyncio.TimerHandle | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """Everything that etcd has on its disk."""

    revision: int
    records: dict[str, Record]
    ttls_s: dict[int, int]
    history: tuple[Batch, ...]
    compacted: int


NOTHING = State(1, {}, {}, (), 0)


class MemoryEtcd:
    """The server. Every operation happens in one moment; `hidden` of a client is its own affair."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop = loop
        self.down = False  # nobody listens
        self.paused = False  # everybody waits
        self.watch_delay_s = 0.0
        self.revision = 1
        self.records: dict[str, Record] = {}
        # What one revision changed, for every revision; `compacted`: the oldest that is readable.
        self._history: deque[Batch] = deque()
        self._compacted = 0
        self._leases: dict[int, _Lease] = {}
        # Ids are made of the time in etcd: none comes twice, whatever was lost.
        self._last_lease = 0
        self._streams: list[MemoryStream] = []

    # Keys

    def get(self, key: str) -> Record | None:
        return self.records.get(key)

    def get_prefix(self, prefix: str) -> Snapshot:
        found = sorted(key for key in self.records if key.startswith(prefix))
        return Snapshot(self.revision, tuple(self.records[key] for key in found))

    def put(self, key: str, value: bytes, lease: int) -> int:
        if lease and lease not in self._leases:
            raise LeaseNotFound("NOT_FOUND", "requested lease not found")
        self.revision += 1
        before = self.records.get(key)
        created = before.create_revision if before else self.revision
        self.records[key] = Record(key, value, created, self.revision, lease)
        self._tell([Changed(self.records[key])])
        return self.revision

    def put_if(self, key: str, value: bytes, create_revision: int, lease: int) -> PutOutcome:
        before = self.records.get(key)
        if (before.create_revision if before else 0) != create_revision:
            return PutOutcome(done=False, record=before)
        self.put(key, value, lease)
        return PutOutcome(done=True, record=self.records[key])

    def delete(self, key: str) -> bool:
        found = key in self.records
        self._delete([key] if found else [])
        return found

    def _delete(self, keys: list[str]) -> None:
        """All in one revision."""
        if keys:
            self.revision += 1
            for key in keys:
                del self.records[key]
            self._tell([Removed(key, self.revision) for key in keys])

    def delete_if(self, key: str, create_revision: int, lease: int) -> DeleteOutcome:
        before = self.records.get(key)
        there = (before.create_revision, before.lease) if before else (0, 0)
        if there != (create_revision, lease):
            return DeleteOutcome(done=False, revision=self.revision)
        self.delete(key)
        return DeleteOutcome(done=True, revision=self.revision)

    # Leases

    def grant(self, ttl_s: int) -> Grant:
        self._last_lease = max(self._last_lease + 1, round(self._loop.time() * 1_000))
        self._leases[self._last_lease] = _Lease(ttl_s)
        self._begin(self._last_lease)
        return Grant(self._last_lease, ttl_s)

    def renew(self, number: int) -> int:
        lease = self._leases.get(number)
        if lease is None:
            return 0
        lease.until_s = self._loop.time() + lease.ttl_s
        return lease.ttl_s

    def revoke(self, number: int) -> None:
        if self._leases.pop(number, None) is None:
            raise LeaseNotFound("NOT_FOUND", "requested lease not found")
        self._delete([key for key, record in self.records.items() if record.lease == number])

    def lease_ttl_s(self, number: int) -> int:
        lease = self._leases.get(number)
        return -1 if lease is None else int(lease.until_s - self._loop.time())

    @property
    def leases(self) -> list[int]:
        """All that have not ended."""
        return list(self._leases)

    def _begin(self, number: int) -> None:
        """A lease lives for its time from now on, unless it is renewed."""
        lease = self._leases[number]
        lease.until_s = self._loop.time() + lease.ttl_s
        self._look_at(number)

    def _look_at(self, number: int) -> None:
        """Ends a lease whose time is over, or looks again when it may be."""
        lease = self._leases.get(number)
        if lease is None or self.paused or self.down:
            return
        if lease.timer is not None:
            lease.timer.cancel()
        left_s = lease.until_s - self._loop.time()
        if left_s < LEAST_S:
            self.revoke(number)
        else:
            lease.timer = self._loop.call_outside(left_s, self._look_at, number)

    # Watches

    def open_watch(self, prefix: str, start_revision: int) -> MemoryStream:
        """Changes from a revision on, as far as they are remembered."""
        self._streams = [each for each in self._streams if not each.ended]
        if start_revision < self._compacted:
            raise CompactedError("OUT_OF_RANGE", f"compacted at {self._compacted}")
        stream = MemoryStream(self, prefix, start_revision, self._loop)
        self._streams.append(stream)
        for batch in self._history:
            stream.tell(batch, 0.0)
        return stream

    def _tell(self, changes: Sequence[Changed | Removed]) -> None:
        self._history.append(tuple(changes))
        if len(self._history) > HISTORY:
            self.compact(self._history[1][0].revision)
        for stream in self._streams:
            stream.tell(self._history[-1], self.watch_delay_s)

    # What may happen to it

    def compact(self, revision: int) -> None:
        """Forget the history before a revision."""
        self._compacted = max(self._compacted, revision)
        while self._history and self._history[0][0].revision < revision:
            self._history.popleft()

    def pause(self) -> None:
        """As SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """As SIGCONT does: leases whose time is over end at once."""
        self.paused = False
        for number in self.leases:
            self._look_at(number)

    def stop(self) -> None:
        """Nobody listens, streams end, and nothing is lost."""
        self.down = True
        for stream in self._streams:
            stream.end(EtcdUnavailable("UNAVAILABLE", "the server stopped"))
        self._streams = []

    def start(self) -> None:
        """After a start every lease has its whole time again: who was away must have a chance."""
        self.down = self.paused = False
        for number in self.leases:
            self._begin(number)

    def state(self) -> State:
        """A copy of what is on the disk."""
        ttls_s = {number: lease.ttl_s for number, lease in self._leases.items()}
        history = tuple(self._history)
        return State(self.revision, dict(self.records), ttls_s, history, self._compacted)

    def go_back(self, state: State = NOTHING) -> None:
        """Restart with an older disk, or with an empty one."""
        self.stop()
        self.revision, self.records = state.revision, dict(state.records)
        self._history, self._compacted = deque(state.history), state.compacted
        self._leases = {number: _Lease(ttl_s) for number, ttl_s in state.ttls_s.items()}
        self.start()


class MemoryStream:
    """One watch at the one member."""

    in_use = True

    def __init__(
        self, etcd: MemoryEtcd, prefix: str, start_revision: int, loop: VirtualLoop
    ) -> None:
        self.revision = etcd.revision
        self.ended: Exception | None = None
        self.cut: Callable[[], bool] = lambda: False
        self._prefix = prefix
        self._start_revision = start_revision
        self._loop = loop
        self._coming: deque[list[Changed | Removed]] = deque()
        self._here: list[Changed | Removed] = []
        self._reader: asyncio.Future[None] | None = None

    async def read(self) -> Sequence[Changed | Removed]:
        while not self._here:
            if self.ended is not None:
                raise self.ended
            self._reader = self._loop.create_future()
            await self._reader
        here, self._here = self._here, []
        return here

    def close(self) -> None:
        self.end(EtcdUnavailable("CANCELLED", "closed"))

    def tell(self, batch: Batch, delay_s: float) -> None:
        """Changes are on their way; what was sent earlier arrives earlier."""
        if batch[0].revision >= self._start_revision:
            mine = [change for change in batch if _key(change).startswith(self._prefix)]
            if mine:
                self._coming.append(mine)
                self._loop.call_outside(delay_s, self._arrive)

    def end(self, error: Exception) -> None:
        """Nothing comes any more."""
        self.ended = self.ended or error
        self._wake()

    def _arrive(self) -> None:
        if self.cut():
            self.end(EtcdUnavailable("UNAVAILABLE", "the connection broke"))
        if self.ended is None:
            self._here += self._coming.popleft()
            self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _key(change: Changed | Removed) -> str:
    return change.record.key if isinstance(change, Changed) else change.key
