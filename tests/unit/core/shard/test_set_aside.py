"""What a node cannot read when it takes a shard over stops nothing else, and is not lost."""

from __future__ import annotations

import pytest

from controlplane.core.effects import CommandOutcome, InstantOutcome, ResultAckMessage
from controlplane.core.shard.book import SetAside
from controlplane.core.shard.commands import ASIDE
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import DagKey
from tests.unit.core.bench import ShardBench, dag

TORN = dag({"a": "", "b": "a", "c": ""}, once=["c"])
HOUR_MS = 3_600_000
HOURLY = {"hourly": "cron UTC 30 * * * *"}
ZONE = "cron Mars/Olympus 30 * * * *"
KEY = DagKey("acme", "etl")


@pytest.fixture
def bench():
    """A run of a version that the next leader cannot read, with an attempt that runs."""
    made = ShardBench()
    made.agent()
    made.start(TORN)
    made.started("a")
    return made


def test_what_cannot_be_read_is_named(bench):
    assert bench.recover(TORN) == (SetAside(f"version etl@{TORN.digest.hex()[:12]}", "torn"),)
    assert bench.recover() == ()


def test_the_rest_of_the_shard_goes_on(bench):
    bench.recover(TORN)
    bench.inventory()
    bench.start(dag({"x": ""}, name="other"))
    assert bench.assigned == ["x"]
    bench.finish("x")
    assert bench.state() is RunState.SUCCEEDED


def test_a_run_that_can_be_read_is_taken_in_beside_one_that_cannot(bench):
    bench.start(dag({"x": "", "y": "x"}, name="other"))
    bench.recover(TORN)
    bench.inventory()
    bench.finish("x")
    assert bench.assigned == ["y"]
    bench.finish("y")
    assert bench.state() is RunState.SUCCEEDED


def test_an_attempt_that_is_set_aside_is_neither_cancelled_nor_acknowledged(bench):
    bench.recover(TORN)
    bench.inventory()
    assert bench.cancelled == []
    report = bench.result("a")
    bench.step(report)
    assert bench.of(ResultAckMessage) == []
    bench.inventory(finished=[report])
    assert bench.of(ResultAckMessage) == []
    bench.recover()
    bench.inventory(finished=[report])
    assert bench.of(ResultAckMessage) != []
    assert bench.tasks() == {"a": "SUCCEEDED", "b": "ASSIGNED", "c": "ASSIGNED"}


def test_a_late_result_waits_for_a_leader_that_can_read_what_it_is_of(bench):
    _, attempt_id = bench.holder("c")
    bench.started("c")
    report = bench.result("c")
    bench.step(report._replace(state=AttemptState.LOST))
    bench.recover(TORN)
    bench.inventory(finished=[report])
    assert bench.of(ResultAckMessage) == []
    bench.recover()
    bench.inventory(finished=[report])
    assert bench.store.late[attempt_id].adopted


def test_commands_about_a_run_that_is_set_aside_are_answered(bench):
    bench.recover(TORN)
    for answer in (bench.cancel(), bench.decide("c", approved=True)):
        assert (answer.outcome, answer.detail) == (CommandOutcome.REFUSED, ASIDE)


def test_a_run_that_is_set_aside_counts_among_those_of_its_dag(bench):
    bench.recover(TORN)
    bench.inventory()
    bench.start(dag({"x": ""}, max_active_runs=1))
    assert bench.state() is RunState.QUEUED
    bench.apply(dag({"x": ""}, max_active_runs=2))
    assert bench.assigned == ["x"]


def scheduled(definition):
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}, schedules={"hourly": HOURLY["hourly"]}))
    row = bench.store.schedules[KEY, "hourly"]
    bench.store.schedules[KEY, "hourly"] = row._replace(definition=definition)
    return bench


def outcomes(bench):
    return [row.outcome for row in bench.store.instants.values()]


def test_a_timetable_that_cannot_be_read_fires_nothing():
    bench = scheduled(ZONE)
    (aside,) = bench.recover()
    assert aside.source == "schedule etl/hourly"
    assert "Mars/Olympus" in aside.reason
    bench.wait(2 * HOUR_MS)
    bench.pause()
    bench.pause(paused=False)
    assert outcomes(bench) == []


def test_a_changed_timetable_takes_the_place_of_one_that_cannot_be_read():
    bench = scheduled(ZONE)
    bench.recover()
    bench.inventory()
    bench.apply(dag({"a": "", "b": ""}, schedules=HOURLY))
    bench.wait(HOUR_MS)
    assert outcomes(bench) == [InstantOutcome.RUN]


def test_schedules_of_a_version_that_cannot_be_read_wait_for_the_next_one():
    bench = scheduled(HOURLY["hourly"])
    version = dag({"a": ""}, schedules=HOURLY)
    assert [each.source.partition("@")[0] for each in bench.recover(version)] == ["version etl"]
    bench.wait(2 * HOUR_MS)
    assert outcomes(bench) == []
    bench.inventory()
    bench.apply(dag({"a": "", "b": ""}, schedules=HOURLY))
    bench.step()
    assert outcomes(bench) == [InstantOutcome.COALESCED, InstantOutcome.RUN]
