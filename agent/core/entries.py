"""The entries of the frames between an agent and a node, as plain values.

Decides nothing: one class for each message of the session contract, with the same fields and
units. The codec of the stream maps them to bytes; the core never sees bytes of the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from agent.core.types import (
    NOTHING,
    Amount,
    Containment,
    ExecSpec,
    Outcome,
    RefusalReason,
    RejectReason,
)

# What an agent says.


@dataclass(frozen=True, slots=True)
class ShardMemory:
    """The highest epoch seen of a shard, the highest batch of it, and whose it is."""

    shard: int
    epoch: int
    batch: int
    holder: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    agent: str
    incarnation: bytes
    boot_id: str
    capacity: Amount
    labels: tuple[tuple[str, str], ...]
    version: str
    session: int
    containment: Containment
    memories: tuple[ShardMemory, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    beat: int
    used: Amount


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    attempt_id: bytes
    started_at_us: int


@dataclass(frozen=True, slots=True)
class Result:
    shard: int
    attempt_id: bytes
    outcome: Outcome
    exit_code: int
    signal: int
    started_at_us: int
    finished_at_us: int
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an attempt is of."""

    attempt_id: bytes
    run: str
    task: str
    number: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """`subjects`: of all these attempts, for a shard whose store has forgotten them."""

    shard: int
    epoch: int
    live: tuple[LiveAttempt, ...]
    finished: tuple[Result, ...]
    subjects: tuple[Subject, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    shard: int
    attempt_id: bytes


@dataclass(frozen=True, slots=True)
class Started:
    shard: int
    attempt_id: bytes
    started_at_us: int


@dataclass(frozen=True, slots=True)
class Rejected:
    shard: int
    attempt_id: bytes
    reason: RejectReason
    message: str


@dataclass(frozen=True, slots=True)
class Grant:
    number: int
    amount: Amount


@dataclass(frozen=True, slots=True)
class Recall:
    number: int
    amount: Amount


@dataclass(frozen=True, slots=True)
class LogData:
    tail: int
    is_stderr: bool
    offset: int
    data: bytes
    eof: bool


Entry = (
    Hello
    | Heartbeat
    | ShardMemory
    | Inventory
    | Accepted
    | Started
    | Result
    | Rejected
    | Grant
    | Recall
    | LogData
)

# What a node says.


@dataclass(frozen=True, slots=True)
class Leadership:
    """The claim of a node to lead a shard; `holder` is the random id of its takeover."""

    shard: int
    epoch: int
    holder: bytes
    batch: int


@dataclass(frozen=True, slots=True)
class Welcome:
    node: str
    shards: tuple[Leadership, ...]
    peers: tuple[str, ...]
    heartbeat_ms: int
    session: int
    attempt_lease_ms: int


@dataclass(frozen=True, slots=True)
class Assign:
    """An assignment; `spec` is None when its bytes could not be read. `beat`: the heartbeat of
    this session (0: its hello) whose sending began the attempt lease.
    """

    shard: int
    epoch: int
    batch: int
    attempt_id: bytes
    incarnation: bytes
    beat: int = 0
    number: int = 0
    dag: str = ""
    run: str = ""
    task: str = ""
    tenant: str = ""
    logical_time_us: int = 0
    spec: ExecSpec | None = None

    @property
    def request(self) -> Amount:
        return self.spec.request if self.spec else NOTHING


@dataclass(frozen=True, slots=True)
class Cancel:
    shard: int
    epoch: int
    attempt_id: bytes


@dataclass(frozen=True, slots=True)
class LeaseExtension:
    """Attempts of one shard may run on; `beat` as in Assign."""

    shard: int
    epoch: int
    beat: int


class Rank(NamedTuple):
    """The order of demands: the smallest goes first."""

    priority_class: int
    share_ppm: int
    oldest_ready_us: int


@dataclass(frozen=True, slots=True)
class ShapeDemand:
    request: Amount
    count: int
    rank: Rank


@dataclass(frozen=True, slots=True)
class Demand:
    """What a node would use beyond its grant of a number, best rank first; no shapes: nothing."""

    shapes: tuple[ShapeDemand, ...] = ()
    grant_number: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    number: int
    amount: Amount


@dataclass(frozen=True, slots=True)
class LogTail:
    tail: int
    attempt_id: bytes
    stdout_offset: int
    stderr_offset: int
    stop: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: RefusalReason
    message: str


class NodeFrame(NamedTuple):
    """All entries of one frame of a node. HeartbeatAck needs no entry here: any frame is a sign of
    life.
    """

    welcome: Welcome | None = None
    assigns: tuple[Assign, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    result_acks: tuple[bytes, ...] = ()
    demand: Demand | None = None
    release: Release | None = None
    log_tails: tuple[LogTail, ...] = ()
    refusal: Refusal | None = None
    lease_extensions: tuple[LeaseExtension, ...] = ()
