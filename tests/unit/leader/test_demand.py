from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.shard.queue import NO_WANT, Want
from controlplane.core.types import Resources
from controlplane.leader.sessions.demand import demand_of, differs, merged

WHOLE = Resources(8_000, 1_000)


def want(cpu=1_000, tasks=1, oldest_us=5, largest=1_000):
    return Want(Resources(cpu, 10), Resources(largest, 10), tasks, oldest_us)


def test_wants_of_shards_add_up():
    assert merged([want(1_000, 1, 9), NO_WANT, want(3_000, 3, 4, 2_000)]) == Want(
        Resources(4_000, 20), Resources(2_000, 10), 4, 4
    )
    assert merged([NO_WANT]) == NO_WANT


def test_a_demand_is_no_more_than_the_agent_has():
    demand = demand_of(want(90_000, 90), WHOLE)
    assert (demand.amount.cpu_millis, demand.amount.memory_bytes) == (8_000, 10)
    assert (demand.count, demand.oldest_ready_us) == (90, 5)


def test_what_could_never_fit_is_not_asked_for():
    assert demand_of(want(9_000, largest=9_000), WHOLE) == pb.Demand()
    assert demand_of(NO_WANT, WHOLE) == pb.Demand()


def test_only_what_matters_is_said_again():
    first = demand_of(want(2_000), WHOLE)
    others = [want(4_000), want(2_000, largest=2_000), want(2_000, oldest_us=2_000_000), NO_WANT]
    for other in others:
        assert differs(first, demand_of(other, WHOLE), regranted=False)
    assert not differs(first, demand_of(want(2_040), WHOLE), regranted=False)


def test_after_a_new_grant_what_is_still_wanted_is_said_again():
    first = demand_of(want(2_000), WHOLE)
    assert differs(first, first, regranted=True)
    assert not differs(pb.Demand(), pb.Demand(), regranted=True)
    assert differs(first, pb.Demand(), regranted=True)
