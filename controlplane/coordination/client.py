"""Our client of etcd: keys, transactions, leases, watches.

Decides nothing about the cluster. Promises: reads are linearizable; every call has a deadline per
member and moves on to the next member when one does not answer; errors are those of `errors`. After
EtcdUnavailable a write may have been applied; conditional writes are built so that their repetition
gives the true answer. Belongs to the event loop in which it was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Self

from mainspring.etcd import rpc_pb2

from controlplane.coordination.errors import EtcdError
from controlplane.coordination.keys import range_end
from controlplane.coordination.pool import MemberPool
from controlplane.coordination.records import (
    Change,
    DeleteOutcome,
    PutOutcome,
    Record,
    Snapshot,
    record_of,
)
from controlplane.coordination.settings import TOKEN_RENEW_MS, Backoff, CoordinationSettings
from controlplane.coordination.streams import MemberWatch
from controlplane.coordination.watch import PrefixWatch
from controlplane.settings.etcd import EtcdAccess


@dataclasses.dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member as it sees itself; error is empty when it answered."""

    endpoint: str
    version: str
    has_leader: bool
    error: str


class EtcdClient:
    """Use under `async with`, or close it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        deadline_ms: int,
        access: EtcdAccess | None = None,
        token_renew_ms: int = TOKEN_RENEW_MS,
        backoff: Backoff | None = None,
    ) -> None:
        self._pool = MemberPool(
            endpoints,
            deadline_ms=deadline_ms,
            access=access or EtcdAccess(),
            token_renew_ms=token_renew_ms,
        )
        self._backoff = backoff or Backoff(50, 1_000)

    @classmethod
    def from_settings(cls, settings: CoordinationSettings) -> EtcdClient:
        return cls(
            settings.endpoints,
            deadline_ms=settings.deadline_ms,
            access=settings.access,
            token_renew_ms=settings.token_renew_ms,
            backoff=settings.backoff,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._pool.close()

    # Keys

    async def get(self, key: str) -> Record | None:
        request = rpc_pb2.RangeRequest(key=key.encode())
        response = await self._pool.call(lambda m: m.kv.Range, request)
        return record_of(response.kvs[0]) if response.kvs else None

    async def get_prefix(self, prefix: str) -> Snapshot:
        request = rpc_pb2.RangeRequest(key=prefix.encode(), range_end=range_end(prefix))
        response = await self._pool.call(lambda m: m.kv.Range, request)
        return Snapshot(response.header.revision, tuple(record_of(kv) for kv in response.kvs))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write, whatever was there; return the revision. LeaseNotFound if the lease is gone."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value, lease=lease)
        response = await self._pool.call(lambda m: m.kv.Put, request)
        return response.header.revision

    async def delete(self, key: str) -> bool:
        request = rpc_pb2.DeleteRangeRequest(key=key.encode())
        response = await self._pool.call(lambda m: m.kv.DeleteRange, request)
        return response.deleted > 0

    async def put_if_absent(self, key: str, value: bytes, *, lease: int) -> PutOutcome:
        """Create the key, bound to the lease.

        A key that is already there with this lease and this value counts as done: the first try of
        a repeated call made it. So the lease must be the caller's own.
        """
        outcome = await self.put_if(key, value, create_revision=0, lease=lease)
        found = outcome.record
        ours = found is not None and (found.lease, found.value) == (lease, value)
        return dataclasses.replace(outcome, done=outcome.done or ours)

    async def put_if(
        self, key: str, value: bytes, *, create_revision: int, lease: int
    ) -> PutOutcome:
        """Write if the key still is the one created at that revision; 0 = if it is absent."""
        put = rpc_pb2.PutRequest(key=key.encode(), value=value, lease=lease)
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key.encode()))
        request = rpc_pb2.TxnRequest(
            compare=[_created_at(key, create_revision)],
            success=[rpc_pb2.RequestOp(request_put=put), read],
            failure=[read],
        )
        response = await self._pool.call(lambda m: m.kv.Txn, request)
        kvs = response.responses[-1].response_range.kvs
        return PutOutcome(response.succeeded, record_of(kvs[0]) if kvs else None)

    async def delete_if(self, key: str, create_revision: int, lease: int) -> DeleteOutcome:
        """Delete the key if it still is the one created at that revision, bound to that lease.

        A store that went back counts its revisions anew: only the lease tells that one of them now
        belongs to somebody else.
        """
        request = rpc_pb2.TxnRequest(
            compare=[_created_at(key, create_revision), _bound_to(key, lease)],
            success=[
                rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key.encode()))
            ],
        )
        response = await self._pool.call(lambda m: m.kv.Txn, request)
        return DeleteOutcome(response.succeeded, response.header.revision)

    async def compact(self, revision: int) -> None:
        """Forget the history before the revision."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        await self._pool.call(lambda m: m.kv.Compact, request)

    def watch_prefix(self, prefix: str, *, poll_ms: int) -> AsyncGenerator[Change, None]:
        """Iterate over the changes, for ever; see `watch`. Close it (contextlib.aclosing)."""
        watch = PrefixWatch(self, prefix, poll_ms=poll_ms, backoff=self._backoff.fresh())
        return watch.changes()

    async def open_watch(self, prefix: str, start_revision: int) -> MemberWatch:
        """Watch at the current member from a revision on; close what is returned."""
        return await MemberWatch.open(self._pool, prefix, start_revision)

    # Leases (a node's own lease lives in a thread of its own, with its own channels: see `lease`)

    async def grant_lease(self, ttl_s: int) -> int:
        request = rpc_pb2.LeaseGrantRequest(ttl_s=ttl_s)
        response = await self._pool.call(lambda m: m.lease.LeaseGrant, request)
        return response.id

    async def revoke_lease(self, lease: int) -> None:
        """End the lease, with its keys. LeaseNotFound if it is gone already."""
        request = rpc_pb2.LeaseRevokeRequest(id=lease)
        await self._pool.call(lambda m: m.lease.LeaseRevoke, request)

    async def lease_ttl_s(self, lease: int) -> int:
        """Remaining seconds; below 0 = no such lease."""
        request = rpc_pb2.LeaseTimeToLiveRequest(id=lease)
        response = await self._pool.call(lambda m: m.lease.LeaseTimeToLive, request)
        return response.ttl_s

    # Members

    async def status(self) -> list[MemberStatus]:
        """Ask every member for its version and whether it has a leader."""
        statuses = []
        for member in self._pool.members:
            request = rpc_pb2.StatusRequest()
            try:
                answer = await self._pool.call_member(
                    member, lambda m: m.maintenance.Status, request
                )
            except EtcdError as error:
                statuses.append(MemberStatus(member.endpoint.address, "", False, str(error)))
            else:
                address, has_leader = member.endpoint.address, answer.leader != 0
                statuses.append(MemberStatus(address, answer.version, has_leader, ""))
        return statuses


def _created_at(key: str, create_revision: int) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL,
        target=rpc_pb2.Compare.CREATE,
        key=key.encode(),
        create_revision=create_revision,
    )


def _bound_to(key: str, lease: int) -> rpc_pb2.Compare:
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL,
        target=rpc_pb2.Compare.LEASE,
        key=key.encode(),
        lease=lease,
    )
