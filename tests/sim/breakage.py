"""What breaks around the agents of a simulated cluster: nodes, streams, etcd, PostgreSQL.

Every fault is drawn from the seed and ends by itself, or with `heal`. Does not know what must hold
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.cluster import Cluster
from tests.sim.nodes import TIMES, SimNode

LEASE_S = TIMES.attempt_lease_ms / 1_000


class Breakage:
    """The faults of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._random = cluster.random
        self._network = cluster.network
        self._nodes = cluster.nodes
        self._note = cluster.note
        self._rare = (self._hide_etcd_from_all, self._stop_database, self._steal_keys)
        self._often = (
            *(self._crash_node, self._stop_node, self._cut_links, self._part, self._slow_down),
            *(self._hide_etcd, self._hand_over),
        )

    def strike(self) -> None:
        """One random fault."""
        faults = self._rare if self._random.random() < 0.2 else self._often
        self._random.choice(faults)()

    def heal(self) -> None:
        """Nothing is broken any more, but for nodes that come back a little later."""
        self._network.slow = 1.0
        self._cluster.database_down = False
        for node in self._nodes.values():
            node.election.sees_etcd = True
            node.go_on()
        for pair in sorted(self._network.parted):
            self._network.rejoin(*pair)

    def _later(self, least_s: float, most_s: float, function: Callable[..., object]) -> None:
        self._loop.call_later(self._random.uniform(least_s, most_s), function)

    def _outage_s(self) -> float:
        return LEASE_S * self._random.choice((0.1, 0.5, 0.5, 2.0, 3.0))

    # Nodes

    def _crash_node(self) -> None:
        alive = [node for node in self._nodes.values() if node.alive]
        if len(alive) < 2:
            return
        node = self._random.choice(alive)
        self._note("crash", node.name)
        node.crash()
        self._network.break_links(lambda link: link.node == node.name)
        self._later(0.5, 12.0, lambda: self._restart(node.name))

    def _restart(self, name: str) -> None:
        self._note("restart", name)
        self._cluster.start_node(name)

    def _stop_node(self) -> None:
        """Longer than its authority, or shorter."""
        node = self._random.choice(list(self._nodes.values()))
        self._note("stop", node.name)
        node.stop()
        self._later(0.5, 12.0, lambda: self._continue(node))

    def _hand_over(self) -> None:
        """Another node is the better one: it may try while the leader goes on."""
        node = self._random.choice([node for node in self._nodes.values() if node.alive])
        self._note("hand over", node.name)
        for shard in sorted(node.leaderships.led):
            if self._random.random() < 0.5:
                node.hand_over(shard)

    def _continue(self, node: SimNode) -> None:
        self._note("continue", node.name)
        node.go_on()

    # etcd and PostgreSQL

    def _hide_etcd(self) -> None:
        """A node loses sight of etcd for a while: its keys go to others, it goes on leading."""
        node = self._random.choice(list(self._nodes.values()))
        self._note("etcd hidden", node.name)
        node.election.sees_etcd = False
        self._later(1.0, 15.0, lambda: setattr(node.election, "sees_etcd", True))

    def _hide_etcd_from_all(self) -> None:
        self._note("etcd down")
        for node in self._nodes.values():
            node.election.sees_etcd = False
        self._loop.call_later(self._outage_s(), self._show_etcd)

    def _show_etcd(self) -> None:
        self._note("etcd up")
        for node in self._nodes.values():
            node.election.sees_etcd = True

    def _steal_keys(self) -> None:
        """etcd has lost keys whose owners live."""
        keys = self._cluster.keys
        for shard in list(keys.holders):
            if self._random.random() < 0.5:
                self._note("key lost", shard)
                keys.remove(shard, self._loop.time())

    def _stop_database(self) -> None:
        """What it was doing is done or not; whoever asks hears nothing."""
        self._note("database down")
        self._cluster.database_down = True
        for transaction in list(self._cluster.database.locks.values()):
            transaction.rollback()
        self._loop.call_later(self._outage_s(), self._start_database)

    def _start_database(self) -> None:
        self._note("database up")
        self._cluster.database_down = False

    # Streams

    def _cut_links(self) -> None:
        share = self._random.choice((0.2, 0.5, 1.0))
        count = self._network.break_links(lambda _: self._random.random() < share)
        self._note("cut", count)

    def _part(self) -> None:
        """Nothing passes between one pair for a while; both find out by the silence."""
        pair = (
            self._random.choice(list(self._cluster.hosts)),
            self._random.choice(list(self._nodes)),
        )
        self._note("part", *pair)
        self._network.part(*pair)
        self._later(0.5, 10.0, lambda: self._network.rejoin(*pair))

    def _slow_down(self) -> None:
        self._network.slow = self._random.choice((1.0, 5.0, 100.0, 1_000.0))
        self._note("slow", self._network.slow)
        self._later(1.0, 5.0, self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow = 1.0
