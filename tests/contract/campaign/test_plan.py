"""Which faults a round has follows from the seed, and no two of them touch the same part."""

import itertools
from types import SimpleNamespace

import pytest

from tests.campaign.faults import ALL, KINDS
from tests.campaign.faults.links import LINKS, link_of
from tests.campaign.faults.processes import NodeKill, NodePause, RollingRestart
from tests.campaign.plan import APART_S, Planned, Planner, collide

NODES = ("node-1", "node-2", "node-3")
AGENTS = tuple(f"agent-{number}" for number in range(1, 7))
DOORS = ("clients", "peers", "postgres", "etcd")
SITE = SimpleNamespace(
    nodes=dict.fromkeys(NODES),
    agents=dict.fromkeys(AGENTS),
    clocks=dict.fromkeys((*NODES, *AGENTS, "postgres")),
)


def rounds(seed, kinds=ALL, count=10):
    planner = Planner(SITE, kinds, seed)
    return [planner.round(7, 25.0) for _ in range(count)]


def told(planned):
    return [(each.begins_s, each.fault.kind, each.fault.target) for each in planned]


def test_a_seed_gives_the_same_faults_and_another_one_others():
    first, again, other = rounds(1), rounds(1), rounds(2)
    assert list(map(told, first)) == list(map(told, again))
    assert list(map(told, first)) != list(map(told, other))


def test_faults_come_in_order_and_within_their_time():
    for planned in rounds(3):
        begins = [each.begins_s for each in planned]
        assert begins == sorted(begins)
        assert all(0.0 <= each <= 25.0 for each in begins)


def test_no_two_faults_touch_one_part_at_a_time():
    for seed in range(20):
        for planned in rounds(seed):
            for one, other in itertools.combinations(planned, 2):
                apart = one.begins_s >= other.ends_s + APART_S
                apart = apart or other.begins_s >= one.ends_s + APART_S
                assert apart or not one.fault.touches & other.fault.touches


def test_every_kind_comes_before_any_comes_again():
    kinds = [each.fault.kind for planned in rounds(5) for each in planned]
    # What found no place in its round is left out, so that a few more may be needed.
    assert set(kinds[: len(ALL) + 10]) == set(KINDS)


def test_a_part_is_left_alone_for_a_moment_between_two_faults():
    pause = Planned(0.0, NodePause("node-1", 4.0))
    assert collide(pause, Planned(4.0 + APART_S / 2, NodeKill("node-1", 0.0)))
    assert collide(Planned(4.0 + APART_S / 2, NodeKill("node-1", 0.0)), pause)
    assert not collide(pause, Planned(4.0 + 2 * APART_S, NodeKill("node-1", 0.0)))
    assert not collide(pause, Planned(1.0, NodeKill("node-2", 0.0)))
    assert collide(pause, Planned(1.0, RollingRestart(frozenset(NODES))))


@pytest.mark.parametrize("kind", LINKS)
def test_every_link_that_is_drawn_exists(kind):
    import random

    asked = []

    def proxy(name):
        return SimpleNamespace(link=lambda source: asked.append((name, source)))

    doors = {
        node: SimpleNamespace(
            **{each: proxy(each) for each in ("clients", "peers", "postgres", "etcd")}
        )
        for node in NODES
    }
    site = SimpleNamespace(**vars(SITE), doors=doors)
    dice = random.Random(1)
    for _ in range(200):
        for name in kind.draw(site, dice).links:
            link_of(site, name)
    assert {name for name, _ in asked} == set(DOORS)
    assert {source for name, source in asked if name == "peers"} == {*NODES, *AGENTS}
