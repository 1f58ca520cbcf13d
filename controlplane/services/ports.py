"""What the use cases need from the node around them, beside the store.

Each is small enough for a test to stand in for. Who implements them: the leaders of the node and
the gRPC client to its peers (`Leaders`), the session hub (`LogTails`), the fleet (`Rooms`), and the
membership of coordination (`Membership`), and the session hub again (`Absences`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from typing import Protocol

from controlplane.coordination.membership import LiveNode
from controlplane.core.fleet.placement import Room
from controlplane.objectstore.logs import LogPiece


class Leaders(Protocol):
    """The leaders of shards, here or anywhere."""

    async def poke(
        self, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        """Tells leaders that the inboxes of their shards have new rows.

        Returns the shards whose leader heard of it. Returns once all `commands` are applied, or
        after `wait_ms` milliseconds (0: at once), or when no leader was reached. Never raises for a
        leader that is missing: pokes are an optimisation.
        """
        ...


class LogTails(Protocol):
    """Live logs of attempts, read from the agents that hold them."""

    def tail(
        self, agent: str, attempt_id: bytes, offsets: tuple[int, int]
    ) -> AsyncGenerator[LogPiece, None]:
        """What an attempt writes from these offsets (stdout, stderr) on.

        Ends when the attempt is over, when the agent does not hold it, and when the agent has no
        session with this node.
        """
        ...


class Rooms(Protocol):
    """The agents as this node sees them."""

    def rooms(self) -> tuple[Room, ...]:
        """All agents that had a session here since the node started."""
        ...


class Absences(Protocol):
    """Which agents have left this node."""

    def left_us(self, agent: str) -> int | None:
        """When the last session of an agent ended, which has had no other here since; None: it
        has one, or has had none since the node started.
        """
        ...


class Membership(Protocol):
    """The nodes of the cluster."""

    @property
    def members(self) -> Mapping[str, LiveNode]:
        """Live nodes by id."""
        ...
