"""Faults that wait for a moment: the next time that somebody does a certain thing.

A trap is set by a fault of the plan and springs once, or a few times in a row. Does not know when
traps are set.
"""

from __future__ import annotations

from random import Random

from tests.sim.cluster import Cluster
from tests.sim.host_breakage import HostBreakage
from tests.sim.hosts import SimHost
from tests.sim.memory_store import ConnectionLost, Point
from tests.sim.virtual import pass_time

# What hosts do. Most of what they do is of the first two kinds: those count longer.
OFTEN = ("Send", "ExtendLeases")
SELDOM = ("Record", "Spawn", "Forget", "claimed", "spawned", "ended", "OpenSession", "Stop")
POINTS = (Point.OPEN, Point.WRITE, Point.COMMIT, Point.COMMIT, Point.ANSWER, Point.READ)


class HostTrap:
    """Springs at the n-th time that any host is at a point."""

    def __init__(self, index: int, random: Random) -> None:
        self.index, self.random = index, random
        self.point = random.choice(SELDOM if random.random() < 0.8 else OFTEN)
        self.left = random.randint(1, 40 if self.point in OFTEN else 6)


class StoreTrap:
    """Springs at the n-th time that a node is at a point of its talk with the store, and at some
    that follow.
    """

    def __init__(self, index: int, random: Random) -> None:
        self.index, self.random = index, random
        self.point = random.choice(POINTS)
        self.left = random.randint(1, 12)
        self.times = random.choice((1, 1, 1, 3))


class Traps:
    """All that are set in one cluster."""

    def __init__(self, cluster: Cluster, hosts: HostBreakage) -> None:
        self._cluster = cluster
        self._hosts = hosts
        self._at_host: list[HostTrap] = []
        self._at_store: list[StoreTrap] = []

    def set_at_host(self, index: int, random: Random) -> None:
        """Somebody's processes will die in the middle of something."""
        trap = HostTrap(index, random)
        self._cluster.note("f", "trap at", trap.point, "no.", trap.left)
        self._at_host.append(trap)

    def set_at_store(self, index: int, random: Random) -> None:
        """A connection will be lost, or stall, in the middle of something."""
        trap = StoreTrap(index, random)
        self._cluster.note("f", "trap at", trap.point.name, "no.", trap.left, "times", trap.times)
        self._at_store.append(trap)

    def heal(self) -> None:
        """None is left."""
        self._at_host.clear()
        self._at_store.clear()

    def at_host(self, point: str, host: SimHost) -> None:
        """A host is at a point."""
        if not self._at_host:
            return
        for trap in [each for each in self._at_host if each.point == point]:
            trap.left -= 1
            if trap.left == 0:
                self._at_host.remove(trap)
                self._cluster.note("f", f"#{trap.index} springs at", point, "of", host.host)
                self._hosts.strike_at(host, trap.random)

    async def at_store(self, point: Point, shard: int, node: str) -> None:
        """A node is at a point: raises ConnectionLost, or stalls, if a trap springs."""
        for trap in [each for each in self._at_store if each.point is point]:
            trap.left -= 1
            if trap.left <= 0:
                trap.times -= 1
                if trap.times <= 0:
                    self._at_store.remove(trap)
                await self._spring(trap, shard, node)

    async def _spring(self, trap: StoreTrap, shard: int, node: str) -> None:
        """A stall, or a lost connection, after which the backend may commit all the same."""
        cluster, random = self._cluster, trap.random
        cluster.note("f", f"#{trap.index} springs at", trap.point.name, "of", node, "shard", shard)
        if trap.point is Point.COMMIT and random.random() < 0.5:
            cluster.loop.call_outside(random.uniform(0.0, 0.5), cluster.database.land, shard)
        if random.random() < 0.3:
            await pass_time(random.uniform(0.1, 3.0))
        else:
            raise ConnectionLost
