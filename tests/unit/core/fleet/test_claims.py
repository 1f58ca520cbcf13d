"""Whose turn a room is when several shards have tasks that wait for one."""

from __future__ import annotations

from controlplane.core.fleet.claims import Claims

ONE, TWO = (1_000, 10), (2_000, 20)


def claims_of(**shards):
    """Claims by shard: `s1={shape: since}`."""
    claims = Claims()
    for name, wanted in shards.items():
        claims.publish(int(name[1:]), wanted, yielded=False)
    return claims


def test_only_claims_of_others_are_a_contest():
    claims = claims_of(s1={ONE: 5})
    assert not claims.contested(1)
    assert claims.contested(2)
    claims.publish(1, {}, yielded=False)
    assert not claims.contested(2)


def test_room_goes_to_the_oldest_claim_that_fits_it():
    claims = claims_of(s1={ONE: 5, TWO: 3}, s2={ONE: 4})
    everyone = {1, 2, 3}
    assert claims.oldest(3, 9, TWO, everyone) == 1
    assert claims.oldest(3, 9, ONE, everyone) == 2
    assert claims.oldest(3, 9, (2_000, 10), everyone) == 2, "memory counts as well"
    assert claims.oldest(3, 9, (500, 99), everyone) == 3
    assert claims.oldest(3, 4, ONE, everyone) == 3, "it waits as long"
    assert claims.oldest(3, 9, TWO, {3}) == 3, "the others may not use the room"


def test_a_shard_takes_room_for_a_young_task_by_its_own_older_claim():
    claims = claims_of(s1={ONE: 5}, s2={ONE: 7})
    assert claims.oldest(1, 9, ONE, {1, 2}) == 1


def test_a_claim_counts_until_a_task_as_old_has_its_place():
    claims = claims_of(s1={ONE: 5, TWO: 6}, s2={ONE: 7})
    claims.served(1, ONE, 6)
    assert claims.oldest(2, 7, ONE, {1, 2}) == 1
    claims.served(1, ONE, 5)
    assert claims.oldest(2, 7, ONE, {1, 2}) == 2
    claims.served(1, ONE, 5)
    claims.served(1, TWO, 6)
    assert not claims.contested(2)
    claims.served(1, TWO, 6)


def test_a_shard_is_told_once_that_it_is_awaited():
    claims = claims_of(s1={ONE: 5})
    assert claims.wait_for(1)
    assert not claims.wait_for(1)
    assert claims.publish(1, {ONE: 5}, yielded=False), "who waited may look again"
    assert not claims.publish(1, {ONE: 5}, yielded=False)
    assert claims.wait_for(1)


def test_a_shard_that_yields_itself_stays_awaited():
    claims = claims_of(s1={ONE: 5})
    claims.wait_for(1)
    assert not claims.publish(1, {ONE: 5}, yielded=True)
    assert claims.publish(1, {ONE: 5}, yielded=False)
