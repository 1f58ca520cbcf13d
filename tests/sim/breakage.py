"""What breaks around the agents of a simulated cluster: nodes, streams, etcd, PostgreSQL.

Every fault draws from dice of its own and ends by itself, or with `heal`. Does not know what must
hold meanwhile.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Callable
from functools import partial
from random import Random

from tests.sim.cluster import Cluster
from tests.sim.nodes import TIMES, SimNode

LEASE_S = TIMES.attempt_lease_ms / 1_000
Strike = Callable[[Random], None]


class Breakage:
    """The faults of one cluster, by kind."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._network = cluster.network
        self._nodes = cluster.nodes
        self._backups: list[TimerHandle] = []
        self.kinds: dict[str, Strike] = {
            "crash-node": self._crash_node,
            "stop-node": self._stop_node,
            "cut": self._cut_links,
            "part": self._part,
            "slow": self._slow_down,
            "lossy": self._lose_frames,
            "hide-etcd": self._hide_etcd,
            "hand-over": self._hand_over,
            "etcd-down": self._hide_etcd_from_all,
            "database-down": self._stop_database,
            "steal-keys": self._steal_keys,
            "restore": self._restore,
        }

    def heal(self) -> None:
        """Nothing is broken any more, but for nodes that come back a little later."""
        self._network.slow, self._network.loss = 1.0, 0.0
        self._cluster.database_down = False
        for backup in self._backups:
            backup.cancel()
        for node in self._nodes.values():
            node.election.sees_etcd = True
            node.go_on()
        for pair in sorted(self._network.parted):
            self._network.rejoin(*pair)

    def _note(self, *words: object) -> None:
        self._cluster.note("f", *words)

    def _later(
        self, random: Random, least_s: float, most_s: float, function: Callable[..., object]
    ) -> None:
        self._loop.call_later(random.uniform(least_s, most_s), function)

    def _any_node(self, random: Random) -> SimNode:
        return random.choice(list(self._nodes.values()))

    # Nodes

    def _crash_node(self, random: Random) -> None:
        alive = [node for node in self._nodes.values() if node.alive]
        if not alive:
            return
        node = random.choice(alive)
        self._note(node.name, "dies")
        node.crash()
        self._network.break_links(lambda link: link.node == node.name)
        self._later(random, 0.5, 12.0, partial(self._restart, node.name))

    def _restart(self, name: str) -> None:
        self._note(name, "starts")
        self._cluster.start_node(name)

    def _stop_node(self, random: Random) -> None:
        """Longer than its authority, or shorter."""
        node = self._any_node(random)
        self._note(node.name, "stands still")
        node.stop()
        self._later(random, 0.5, 12.0, partial(self._continue, node))

    def _continue(self, node: SimNode) -> None:
        self._note(node.name, "goes on")
        node.go_on()

    def _hand_over(self, random: Random) -> None:
        """Another node is the better one: it may try while the leader goes on."""
        alive = [node for node in self._nodes.values() if node.alive]
        if not alive:
            return
        node = random.choice(alive)
        for shard in sorted(node.leaderships.led):
            if random.random() < 0.5:
                self._note(node.name, "hands over shard", shard)
                node.hand_over(shard)

    # etcd and PostgreSQL

    def _hide_etcd(self, random: Random) -> None:
        """A node loses sight of etcd for a while: its keys go to others, it goes on leading."""
        node = self._any_node(random)
        self._note(node.name, "does not see etcd")
        node.election.sees_etcd = False
        self._later(random, 1.0, 15.0, partial(self._show_etcd, [node]))

    def _hide_etcd_from_all(self, random: Random) -> None:
        nodes = list(self._nodes.values())
        for node in nodes:
            node.election.sees_etcd = False
        outage_s = LEASE_S * random.choice((0.1, 0.5, 0.5, 2.0, 3.0))
        self._loop.call_later(outage_s, self._show_etcd, nodes)

    def _show_etcd(self, nodes: list[SimNode]) -> None:
        self._note("etcd is seen by", *(node.name for node in nodes))
        for node in nodes:
            node.election.sees_etcd = True

    def _steal_keys(self, random: Random) -> None:
        """etcd has lost keys whose owners live."""
        keys = self._cluster.keys
        for shard in sorted(keys.holders):
            if random.random() < 0.5:
                self._note("the key of shard", shard, "is lost")
                keys.remove(shard)

    def _stop_database(self, random: Random) -> None:
        """What it was doing is done or not; whoever asks hears nothing."""
        self._cluster.database_down = True
        for transaction in list(self._cluster.database.locks.values()):
            transaction.rollback()
        outage_s = LEASE_S * random.choice((0.1, 0.5, 0.5, 2.0, 3.0))
        self._loop.call_later(outage_s, self._start_database)

    def _restore(self, random: Random) -> None:
        """The store is as it is now once more, a little later; all that wait for it are cut off."""
        put_back = partial(self._cluster.put_back, self._cluster.backup())
        self._backups.append(self._loop.call_later(random.uniform(0.5, 15.0), put_back))

    def _start_database(self) -> None:
        self._note("database up")
        self._cluster.database_down = False

    # Streams

    def _cut_links(self, random: Random) -> None:
        share = random.choice((0.2, 0.5, 1.0))
        count = self._network.break_links(lambda _: random.random() < share)
        self._note(count, "streams end")

    def _part(self, random: Random) -> None:
        """Nothing passes between one pair for a while; both find out by the silence."""
        pair = (random.choice(list(self._cluster.hosts)), random.choice(list(self._nodes)))
        self._note("nothing passes between", *pair)
        self._network.part(*pair)
        self._later(random, 0.5, 10.0, partial(self._network.rejoin, *pair))

    def _slow_down(self, random: Random) -> None:
        self._network.slow = random.choice((5.0, 5.0, 100.0, 1_000.0))
        self._note("slower by", self._network.slow)
        self._later(random, 1.0, 5.0, self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow = 1.0

    def _lose_frames(self, random: Random) -> None:
        """Streams break as they are used."""
        self._network.loss = random.choice((0.002, 0.01, 0.05))
        self._note("loses", self._network.loss)
        self._later(random, 1.0, 8.0, self._lose_no_frames)

    def _lose_no_frames(self) -> None:
        self._network.loss = 0.0
