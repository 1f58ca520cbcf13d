"""Who gets an attempt: grants, charges, best fit, and which shard may speak to whom."""

from __future__ import annotations

from controlplane.core.fleet.placement import CANDIDATES, Fleet
from controlplane.core.types import Resources
from tests.unit.core.bench import cores


def fleet_of(**sizes):
    """Connected agents, wholly granted, that shard 0 may assign to."""
    fleet = Fleet()
    for agent, size in sizes.items():
        fleet.connect(agent, b"life", size)
        fleet.grant(agent, size)
        fleet.admit(0, agent)
    return fleet


def placed(fleet, request, shard=0):
    room = fleet.place(shard, request)
    return room and room.agent


def put(fleet, request, shard=0):
    """Places and charges, as a shard does."""
    agent = placed(fleet, request, shard)
    if agent is not None:
        fleet.charge(shard, agent, b"life", request)
    return agent


def test_an_unknown_agent_has_no_room():
    fleet = Fleet()
    assert fleet.room("ant").free == Resources()
    assert placed(fleet, Resources()) is None


def test_the_tightest_agent_that_fits_is_chosen():
    fleet = fleet_of(large=cores(64), small=cores(2), middle=cores(8))
    assert placed(fleet, cores(1)) == "small"
    assert placed(fleet, cores(3)) == "middle"
    assert placed(fleet, cores(9)) == "large"
    assert placed(fleet, cores(65)) is None


def test_the_dominant_resource_decides_the_fit():
    fleet = fleet_of(roomy=cores(4, 64), tight=cores(4, 8))
    assert placed(fleet, cores(1, 1)) == "tight"
    assert placed(fleet, cores(1, 9)) == "roomy"
    fleet.charge(0, "roomy", b"life", cores(0, 60))
    assert placed(fleet, cores(1, 1)) == "roomy", "now both are left with 3 cores, it with less"


def test_memory_alone_can_be_what_does_not_fit():
    fleet = fleet_of(ant=cores(4, 1))
    assert placed(fleet, cores(1, 2)) is None
    assert placed(fleet, cores(1, 1)) == "ant"


def test_charges_fill_an_agent_until_nothing_more_fits():
    fleet = fleet_of(ant=cores(2), bee=cores(3))
    assert [put(fleet, cores(1)) for _ in range(6)] == ["ant", "ant", "bee", "bee", "bee", None]


def test_a_best_fit_stays_best_until_it_is_full():
    fleet = fleet_of(ant=cores(4), bee=cores(4))
    assert [put(fleet, cores(1)) for _ in range(5)] == ["ant"] * 4 + ["bee"]


def test_another_question_is_answered_anew():
    fleet = fleet_of(ant=cores(4), bee=cores(2))
    assert placed(fleet, cores(3)) == "ant"
    assert placed(fleet, cores(1)) == "bee"
    fleet.charge(0, "ant", b"life", cores(3))
    assert placed(fleet, cores(1)) == "ant"


def test_what_ends_gives_its_room_back_and_says_so():
    fleet = fleet_of(ant=cores(1))
    assert put(fleet, cores(1)) == "ant"
    assert put(fleet, cores(1)) is None
    before = fleet.growth
    fleet.discharge(0, "ant", b"life", cores(1))
    assert fleet.growth > before
    assert put(fleet, cores(1)) == "ant"


def test_a_request_for_nothing_fits_a_full_agent():
    fleet = fleet_of(ant=cores(1))
    fleet.charge(0, "ant", b"life", cores(1))
    assert placed(fleet, Resources()) == "ant"


def test_a_shard_assigns_only_where_it_was_admitted():
    fleet = fleet_of(ant=cores(2))
    assert placed(fleet, cores(1), shard=7) is None
    fleet.admit(7, "ant")
    assert fleet.admitted(7, "ant")
    assert placed(fleet, cores(1), shard=7) == "ant"
    fleet.expel(7, "ant")
    assert not fleet.admitted(7, "ant")
    assert placed(fleet, cores(1), shard=7) is None
    assert placed(fleet, cores(1), shard=0) == "ant"


def test_shards_never_reserve_the_same_room():
    fleet = fleet_of(ant=cores(3))
    fleet.admit(1, "ant")
    assert [put(fleet, cores(1), shard) for shard in (0, 1, 0, 1)] == ["ant", "ant", "ant", None]


def test_without_a_session_nothing_is_placed_but_charges_stay():
    fleet = fleet_of(ant=cores(2))
    fleet.charge(0, "ant", b"life", cores(1))
    fleet.disconnect("ant")
    assert placed(fleet, cores(1)) is None
    fleet.connect("ant", b"life", cores(2))
    fleet.grant("ant", cores(2))
    assert placed(fleet, cores(1)) is None, "its inventory is still to come"
    fleet.admit(0, "ant")
    assert [put(fleet, cores(1)) for _ in range(2)] == ["ant", None]


def test_a_grant_below_what_is_used_leaves_no_room():
    fleet = fleet_of(ant=cores(4))
    fleet.charge(0, "ant", b"life", cores(3))
    fleet.grant("ant", cores(2))
    assert fleet.room("ant").free == Resources()
    assert placed(fleet, Resources()) is None
    fleet.discharge(0, "ant", b"life", cores(3))
    assert placed(fleet, cores(2)) == "ant"


def test_what_is_in_use_is_given_back_too_and_not_used_again():
    fleet = fleet_of(ant=cores(4, 8))
    fleet.charge(0, "ant", b"life", cores(3, 6))
    assert fleet.release("ant", cores(2, 9)) == cores(2, 8)
    assert fleet.room("ant").granted == cores(2, 0)
    assert placed(fleet, cores(1)) is None
    fleet.discharge(0, "ant", b"life", cores(3, 6))
    assert [put(fleet, cores(1)) for _ in range(3)] == ["ant", "ant", None]


def test_a_forgotten_shard_leaves_no_charge_and_may_speak_to_nobody():
    fleet = fleet_of(ant=cores(2), bee=cores(2))
    fleet.admit(1, "ant")
    fleet.charge(0, "ant", b"life", cores(1))
    fleet.charge(1, "ant", b"life", cores(1))
    fleet.forget(0)
    assert fleet.room("ant").free == cores(1)
    assert placed(fleet, cores(1), shard=0) is None
    assert placed(fleet, cores(1), shard=1) == "ant"


def test_what_could_ever_fit_is_judged_by_capacity_not_by_the_moment():
    fleet = fleet_of(ant=cores(2, 4))
    fleet.charge(0, "ant", b"life", cores(2))
    assert fleet.could_ever_fit(cores(2, 4))
    assert not fleet.could_ever_fit(cores(3, 0))
    fleet.disconnect("ant")
    assert not fleet.could_ever_fit(cores(1))


def test_what_another_incarnation_holds_takes_no_room_from_this_one():
    fleet = fleet_of(ant=cores(2))
    fleet.charge(0, "ant", b"life", cores(1))
    fleet.charge(0, "ant", b"before", cores(2))
    assert fleet.room("ant").free == cores(1)
    fleet.connect("ant", b"next", cores(2))
    fleet.grant("ant", cores(2))
    assert fleet.room("ant").free == cores(2)
    fleet.discharge(0, "ant", b"before", cores(2))
    assert fleet.room("ant").free == cores(2)
    fleet.connect("ant", b"life", cores(2))
    fleet.grant("ant", cores(2))
    assert fleet.room("ant").free == cores(1), "the same incarnation is back"
    fleet.forget(0)
    assert fleet.room("ant").free == cores(2)


def test_a_forgotten_shard_takes_its_charges_of_all_incarnations_along():
    fleet = fleet_of(ant=cores(2))
    fleet.charge(0, "ant", b"before", cores(2))
    fleet.forget(0)
    assert fleet.room("ant").free == cores(2)
    assert not fleet.room("ant").charges


def test_all_rooms_are_listed():
    fleet = fleet_of(ant=cores(1), bee=cores(1))
    fleet.charge(0, "bee", b"life", cores(1))
    fleet.disconnect("bee")
    assert {(room.agent, room.connected) for room in fleet.rooms()} == {
        ("ant", True),
        ("bee", False),
    }


def test_an_agent_neither_connected_nor_charged_is_forgotten():
    fleet = fleet_of(ant=cores(1), bee=cores(1), cat=cores(1))
    fleet.charge(0, "bee", b"life", cores(0))
    fleet.charge(0, "cat", b"life", cores(1))
    for agent in ("ant", "bee", "cat", "dog"):
        fleet.disconnect(agent)
    assert [room.agent for room in fleet.rooms()] == ["bee", "cat"]
    fleet.discharge(0, "bee", b"life", cores(0))
    assert [room.agent for room in fleet.rooms()] == ["cat"]
    fleet.forget(0)
    assert fleet.rooms() == ()


def test_nobody_is_admitted_to_an_agent_without_a_session():
    fleet = fleet_of(ant=cores(1))
    fleet.disconnect("ant")
    fleet.admit(0, "ant")
    assert not fleet.admitted(0, "ant")


def test_a_search_among_many_equals_compares_only_a_few():
    fleet = fleet_of(**{f"a{n}": cores(4, 8) for n in range(CANDIDATES + 1)})
    tightest = f"a{CANDIDATES}"
    fleet.charge(0, tightest, b"life", cores(0, 4))
    fleet.charge(0, tightest, b"life", cores(0.5, 0))
    assert placed(fleet, cores(3)) == "a0", "the tightest of the level lies behind the candidates"


def test_the_shards_with_attempts_of_an_incarnation_are_known():
    fleet = fleet_of(ant=cores(4))
    assert fleet.charged_shards("ant", b"life") == ()
    for shard, life in ((0, b"life"), (3, b"life"), (5, b"past")):
        fleet.charge(shard, "ant", life, cores(1))
    assert sorted(fleet.charged_shards("ant", b"life")) == [0, 3]
    assert fleet.charged_shards("ant", b"past") == (5,)
    fleet.discharge(3, "ant", b"life", cores(1))
    assert fleet.charged_shards("ant", b"life") == (0,)
    assert fleet.charged_shards("bee", b"life") == ()
