"""A simulated cluster whose frames, processes and rows are looked at by a test.

Decides nothing.
"""

from __future__ import annotations

from typing import Any

from agent.core.entries import Assign
from agent.core.types import Amount
from controlplane.core.states import AttemptState
from tests.sim.cluster import Cluster
from tests.sim.hosts import SimHost
from tests.sim.network import Link
from tests.sim.nodes import SimNode


class Watched(Cluster):
    """See the module. `frames`: sender, receiver and frame, in the order of their sending."""

    def __init__(self, seed: int, *, nodes: int, shards: int) -> None:
        super().__init__(seed, nodes=nodes, shards=shards)
        # Agent and id of every spawn, by task.
        self.spawns: dict[str, list[tuple[str, bytes]]] = {}
        self.alive: dict[bytes, Assign] = {}
        self.frames: list[tuple[str, str, Any]] = []

    def saw(self, link: Link, frame: Any) -> None:
        """A frame was sent."""
        to_node = type(frame).__name__ == "SessionRequest"
        ends = (link.agent, link.node) if to_node else (link.node, link.agent)
        self.frames.append((*ends, frame))

    def spawned(self, agent: str, assign: Assign, capacity: Amount) -> None:
        self.spawns.setdefault(assign.task, []).append((agent, assign.attempt_id))
        self.alive[assign.attempt_id] = assign
        super().spawned(agent, assign, capacity)

    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None:
        del self.alive[attempt_id]
        super().ended(attempt_id, exit_code, signal)

    def up(self) -> list[SimHost]:
        """The hosts whose agents are there."""
        return [host for host in self.hosts.values() if host.agent is not None]

    @property
    def host(self) -> SimHost:
        """The first one."""
        return self.hosts["agent-0"]

    @property
    def leader(self) -> SimNode:
        """The node that has taken the shard over last."""
        return self.nodes[self.database.shards[0].node]

    @property
    def epoch(self) -> int:
        """Of the shard."""
        return self.database.shards[0].epoch

    @property
    def states(self) -> list[AttemptState]:
        """How the attempts ended, in the order in which it was recorded."""
        return [AttemptState(row["state"]) for row in self.database.tables["attempt"].values()]

    @property
    def messages(self) -> list[str]:
        """What was recorded with the ends of attempts."""
        return [row["message"] for row in self.database.tables["attempt"].values()]

    @property
    def late(self) -> list[tuple[AttemptState, bool]]:
        """Late results: their states, and whether they were adopted."""
        rows = self.database.tables["attempt_late"].values()
        return [(AttemptState(row["state"]), row["adopted"]) for row in rows]

    @property
    def ids(self) -> list[bytes]:
        """Of the processes that were spawned."""
        return [attempt_id for _, attempt_id in self.spawns.get("t", ())]

    @property
    def places(self) -> list[str]:
        """Where they were."""
        return [agent for agent, _ in self.spawns.get("t", ())]

    def count(self, entries: str, sender: str = "") -> int:
        """How many entries of a kind were sent, by somebody or by anybody."""
        sent = [frame for end, _, frame in self.frames if not sender or end == sender]
        return sum(carries(frame, entries) for frame in sent)


def carries(frame: Any, entries: str) -> int:
    """How many entries of a kind are in a frame."""
    found = getattr(frame, entries, None)
    if found is None:
        return 0
    return len(found) if hasattr(found, "__len__") else int(frame.HasField(entries))
