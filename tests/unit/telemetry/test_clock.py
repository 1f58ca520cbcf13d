from __future__ import annotations

import time

from controlplane.core.types import uuid7_instant_us
from controlplane.telemetry.clock import EntropySource, SystemClock


def test_both_clocks_are_read_in_their_units() -> None:
    before = time.time_ns() // 1_000, time.monotonic_ns() // 1_000_000
    now = SystemClock().now()
    assert before[0] <= now.wall_us <= before[0] + 10_000_000
    assert before[1] <= now.mono_ms <= before[1] + 10_000


def test_ticks_do_not_go_back() -> None:
    clock = SystemClock()
    assert clock.ticks_us() <= clock.ticks_us()


def test_ids_of_attempts_differ() -> None:
    ids = EntropySource().attempt_ids(1_000)
    assert len(set(ids)) == 1_000
    assert {len(each) for each in ids} == {16}
    assert EntropySource().attempt_ids(0) == []


def test_the_id_of_a_run_holds_its_time() -> None:
    source = EntropySource()
    assert uuid7_instant_us(source.run_id(1_700_000_000_123_456)) == 1_700_000_000_123_000
    assert source.run_id(1) != source.run_id(1)
    assert len(source.holder()) == 16
