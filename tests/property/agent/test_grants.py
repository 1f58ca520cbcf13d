"""Nodes that share an agent, with every message on its way for a random time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.entries import Demand, Grant, Rank, Recall, Release, ShapeDemand
from agent.core.grants import RECALL_PAUSE_MS, Grants
from agent.core.types import NOTHING, Amount

WHOLE = Amount(8, 8)
SHAPES = (Amount(1, 1), Amount(2, 0), Amount(1, 5), Amount(8, 8), Amount(0, 0))
NAMES = ("a", "b", "c")
NO_DEMAND = Demand()


@dataclass
class Task:
    ready: int
    request: Amount


@dataclass
class Node:
    """The other side of the protocol: places the oldest tasks first inside what it was granted."""

    grant: Amount = NOTHING
    number: int = 0
    used: Amount = NOTHING
    ready: list[Task] = field(default_factory=list)
    told: Demand = NO_DEMAND
    regranted: bool = False
    to_agent: deque[list[object]] = field(default_factory=deque)
    from_agent: deque[object] = field(default_factory=deque)

    def take(self, message: object) -> None:
        said: list[object] = []
        if isinstance(message, Grant):
            self.grant, self.number = message.amount, message.number
            self.regranted = True
        elif isinstance(message, Recall):
            given = NOTHING
            if message.number == self.number:
                given = message.amount.least(self.grant)
            self.grant = self.grant.minus(given)
            self.regranted = self.regranted or bool(given)
            said.append(Release(message.number, given))
        elif isinstance(message, Task):
            self.used = self.used.minus(message.request)
            said.append(("ack", message))
        self.look_for_places(said)

    def look_for_places(self, said: list[object]) -> None:
        self.ready.sort(key=lambda task: task.ready)
        parked = []
        for task in self.ready:
            if self.grant.covers(self.used.plus(task.request)) and not parked:
                self.used = self.used.plus(task.request)
                said.insert(0, task)
            else:
                parked.append(task)
        self.ready = parked
        shapes = [ShapeDemand(task.request, 1, Rank(0, 0, task.ready)) for task in parked]
        demand = Demand(tuple(shapes), self.number)
        if self.told.shapes != demand.shapes or (self.regranted and shapes):
            self.regranted = False
            self.told = demand
            said.append(demand)
        if said:
            self.to_agent.append(said)


class World:
    def __init__(self, random: Random, nodes: int) -> None:
        self.random = random
        self.now = 0
        self.grants = Grants(WHOLE)
        self.nodes = {name: Node() for name in NAMES[:nodes]}
        self.running: list[tuple[str, Task]] = []
        self.made = self.done = 0
        for name in self.nodes:
            self.grants.connect(name)
        self.settle()

    def settle(self) -> None:
        self.check_recalls()
        for name, entry in self.grants.settle(self.now):
            self.nodes[name].from_agent.append(entry)
        self.check_recalls()
        assert WHOLE.covers(self.grants.total()), "more is held than there is"

    def check_recalls(self) -> None:
        remembered = self.grants._recallable()
        assert remembered == self.grants._askable(), "a recall is out of date"

    def new_task(self) -> None:
        self.made += 1
        node = self.nodes[self.random.choice(list(self.nodes))]
        node.ready.append(Task(self.made, self.random.choice(SHAPES)))
        node.look_for_places([])

    def finish(self) -> None:
        if self.running:
            name, task = self.running.pop(self.random.randrange(len(self.running)))
            self.grants.finish(name, task.request)
            self.nodes[name].from_agent.append(task)
            self.settle()

    def deliver_to_agent(self, name: str) -> None:
        frame = self.nodes[name].to_agent.popleft()
        for entry in frame:
            self.agent_takes(name, entry)
        self.settle()

    def agent_takes(self, name: str, entry: object) -> None:
        if isinstance(entry, Task):
            assert self.grants.admits(name, entry.request), "an assignment would be refused"
            self.grants.occupy(name, entry.request)
            self.running.append((name, entry))
        elif isinstance(entry, Release):
            self.grants.release(name, entry, self.now)
        elif isinstance(entry, Demand):
            self.grants.demand(name, entry)
        else:
            self.done += 1
            self.grants.forget(name, entry[1].request)

    def deliver(self) -> bool:
        ways = [
            (name, way) for name in self.nodes for way in ("up", "down") if self.waits(name, way)
        ]
        if not ways:
            return False
        name, way = self.random.choice(ways)
        if way == "up":
            self.deliver_to_agent(name)
        else:
            node = self.nodes[name]
            node.take(node.from_agent.popleft())
        return True

    def waits(self, name: str, way: str) -> bool:
        node = self.nodes[name]
        return bool(node.to_agent if way == "up" else node.from_agent)

    def act(self) -> None:
        chance = self.random.random()
        if chance < 0.2:
            self.new_task()
        elif chance < 0.35:
            self.finish()
        elif chance < 0.4:
            self.now += RECALL_PAUSE_MS
            self.settle()
        else:
            self.deliver()

    def drain(self) -> None:
        for _ in range(40 * self.made + 100):
            while self.deliver():
                pass
            self.finish()
            self.now += RECALL_PAUSE_MS
            self.settle()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), nodes=st.integers(1, 3))
def test_nothing_is_refused_and_nobody_starves(seed, nodes):
    world = World(Random(seed), nodes)
    for _ in range(250):
        world.act()
    world.drain()
    assert world.done == world.made


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_large_request_gets_its_turn_among_a_stream_of_small_ones(seed):
    """Small tasks keep coming at the other node, faster than they end."""
    world = World(Random(seed), 2)
    small, large = world.nodes["a"], world.nodes["b"]
    giant = Task(20, WHOLE)
    for ready in range(400):
        small.ready.append(Task(ready, Amount(1, 1)))
        small.look_for_places([])
        if ready == giant.ready:
            large.ready.append(giant)
            large.look_for_places([])
        for _ in range(6):
            world.deliver()
        world.finish()
        world.now += RECALL_PAUSE_MS
        world.settle()
    assert giant not in large.ready, "the large request starved"
