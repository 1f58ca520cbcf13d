"""Actions are values: a simulation compares, stores and repeats them."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from agent.core.actions import Action, Forget, Note, Spawn
from tests.unit.agent.core.driver import assignment


@pytest.mark.parametrize("kind", get_args(Action))
def test_an_action_is_a_frozen_value(kind: type):
    assert kind.__dataclass_params__.frozen


def test_equal_actions_are_one_in_a_set():
    assert len({Forget(b"a"), Forget(b"a"), Forget(b"b")}) == 2


def test_an_action_need_not_say_everything():
    assert Spawn(assignment(1), 5).supervisor == 0
    assert dataclasses.astuple(Note("text")) == ("text", "", -1)
