from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.shard.queue import NO_WANT, ShapeWant
from controlplane.core.types import Resources
from controlplane.leader.sessions.demand import demand_of, differs

WHOLE = Resources(8_000, 1_000)


def want(cpu=1_000, tasks=1, oldest_us=5, memory=10):
    return (ShapeWant(Resources(cpu, memory), tasks, oldest_us),)


def told(demand):
    amount, largest = demand.amount, demand.largest
    return (
        (amount.cpu_millis, amount.memory_bytes),
        (largest.cpu_millis, largest.memory_bytes),
        (demand.count, demand.oldest_ready_us),
    )


def test_wants_of_shards_add_up():
    demand = demand_of([want(1_000, 1, 9), NO_WANT, want(2_000, 3, 4)], WHOLE)
    assert told(demand) == ((7_000, 40), (2_000, 10), (4, 4))
    assert demand_of([NO_WANT], WHOLE) == pb.Demand()


def test_a_demand_is_no_more_than_the_agent_has():
    demand = demand_of([want(1_000, 90)], WHOLE)
    assert told(demand) == ((8_000, 900), (1_000, 10), (90, 5))


def test_what_could_never_fit_is_not_asked_for():
    assert demand_of([want(9_000)], WHOLE) == pb.Demand()


def test_what_fits_nowhere_does_not_silence_the_rest():
    giant, small = want(99_000, oldest_us=1), want(100, oldest_us=7)
    assert told(demand_of([giant, small], WHOLE)) == ((100, 10), (100, 10), (1, 7))
    wide, deep = want(8_000, memory=1), want(1, memory=1_000)
    assert told(demand_of([wide + deep], WHOLE)) == ((8_000, 1_000), (8_000, 1_000), (2, 5))


def test_only_what_matters_is_said_again():
    first = demand_of([want(2_000)], WHOLE)
    others = [want(4_000), want(1_000, 2), want(2_000, oldest_us=2_000_000), NO_WANT]
    for other in others:
        assert differs(first, demand_of([other], WHOLE), regranted=False)
    two, nearly_two = want(1_000, 2), want(1_000) + want(40)
    demands = demand_of([two], WHOLE), demand_of([nearly_two], WHOLE)
    assert not differs(*demands, regranted=False)


def test_after_a_new_grant_what_is_still_wanted_is_said_again():
    first = demand_of([want(2_000)], WHOLE)
    assert differs(first, first, regranted=True)
    assert not differs(pb.Demand(), pb.Demand(), regranted=True)
    assert differs(first, pb.Demand(), regranted=True)
