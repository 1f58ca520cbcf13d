"""Events are values, and the core knows every kind of them."""

from __future__ import annotations

from typing import get_args

import pytest

from agent.core.events import Event, NodeLost, ProcessExited
from tests.unit.agent.core.driver import Driver


@pytest.mark.parametrize("kind", get_args(Event))
def test_an_event_is_a_frozen_value_that_the_core_handles(kind: type):
    assert kind.__dataclass_params__.frozen
    assert kind in Driver().core._handlers


def test_what_is_not_said_of_an_end_is_nothing():
    event = ProcessExited(b"a", 0, 0, 5)
    assert (event.stdout_bytes, event.stderr_bytes, event.message) == (0, 0, "")
    assert not NodeLost("h:1", 1, "reset").denied
