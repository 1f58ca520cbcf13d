"""What the core asks its shell to do.

Decides nothing. The shell performs all actions in the order in which they were returned, over all
calls; a `Record` to be synced holds back what comes after it until it is on disk. A `Send` or
`CloseSession` for a stream that is gone does nothing; neither does an action for a supervisor that
is gone, since the next SupervisorReady says what was done.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.entries import Assign, Entry
from agent.core.records import Record as JournalEntry
from agent.core.types import EndCause, RefusalReason


@dataclass(frozen=True, slots=True)
class Record:
    """Write into the journal. `synced`: what follows waits until it is on disk."""

    record: JournalEntry
    synced: bool


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
    """Have the supervisor claim and start an attempt; it answers with ProcessSpawned or
    SpawnFailed, and enforces the attempt lease and the timeout of the specification. Meant for the
    supervisor of the SupervisorReady with this number, from 1: another one is not asked, since
    its own SupervisorReady decides whether the attempt is spawned anew.
    """

    assign: Assign
    lease_until_ms: int
    supervisor: int = 0


@dataclass(frozen=True, slots=True)
class ExtendLeases:
    """The attempts of a shard may run until `until_ms`, each with its own overtime after that.
    Never shortens.
    """

    shard: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Have the supervisor end an attempt: SIGTERM, SIGKILL after `grace_ms` (0: at once). May be
    asked again: the first cause stays, and nothing happens later than was asked before.
    """

    attempt_id: bytes
    cause: EndCause
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The result of an attempt is recorded, or nobody wants it: nothing of it need be kept. The
    attempt may be unknown.
    """

    attempt_id: bytes


@dataclass(frozen=True, slots=True)
class Adopted:
    """An attempt of an earlier start of the agent is held again: its output is read on, where there
    is any. `over`: nothing is added to it any more.
    """

    assign: Assign
    over: bool


@dataclass(frozen=True, slots=True)
class EndSupervisor:
    """Nothing is left to supervise, or nothing may be left: it ends, and what runs with it."""


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
    OpenSession
    | CloseSession
    | Send
    | Record
    | Spawn
    | ExtendLeases
    | Stop
    | Forget
    | Adopted
    | EndSupervisor
    | StartTail
    | StopTail
    | Refused
    | Note
    | Exit
)
