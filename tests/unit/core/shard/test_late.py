"""What is remembered of attempts that were given up, and for how long."""

from __future__ import annotations

from controlplane.core.shard.late import LATE_KEPT, LateMemory
from tests.unit.core.bench import LOST_MS, running


def run_of(bench):
    return bench.shard._book.runs[bench.run_id]


def test_what_is_remembered_is_taken_once():
    memory, run = LateMemory(), run_of(running())
    memory.remember(b"1", run, 7)
    assert memory.take(b"1") == (run.key, 7, run)
    assert memory.take(b"1") is None
    assert (len(memory), run.given_up) == (0, set())


def test_of_a_run_that_is_final_only_the_key_is_kept():
    memory, run, other = LateMemory(), run_of(running()), run_of(running())
    memory.remember(b"1", run, 0)
    memory.remember(b"2", other, 0)
    memory.remember(b"3", run, 1)
    memory.close(run)
    found = [memory.take(each) for each in (b"1", b"2", b"3")]
    assert found == [(run.key, 0, None), (other.key, 0, other), (run.key, 1, None)]
    assert run.given_up == set()


def test_beyond_the_bound_the_oldest_is_forgotten():
    memory, run = LateMemory(), run_of(running())
    for number in range(LATE_KEPT + 1):
        memory.remember(number.to_bytes(16, "big"), run, 0)
    assert len(memory) == len(run.given_up) == LATE_KEPT
    assert memory.take((0).to_bytes(16, "big")) is None
    assert memory.take((1).to_bytes(16, "big")) == (run.key, 0, run)


def test_a_shard_remembers_beyond_the_end_of_a_run():
    bench = running({"a": "", "b": ""})
    bench.gone()
    bench.wait(LOST_MS + 1)
    assert len(bench.shard._book.late) == 2
    bench.cancel()
    assert len(bench.shard._book.late) == 2
