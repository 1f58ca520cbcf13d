from __future__ import annotations

from agent.core.entries import Assign
from agent.core.types import NOTHING, Amount, ExecSpec


def test_an_assignment_asks_for_what_its_specification_says():
    request = Amount(7, 8)
    told = Assign(0, 1, 1, b"a", b"i", spec=ExecSpec(("true",), request=request))
    assert told.request == request


def test_an_unreadable_specification_asks_for_nothing():
    assert Assign(0, 1, 1, b"a", b"i").request == NOTHING
