"""How an agent shares its capacity among the nodes that use it.

Decides: how much of the capacity each node may have assigned at one time. One node connected: all.
Several: what is free goes to demands, oldest first; then what others do not use is recalled; and a
slot that comes free at a node whose own demand is younger, or absent, goes over to the oldest
demand, so that a busy node cannot starve the others. An agent that stops grants nothing from then
on, whatever its nodes still use.

Promises: the sum of what the nodes hold never exceeds the capacity. What a vanished node used stays
charged until its attempts are over or adopted by another node. A grant is lowered only by the
node's own Release, together with the Result whose slot it takes, together with the move of
attempts to another node, or by the stop of the agent.

Does not know: sessions and frames; a node is a name here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.core.entries import Demand, Grant, Recall, Release
from agent.core.types import NOTHING, Amount

# A node that gave back, or was given what it wanted, is not asked before this time has passed.
RECALL_PAUSE_MS = 100


@dataclass(slots=True)
class Holding:
    """What one node holds. `running`: of attempts that are not over; `unacked`: of attempts that
    are over, whose slot the node still counts as its own. `told`: the grant that the node knows.
    `wanted`: what it would use beyond its grant, since `since_us`.
    """

    connected: bool = False
    grant: Amount = NOTHING
    told: Amount | None = None
    number: int = 0
    running: Amount = NOTHING
    unacked: Amount = NOTHING
    wanted: Amount = NOTHING
    since_us: int = 0
    recalled: bool = False
    recall_after_ms: int = 0

    def held(self) -> Amount:
        return self.grant.most(self.running) if self.connected else self.running

    def unused(self) -> Amount:
        return self.grant.minus(self.running).minus(self.unacked)


class Grants:
    """The book of one agent's capacity."""

    def __init__(self, capacity: Amount) -> None:
        self.capacity = capacity
        self._nodes: dict[str, Holding] = {}
        self._changed = False
        self._closed = False

    def held(self, node: str) -> Amount:
        """What a node holds: its grant, or, when it has vanished, what its attempts occupy."""
        holding = self._nodes.get(node)
        return holding.held() if holding else NOTHING

    def total(self) -> Amount:
        """The sum over all nodes, the vanished ones included."""
        total = NOTHING
        for holding in self._nodes.values():
            total = total.plus(holding.held())
        return total

    def admits(self, node: str, request: Amount) -> bool:
        """Whether an assignment of this size is inside the grant of its node."""
        holding = self._nodes[node]
        return holding.grant.covers(holding.running.plus(request))

    def connect(self, node: str) -> None:
        """A session of the node is up; it starts with what its attempts occupy."""
        self._changed = True
        holding = self._holding(node)
        self._nodes[node] = Holding(
            connected=True,
            grant=holding.running,
            running=holding.running,
            unacked=holding.unacked,
        )

    def disconnect(self, node: str) -> None:
        self._changed = True
        holding = self._nodes[node]
        self._nodes[node] = Holding(running=holding.running, unacked=holding.unacked)
        self._sweep(node)

    def occupy(self, node: str, request: Amount) -> None:
        """An assignment was taken over."""
        holding = self._nodes[node]
        holding.running = holding.running.plus(request)

    def finish(self, node: str, request: Amount) -> None:
        """An attempt is over. Its slot stays with the node, unless an older demand waits."""
        self._changed = self._changed or len(self._nodes) > 1
        holding = self._holding(node)
        holding.running = holding.running.minus(request)
        holding.unacked = holding.unacked.plus(request)
        if holding.connected:
            taken = request.least(self._older_shortfall(node))
            holding.grant = holding.grant.minus(taken)
        self._sweep(node)

    def forget(self, node: str, request: Amount) -> None:
        """The result of an attempt is acknowledged."""
        holding = self._holding(node)
        holding.unacked = holding.unacked.minus(request)
        self._sweep(node)

    def withdraw(self, node: str, request: Amount) -> None:
        """An attempt that never started is handed back."""
        self.finish(node, request)
        self.forget(node, request)

    def move(self, source: str, target: str, request: Amount, *, running: bool) -> None:
        """Another node leads the shard of an attempt now: the slot of a running one goes along."""
        self._changed = True
        old, new = self._holding(source), self._holding(target)
        if running:
            old.running = old.running.minus(request)
            old.grant = old.grant.minus(request)
            new.running = new.running.plus(request)
            new.grant = new.grant.plus(request)
        else:
            old.unacked = old.unacked.minus(request)
            new.unacked = new.unacked.plus(request)
        self._sweep(source)

    def demand(self, node: str, demand: Demand) -> None:
        """What a node wants beyond its grant; replaces what it wanted before."""
        self._changed = True
        holding = self._nodes[node]
        wanted = demand.amount.most(demand.largest).least(self.capacity)
        holding.wanted = wanted if demand.count else NOTHING
        holding.since_us = demand.oldest_ready_us

    def release(self, node: str, release: Release, mono_ms: int) -> None:
        """A node gives back. An answer to a grant that was replaced since changes nothing; what
        its attempts occupy it cannot give.
        """
        holding = self._nodes[node]
        if release.number != holding.number:
            return
        self._changed = True
        holding.recalled = False
        holding.recall_after_ms = mono_ms + RECALL_PAUSE_MS
        holding.told = holding.grant.minus(release.amount)
        holding.grant = holding.told.most(holding.running)

    def close(self) -> None:
        """The agent stops. Recalls would not do: what is refused is free again at its node, which
        may assign it anew before the next recall comes.
        """
        self._closed = self._changed = True

    def settle(self, mono_ms: int) -> list[tuple[str, Grant | Recall]]:
        """Shares out what is free and returns what the nodes must be told."""
        said: list[tuple[str, Grant | Recall]] = []
        if self._changed:
            self._changed = False
            self._share_out(mono_ms)
            said.extend(self._news())
        for name, holding, spare in list(self._askable()):
            if holding.recall_after_ms <= mono_ms:
                holding.recalled = True
                said.append((name, Recall(holding.number, spare)))
        return said

    def next_deadline(self) -> int | None:
        """When a recall may be repeated; None: nobody waits for one."""
        return min((holding.recall_after_ms for _, holding, _ in self._askable()), default=None)

    def _holding(self, node: str) -> Holding:
        return self._nodes.setdefault(node, Holding())

    def _free(self) -> Amount:
        return self.capacity.minus(self.total())

    def _sweep(self, node: str) -> None:
        """Forgets a vanished node when nothing of it is left."""
        holding = self._nodes[node]
        if not (holding.connected or holding.running or holding.unacked):
            del self._nodes[node]

    def _connected(self) -> list[tuple[str, Holding]]:
        return [(name, h) for name, h in self._nodes.items() if h.connected]

    def _waiting(self) -> list[Holding]:
        """The nodes with a demand, oldest first."""
        return sorted((h for h in self._nodes.values() if h.wanted), key=lambda h: h.since_us)

    def _older_shortfall(self, node: str) -> Amount:
        """What the oldest demand of all lacks, if it is not this node's own."""
        waiting = self._waiting()
        return waiting[0].wanted if waiting and waiting[0] is not self._nodes[node] else NOTHING

    def _share_out(self, mono_ms: int) -> None:
        connected, free = self._connected(), self._free()
        if self._closed:
            for _, holding in connected:
                holding.grant = NOTHING
            return
        if len(connected) == 1:
            holding = connected[0][1]
            holding.grant = holding.grant.plus(free)
            holding.wanted = holding.wanted.minus(free)
            return
        for holding in self._waiting():
            given = free.least(holding.wanted)
            if given:
                holding.recall_after_ms = mono_ms + RECALL_PAUSE_MS
            holding.grant = holding.grant.plus(given)
            holding.wanted = holding.wanted.minus(given)
            free = free.minus(given)

    def _news(self) -> Iterator[tuple[str, Grant]]:
        """The grants that their nodes do not know yet. A new grant ends an open recall."""
        for name, holding in self._connected():
            if holding.told != holding.grant:
                holding.told = holding.grant
                holding.number += 1
                holding.recalled = False
                yield name, Grant(holding.number, holding.grant)

    def _askable(self) -> Iterator[tuple[str, Holding, Amount]]:
        """Who could give back something that the oldest demand lacks, and how much."""
        waiting, connected = self._waiting(), self._connected()
        if self._closed or not waiting or len(connected) == 1:
            return
        shortfall = waiting[0].wanted
        for name, holding in connected:
            spare = holding.unused().least(shortfall)
            if spare and holding is not waiting[0]:
                shortfall = shortfall.minus(spare)
                if not holding.recalled:
                    yield name, holding, spare
