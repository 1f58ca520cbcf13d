"""The shard as its caller sees it: ids in, deadlines out, and every change of the tables taken."""

from __future__ import annotations

from collections import Counter

import pytest

from controlplane.core.run import run as run_module
from controlplane.core.shard.queue import NO_WANT, ShapeWant
from controlplane.core.shard.shard import ATTEMPT_IDS_KEPT, RUN_KEYS_KEPT, TOP_UP
from controlplane.core.states import RUN_TRANSITIONS, TASK_TRANSITIONS, AttemptState, RunState
from controlplane.core.time.deadlines import Now
from tests.unit.core.bench import LOST_MS, ShardBench, cores, dag, retries


def test_ids_are_asked_for_in_blocks():
    shard = ShardBench().shard
    assert (shard.attempt_ids_wanted, shard.run_keys_wanted) == (ATTEMPT_IDS_KEPT, RUN_KEYS_KEPT)
    shard.offer_attempt_ids([b"i" * 16] * (ATTEMPT_IDS_KEPT - TOP_UP))
    shard.offer_run_keys(range(RUN_KEYS_KEPT - TOP_UP))
    assert (shard.attempt_ids_wanted, shard.run_keys_wanted) == (TOP_UP, TOP_UP)
    shard.offer_attempt_ids([b"j" * 16])
    shard.offer_run_keys([RUN_KEYS_KEPT])
    assert (shard.attempt_ids_wanted, shard.run_keys_wanted) == (0, 0)


def test_when_attempt_ids_run_out_the_shard_wants_the_next_step_at_once():
    bench = ShardBench()
    bench.agent(size=cores(8))
    while len(bench.shard._book.attempt_ids) > 2:
        bench.shard._book.attempt_ids.pop()
    bench.offer = lambda: None
    bench.start(dag(dict.fromkeys("abc", "")))
    assert bench.assigned == ["a", "b"]
    assert bench.shard.next_deadline() == bench.now.mono_ms
    del bench.offer
    bench.settle()
    assert bench.assigned == ["c"]
    assert bench.at_rest


def test_an_idle_shard_has_no_deadline():
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": ""}))
    assert bench.shard.next_deadline() is None


def test_live_runs_and_attempts_are_counted():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": "", "b": ""}))
    assert (bench.shard.live_runs, bench.shard.live_attempts) == (1, 2)
    bench.finish("a")
    assert (bench.shard.live_runs, bench.shard.live_attempts) == (1, 1)
    bench.finish("b")
    assert (bench.shard.live_runs, bench.shard.live_attempts) == (0, 0)


def test_what_is_wanted_is_what_found_no_place():
    bench = ShardBench()
    bench.start(dag({"a": "", "b": ""}))
    assert bench.shard.want == (ShapeWant(cores(1), 2, bench.now.wall_us),)
    bench.agent()
    assert bench.shard.want == NO_WANT


def test_a_version_that_is_not_the_current_one_is_not_kept():
    bench = ShardBench()
    old, new = dag({"a": ""}), dag({"b": ""})
    bench.apply(old)
    bench.apply(new)
    bench.recover()
    bench.shard.offer_versions([old])
    assert bench.shard.missing_versions([bench.triggering()]) == {(new.key, new.digest)}


def test_the_same_calls_give_the_same_effects():
    def story():
        bench = ShardBench()
        bench.agent("bee", cores(2))
        bench.agent("ant", cores(2))
        bench.start(dag({"a": "", "b": "", "c": "a b", "d": "a"}, retry=retries(2)))
        bench.finish("b")
        bench.fail("a")
        bench.wait(1_000)
        bench.finish("a")
        return bench.messages, bench.store.history

    assert story() == story()


def test_an_unknown_event_is_our_bug():
    with pytest.raises(KeyError):
        ShardBench().step("what")


def test_room_that_did_not_grow_is_not_searched_again():
    bench = ShardBench()
    bench.agent(size=cores(1))
    bench.start(dag({"a": "", "b": ""}))
    asked = Counter()
    place = bench.fleet.place
    bench.fleet.place = lambda *question: asked.update(["place"]) or place(*question)
    bench.step()
    assert not asked
    bench.room()
    assert not asked
    bench.finish("a")
    assert asked["place"] == 1


def test_a_shard_with_parked_tasks_looks_again_when_room_grew_after_its_step():
    one = ShardBench(1)
    two = ShardBench(2, one.fleet)
    one.agent(size=cores(1))
    two.inventory(live={})
    one.start(dag({"a": ""}))
    two.start(dag({"b": ""}))
    assert two.assigned == []
    assert two.shard.next_deadline() is None
    one.finish("a")
    assert one.at_rest, "it has nothing that waits"
    assert two.shard.next_deadline() == two.now.mono_ms
    two.settle()
    assert two.assigned == ["b"]


def test_timers_follow_a_wall_clock_that_was_set():
    bench = ShardBench()
    bench.agent()
    hourly = {"hourly": "cron UTC 30 * * * *"}
    bench.start(dag({"a": ""}, retry=retries(2, 60_000), schedules=hourly))
    bench.fail("a")
    bench.now = Now(bench.now.wall_us + 60_000_000, bench.now.mono_ms + 1)
    bench.step()
    assert bench.assigned == ["a"]
    bench.now = Now(bench.now.wall_us + 1_740_000_000, bench.now.mono_ms + 1)
    bench.step()
    assert [row.schedule for row in bench.effects.writes.runs] == ["hourly"]


def test_backoffs_and_timeouts_follow_a_wall_clock_that_was_set():
    bench = ShardBench()
    bench.agent()
    version = dag({"a": "", "b": ""}, retry=retries(2), run_timeout_ms=60_000)
    bench.start(version)
    bench.fail("a")
    bench.gone()
    bench.wait(1_000)
    bench.now = Now(bench.now.wall_us + 60_000_000, bench.now.mono_ms + 1)
    bench.step()
    assert bench.state() is RunState.TIMING_OUT
    assert bench.tasks() == {"a": "READY", "b": "ASSIGNED"}


def test_a_wall_clock_that_is_set_back_prolongs_no_timeout_of_a_run():
    """It was an hour ahead when the run started."""
    bench = ShardBench()
    bench.now = Now(bench.now.wall_us + 3_600_000_000, bench.now.mono_ms)
    bench.agent()
    bench.start(dag({"a": ""}, run_timeout_ms=60_000))
    bench.now = Now(bench.now.wall_us - 3_600_000_000, bench.now.mono_ms)
    bench.step()
    bench.live_on(60_000, "ant")
    assert bench.state() is RunState.TIMING_OUT


def test_every_change_in_the_tables_happens(monkeypatch):
    taken = set()
    changed, moved = run_module.next_run_state, run_module.next_task_state
    monkeypatch.setattr(
        run_module, "next_run_state", lambda *step: taken.add(step) or changed(*step)
    )
    monkeypatch.setattr(
        run_module,
        "next_task_state",
        lambda *step: taken.add(tuple(map(int, step))) or moved(*step),
    )
    _runs_of_every_kind()
    _ends_of_every_kind()
    missing = [row for row in RUN_TRANSITIONS if row not in taken]
    missing += [row for row in TASK_TRANSITIONS if tuple(map(int, row)) not in taken]
    assert missing == []


def _runs_of_every_kind():
    bench = ShardBench()
    bench.agent()
    bench.apply(dag({"a": "", "b": "a"}, max_active_runs=1, run_timeout_ms=5_000))
    first, second, third = bench.trigger(), bench.trigger(), bench.trigger()
    bench.cancel(third)
    bench.finish("a", run_id=first)
    bench.finish("b", run_id=first)
    bench.wait(5_000)
    bench.step(bench.result("a", AttemptState.CANCELLED, run_id=second))
    bench.start(dag({"a": "", "b": "a"}))
    bench.cancel()
    bench.stopped("a")


def _ends_of_every_kind():
    bench = ShardBench()
    bench.agent()
    names = ["failed", "slow", "short", "retried", "waits", "stopped"]
    parents = dict.fromkeys(names, "") | {"blocked": "failed", "late": "short"}
    bench.agent("bee", cores(64))
    bench.start(dag(parents, retry=retries(2)))
    bench.reject("short")
    bench.wait(1_000)
    bench.fail("failed", "retried", "waits")
    bench.started("slow")
    bench.wait(1_000)
    bench.fail("failed")
    bench.started("retried")
    bench.fail("retried")
    bench.started("waits")
    bench.fail("waits")
    bench.finish("slow", "short")
    bench.started("stopped")
    bench.fail("stopped")
    bench.wait(1_000)
    bench.started("stopped")
    bench.cancel()
    bench.stopped("stopped", "late")
    bench.start(dag({"big": "", "fails": ""}, retry=retries(2), requests={"big": cores(99)}))
    bench.fail("fails")
    bench.cancel()
    bench.start(dag({"a": ""}))
    bench.started("a")
    bench.step(bench.result("a", AttemptState.LOST))
    bench.fail("a")
    _doubts_of_every_kind()


def _doubts_of_every_kind():
    bench = ShardBench()
    bench.agent()
    names = ["approved", "rejected", "late", "stopped", "again"]
    bench.start(dag(dict.fromkeys(names, ""), once=names[:4], requests={"again": cores(0)}))
    reports = [bench.result(task) for task in names]
    bench.started("approved")
    bench.gone()
    bench.wait(LOST_MS + 1)
    bench.decide("approved", approved=True)
    bench.decide("rejected", approved=False)
    bench.step(reports[2], reports[4])
    bench.cancel()
    bench.start(dag({"a": ""}, once=["a"], requests={"a": cores(99)}))
    bench.put_back(bench.store)
    bench.step()
