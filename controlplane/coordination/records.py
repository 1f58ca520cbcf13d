"""What is read from etcd, as values.

Decides nothing. Revisions are etcd's: they grow with every write of the cluster, until it is wiped.
"""

from __future__ import annotations

import dataclasses
import enum

from mainspring.etcd import kv_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One key. lease: id of the lease that it is bound to, 0 = none."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys of a prefix at one revision: it replaces whatever was known of the prefix."""

    revision: int
    records: tuple[Record, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """A key was created or overwritten."""

    record: Record

    @property
    def revision(self) -> int:
        return self.record.mod_revision


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """A key was deleted, or its lease ended, at this revision."""

    key: str
    revision: int


Change = Snapshot | Changed | Removed


@dataclasses.dataclass(frozen=True, slots=True)
class PutOutcome:
    """done: the write is in place. record: the key as it is now, None = absent."""

    done: bool
    record: Record | None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """done: this call deleted the key. revision: of the store, at or after the comparison."""

    done: bool
    revision: int


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A lease as etcd granted it; it may live longer than was wished."""

    lease: int
    ttl_s: int


class LeaseEnd(enum.Enum):
    """Why a lease was lost."""

    GONE = "gone"  # etcd does not know it: expired there, revoked, or the store was wiped
    EXPIRED = "expired"  # no renewal was answered in time
    STALLED = "stalled"  # the main loop did not tick, so the lease was left to expire


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseGranted:
    """From now on keys may be bound to this lease."""

    lease: int


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseLost:
    """Keys bound to this lease are gone, or will be soon."""

    lease: int
    reason: LeaseEnd


LeaseChange = LeaseGranted | LeaseLost


def record_of(kv: kv_pb2.KeyValue) -> Record:
    return Record(
        key=kv.key.decode(errors="replace"),
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        lease=kv.lease,
    )


def change_of(event: kv_pb2.Event) -> Changed | Removed:
    record = record_of(event.kv)
    if event.type == kv_pb2.Event.DELETE:
        return Removed(record.key, record.mod_revision)
    return Changed(record)
