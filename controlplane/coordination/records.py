"""What is read from etcd, as values.

Decides nothing. Revisions are etcd's: they grow with every write of the cluster, until it is wiped.
"""

from __future__ import annotations

import dataclasses

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


@dataclasses.dataclass(frozen=True, slots=True)
class Removed:
    """A key was deleted, or its lease ended, at this revision."""

    key: str
    revision: int


Change = Snapshot | Changed | Removed


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
