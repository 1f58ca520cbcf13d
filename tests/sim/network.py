"""A network of delays and breaks between simulated processes.

A Link is one stream: both directions deliver in order, each frame after a delay drawn from the
seed. A break loses what is under way; each end hears of it on its own, after a delay of its own.
A tap sees every frame at its sending, and may have it delayed, or lost with its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from tests.sim.swarm import NETS, Net
from tests.sim.virtual import VirtualLoop

Deliver = Callable[[Any], None]
# Told a link and a frame. Answers by how many seconds it is late; LOST: its stream breaks.
Tap = Callable[["Link", Any], float]
LOST = -1.0


class Network:
    """Delays, and which pairs of processes cannot reach each other now."""

    def __init__(self, random: Random, net: Net = NETS["lan"]) -> None:
        self._random = random
        self._net = net
        self.slow = 1.0
        # The share of frames that are lost with their streams.
        self.loss = 0.0
        self.parted: set[tuple[str, str]] = set()
        self.links: list[Link] = []
        self.taps: list[Tap] = []

    def tapped(self, link: Link, frame: Any) -> float:
        """What becomes of a frame: LOST, or by how much it is late."""
        if self.loss and self._random.random() < self.loss:
            return LOST
        if not self.taps:
            return 0.0
        verdicts = [tap(link, frame) for tap in self.taps]
        return LOST if LOST in verdicts else sum(verdicts)

    def delay_s(self) -> float:
        """Mostly a short one, sometimes a much longer one."""
        random, (usual_s, tardy_share, tardy_factor) = self._random.random, self._net
        delay_s = self.slow * usual_s * (0.05 + 0.95 * random())
        return delay_s * tardy_factor if random() < tardy_share else delay_s

    def reaches(self, one: str, other: str) -> bool:
        """Whether frames pass between two processes."""
        return (one, other) not in self.parted

    def part(self, agent: str, node: str) -> None:
        """Nothing passes between two processes, and neither is told; streams hold what is sent."""
        self.parted.add((agent, node))

    def rejoin(self, agent: str, node: str) -> None:
        """What streams held arrives, in order."""
        self.parted.discard((agent, node))
        for link in self.links:
            if (link.agent, link.node) == (agent, node):
                link.release()

    def connect(self, agent: str, node: str, to_agent: Deliver, ended: Callable[[], None]) -> Link:
        """A new link of an agent to a node."""
        link = Link(self, agent, node, to_agent, ended)
        self.links.append(link)
        return link

    def break_links(self, chosen: Callable[[Link], bool]) -> int:
        """Breaks the links that are chosen; how many those were."""
        broken = [link for link in self.links if link.open and chosen(link)]
        for link in broken:
            link.break_off()
        self.links = [link for link in self.links if link.open]
        return len(broken)


class Link:
    """One stream between an agent and a node."""

    def __init__(
        self,
        network: Network,
        agent: str,
        node: str,
        to_agent: Deliver,
        agent_ended: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop = loop
        self._network = network
        self.agent = agent
        self.node = node
        self.open = True
        self._to_agent = to_agent
        self._agent_ended = agent_ended
        self._last_s = {"agent": 0.0, "node": 0.0}
        self._held: list[tuple[Deliver, Any]] = []
        self.to_node: Deliver | None = None
        self.node_ended: Callable[[], None] | None = None

    def send_to_node(self, frame: Any) -> None:
        """A frame of the agent."""
        self._send("node", frame, self._hand_over)

    def send_to_agent(self, frame: Any) -> None:
        """A frame of the node."""
        self._send("agent", frame, self._to_agent)

    def _hand_over(self, frame: Any) -> None:
        if self.to_node is not None:
            self.to_node(frame)

    def _send(self, end: str, frame: Any, deliver: Deliver) -> None:
        late_s = self._network.tapped(self, frame) if self.open else 0.0
        if late_s == LOST:
            self.break_off()
            return
        now_s = self._loop.time()
        due_s = max(self._last_s[end], now_s + self._network.delay_s() + late_s)
        self._last_s[end] = due_s
        self._loop.call_outside(due_s - now_s, self._arrive, deliver, frame)

    def _arrive(self, deliver: Deliver, frame: Any) -> None:
        if not self.open:
            return
        if self._held or not self._network.reaches(self.agent, self.node):
            self._held.append((deliver, frame))
        else:
            deliver(frame)

    def release(self) -> None:
        """The partition is over."""
        held, self._held = self._held, []
        for deliver, frame in held:
            if self.open:
                deliver(frame)

    def break_off(self) -> None:
        """Ends the stream for both ends."""
        if not self.open:
            return
        self.open = False
        self._loop.call_outside(self._network.delay_s(), self._agent_ended)
        if self.node_ended is not None:
            self._loop.call_outside(self._network.delay_s(), self.node_ended)
