"""The values that the agent's decisions are made of.

Decides nothing. Amounts are exact integers; the values of the enums are those of the contract.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Now(NamedTuple):
    """One reading of both clocks: `wall_us` since the epoch (UTC), `mono_ms` since the boot of the
    machine, its sleep included (CLOCK_BOOTTIME): attempt leases are told in it.
    """

    wall_us: int
    mono_ms: int


class Amount(NamedTuple):
    """An amount of resources: thousandths of a core, bytes of memory."""

    cpu_millis: int = 0
    memory_bytes: int = 0

    def plus(self, other: Amount) -> Amount:
        if not any(other):
            return self
        return Amount(self.cpu_millis + other.cpu_millis, self.memory_bytes + other.memory_bytes)

    def minus(self, other: Amount) -> Amount:
        """The difference of each part, never below zero."""
        cpu_millis = self.cpu_millis - other.cpu_millis
        memory_bytes = self.memory_bytes - other.memory_bytes
        if cpu_millis < 0 or memory_bytes < 0:
            return Amount(max(0, cpu_millis), max(0, memory_bytes))
        return Amount(cpu_millis, memory_bytes)

    def times(self, count: int) -> Amount:
        return Amount(self.cpu_millis * count, self.memory_bytes * count)

    def least(self, other: Amount) -> Amount:
        """The smaller of each part."""
        if other.covers(self):
            return self
        return Amount(
            min(self.cpu_millis, other.cpu_millis), min(self.memory_bytes, other.memory_bytes)
        )

    def most(self, other: Amount) -> Amount:
        """The larger of each part."""
        if self.covers(other):
            return self
        return Amount(
            max(self.cpu_millis, other.cpu_millis), max(self.memory_bytes, other.memory_bytes)
        )

    def covers(self, other: Amount) -> bool:
        return self.cpu_millis >= other.cpu_millis and self.memory_bytes >= other.memory_bytes

    def __bool__(self) -> bool:
        return self.cpu_millis > 0 or self.memory_bytes > 0


NOTHING = Amount()


class Outcome(enum.IntEnum):
    """How an attempt ended."""

    SUCCEEDED = 1
    FAILED = 2
    TIMED_OUT = 3
    CANCELLED = 4
    LOST = 5


class RejectReason(enum.IntEnum):
    """Why an assignment is refused. One of an old epoch has no answer."""

    INCARNATION = 1
    CAPACITY = 3
    STOPPING = 4
    LEASE = 5


class Containment(enum.IntEnum):
    """What surely ends together with the supervisor: all processes of attempts, or only the first
    of each.
    """

    NAMESPACE = 1
    PROCESS = 2


class EndCause(enum.Enum):
    """Why the supervisor ended an attempt; NONE: it did not, the process ended by itself."""

    NONE = "none"
    CANCELLED = "cancelled"
    AGENT_STOPPED = "agent_stopped"
    TIMED_OUT = "timed_out"
    LEASE = "lease"


class RefusalReason(enum.IntEnum):
    """Why a node refuses a session; DENIED is the agent's own word for a refused credential."""

    DENIED = -1
    UNSPECIFIED = 0
    NAME_TAKEN = 1
    VERSION = 2
    BAD_HELLO = 3


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What to execute. `timeout_ms` 0: no limit; `cwd` empty: a fresh folder. `overtime_ms`: how
    long it may run on after its attempt lease.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    timeout_ms: int = 0
    grace_ms: int = 0
    request: Amount = NOTHING
    overtime_ms: int = 0
