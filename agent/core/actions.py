"""What the core asks its shell to do.

Decides nothing. The shell performs the actions of one call in their order. A `Send` or
`CloseSession` for a stream that is gone does nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from agent.core.entries import Assign, Entry
from agent.core.types import RefusalReason


class Signal(enum.Enum):
    """How a process group is asked, or made, to end."""

    TERM = "TERM"
    KILL = "KILL"


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a stream; answer with NodeConnected or NodeLost of the same number."""

    address: str
    session: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    address: str
    session: int
    reason: str


@dataclass(frozen=True, slots=True)
class Send:
    """Entries for one node, in order; those of one turn of the loop travel in one frame."""

    address: str
    session: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process of an attempt; answer with ProcessSpawned or SpawnFailed."""

    assign: Assign


@dataclass(frozen=True, slots=True)
class Kill:
    """Signal the whole process group of an attempt."""

    attempt_id: bytes
    signal: Signal


@dataclass(frozen=True, slots=True)
class StartTail:
    """Read a log live; answer with LogPiece until one has `eof`."""

    address: str
    session: int
    tail: int
    attempt_id: bytes
    stdout_offset: int
    stderr_offset: int


@dataclass(frozen=True, slots=True)
class StopTail:
    address: str
    session: int
    tail: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No node takes this agent: end with a message, nothing is lost by it."""

    address: str
    reason: RefusalReason
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator should find in the log."""

    text: str
    address: str = ""
    shard: int = -1


@dataclass(frozen=True, slots=True)
class Exit:
    """The agent has stopped: end the process."""


Action = (
    OpenSession | CloseSession | Send | Spawn | Kill | StartTail | StopTail | Refused | Note | Exit
)
