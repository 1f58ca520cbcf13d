from __future__ import annotations

from agent.core.types import NOTHING, Amount

SMALL, LARGE = Amount(1, 5), Amount(3, 2)


def test_amounts_add_and_subtract_by_parts_and_never_go_below_zero():
    assert SMALL.plus(LARGE) == Amount(4, 7)
    assert SMALL.minus(LARGE) == Amount(0, 3)


def test_least_and_most_look_at_each_part():
    assert SMALL.least(LARGE) == Amount(1, 2)
    assert SMALL.most(LARGE) == Amount(3, 5)


def test_an_amount_covers_another_only_in_every_part():
    assert SMALL.most(LARGE).covers(SMALL)
    assert not SMALL.covers(LARGE)
    assert not LARGE.covers(SMALL)


def test_nothing_is_false():
    assert not NOTHING
    assert Amount(0, 1)
    assert Amount(1, 0)
