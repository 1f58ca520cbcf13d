"""What breaks in a simulated cluster: processes, streams, the sight of etcd; from the seed.

Every fault ends by itself, or with `heal`. Does not know what must hold meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from tests.sim.network import Network
from tests.sim.nodes import SimNode


class Breakage:
    """The faults of one world. `start_node` starts a node of a name again."""

    def __init__(
        self,
        random: Random,
        network: Network,
        nodes: Mapping[str, SimNode],
        start_node: Callable[[str], None],
        note: Callable[..., None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random
        self._network = network
        self._nodes = nodes
        self._start_node = start_node
        self._note = note

    def strike(self) -> None:
        """One random fault."""
        fault = self._random.choice(
            (self._crash_node, self._cut_links, self._part, self._slow_down, self._hide_etcd)
        )
        fault()

    def heal(self) -> None:
        """Nothing is broken any more, but for nodes that come back a little later."""
        self._network.slow = 1.0
        for node in self._nodes.values():
            node.sees_etcd = True
        for pair in sorted(self._network.parted):
            self._network.rejoin(*pair)

    def _crash_node(self) -> None:
        alive = [node for node in self._nodes.values() if node.alive]
        if len(alive) < 2:
            return
        node = self._random.choice(alive)
        self._note("crash", node.name)
        node.crash()
        self._network.break_links(lambda link: link.node == node.name)
        self._loop.call_later(self._random.uniform(0.5, 12.0), self._restart, node.name)

    def _restart(self, name: str) -> None:
        self._note("restart", name)
        self._start_node(name)

    def _hide_etcd(self) -> None:
        """A node loses sight of etcd for a while: its keys go to others, it goes on leading."""
        node = self._random.choice(list(self._nodes.values()))
        self._note("etcd hidden", node.name)
        node.sees_etcd = False
        back_s = self._random.uniform(1.0, 15.0)
        self._loop.call_later(back_s, setattr, node, "sees_etcd", True)

    def _cut_links(self) -> None:
        share = self._random.choice((0.2, 0.5, 1.0))
        count = self._network.break_links(lambda _: self._random.random() < share)
        self._note("cut", count)

    def _part(self) -> None:
        """Nothing passes between one pair for a while; both find out by the silence."""
        agents = sorted({link.agent for link in self._network.links})
        if not agents:
            return
        pair = (self._random.choice(agents), self._random.choice(list(self._nodes)))
        self._note("part", *pair)
        self._network.part(*pair)
        self._loop.call_later(self._random.uniform(0.5, 10.0), self._network.rejoin, *pair)

    def _slow_down(self) -> None:
        self._network.slow = self._random.choice((1.0, 5.0, 100.0))
        self._note("slow", self._network.slow)
        self._loop.call_later(self._random.uniform(1.0, 5.0), self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow = 1.0
