"""Decides the values that every part of the core shares.

Times are integers: microseconds since the epoch, UTC, where the name ends in `_us`; milliseconds
where it ends in `_ms`. Ids of runs and attempts are 16 bytes that the shell supplied. Nothing here
knows a clock, a store or a wire format.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

BUCKETS = 4096
MICROS_PER_DAY = 86_400_000_000
MAX_BACKOFF_MS = 30 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of processor time (thousandths of a core) and of memory (bytes)."""

    cpu_millis: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpu_millis + other.cpu_millis, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpu_millis - other.cpu_millis, self.memory_bytes - other.memory_bytes)

    def fits(self, room: Resources) -> bool:
        """Whether this amount fits into `room`."""
        return self.cpu_millis <= room.cpu_millis and self.memory_bytes <= room.memory_bytes


class DagKey(NamedTuple):
    """A DAG of a tenant."""

    tenant: str
    dag: str


class RunKey(NamedTuple):
    """Internal key of a run: the UTC day of its creation (days since the epoch) and a number."""

    day: int
    run: int


class TriggerRule(IntEnum):
    """When a task starts, judged over its final parents. Values as in the public contract."""

    ALL_SUCCESS = 1
    ALL_DONE = 2


class OnDisconnect(IntEnum):
    """What becomes of an attempt whose agent is cut off. Values as in the public contract."""

    FENCE = 1
    CONTINUE = 2
    RETRY = 3


class RunCause(IntEnum):
    """What made a run. Values as in the public contract."""

    TRIGGER = 1
    SCHEDULE = 2


class RetryPolicyError(ValueError):
    """Every field of a retry policy that is out of range: `problems` is (field, reason) pairs."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a task instance is tried again.

    `max_attempts` counts the first try. `jitter` is the largest share of a wait that may be
    taken away: 0 keeps waits exact, 1 spreads them over the whole wait.
    """

    max_attempts: int = 1
    initial_backoff_ms: int = 1_000
    multiplier: float = 2.0
    max_backoff_ms: int = 3_600_000
    jitter: float = 0.1

    def __post_init__(self) -> None:
        problems = tuple(_retry_problems(self))
        if problems:
            raise RetryPolicyError(problems)


def _retry_problems(policy: RetryPolicy) -> list[tuple[str, str]]:
    rules = (
        ("max_attempts", 1 <= policy.max_attempts <= 1_000, "between 1 and 1000"),
        (
            "initial_backoff_ms",
            0 <= policy.initial_backoff_ms <= MAX_BACKOFF_MS,
            f"between 0 and {MAX_BACKOFF_MS} (30 days)",
        ),
        ("multiplier", 1.0 <= policy.multiplier <= 100.0, "between 1 and 100"),
        (
            "max_backoff_ms",
            policy.initial_backoff_ms <= policy.max_backoff_ms <= MAX_BACKOFF_MS,
            f"at least initial_backoff_ms and at most {MAX_BACKOFF_MS} (30 days)",
        ),
        ("jitter", 0.0 <= policy.jitter <= 1.0, "between 0 and 1"),
    )
    return [
        (field, f"{getattr(policy, field)!r} is refused; it must be {wanted}")
        for field, holds, wanted in rules
        if not holds
    ]


@dataclass(frozen=True, slots=True)
class TaskDef:
    """One task of a DAG version. `exec_spec` is for the agent and opaque to the core.

    `overtime_ms`: how long an attempt may run on after its attempt lease; the agent knows it from
    `exec_spec`. `idempotent` False: an attempt of unknown outcome waits for an approval.
    """

    task: str
    request: Resources = Resources(1_000, 0)
    rule: TriggerRule = TriggerRule.ALL_SUCCESS
    retry: RetryPolicy = RetryPolicy()
    priority: int = 0
    exec_spec: bytes = b""
    idempotent: bool = True
    on_disconnect: OnDisconnect = OnDisconnect.FENCE
    overtime_ms: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleDef:
    """A schedule of a DAG version; `definition` is the stored text of its timetable."""

    schedule: str
    definition: str


@dataclass(frozen=True, slots=True)
class Adjacency:
    """The edges of a DAG in compressed sparse rows; tasks are numbered in the author's order.

    The children of task t are `children[starts[t]:starts[t + 1]]`; `parent_counts[t]` is the number
    of its parents; `order` is one topological order of all tasks.
    """

    starts: array[int]
    children: array[int]
    parent_counts: array[int]
    order: array[int]


@dataclass(frozen=True, slots=True)
class DagVersion:
    """One immutable definition of a DAG, compiled; shared by all its runs."""

    key: DagKey
    digest: bytes
    tasks: tuple[TaskDef, ...]
    edges: Adjacency = field(repr=False)
    schedules: tuple[ScheduleDef, ...] = ()
    run_timeout_ms: int = 0
    max_active_runs: int = 0


def bucket_of(key: DagKey) -> int:
    """The bucket of a DAG, for ever: 0 to 4,095."""
    digest = blake2b(f"{key.tenant}\0{key.dag}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def day_of(instant_us: int) -> int:
    """Days since the epoch of the UTC day that holds an instant."""
    return instant_us // MICROS_PER_DAY


def uuid7(instant_us: int, random: bytes) -> bytes:
    """A UUID of version 7 (RFC 9562) from an instant and 16 random bytes."""
    head = (instant_us // 1_000).to_bytes(6, "big")
    version = bytes([0x70 | random[6] & 0x0F, random[7], 0x80 | random[8] & 0x3F])
    return head + version + random[9:16]


def uuid_text(raw: bytes) -> str:
    """The usual text form of a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_instant_us(raw: bytes) -> int:
    """The instant inside a UUID of version 7, in microseconds (a multiple of 1,000)."""
    return int.from_bytes(raw[:6], "big") * 1_000
