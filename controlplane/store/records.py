"""Decides the rows that the store gives and takes, beyond those of the core.

Times are microseconds since the epoch (UTC). Ids of runs and attempts are 16 bytes. Specs and
bodies are bytes that the store does not look into.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.core.events import (
    DagRecord,
    EndRecord,
    LiveRecord,
    RunRecord,
    ScheduleRecord,
    WaitRecord,
)


class Fence(NamedTuple):
    """The right to write one batch: batches of an epoch are numbered from 1 without gaps."""

    shard: int
    epoch: int
    batch: int


class ShardState(NamedTuple):
    """Who leads a shard. Epoch 0: nobody has led it yet."""

    shard: int
    epoch: int
    batch: int
    holder: bytes
    node: str
    address: str
    taken_over_us: int


class CommandRow(NamedTuple):
    """A command of the inbox that is not applied."""

    command: int
    tenant: str
    body: bytes


class VersionRow(NamedTuple):
    """The stored definition of a DAG version."""

    tenant: str
    dag: str
    digest: bytes
    spec: bytes


class RecoveredRows(NamedTuple):
    """`Recovered` of the core, with versions as they are stored: the leader compiles them."""

    versions: tuple[VersionRow, ...]
    dags: tuple[DagRecord, ...]
    schedules: tuple[ScheduleRecord, ...]
    runs: tuple[RunRecord, ...]
    live: tuple[LiveRecord, ...]
    ended: tuple[EndRecord, ...]
    waits: tuple[WaitRecord, ...]
