from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.shard.queue import NO_WANT, SHAPES_WANTED, ShapeWant
from controlplane.core.types import Resources
from controlplane.leader.sessions.demand import demand_of, differs

WHOLE = Resources(8_000, 1_000)


def want(cpu=1_000, tasks=1, oldest_us=5, memory=10):
    return (ShapeWant(Resources(cpu, memory), tasks, oldest_us),)


def told(demand):
    return [
        (each.request.cpu_millis, each.request.memory_bytes, each.count, each.rank.oldest_ready_us)
        for each in demand.shapes
    ]


def test_the_oldest_shape_comes_first():
    demand = demand_of([want(1_000, 1, 9), NO_WANT, want(2_000, 3, 4)], WHOLE)
    assert told(demand) == [(2_000, 10, 3, 4), (1_000, 10, 1, 9)]
    assert demand_of([NO_WANT], WHOLE) == pb.Demand()


def test_the_same_shape_of_two_shards_is_one():
    demand = demand_of([want(1_000, 1, 9), want(1_000, 2, 4)], WHOLE)
    assert told(demand) == [(1_000, 10, 3, 4)]


def test_no_more_of_a_shape_is_asked_for_than_the_agent_could_hold():
    assert told(demand_of([want(1_000, 90)], WHOLE)) == [(1_000, 10, 8, 5)]
    assert told(demand_of([want(0, 90, memory=300)], WHOLE)) == [(0, 300, 3, 5)]
    assert told(demand_of([want(0, 90, memory=0)], WHOLE)) == [(0, 0, 90, 5)]


def test_what_could_never_fit_is_not_asked_for_and_silences_nobody():
    assert demand_of([want(9_000)], WHOLE) == pb.Demand()
    giant, small = want(99_000, oldest_us=1), want(100, oldest_us=7)
    assert told(demand_of([giant, small], WHOLE)) == [(100, 10, 1, 7)]


def test_a_demand_has_a_bound():
    many = [want(10 + number, oldest_us=number) for number in range(SHAPES_WANTED + 5)]
    demand = demand_of(many, WHOLE)
    assert len(demand.shapes) == SHAPES_WANTED
    assert demand.shapes[0].rank.oldest_ready_us == 0


def test_only_what_matters_is_said_again():
    first = demand_of([want(1_000, 2)], WHOLE)
    others = [want(4_000), want(1_000, 4), want(1_000, 2, oldest_us=2_000_000), NO_WANT]
    for other in others:
        assert differs(first, demand_of([other], WHOLE), regranted=False)
    nearly = demand_of([want(1_000, 3, oldest_us=6)], WHOLE)
    assert not differs(first, nearly, regranted=False)


def test_after_a_new_grant_what_is_still_wanted_is_said_again():
    first = demand_of([want(2_000)], WHOLE)
    assert differs(first, first, regranted=True)
    assert not differs(pb.Demand(), pb.Demand(), regranted=True)
    assert differs(first, pb.Demand(), regranted=True)
