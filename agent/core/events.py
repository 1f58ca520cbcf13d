"""What can happen to an agent.

Decides nothing. `session` numbers the stream that an event belongs to: the core drops what belongs
to an older one. Times that end up in a result are taken by the shell at the moment itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.entries import NodeFrame
from agent.core.types import Amount, Containment, EndCause


@dataclass(frozen=True, slots=True)
class NodeConnected:
    address: str
    session: int


@dataclass(frozen=True, slots=True)
class Frame:
    address: str
    session: int
    frame: NodeFrame


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A stream ended or could not be opened; `denied`: the credential was refused."""

    address: str
    session: int
    reason: str
    denied: bool = False


@dataclass(frozen=True, slots=True)
class ProcessSpawned:
    """A process runs. `pid` as the supervisor sees it; `start_ticks`: its start, in clock ticks
    since the boot.
    """

    attempt_id: bytes
    started_at_us: int
    pid: int = 0
    start_ticks: int = 0


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """Nothing runs and nothing will. `cause` LEASE: the attempt lease was over."""

    attempt_id: bytes
    message: str
    at_us: int
    cause: EndCause = EndCause.NONE


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The end of a process. `exit_code` -1: there is none; `signal` 0: none. `cause`: why the
    supervisor had begun to end it before.
    """

    attempt_id: bytes
    exit_code: int
    signal: int
    finished_at_us: int
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    message: str = ""
    cause: EndCause = EndCause.NONE


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt was about to be spawned; whether it was, and how it ended, nobody knows."""

    attempt_id: bytes
    claimed_at_us: int


@dataclass(frozen=True, slots=True)
class Supervised:
    """What the supervisor knows of an attempt. `spawned` without `ended`: its process runs now.
    Neither: it was claimed, and nothing more is known. `failed`: it could not be spawned.
    """

    claimed: Claimed
    spawned: ProcessSpawned | None = None
    ended: ProcessExited | None = None
    failed: SpawnFailed | None = None


@dataclass(frozen=True, slots=True)
class SupervisorReady:
    """The supervisor answers: this is all that it knows. What was asked of an earlier one and is
    not here was not done. Every process of an earlier supervisor has ended.
    """

    containment: Containment
    attempts: tuple[Supervised, ...]


@dataclass(frozen=True, slots=True)
class SupervisorGone:
    """The supervisor ended; SupervisorReady follows when another answers."""

    reason: str


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of a log for a reading; with `eof` the reading is over."""

    address: str
    session: int
    tail: int
    is_stderr: bool
    offset: int
    data: bytes
    eof: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed; `used` is the load of the machine."""

    used: Amount


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The agent shall end: with its tasks, or (`handing_over`) leaving them to the supervisor for
    the next start.
    """

    handing_over: bool = False


Event = (
    NodeConnected
    | Frame
    | NodeLost
    | ProcessSpawned
    | SpawnFailed
    | ProcessExited
    | SupervisorReady
    | SupervisorGone
    | LogPiece
    | Tick
    | StopRequested
)
