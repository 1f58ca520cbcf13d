from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.entries import Demand, Grant, Recall, Release
from agent.core.grants import RECALL_PAUSE_MS, Grants
from agent.core.types import NOTHING, Amount
from tests.unit.agent.core.driver import CORE, cores


def demand(amount: int, since: int, largest: int = 1) -> Demand:
    return Demand(cores(amount), cores(largest), amount, since)


def shared() -> Grants:
    """Four cores, all granted to `a`, while `b` is connected too."""
    grants = Grants(cores(4))
    grants.connect("a")
    assert grants.settle(0) == [("a", Grant(1, cores(4)))]
    grants.connect("b")
    assert grants.settle(0) == [("b", Grant(1, NOTHING))]
    return grants


def occupy(grants: Grants, node: str, number: int) -> None:
    for _ in range(number):
        assert grants.admits(node, CORE)
        grants.occupy(node, CORE)


def test_a_node_alone_is_granted_everything():
    grants = shared()
    assert grants.held("a") == cores(4)
    assert grants.held("b") == grants.held("unknown") == NOTHING
    assert grants.settle(0) == []


def test_what_is_not_used_is_recalled_for_a_demand_and_granted_after_the_release():
    grants = shared()
    occupy(grants, "a", 1)
    grants.demand("b", demand(2, 10))
    assert grants.settle(0) == [("a", Recall(1, cores(2)))]
    assert grants.settle(0) == []
    grants.release("a", Release(1, cores(2)), 0)
    assert grants.settle(0) == [("b", Grant(2, cores(2)))]
    assert grants.held("a") == cores(2)


def test_a_release_that_answers_a_replaced_grant_changes_nothing():
    grants = shared()
    grants.release("a", Release(0, cores(2)), 0)
    assert grants.held("a") == cores(4)


def test_a_node_that_gives_more_than_it_has_is_corrected():
    grants = shared()
    occupy(grants, "a", 1)
    grants.release("a", Release(1, cores(4)), 0)
    assert grants.settle(0) == [("a", Grant(2, cores(1)))]


def test_a_node_that_gave_less_than_asked_is_asked_again_after_a_pause():
    grants = shared()
    grants.demand("b", demand(2, 10))
    grants.settle(0)
    assert grants.next_deadline() is None
    grants.release("a", Release(1, NOTHING), 50)
    assert grants.settle(50) == []
    assert grants.next_deadline() == 50 + RECALL_PAUSE_MS
    assert grants.settle(50 + RECALL_PAUSE_MS) == [("a", Recall(1, cores(2)))]


def test_a_demand_that_is_withdrawn_is_not_served():
    grants = shared()
    grants.demand("b", demand(2, 10))
    grants.demand("b", demand(0, 0))
    assert grants.settle(0) == []
    assert grants.next_deadline() is None


def test_free_capacity_goes_to_the_oldest_demand_first():
    grants = shared()
    grants.connect("c")
    grants.settle(0)
    grants.demand("b", demand(3, 20))
    grants.demand("c", demand(2, 10))
    grants.release("a", Release(1, cores(4)), 0)
    said = grants.settle(0)
    assert said == [("b", Grant(2, cores(2))), ("c", Grant(2, cores(2)))]
    assert grants.next_deadline() == RECALL_PAUSE_MS
    assert grants.settle(RECALL_PAUSE_MS) == [("c", Recall(2, cores(1)))]


def test_a_demand_is_at_least_its_largest_request_and_at_most_the_capacity():
    grants = shared()
    grants.demand("b", Demand(CORE, cores(3), 1, 10))
    assert grants.settle(0) == [("a", Recall(1, cores(3)))]
    grants.demand("b", Demand(cores(99), CORE, 99, 10))
    grants.release("a", Release(1, cores(4)), 0)
    assert grants.settle(0) == [("b", Grant(2, cores(4)))]


def test_a_recall_is_spread_over_those_who_have_something_to_spare():
    grants = Grants(cores(4))
    for node in "abc":
        grants.connect(node)
    grants.settle(0)
    grants.demand("a", demand(1, 1))
    grants.demand("b", demand(3, 1))
    grants.settle(0)
    grants.demand("c", demand(2, 1))
    assert grants.settle(0) == []
    said = grants.settle(RECALL_PAUSE_MS)
    assert said == [("a", Recall(2, cores(1))), ("b", Recall(2, cores(1)))]


def test_the_slot_of_a_finished_attempt_stays_with_its_node_until_it_is_acknowledged():
    grants = shared()
    occupy(grants, "a", 4)
    grants.finish("a", CORE)
    grants.demand("b", demand(1, 10))
    assert grants.settle(0) == []
    grants.forget("a", CORE)
    assert grants.settle(0) == [("a", Recall(1, CORE))]


def test_a_busy_node_gives_a_finished_slot_to_an_older_demand():
    grants = shared()
    occupy(grants, "a", 4)
    grants.demand("a", demand(9, 20))
    grants.demand("b", demand(1, 10))
    assert grants.settle(0) == []
    grants.finish("a", CORE)
    assert grants.settle(0) == [("a", Grant(2, cores(3))), ("b", Grant(2, CORE))]
    grants.finish("a", CORE)
    assert grants.settle(0) == []


def test_a_busy_node_keeps_a_finished_slot_when_its_own_demand_is_older():
    grants = shared()
    occupy(grants, "a", 4)
    grants.demand("a", demand(9, 5))
    grants.demand("b", demand(1, 10))
    grants.finish("a", CORE)
    assert grants.settle(0) == []


def test_a_vanished_node_is_charged_for_what_runs_and_for_nothing_else():
    grants = shared()
    occupy(grants, "a", 3)
    grants.disconnect("a")
    assert grants.held("a") == cores(3)
    assert grants.settle(0) == [("b", Grant(2, cores(1)))]
    grants.finish("a", CORE)
    assert grants.settle(0) == [("b", Grant(3, cores(2)))]
    grants.forget("a", CORE)
    for _ in range(2):
        grants.finish("a", CORE)
        grants.forget("a", CORE)
    assert grants.settle(0) == [("b", Grant(4, cores(4)))]


def test_a_node_that_returns_starts_with_what_its_attempts_occupy():
    grants = shared()
    occupy(grants, "a", 1)
    grants.disconnect("a")
    grants.settle(0)
    grants.connect("a")
    assert grants.settle(0) == [("a", Grant(1, CORE))]


def test_a_running_attempt_takes_its_slot_along_to_another_node():
    grants = shared()
    occupy(grants, "a", 2)
    grants.finish("a", CORE)
    grants.move("a", "b", CORE, running=True)
    grants.move("a", "b", CORE, running=False)
    assert grants.settle(0) == [("a", Grant(2, cores(3))), ("b", Grant(2, CORE))]
    grants.finish("b", CORE)
    grants.forget("b", CORE)
    grants.forget("b", CORE)
    assert grants.total() == cores(4)


def test_an_attempt_of_a_vanished_node_is_adopted():
    grants = shared()
    occupy(grants, "a", 1)
    grants.disconnect("a")
    grants.settle(0)
    grants.move("a", "b", CORE, running=True)
    assert grants.settle(0) == [("b", Grant(3, cores(4)))]
    assert grants.held("a") == NOTHING


def test_an_attempt_that_never_started_is_handed_back():
    grants = shared()
    occupy(grants, "a", 1)
    grants.withdraw("a", CORE)
    assert grants.admits("a", cores(4))


NODES = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("toggle"), NODES),
    st.tuples(st.just("occupy"), NODES, st.integers(1, 3)),
    st.tuples(st.just("finish"), st.integers(0, 50)),
    st.tuples(st.just("forget"), st.integers(0, 50)),
    st.tuples(st.just("move"), st.integers(0, 50), NODES),
    st.tuples(st.just("demand"), NODES, st.integers(0, 6), st.integers(0, 9)),
    st.tuples(st.just("release"), NODES, st.integers(0, 4)),
)


class World:
    """Nodes that keep to the rules, as far as messages at once allow."""

    def __init__(self) -> None:
        self.grants = Grants(cores(4))
        self.connected: set[str] = set()
        self.running: list[tuple[str, Amount]] = []
        self.over: list[tuple[str, Amount]] = []
        self.told: dict[str, Grant] = {}
        self.clock = itertools.count(step=60)

    def apply(self, step: tuple) -> None:
        getattr(self, step[0])(*step[1:])
        for node, entry in self.grants.settle(next(self.clock)):
            assert node in self.connected
            if isinstance(entry, Grant):
                self.told[node] = entry
            else:
                assert entry.number == self.told[node].number
                assert entry.amount
        self.check()

    def check(self) -> None:
        assert self.grants.capacity.covers(self.grants.total())
        for node in "abc":
            used = NOTHING
            for owner, amount in self.running:
                used = used.plus(amount) if owner == node else used
            assert self.grants.held(node).covers(used)
        if len(self.connected) == 1:
            assert self.grants.total() == self.grants.capacity

    def toggle(self, node: str) -> None:
        if node in self.connected:
            self.connected.remove(node)
            self.grants.disconnect(node)
        else:
            self.connected.add(node)
            self.grants.connect(node)

    def occupy(self, node: str, size: int) -> None:
        if node in self.connected and self.grants.admits(node, cores(size)):
            self.grants.occupy(node, cores(size))
            self.running.append((node, cores(size)))

    def finish(self, index: int) -> None:
        if self.running:
            node, amount = self.running.pop(index % len(self.running))
            self.grants.finish(node, amount)
            self.over.append((node, amount))

    def forget(self, index: int) -> None:
        if self.over:
            self.grants.forget(*self.over.pop(index % len(self.over)))

    def move(self, index: int, node: str) -> None:
        if self.running and node in self.connected:
            at = index % len(self.running)
            owner, amount = self.running[at]
            if owner != node:
                self.grants.move(owner, node, amount, running=True)
                self.running[at] = (node, amount)

    def demand(self, node: str, amount: int, since: int) -> None:
        if node in self.connected:
            self.grants.demand(node, demand(amount, since))

    def release(self, node: str, amount: int) -> None:
        if node in self.connected:
            answer = Release(self.told[node].number, cores(amount))
            self.grants.release(node, answer, next(self.clock))


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_the_capacity_is_not_exceeded(steps: list[tuple]):
    world = World()
    for step in steps:
        world.apply(step)


def test_a_closed_book_grants_nothing_whatever_its_nodes_use_or_want():
    grants = shared()
    occupy(grants, "a", 1)
    grants.demand("b", demand(2, 10))
    assert grants.settle(0) == [("a", Recall(1, cores(2)))]
    grants.close()
    assert grants.settle(0) == [("a", Grant(2, NOTHING))]
    assert (grants.held("a"), grants.held("b")) == (CORE, NOTHING)
    grants.release("a", Release(1, cores(2)), 0)
    grants.finish("a", CORE)
    grants.move("a", "b", CORE, running=False)
    assert grants.settle(RECALL_PAUSE_MS) == []
    assert grants.next_deadline() is None


def test_a_node_that_comes_after_the_book_was_closed_is_granted_nothing():
    grants = Grants(cores(4))
    grants.close()
    grants.connect("a")
    assert grants.settle(0) == [("a", Grant(1, NOTHING))]
