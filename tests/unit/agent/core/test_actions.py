"""Actions are values: a simulation compares, stores and repeats them."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from agent.core.actions import Action, Kill, Note, Signal


@pytest.mark.parametrize("kind", get_args(Action))
def test_an_action_is_a_frozen_value(kind: type):
    assert kind.__dataclass_params__.frozen


def test_equal_actions_are_one_in_a_set():
    assert len({Kill(b"a", Signal.TERM), Kill(b"a", Signal.TERM), Kill(b"a", Signal.KILL)}) == 2


def test_a_note_need_not_name_a_place():
    assert dataclasses.astuple(Note("text")) == ("text", "", -1)
