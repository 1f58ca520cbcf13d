"""The memory of a shard: what a step collects is written once, as it is at the end."""

from __future__ import annotations

from controlplane.core.effects import WaitKind
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.book import CLOCK_STEP_MS, Book, DagHead
from controlplane.core.states import RunState
from controlplane.core.time.deadlines import Now
from controlplane.core.types import DagKey, bucket_of
from tests.unit.core.bench import NOON_US, ShardBench, dag, retries

KEY = DagKey("acme", "etl")


def test_an_empty_step_writes_nothing():
    book = Book(0, Fleet(), Now(NOON_US, 0))
    book.begin(Now(NOON_US + 1, 1))
    effects = book.close()
    assert not effects.writes
    assert effects.messages == []


def test_a_head_that_changes_twice_is_written_once_with_its_last_revision():
    book = Book(0, Fleet(), Now(NOON_US, 0))
    head = DagHead(KEY, NOON_US)
    book.touch_dag(head)
    book.touch_dag(head)
    row = book.close().writes.dags[0]
    assert (row.bucket, row.revision, head.etag) == (bucket_of(KEY), 2, "2")
    assert not book.close().writes.dags[1:]


def test_a_run_that_begins_and_changes_in_one_step_has_a_row_of_each_kind():
    bench = ShardBench()
    bench.apply(dag({"a": ""}))
    writes = bench.step(bench.triggering(), bench.cancelling()).writes
    assert [row.state for row in writes.runs] == [RunState.CANCELLED]
    assert [row.state for row in writes.run_changes] == [RunState.CANCELLED]
    assert len(writes.sealed) == 1


def test_a_wait_that_was_stored_is_deleted_and_one_that_was_not_leaves_no_trace():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": "", "b": ""}, retry=retries(2)))
    bench.fail("a")
    row = bench.effects.writes.waits[0]
    run = bench.shard._book.runs[bench.run_id]
    book = bench.shard._book
    book.begin(bench.now)
    book.add_wait(row._replace(task=1))
    book.drop_wait(run, 1, WaitKind.BACKOFF)
    book.drop_wait(run, 0, WaitKind.APPROVAL)
    writes = book.close().writes
    assert writes.waits == []
    assert [(gone.task, gone.kind) for gone in writes.waits_gone] == [(0, WaitKind.APPROVAL)]


def test_a_final_run_is_forgotten():
    bench = ShardBench()
    bench.agent()
    bench.start(dag({"a": ""}))
    book = bench.shard._book
    assert list(book.runs) == [bench.run_id]
    bench.finish("a")
    assert not book.runs
    assert not book.runs_by_number


def test_a_clock_that_is_off_by_a_whole_step_is_not_set_yet():
    book = Book(0, Fleet(), Now(NOON_US, 0))
    assert not book.begin(Now(NOON_US + CLOCK_STEP_MS * 1_000, 0))
    assert not book.begin(Now(NOON_US - CLOCK_STEP_MS * 1_000, 0))
    assert book.begin(Now(NOON_US + (CLOCK_STEP_MS + 1) * 1_000, 0))
    assert not book.begin(Now(NOON_US + (CLOCK_STEP_MS + 1) * 1_000, 0))
