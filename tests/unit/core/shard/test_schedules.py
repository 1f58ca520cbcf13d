"""What a due instant becomes. Noon is 2025-06-16 12:00:00 UTC, and every bench begins there."""

from __future__ import annotations

import pytest

from controlplane.core.effects import InstantOutcome
from controlplane.core.events import PauseDag
from controlplane.core.shard.schedules import (
    ABSENT,
    KEYS_FOR_COMMANDS,
    MAX_INSTANTS_A_STEP,
    PAUSED,
    parse_definition,
)
from controlplane.core.states import RunState
from controlplane.core.time.deadlines import Now
from controlplane.core.time.timetable import Cron, Interval, Once
from controlplane.core.types import DagKey, RunCause, day_of
from tests.unit.core.bench import NOON_US, ShardBench, dag

HOUR_MS = 3_600_000
HOUR_US = HOUR_MS * 1_000
HOURLY = {"hourly": "cron UTC 30 * * * *"}
HALF_PAST_US = NOON_US + HOUR_US // 2
KEY = DagKey("acme", "etl")


def scheduled(schedules=None, **options):
    bench = ShardBench()
    bench.apply(dag({"a": ""}, schedules=schedules or HOURLY, **options))
    return bench


def ledger(bench):
    """(minutes after noon, outcome) of every instant of the last step."""
    rows = bench.effects.writes.instants
    return [((row.instant_us - NOON_US) // 60_000_000, row.outcome.name) for row in rows]


def next_us(bench, schedule="hourly"):
    return bench.store.schedules[KEY, schedule].next_us


def test_a_stored_text_is_a_timetable():
    assert parse_definition("cron Europe/Berlin 5 4 * * 1", 7) == Cron("5 4 * * 1", "Europe/Berlin")
    assert parse_definition("cron UTC @once", 7) == Once(7)
    assert parse_definition("interval 60000", 7) == Interval(60_000)


def test_a_new_schedule_is_due_in_the_future():
    bench = scheduled()
    row = bench.effects.writes.schedules[0]
    assert (row.schedule, row.definition, row.next_us) == (
        "hourly",
        HOURLY["hourly"],
        HALF_PAST_US,
    )


def test_a_due_instant_becomes_a_run_in_the_same_step():
    bench = scheduled()
    bench.agent()
    bench.wait(HOUR_MS // 2)
    run = bench.effects.writes.runs[0]
    assert (run.cause, run.schedule) == (RunCause.SCHEDULE, "hourly")
    assert (run.logical_us, run.day) == (HALF_PAST_US, day_of(NOON_US))
    instant = bench.effects.writes.instants[0]
    assert instant[:5] == ("acme", "etl", "hourly", HALF_PAST_US, InstantOutcome.RUN)
    assert instant.run_id == run.run_id
    assert bench.assigned == ["a"]
    assert next_us(bench) == HALF_PAST_US + HOUR_US


def test_the_shard_asks_to_be_called_when_a_schedule_is_due():
    bench = scheduled()
    while not bench.store.instants:
        deadline = bench.shard.next_deadline()
        assert deadline > bench.now.mono_ms
        bench.wait(deadline - bench.now.mono_ms)
    assert bench.now.wall_us == HALF_PAST_US


def test_an_hourly_schedule_fires_every_hour():
    bench = scheduled()
    fired = []
    for _ in range(4):
        bench.wait(HOUR_MS)
        fired += ledger(bench)
    assert fired == [(30, "RUN"), (90, "RUN"), (150, "RUN"), (210, "RUN")]


def test_several_schedules_of_a_dag_fire_each_for_itself():
    bench = scheduled({"hourly": "cron UTC 30 * * * *", "often": "interval 1200000"})
    bench.wait(HOUR_MS)
    names = [row.schedule for row in bench.effects.writes.runs]
    assert sorted(names) == ["hourly", "often"]


def test_what_was_missed_without_a_leader_is_coalesced_into_the_latest():
    bench = scheduled()
    bench.now = Now(NOON_US + 3 * HOUR_US, bench.now.mono_ms + 3 * HOUR_MS)
    bench.recover()
    bench.step()
    assert ledger(bench) == [(30, "COALESCED"), (90, "COALESCED"), (150, "RUN")]
    rows = bench.effects.writes.instants
    assert len({row.run_id for row in rows}) == 1
    assert [row.reason for row in rows] == [ABSENT, ABSENT, ""]
    assert bench.effects.writes.runs[0].logical_us == HALF_PAST_US + 2 * HOUR_US
    assert next_us(bench) == HALF_PAST_US + 3 * HOUR_US


def test_after_a_very_long_absence_there_is_still_one_run():
    bench = scheduled({"often": "interval 1000"})
    bench.now = Now(NOON_US + 3 * HOUR_US, bench.now.mono_ms + 3 * HOUR_MS)
    bench.recover()
    bench.step()
    assert len(bench.effects.writes.instants) == MAX_INSTANTS_A_STEP
    assert bench.effects.writes.instants[-1].reason == ABSENT
    bench.settle()
    outcomes = [row.outcome for row in bench.store.instants.values()]
    assert len(outcomes) == 3 * 3_600 + 1
    assert outcomes.count(InstantOutcome.RUN) == 1
    assert outcomes[-1] is InstantOutcome.RUN
    assert outcomes.count(InstantOutcome.SKIPPED) == 10 * MAX_INSTANTS_A_STEP
    assert next_us(bench, "often") == bench.now.wall_us + 1_000_000


def test_what_is_due_during_a_pause_is_skipped_when_it_is_due():
    bench = scheduled()
    bench.pause()
    bench.wait(HOUR_MS)
    assert ledger(bench) == [(30, "SKIPPED")]
    assert bench.effects.writes.instants[0].reason == PAUSED
    assert not bench.store.runs
    bench.pause(paused=False)
    assert ledger(bench) == []
    bench.wait(HOUR_MS)
    assert ledger(bench) == [(90, "RUN")]


def test_a_resume_skips_all_that_was_due_during_a_pause_without_a_leader():
    bench = scheduled({"often": "interval 1000"})
    bench.pause()
    bench.now = Now(NOON_US + HOUR_US, bench.now.mono_ms + HOUR_MS)
    bench.recover()
    bench.pause(paused=False)
    assert len(bench.effects.writes.instants) == 2 * MAX_INSTANTS_A_STEP, "timer and resume"
    bench.wait(2_500)
    bench.settle()
    skipped = [row for row in bench.store.instants.values() if row.reason == PAUSED]
    assert len(skipped) == 3_600
    outcomes = [row.outcome.name for row in bench.store.instants.values()]
    assert outcomes[3_601:] == ["COALESCED", "RUN"]
    bench.wait(1_000)
    assert [row.outcome for row in bench.effects.writes.instants] == [InstantOutcome.RUN]


def test_a_new_version_keeps_a_schedule_that_did_not_change():
    bench = scheduled()
    bench.wait(HOUR_MS // 4)
    bench.apply(dag({"b": ""}, schedules=HOURLY))
    assert not bench.effects.writes.schedules
    bench.agent()
    bench.wait(HOUR_MS // 4)
    assert bench.assigned == ["b"]


def test_an_edited_schedule_is_replaced_and_never_due_in_the_past():
    bench = scheduled()
    bench.wait(HOUR_MS // 4)
    bench.apply(dag({"a": ""}, schedules={"hourly": "cron UTC 10 * * * *"}))
    assert not bench.effects.writes.schedules_gone
    assert next_us(bench) == NOON_US + HOUR_US * 7 // 6
    bench.wait(HOUR_MS // 2)
    assert ledger(bench) == []
    bench.wait(HOUR_MS // 2)
    assert ledger(bench) == [(70, "RUN")]


def test_an_edited_schedule_goes_on_after_the_last_instant_although_the_clock_went_back():
    bench = scheduled()
    bench.wait(HOUR_MS)
    bench.now = Now(NOON_US, bench.now.mono_ms)
    bench.apply(dag({"a": ""}, schedules={"hourly": "cron UTC 30,45 * * * *"}))
    assert next_us(bench) == NOON_US + HOUR_US * 3 // 4


def test_an_edited_once_is_due_after_the_one_before():
    bench = scheduled({"now": "cron UTC @once"})
    bench.settle()
    bench.now = Now(NOON_US - HOUR_US, bench.now.mono_ms)
    bench.apply(dag({"a": ""}, schedules={"now": "cron Europe/Berlin @once"}))
    assert next_us(bench, "now") == NOON_US + 1


def test_a_schedule_that_its_dag_no_longer_has_is_gone():
    bench = scheduled()
    bench.apply(dag({"a": ""}))
    assert [row.schedule for row in bench.effects.writes.schedules_gone] == ["hourly"]
    assert not bench.store.schedules
    assert bench.shard.next_deadline() is None


def test_a_schedule_removed_and_added_in_one_step_stays():
    bench = scheduled()
    without, again = dag({"a": ""}), dag({"b": ""}, schedules=HOURLY)
    effects = bench.step(bench.applying(without), bench.applying(again))
    assert not effects.writes.schedules_gone
    assert next_us(bench) == HALF_PAST_US


def test_what_was_skipped_in_a_step_is_not_due_again_for_who_comes_back_in_it():
    bench = ShardBench()
    once, without = dag({"a": ""}, schedules={"now": "cron UTC @once"}), dag({"b": ""})
    resuming = PauseDag(next(bench.serials), KEY, False, "")
    bench.apply(without)
    bench.pause()
    applying = [bench.applying(version) for version in (once, without, once)]
    bench.step(applying[0], resuming, *applying[1:])
    assert ledger(bench) == [(0, "SKIPPED")]
    bench.wait(1)
    assert [row.instant_us - NOON_US for row in bench.store.instants.values()] == [0, 1]


def test_once_is_due_at_once_and_never_again():
    bench = scheduled({"now": "cron UTC @once"})
    bench.settle()
    assert ledger(bench) == [(0, "RUN")]
    assert next_us(bench, "now") is None
    bench.recover()
    bench.apply(dag({"b": ""}, schedules={"now": "cron UTC @once"}))
    bench.wait(HOUR_MS)
    assert ledger(bench) == []
    assert bench.shard.next_deadline() is None


def test_a_date_that_cannot_exist_is_never_due():
    bench = scheduled({"never": "cron UTC 0 0 31 2 *"})
    assert next_us(bench, "never") is None
    assert bench.shard.next_deadline() is None


def test_a_scheduled_run_queues_at_the_limit_like_any_other():
    bench = scheduled(max_active_runs=1)
    bench.wait(HOUR_MS)
    bench.wait(HOUR_MS)
    assert [row.state for row in bench.store.runs.values()] == [RunState.RUNNING, RunState.QUEUED]


@pytest.mark.parametrize("short", ["run_keys", "attempt_ids"])
def test_without_ids_a_schedule_stays_due_until_there_are_some(short):
    bench = scheduled()
    book = bench.shard._book
    kept = {"run_keys": KEYS_FOR_COMMANDS, "attempt_ids": 0}[short]
    ids = getattr(book, short)
    while len(ids) > kept:
        ids.pop()
    bench.offer = lambda: None
    bench.wait(HOUR_MS)
    assert ledger(bench) == []
    assert bench.shard.next_deadline() <= bench.now.mono_ms
    del bench.offer
    bench.step()
    assert ledger(bench) == [(30, "RUN")]


def test_a_wall_clock_that_went_back_arms_the_timer_again():
    bench = scheduled()
    bench.now = Now(NOON_US, bench.now.mono_ms + HOUR_MS)
    bench.step()
    assert ledger(bench) == []
    bench.wait(HOUR_MS // 2)
    assert ledger(bench) == [(30, "RUN")]


def test_a_timer_that_fires_a_little_early_is_armed_again():
    bench = scheduled()
    bench.now = Now(HALF_PAST_US - 400_000, bench.now.mono_ms + HOUR_MS // 2)
    bench.step()
    assert ledger(bench) == []
    bench.wait(400)
    assert ledger(bench) == [(30, "RUN")]
