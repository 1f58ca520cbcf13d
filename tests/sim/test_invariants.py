"""Every rule that is broken on purpose is seen, by the invariant that it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.core.grants import Grants
from controlplane.core.effects import CommandOutcome, SealedRow
from controlplane.core.events import TriggerRun
from controlplane.core.fleet.placement import Fleet
from controlplane.core.run.run import Run
from controlplane.core.shard import book, schedules
from controlplane.core.shard.attempts import Attempts
from controlplane.core.shard.commands import Commands
from controlplane.core.shard.runs import Runs
from controlplane.core.shard.schedules import Schedules
from controlplane.core.states import RunState, TaskState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import Resources
from tests.sim.swarm import Options
from tests.sim.world import SeedFailedError, simulate

Patch = pytest.MonkeyPatch
SEEDS = range(1, 4)


def world(mix: str, **more: Any) -> Options:
    """A small one, in which nothing breaks."""
    sizes = {"nodes": 1, "shards": 1, "agents": 4, "dags": 4, "seconds": 12.0, "wish_s": 0.4}
    return Options(**{**sizes, "mix": mix, "faults": (), "poison": 0.0, **more})


def instants_are_all_noted(patch: Patch) -> None:
    note = Schedules._note

    def note_some(self: Schedules, key: Any, schedule: Any, instant_us: int, *more: Any) -> None:
        if instant_us // 1_000_000 % 4:
            note(self, key, schedule, instant_us, *more)

    patch.setattr(Schedules, "_note", note_some)


def instants_follow_from_the_one_before(patch: Patch) -> None:
    """The next instant is computed from the clock."""
    following = schedules.next_instant

    def from_the_clock(timetable: Any, after_us: int) -> int | None:
        return following(timetable, after_us + 3_000_000)

    patch.setattr(schedules, "next_instant", from_the_clock)


def dags_have_as_many_runs_as_they_may(patch: Patch) -> None:
    def admit_all(self: Runs, head: Any) -> None:
        while head.queued:
            run = head.queued.popleft()
            self._admit(head, run)
            self._book.touch_run(run)

    patch.setattr(Runs, "admit_queued", admit_all)


def agents_run_what_they_have_room_for(patch: Patch) -> None:
    """Nodes count twice what they are granted, and agents take what they are given."""
    grant = Fleet.grant

    def twice(self: Fleet, agent: str, amount: Resources) -> None:
        grant(self, agent, amount + amount)

    patch.setattr(Fleet, "grant", twice)
    patch.setattr(Grants, "admits", lambda *_: True)


def numbers_count_tries(patch: Patch) -> None:
    patch.setattr(Run, "next_number", lambda self, task: self.numbers.get(task, 1) + 1)


def a_trigger_makes_a_run(patch: Patch) -> None:
    def say_so(self: Commands, event: TriggerRun) -> None:
        self._answer(event.command, CommandOutcome.APPLIED)

    patch.setattr(Commands, "trigger_run", say_so)


def a_cancel_stops_the_run(patch: Patch) -> None:
    patch.setattr(Runs, "cancel", lambda *_: None)


def what_is_stopped_is_not_assigned(patch: Patch) -> None:
    patch.setattr("controlplane.core.shard.runs.STARTING_RUN", tuple(RunState))
    assign = Attempts.assign_ready

    def assign_all(self: Attempts) -> None:
        runs = [run for run in self._book.runs.values() if run.state is RunState.CANCELLING]
        for run in runs:
            run.state = RunState.RUNNING
        assign(self)
        for run in runs:
            run.state = RunState.CANCELLING

    patch.setattr(Attempts, "assign_ready", assign_all)


def sealed_states_are_those_of_the_tasks(patch: Patch) -> None:
    def all_well(day: int, run: int, states: bytes) -> SealedRow:
        return SealedRow(day, run, bytes([TaskState.SUCCEEDED]) * len(states))

    patch.setattr(book, "SealedRow", all_well)


def schedules_are_in_time(patch: Patch) -> None:
    deadline = schedules.to_monotonic

    def later(instant_us: int, now: Now) -> int:
        return deadline(instant_us, now) + 4_000

    patch.setattr(schedules, "to_monotonic", later)


def what_is_due_in_a_pause_is_skipped(patch: Patch) -> None:
    due = Schedules.due

    def unless_paused(self: Schedules, key: Any, name: str) -> None:
        if not self._book.dags[key].paused:
            due(self, key, name)

    patch.setattr(Schedules, "due", unless_paused)


RULES: list[tuple[Callable[[Patch], None], str, Options]] = [
    (instants_are_all_noted, "I7", world("timed")),
    (instants_follow_from_the_one_before, "I7", world("timed")),
    (dags_have_as_many_runs_as_they_may, "I9", world("mixed", wish_s=0.2)),
    (agents_run_what_they_have_room_for, "I9", world("wide")),
    (numbers_count_tries, "I11", world("small")),
    (a_trigger_makes_a_run, "I8", world("small")),
    (a_cancel_stops_the_run, "I14", world("deep")),
    (what_is_stopped_is_not_assigned, "I14", world("deep", wish_s=0.2)),
    (sealed_states_are_those_of_the_tasks, "I15", world("mixed")),
    (schedules_are_in_time, "I17", world("timed", seconds=20.0)),
    (what_is_due_in_a_pause_is_skipped, "I13", world("timed")),
]


def seen(options: Options) -> set[str]:
    """The invariants that some seeds see violated."""
    found = set()
    for seed in SEEDS:
        try:
            simulate(seed, options)
        except SeedFailedError as failed:
            found.add(failed.kind)
    return found


@pytest.mark.parametrize("options", [world("mixed"), world("timed"), world("deep", wish_s=0.2)])
def test_nothing_is_seen_when_nothing_is_broken(options: Options):
    assert seen(options) == set()


def named(item: object) -> str:
    """A rule by its name; what else a case has says nothing."""
    return getattr(item, "__name__", "")


@pytest.mark.parametrize(("forget", "invariant", "options"), RULES, ids=named)
def test_a_broken_rule_is_seen(
    forget: Callable[[Patch], None], invariant: str, options: Options, monkeypatch: Patch
):
    forget(monkeypatch)
    assert invariant in seen(options)
