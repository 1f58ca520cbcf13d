from __future__ import annotations

from agent.core.attempts import Attempt, State
from agent.core.leases import Leases
from tests.unit.agent.core.driver import assignment


def waiting(leases: Leases, number: int, until_ms: int, shard: int = 0) -> Attempt:
    attempt = Attempt(assignment(number, shard), "n1", until_ms)
    leases.watch(attempt)
    return attempt


def test_the_later_of_both_leases_counts_and_none_is_shortened():
    leases = Leases()
    attempt = Attempt(assignment(1), "n1", 100)
    assert leases.until_ms(attempt) == 100
    assert leases.extend(0, 150)
    assert not leases.extend(0, 150)
    assert not leases.extend(0, 120)
    assert leases.extend(1, 900)
    assert leases.until_ms(attempt) == 150
    assert list(leases.in_force(150)) == [(1, 900)]
    assert list(leases.in_force(149)) == [(0, 150), (1, 900)]


def test_what_waits_too_long_is_given_once():
    leases = Leases()
    late, early, never = (waiting(leases, n, until) for n, until in ((1, 90), (2, 50), (3, 200)))
    assert leases.next_deadline() == 50
    assert list(leases.lapsed(49)) == []
    assert list(leases.lapsed(90)) == [early, late]
    assert list(leases.lapsed(90)) == []
    assert leases.next_deadline() == leases.until_ms(never)


def test_what_does_not_wait_any_more_is_looked_after_no_more():
    leases = Leases()
    waiting(leases, 1, 50).state = State.SPAWNING
    assert leases.next_deadline() is None
    assert list(leases.lapsed(99)) == []


def test_an_extension_reaches_what_waits():
    leases = Leases()
    mine, other = waiting(leases, 1, 50), waiting(leases, 2, 60, shard=1)
    leases.extend(0, 100)
    assert leases.next_deadline() == 60
    assert list(leases.lapsed(99)) == [other]
    assert list(leases.lapsed(100)) == [mine]


def test_attempts_with_one_end_are_told_apart():
    leases = Leases()
    both = [waiting(leases, n, 50) for n in range(2)]
    assert list(leases.lapsed(50)) == both
