"""How an agent shares its capacity among the nodes that use it.

Decides how much of the capacity each node may have assigned at one time. One node connected, and no
other to be expected: all. Several: what is free goes to the shapes that nodes state, best rank
first. What the best of those that are not served lacks is held for it while room comes free, so
that small requests cannot starve a large one, and is asked back from the others: first what they do
not use, then, from nodes whose own best rank is worse, what their attempts occupy. A node that is
asked gives at once, by lowering its own grant; what its attempts occupy beyond that is its debt,
and comes free as they end. An agent that stops grants nothing from then on, whatever its nodes
still use. What was assigned under a grant of an earlier session, and never arrived, is assigned
again: it is taken where room is free.

Promises: the sum of what the nodes hold never exceeds the capacity. What a vanished node used stays
charged until its attempts are over or adopted by another node. A grant is lowered only by the
node's own Release, together with the move of attempts to another node, or by the stop of the agent:
so no assignment that was inside a grant when it was decided is outside when it arrives, and the
slot of a finished attempt is still its node's when the result is recorded and a child is assigned
in the same commit.

Does not know: sessions and frames; a node is a name here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.core.entries import Demand, Grant, Rank, Recall, Release
from agent.core.types import NOTHING, Amount

# A node that gave back, or was given what it wanted, is not asked before this time has passed.
RECALL_PAUSE_MS = 100


@dataclass(slots=True)
class Wanted:
    """Tasks of one request for which a node has no room."""

    request: Amount
    count: int
    rank: Rank


@dataclass(slots=True)
class Holding:
    """What one node holds. `running`: of attempts that are not over; `unacked`: of attempts that
    are over, whose slot the node still counts as its own. `told`: the grant that the node knows.
    `asked`: what a recall that is not answered yet asks for.
    """

    connected: bool = False
    grant: Amount = NOTHING
    told: Amount | None = None
    number: int = 0
    running: Amount = NOTHING
    unacked: Amount = NOTHING
    wanted: list[Wanted] = field(default_factory=list)
    asked: Amount = NOTHING
    recall_after_ms: int = 0

    def held(self) -> Amount:
        return self.grant.most(self.running) if self.connected else self.running

    def unused(self) -> Amount:
        return self.grant.minus(self.running).minus(self.unacked)

    def debt(self) -> Amount:
        """What comes free as attempts end, and is not the node's any more."""
        return self.running.minus(self.grant)

    def yields_to(self, rank: Rank) -> bool:
        """Whether nothing that this node waits for, or was given room for by its last grant, goes
        before a rank.
        """
        return all(rank < wanted.rank for wanted in self.wanted)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The best-ranked shape that is not served: what one task of it lacks, and what all do."""

    node: str
    rank: Rank
    one: Amount
    every: Amount


class Grants:
    """The book of one agent's capacity."""

    def __init__(self, capacity: Amount) -> None:
        self.capacity = capacity
        self._nodes: dict[str, Holding] = {}
        self._short: Shortfall | None = None
        self._changed = False
        self._closed = False
        self._others_expected = False
        # What `_recallable` found; None: something has happened since.
        self._found: list[tuple[str, Holding, Amount]] | None = None

    def held(self, node: str) -> Amount:
        """What a node holds: its grant, or, when it has vanished, what its attempts occupy."""
        holding = self._nodes.get(node)
        return holding.held() if holding else NOTHING

    def total(self) -> Amount:
        """The sum over all nodes, the vanished ones included."""
        held = [holding.held() for holding in self._nodes.values()]
        return Amount(
            sum([each.cpu_millis for each in held]), sum([each.memory_bytes for each in held])
        )

    def admits(self, node: str, request: Amount) -> bool:
        """Whether an assignment of this size is inside the grant of its node, or, if not, there is
        room that nobody was granted.
        """
        holding = self._nodes[node]
        wanted = holding.running.plus(request)
        if holding.grant.covers(wanted):
            return True
        free = self.capacity.minus(self.total())
        return not self._closed and free.covers(wanted.most(holding.grant).minus(holding.held()))

    def connect(self, node: str) -> None:
        """A session of the node is up; it starts with what its attempts occupy."""
        self._changed, self._found = True, None
        holding = self._holding(node)
        self._nodes[node] = Holding(
            connected=True,
            grant=holding.running,
            running=holding.running,
            unacked=holding.unacked,
        )

    def disconnect(self, node: str) -> None:
        self._changed, self._found = True, None
        holding = self._nodes[node]
        self._nodes[node] = Holding(running=holding.running, unacked=holding.unacked)
        self._sweep(node)

    def occupy(self, node: str, request: Amount) -> None:
        """An assignment was taken over."""
        self._found = None
        holding = self._nodes[node]
        holding.running = holding.running.plus(request)

    def finish(self, node: str, request: Amount) -> None:
        """An attempt is over. Its slot stays with the node, unless the node is in debt."""
        holding = self._holding(node)
        self._changed = self._changed or len(self._nodes) > 1 or bool(holding.debt())
        self._found = None
        holding.running = holding.running.minus(request)
        holding.unacked = holding.unacked.plus(request)
        self._sweep(node)

    def forget(self, node: str, request: Amount) -> None:
        """The result of an attempt is acknowledged: if its node does not use the slot, it may be
        asked back.
        """
        self._changed = self._changed or len(self._nodes) > 1
        self._found = None
        holding = self._holding(node)
        holding.unacked = holding.unacked.minus(request)
        self._sweep(node)

    def withdraw(self, node: str, request: Amount) -> None:
        """An attempt that never started is handed back."""
        self.finish(node, request)
        self.forget(node, request)

    def move(self, source: str, target: str, request: Amount, *, running: bool) -> None:
        """Another node leads the shard of an attempt now: the slot of a running one goes along."""
        self._changed, self._found = True, None
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
        """What a node wants beyond its grant; replaces what it wanted before. Passed over: what
        this agent could never hold, and what was said before the node knew its present grant.
        """
        holding = self._nodes[node]
        if demand.grant_number != holding.number:
            return
        self._changed, self._found = True, None
        holding.wanted = [
            Wanted(shape.request, shape.count, shape.rank)
            for shape in demand.shapes
            if self.capacity.covers(shape.request)
        ]

    def release(self, node: str, release: Release, mono_ms: int) -> None:
        """A node has given back. An answer to a grant that was replaced since changes nothing."""
        holding = self._nodes[node]
        if release.number != holding.number:
            return
        self._changed, self._found = True, None
        holding.asked = NOTHING
        holding.recall_after_ms = mono_ms + RECALL_PAUSE_MS
        holding.grant = holding.told = holding.grant.minus(release.amount)

    def close(self) -> None:
        """The agent stops. Recalls would not do: what is refused is free again at its node, which
        may assign it anew before the next recall comes.
        """
        self._closed = self._changed = True

    def settle(
        self, mono_ms: int, *, others_expected: bool = False
    ) -> list[tuple[str, Grant | Recall]]:
        """Shares out what is free and returns what the nodes must be told. `others_expected`: a
        node that is connected alone will soon not be.
        """
        said: list[tuple[str, Grant | Recall]] = []
        if others_expected != self._others_expected:
            self._others_expected, self._changed = others_expected, True
        if self._changed:
            self._changed, self._found = False, None
            self._share_out(mono_ms)
            said.extend(self._news())
        for name, holding, amount in self._recallable():
            if holding.recall_after_ms <= mono_ms:
                self._found = None
                holding.asked = amount
                said.append((name, Recall(holding.number, amount)))
        return said

    def next_deadline(self) -> int | None:
        """When a recall may be repeated; None: nobody waits for one."""
        return min([holding.recall_after_ms for _, holding, _ in self._recallable()], default=None)

    def _holding(self, node: str) -> Holding:
        return self._nodes.setdefault(node, Holding())

    def _sweep(self, node: str) -> None:
        """Forgets a vanished node when nothing of it is left."""
        holding = self._nodes[node]
        if not (holding.connected or holding.running or holding.unacked):
            del self._nodes[node]

    def _connected(self) -> list[tuple[str, Holding]]:
        return [(name, h) for name, h in self._nodes.items() if h.connected]

    def _share_out(self, mono_ms: int) -> None:
        connected, free = self._connected(), self.capacity.minus(self.total())
        self._short = None
        if self._closed:
            for _, holding in connected:
                holding.grant = NOTHING
        elif len(connected) == 1 and not self._others_expected:
            holding = connected[0][1]
            holding.grant = holding.grant.plus(free)
            holding.wanted = []
        else:
            self._serve(connected, free, mono_ms)

    def _serve(self, connected: list[tuple[str, Holding]], free: Amount, mono_ms: int) -> None:
        """Gives what is free by rank. A node needs only what its own unused room does not cover."""
        spare = {name: holding.unused() for name, holding in connected}
        shapes = [(name, holding, w) for name, holding in connected for w in holding.wanted]
        for name, holding, wanted in sorted(shapes, key=lambda shape: shape[2].rank):
            served = _fitting(wanted, free.plus(spare[name]))
            if not served and self._short is not None:
                # It gets nothing, and room is held for one shape only.
                continue
            needed = wanted.request.times(served)
            given = needed.minus(spare[name])
            if given:
                holding.recall_after_ms = mono_ms + RECALL_PAUSE_MS
            holding.grant, free = holding.grant.plus(given), free.minus(given)
            spare[name] = spare[name].minus(needed)
            wanted.count -= served
            if wanted.count and self._short is None:
                one = wanted.request.minus(spare[name])
                every = wanted.request.times(wanted.count).minus(spare[name]).least(self.capacity)
                self._short = Shortfall(name, wanted.rank, one.minus(free), every.minus(free))
                # Held for it, whatever smaller requests there are.
                free = free.minus(one)
                spare[name] = spare[name].minus(wanted.request)

    def _news(self) -> Iterator[tuple[str, Grant]]:
        """The grants that their nodes do not know yet. A new grant ends an open recall."""
        for name, holding in self._connected():
            if holding.told != holding.grant:
                holding.told = holding.grant
                holding.number += 1
                holding.asked = NOTHING
                yield name, Grant(holding.number, holding.grant)

    def _recallable(self) -> list[tuple[str, Holding, Amount]]:
        """See `_askable`. Looked up after every event, and most change nothing of it."""
        if self._found is None:
            self._found = self._askable()
        return self._found

    def _askable(self) -> list[tuple[str, Holding, Amount]]:
        """Who could give back something that the shortfall lacks, and how much: unused room for
        all its tasks, room in use for one of them. What is asked for or owed already is on its way.
        """
        short = self._short
        if short is None:
            return []
        others = [(name, h) for name, h in self._connected() if name != short.node]
        one, every = short.one, short.every
        for _, holding in others:
            coming = holding.asked.plus(holding.debt())
            one, every = one.minus(coming), every.minus(coming)
        asked: dict[str, Amount] = {}
        for name, holding in others:
            if not holding.asked:
                asked[name] = holding.unused().least(every)
                one, every = one.minus(asked[name]), every.minus(asked[name])
        for name, holding in others:
            if name in asked and holding.yields_to(short.rank):
                in_use = holding.grant.minus(asked[name]).least(one)
                one, asked[name] = one.minus(in_use), asked[name].plus(in_use)
        return [(name, holding, asked[name]) for name, holding in others if asked.get(name)]


def _fitting(wanted: Wanted, room: Amount) -> int:
    """How many of the tasks fit into some room."""
    request, count = wanted.request, wanted.count
    if request.cpu_millis:
        count = min(count, room.cpu_millis // request.cpu_millis)
    if request.memory_bytes:
        count = min(count, room.memory_bytes // request.memory_bytes)
    return count
