"""The fleet against a list that is searched from end to end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.core.fleet.placement import CANDIDATES, Fleet
from controlplane.core.types import Resources

AGENTS = [f"agent-{number}" for number in range(6)]
agents = st.sampled_from(AGENTS)
shards = st.integers(0, 1)
incarnations = st.sampled_from([b"life 1", b"life 2"])
amounts = st.builds(Resources, st.integers(0, 9), st.integers(0, 9))


def naive(fleet, shard, request):
    """All rooms that fit, as (level, dominant share left, agent)."""
    found = []
    for room in fleet.rooms():
        free = room.granted - Resources(room.used_cpu, room.used_memory)
        if room.connected and shard in room.shards and request.fits(free):
            left = free - request
            share = max(
                left.cpu_millis / (room.capacity.cpu_millis or 1),
                left.memory_bytes / (room.capacity.memory_bytes or 1),
            )
            found.append((free.cpu_millis.bit_length(), share, room.agent))
    return sorted(found)


class AnyDay(RuleBasedStateMachine):
    """Sessions, grants, charges in any order."""

    def __init__(self):
        super().__init__()
        assert len(AGENTS) <= CANDIDATES
        self.fleet = Fleet()
        self.charges = []

    @rule(agent=agents, incarnation=incarnations, capacity=amounts, share=st.integers(1, 3))
    def connect(self, agent, incarnation, capacity, share):
        self.fleet.connect(agent, incarnation, capacity)
        self.fleet.grant(
            agent, Resources(capacity.cpu_millis // share, capacity.memory_bytes // share)
        )

    @rule(agent=agents)
    def disconnect(self, agent):
        self.fleet.disconnect(agent)

    @rule(agent=agents, shard=shards)
    def admit(self, agent, shard):
        self.fleet.admit(shard, agent)

    @rule(agent=agents, shard=shards)
    def expel(self, agent, shard):
        self.fleet.expel(shard, agent)

    @rule(agent=agents, wanted=amounts)
    def release(self, agent, wanted):
        before = self.fleet.room(agent).granted
        given_back = self.fleet.release(agent, wanted)
        assert given_back.fits(wanted)
        assert given_back.fits(before)

    @rule(shard=shards, request=amounts, count=st.integers(1, 4))
    def place(self, shard, request, count):
        for _ in range(count):
            expected = naive(self.fleet, shard, request)
            room = self.fleet.place(shard, request)
            if room is None:
                assert expected == []
                return
            best = expected[0][:2]
            assert room.agent in [agent for *score, agent in expected if tuple(score) == best]
            assert request.fits(room.free)
            self.fleet.charge(shard, room.agent, room.incarnation, request)
            self.charges.append((shard, room.agent, room.incarnation, request))

    @rule(shard=shards, agent=agents, incarnation=incarnations, request=amounts)
    def charge_what_was_adopted(self, shard, agent, incarnation, request):
        self.fleet.charge(shard, agent, incarnation, request)
        self.charges.append((shard, agent, incarnation, request))

    @rule(choice=st.integers(0, 1_000))
    def discharge(self, choice):
        if self.charges:
            growth = self.fleet.growth
            shard, agent, incarnation, request = self.charges.pop(choice % len(self.charges))
            present = self.fleet.room(agent).incarnation == incarnation
            self.fleet.discharge(shard, agent, incarnation, request)
            assert self.fleet.growth > growth or not present

    @rule(shard=shards)
    def forget(self, shard):
        self.fleet.forget(shard)
        self.charges = [charge for charge in self.charges if charge[0] != shard]

    @invariant()
    def used_is_what_is_charged(self):
        for room in self.fleet.rooms():
            mine = [
                request
                for _, agent, incarnation, request in self.charges
                if (agent, incarnation) == (room.agent, room.incarnation)
            ]
            assert sum((request for request in mine), Resources()) == Resources(
                room.used_cpu, room.used_memory
            )

    @invariant()
    def none_but_connected_or_charged_agents_are_kept(self):
        charged = {charge[1] for charge in self.charges}
        assert all(room.connected or room.agent in charged for room in self.fleet.rooms())


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)


@given(st.lists(amounts, max_size=30), st.lists(amounts, min_size=1, max_size=5))
@settings(deadline=None, derandomize=True)
def test_no_agent_is_ever_filled_beyond_its_grant(requests, grants):
    fleet = Fleet()
    for number, grant in enumerate(grants):
        fleet.connect(f"agent-{number}", b"life", grant)
        fleet.grant(f"agent-{number}", grant)
        fleet.admit(0, f"agent-{number}")
    for request in requests:
        if room := fleet.place(0, request):
            fleet.charge(0, room.agent, room.incarnation, request)
    for room in fleet.rooms():
        assert Resources(room.used_cpu, room.used_memory).fits(room.granted)
