"""What can happen to an agent.

Decides nothing. `session` numbers the stream that an event belongs to: the core drops what belongs
to an older one. Times that end up in a result are taken by the shell at the moment itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.entries import NodeFrame
from agent.core.types import Amount


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
    attempt_id: bytes
    started_at_us: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    attempt_id: bytes
    message: str
    at_us: int


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The end of a process. `exit_code` -1: there is none; `signal` 0: none."""

    attempt_id: bytes
    exit_code: int
    signal: int
    finished_at_us: int
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    message: str = ""


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
    pass


Event = (
    NodeConnected
    | Frame
    | NodeLost
    | ProcessSpawned
    | SpawnFailed
    | ProcessExited
    | LogPiece
    | Tick
    | StopRequested
)
