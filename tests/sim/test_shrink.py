"""Failing seeds are made small: planted bugs, and what is left of the faults around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.sim.shrink import Shrinker
from tests.sim.supervisors import SimSupervisor
from tests.sim.swarm import Fault, Options, planned
from tests.sim.violation import ViolationError
from tests.sim.world import SeedFailedError, World, simulate

SMALL = Options(seconds=30.0, nodes=1, shards=1, agents=2, dags=2, mix="small", wish_s=1.0)


class Fragile(World):
    """Two faults break it together, in this order: a cut after a reboot."""

    def _strike(self, fault: Fault) -> None:
        super()._strike(fault)
        if fault.kind == "cut" and self.report.faults["reboot"]:
            raise ViolationError("I99: a cut after a reboot")


def shrunk(seed: int, options: Options, world_class: type[World] = World) -> Shrinker:
    shrinker = Shrinker(seed, options, lambda _: None, world_class)
    assert shrinker.shrink() is not None
    return shrinker


def test_two_faults_that_break_it_together_are_all_that_is_left():
    faults = ("reboot", "cut", "slow", "crash-agent", "crash-node")
    shrinker = shrunk(3, replace(SMALL, faults=faults, fault_s=0.4), Fragile)
    left = planned(3, shrinker.options)
    assert [fault.kind for fault in left] == ["reboot", "cut"]
    assert shrinker.options.seconds <= left[1].at_s + 1.0
    with pytest.raises(SeedFailedError, match="I99"):
        simulate(3, shrinker.options, Fragile)


def test_a_forgotten_rule_is_left_with_the_fault_that_shows_it(monkeypatch: pytest.MonkeyPatch):
    """A supervisor that does not look at its claims spawns again what an agent asks for again."""
    welcome = SimSupervisor.welcome

    def say_nothing(self: SimSupervisor, connection: object, feed: Any) -> None:
        self._known = {}
        welcome(self, connection, feed)

    monkeypatch.setattr(SimSupervisor, "_may_claim", lambda *_: True)
    monkeypatch.setattr(SimSupervisor, "welcome", say_nothing)
    faults = ("crash-agent", "cut", "slow")
    for seed in range(1, 20):
        options = replace(SMALL, faults=faults, fault_s=0.5)
        shrinker = Shrinker(seed, options, lambda _: None)
        if shrinker.shrink() is not None:
            break
    assert shrinker.last is not None
    assert shrinker.last.kind in {"I3", "I4"}
    left = planned(seed, shrinker.options)
    assert "crash-agent" in {fault.kind for fault in left}
    assert len(left) <= 2


def test_a_seed_that_holds_is_left_as_it_is():
    shrinker = Shrinker(1, replace(SMALL, seconds=3.0), lambda _: None)
    assert shrinker.shrink() is None
    assert shrinker.runs == 1
