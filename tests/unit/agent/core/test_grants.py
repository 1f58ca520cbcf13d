from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.entries import Demand, Grant, Rank, Recall, Release, ShapeDemand
from agent.core.grants import RECALL_PAUSE_MS, Grants
from agent.core.types import NOTHING, Amount

CORE = Amount(1_000, 1 << 20)


def cores(number: int) -> Amount:
    return CORE.times(number)


def shape(size: int, count: int, since: int, priority_class: int = 0, share: int = 0):
    return ShapeDemand(cores(size), count, Rank(priority_class, share, since))


def demand(count: int, since: int, size: int = 1) -> Demand:
    return Demand((shape(size, count, since),))


def ask(grants: Grants, node: str, wanted: Demand) -> None:
    """A node that knows its grant states a demand."""
    grants.demand(node, replace(wanted, grant_number=grants._nodes[node].number))


def shared(capacity: int = 4) -> Grants:
    """All cores granted to `a`, while `b` is connected too."""
    grants = Grants(cores(capacity))
    grants.connect("a")
    assert grants.settle(0) == [("a", Grant(1, cores(capacity)))]
    grants.connect("b")
    assert grants.settle(0) == [("b", Grant(1, NOTHING))]
    return grants


def occupy(grants: Grants, node: str, number: int, request: Amount = CORE) -> None:
    for _ in range(number):
        assert grants.admits(node, request)
        grants.occupy(node, request)


def end(grants: Grants, node: str) -> None:
    grants.finish(node, CORE)
    grants.forget(node, CORE)


def test_a_node_alone_is_granted_everything():
    grants = shared()
    assert grants.held("a") == grants.total() == cores(4)
    assert grants.held("b") == grants.held("unknown") == NOTHING
    assert grants.settle(0) == []


def test_a_node_alone_is_granted_what_it_asks_for_while_others_are_expected():
    grants = Grants(cores(4))
    grants.connect("a")
    assert grants.settle(0, others_expected=True) == [("a", Grant(1, NOTHING))]
    ask(grants, "a", demand(1, 10))
    assert grants.settle(0, others_expected=True) == [("a", Grant(2, CORE))]
    assert grants.settle(0) == [("a", Grant(3, cores(4)))]


def test_what_is_assigned_again_is_taken_where_room_is_free():
    grants = Grants(cores(2))
    for node in "ab":
        grants.connect(node)
    grants.settle(0)
    ask(grants, "a", demand(1, 10))
    grants.settle(0)
    assert grants.admits("b", CORE)
    grants.occupy("b", CORE)
    assert grants.total() == cores(2)
    assert not grants.admits("b", CORE)
    assert grants.admits("a", CORE)
    grants.close()
    end(grants, "b")
    assert not grants.admits("b", CORE)


def test_what_is_not_used_is_recalled_for_a_demand_and_granted_after_the_release():
    grants = shared()
    occupy(grants, "a", 1)
    ask(grants, "b", demand(2, 10))
    assert grants.settle(0) == [("a", Recall(1, cores(2)))]
    assert grants.settle(0) == []
    grants.release("a", Release(1, cores(2)), 0)
    assert grants.settle(0) == [("b", Grant(2, cores(2)))]
    assert grants.held("a") == cores(2)


def test_a_release_that_answers_a_replaced_grant_changes_nothing():
    grants = shared()
    grants.release("a", Release(0, cores(2)), 0)
    assert grants.held("a") == cores(4)


def test_a_node_that_gave_less_than_asked_is_asked_again_after_a_pause():
    grants = shared()
    ask(grants, "b", demand(2, 10))
    grants.settle(0)
    assert grants.next_deadline() is None
    grants.release("a", Release(1, NOTHING), 50)
    assert grants.settle(50) == []
    assert grants.next_deadline() == 50 + RECALL_PAUSE_MS
    assert grants.settle(50 + RECALL_PAUSE_MS) == [("a", Recall(1, cores(2)))]


def test_a_demand_that_is_withdrawn_is_not_served():
    grants = shared()
    ask(grants, "b", demand(2, 10))
    ask(grants, "b", Demand())
    assert grants.settle(0) == []
    assert grants.next_deadline() is None


def test_what_the_agent_could_never_hold_is_passed_over():
    grants = shared()
    ask(grants, "b", Demand((shape(5, 1, 1), shape(1, 1, 2))))
    assert grants.settle(0) == [("a", Recall(1, CORE))]


def test_a_demand_of_a_node_that_did_not_know_its_grant_is_passed_over():
    grants = shared()
    grants.demand("b", replace(demand(2, 10), grant_number=0))
    assert grants.settle(0) == []


def test_free_capacity_goes_to_the_best_rank_first():
    grants = shared()
    grants.connect("c")
    grants.settle(0)
    ask(grants, "b", demand(3, 20))
    ask(grants, "c", demand(2, 10))
    grants.settle(0)
    grants.release("a", Release(1, cores(4)), 0)
    assert grants.settle(0) == [("b", Grant(2, cores(2))), ("c", Grant(2, cores(2)))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (shape(1, 4, 99, priority_class=0), shape(1, 4, 1, priority_class=1)),
        (shape(1, 4, 99, share=5), shape(1, 4, 1, share=6)),
        (shape(1, 4, 1), shape(1, 4, 2)),
    ],
)
def test_class_goes_before_share_and_share_before_age(first, second):
    grants = shared()
    grants.connect("c")
    grants.settle(0)
    ask(grants, "b", Demand((second,)))
    ask(grants, "c", Demand((first,)))
    grants.settle(0)
    grants.release("a", Release(1, cores(4)), 0)
    assert grants.settle(0) == [("c", Grant(2, cores(4)))]


def test_unused_room_of_the_node_itself_counts_for_what_it_wants():
    grants = shared()
    ask(grants, "b", demand(1, 10))
    grants.settle(0)
    grants.release("a", Release(1, CORE), 0)
    assert grants.settle(0) == [("b", Grant(2, CORE))]
    ask(grants, "b", demand(1, 10, size=3))
    assert grants.settle(RECALL_PAUSE_MS) == [("a", Recall(1, cores(2)))]
    grants.release("a", Release(1, cores(2)), 200)
    assert grants.settle(200) == [("b", Grant(3, cores(3)))]


def test_a_recall_is_spread_over_those_who_have_something_to_spare():
    grants = Grants(cores(4))
    for node in "abc":
        grants.connect(node)
    grants.settle(0)
    ask(grants, "a", demand(1, 1))
    ask(grants, "b", demand(3, 1))
    grants.settle(0)
    ask(grants, "c", demand(2, 1))
    assert grants.settle(0) == []
    said = grants.settle(RECALL_PAUSE_MS)
    assert said == [("a", Recall(2, cores(1))), ("b", Recall(2, cores(1)))]


def test_the_slot_of_a_finished_attempt_stays_with_its_node_until_it_is_acknowledged():
    grants = shared()
    ask(grants, "a", demand(1, 5))
    occupy(grants, "a", 4)
    grants.finish("a", CORE)
    ask(grants, "b", demand(1, 10))
    assert grants.settle(0) == []
    assert grants.admits("a", CORE), "a child that is assigned in the same commit finds its place"
    grants.forget("a", CORE)
    assert grants.settle(RECALL_PAUSE_MS) == [("a", Recall(1, CORE))]


def test_room_in_use_is_asked_for_one_task_of_a_better_rank():
    grants = shared()
    occupy(grants, "a", 4)
    ask(grants, "a", demand(9, 20))
    ask(grants, "b", demand(5, 10))
    assert grants.settle(0) == [("a", Recall(1, CORE))]
    grants.release("a", Release(1, CORE), 0)
    assert grants.settle(0) == []
    assert not grants.admits("a", CORE)
    assert grants.held("a") == cores(4), "its attempts still run"
    assert grants.next_deadline() is None, "what is owed is not asked for again"
    end(grants, "a")
    assert grants.settle(0) == [("b", Grant(2, CORE))]
    assert grants.next_deadline() == RECALL_PAUSE_MS


def test_a_node_without_a_demand_yields_as_well():
    grants = shared()
    occupy(grants, "a", 4)
    ask(grants, "b", demand(1, 10))
    assert grants.settle(0) == [("a", Recall(1, CORE))]


def test_a_busy_node_keeps_its_room_while_its_own_rank_is_better():
    grants = shared()
    occupy(grants, "a", 4)
    ask(grants, "a", demand(9, 5))
    ask(grants, "b", demand(1, 10))
    grants.finish("a", CORE)
    assert grants.settle(0) == []
    assert grants.next_deadline() is None


def test_room_is_held_for_the_oldest_large_shape():
    grants = shared()
    grants.connect("c")
    occupy(grants, "a", 4)
    ask(grants, "b", demand(1, 1, size=4))
    ask(grants, "c", demand(9, 2))
    assert grants.settle(0)[-1] == ("a", Recall(1, cores(4)))
    grants.release("a", Release(1, cores(4)), 0)
    for _ in range(3):
        end(grants, "a")
        assert grants.settle(0) == []
    end(grants, "a")
    assert grants.settle(0) == [("b", Grant(2, cores(4)))]


def test_what_the_held_room_leaves_goes_to_smaller_ones():
    grants = Grants(Amount(4_000, 8 << 20))
    grants.connect("a")
    grants.settle(0)
    for node in "bc":
        grants.connect(node)
    grants.settle(0)
    occupy(grants, "a", 1, Amount(4_000, 0))
    deep = ShapeDemand(Amount(4_000, 1 << 20), 1, Rank(0, 0, 1))
    ask(grants, "b", Demand((deep,)))
    slim = ShapeDemand(Amount(0, 1 << 20), 2, Rank(0, 0, 2))
    ask(grants, "c", Demand((slim,)))
    assert grants.settle(0) == [("a", Recall(1, Amount(4_000, 1 << 20)))]
    grants.release("a", Release(1, Amount(4_000, 8 << 20)), 0)
    assert grants.settle(0) == [("c", Grant(2, Amount(0, 2 << 20)))]


def test_a_vanished_node_is_charged_until_its_attempts_are_over():
    grants = shared()
    occupy(grants, "a", 3)
    grants.disconnect("a")
    assert grants.settle(0) == [("b", Grant(2, CORE))]
    assert grants.held("a") == cores(3)
    end(grants, "a")
    assert grants.settle(0) == [("b", Grant(3, cores(2)))]
    grants.disconnect("b")
    assert grants.total() == cores(2)


def test_a_vanished_node_of_which_nothing_is_left_is_forgotten():
    grants = shared()
    occupy(grants, "a", 1)
    grants.finish("a", CORE)
    grants.disconnect("a")
    assert "a" in grants._nodes
    grants.forget("a", CORE)
    assert set(grants._nodes) == {"b"}


def test_a_node_that_comes_back_starts_with_what_its_attempts_occupy():
    grants = shared()
    occupy(grants, "a", 3)
    grants.disconnect("a")
    grants.connect("a")
    assert grants.settle(0) == [("a", Grant(1, cores(3)))]


def test_a_node_alone_again_is_granted_its_debt_as_it_comes_free():
    grants = shared()
    occupy(grants, "a", 4)
    ask(grants, "b", demand(1, 1, size=2))
    grants.settle(0)
    grants.release("a", Release(1, cores(2)), 0)
    grants.disconnect("b")
    assert grants.settle(0) == []
    end(grants, "a")
    assert grants.settle(0) == [("a", Grant(2, cores(3)))]


def test_the_slot_of_an_attempt_goes_along_with_its_shard():
    grants = shared()
    occupy(grants, "a", 2)
    grants.finish("a", CORE)
    grants.move("a", "b", CORE, running=True)
    grants.move("a", "b", CORE, running=False)
    assert (grants.held("a"), grants.held("b")) == (cores(3), CORE)
    assert grants.total() == cores(4)


def test_an_attempt_that_is_handed_back_leaves_nothing():
    grants = shared()
    occupy(grants, "a", 1)
    grants.withdraw("a", CORE)
    assert grants.admits("a", cores(4))


def test_an_agent_that_stops_grants_nothing():
    grants = shared()
    occupy(grants, "a", 2)
    ask(grants, "b", demand(1, 1))
    grants.settle(0)
    grants.close()
    assert grants.settle(1_000) == [("a", Grant(2, NOTHING))]
    assert grants.next_deadline() is None
    assert grants.held("a") == cores(2)


def test_a_request_without_memory_is_counted_by_its_processors_and_the_other_way_round():
    grants = shared()
    for request in (Amount(1_000, 0), Amount(0, 1 << 20)):
        ask(grants, "b", Demand((ShapeDemand(request, 9, Rank(0, 0, 1)),)))
        (said,) = grants.settle(0)
        assert said == ("a", Recall(1, request.times(9).least(cores(4))))
        grants.release("a", Release(1, NOTHING), -RECALL_PAUSE_MS)
