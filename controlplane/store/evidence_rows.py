"""The rows that a verification judges, as plain values.

A `Position` is (epoch, batch) of the shard: positions of one shard are totally ordered by what the
fence let through, so they say what came first, whatever any clock said.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from controlplane.store.records import RunItem

Position: TypeAlias = tuple[int, int]


class ShardEvidence(NamedTuple):
    """A shard, and its book of takeovers: how many, by how many holders, and the last one."""

    shard: int
    epoch: int
    batch: int
    holder: bytes
    node: str
    takeovers: int
    holders: int
    last_epoch: int
    last_holder: bytes


class AttemptEvidence(NamedTuple):
    """An attempt; `ended_*` None: it is live."""

    task: int
    expansion: int
    attempt_id: bytes
    number: int
    state: int
    agent: str
    exit_code: int | None
    signal: int
    epoch: int
    batch: int
    ended_epoch: int | None
    ended_batch: int | None

    @property
    def assigned(self) -> Position:
        return self.epoch, self.batch

    @property
    def ended(self) -> Position | None:
        """None: it is live."""
        if self.ended_epoch is None or self.ended_batch is None:
            return None
        return self.ended_epoch, self.ended_batch

    @property
    def epochs(self) -> tuple[int, ...]:
        return (self.epoch,) if self.ended_epoch is None else (self.epoch, self.ended_epoch)


class LateEvidence(NamedTuple):
    """What was said of an attempt after it had been given up."""

    task: int
    expansion: int
    attempt_id: bytes
    state: int
    epoch: int
    batch: int
    adopted: bool

    @property
    def recorded(self) -> Position:
        return self.epoch, self.batch

    @property
    def epochs(self) -> tuple[int, ...]:
        return (self.epoch,)


class WaitEvidence(NamedTuple):
    """A wait of a task instance."""

    task: int
    expansion: int
    kind: int
    number: int


class RunEvidence(NamedTuple):
    """All rows about one run. `states`: as sealed. `instant`: outcome and run of the ledger's row
    for its logical time. `epochs`: of those that its rows name, the ones that were taken over, each
    with its last batch (None: not known). `restored_epoch`: the first one after the store went back
    in time; 0: it never did.
    """

    run: RunItem
    attempts: tuple[AttemptEvidence, ...] = ()
    late: tuple[LateEvidence, ...] = ()
    waits: tuple[WaitEvidence, ...] = ()
    states: bytes | None = None
    instant: tuple[int, bytes | None] | None = None
    epochs: Mapping[int, int | None] = MappingProxyType({})
    restored_epoch: int = 0


class LiveEvidence(NamedTuple):
    """A live attempt, with shard and state of its run; None: there is no such run."""

    shard: int
    run: int
    task: int
    expansion: int
    attempt_id: bytes
    epoch: int
    batch: int
    run_shard: int | None
    run_state: int | None


class WaitPlace(NamedTuple):
    """A wait, with shard and state of its run; None: there is no such run."""

    shard: int
    run: int
    task: int
    expansion: int
    kind: int
    run_shard: int | None
    run_state: int | None


class InstantEvidence(NamedTuple):
    """A row of the ledger of instants, with the run that it names and its schedule as it is now;
    None: there is none. `dag_updated_us`: the schedule is what it is at least since then.
    """

    tenant: str
    dag: str
    schedule: str
    instant_us: int
    outcome: int
    run_id: bytes | None
    reason: str
    run_tenant: str | None
    run_dag: str | None
    run_schedule: str | None
    run_logical_us: int | None
    definition: str | None
    next_us: int | None
    dag_updated_us: int | None

    @property
    def owner(self) -> tuple[str, str, str]:
        return self.tenant, self.dag, self.schedule


class CommandEvidence(NamedTuple):
    """A command; `quarantined`: it has a row among what was set aside."""

    command: int
    shard: int
    tenant: str
    outcome: int | None
    run_id: bytes | None
    body: bytes
    quarantined: bool


class RequestEvidence(NamedTuple):
    """The key of a request, with tenant and run of its command; both None: it has no command."""

    tenant: str
    key_hash: bytes
    command: int
    run_id: bytes | None
    command_tenant: str | None
    command_run_id: bytes | None


class VersionEvidence(NamedTuple):
    """A version of a DAG. `spec` None: its definition is not stored. `current`: the DAG has it now,
    and says that it has `dag_task_count` tasks.
    """

    tenant: str
    dag: str
    digest: bytes
    task_count: int
    spec: bytes | None
    current: bool
    dag_task_count: int
