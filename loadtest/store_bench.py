"""Measures the store by itself: the batch of one hop, batches of 500, what a takeover reads.

    python -m loadtest.store_bench [--dsn DSN]

Without a DSN it starts an embedded PostgreSQL with production settings (fsync and
synchronous_commit on) in a temporary folder. The DSN must name an empty database.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from controlplane.core.effects import DoneRow, LateRow, LiveRow, RunRow, Writes
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import RunCause, uuid7
from controlplane.embedded.postgres import EmbeddedPostgres
from controlplane.store.records import Fence
from controlplane.store.store import Store, migrate_database

DAY = 20_500
NOW_US = DAY * 86_400_000_000
HOPS = 2_000
EMPTY = 1_000
BATCHES = 200
A_BATCH = 500
LIVE_RUNS = 1_000
LIVE_TASKS = 10
ENDED_TASKS = 20
LATE_EACH = 10
READS = 5

_attempts = itertools.count(1)


def live(run: int, task: int) -> LiveRow:
    attempt = next(_attempts).to_bytes(16, "big")
    return LiveRow(DAY, run, task, 0, attempt, 1, "agent-1", b"i" * 16, NOW_US)


def done(row: LiveRow) -> DoneRow:
    ids = (row.day, row.run, row.task, row.expansion, row.attempt_id)
    return DoneRow(*ids, AttemptState.SUCCEEDED, NOW_US, NOW_US, 0, 0, 0, 0, "")


def late(row: LiveRow) -> LateRow:
    return LateRow(*done(row), adopted=True, reported_us=NOW_US)


def new_run(run: int) -> RunRow:
    words = (DAY, run, uuid7(NOW_US, run.to_bytes(16, "big")), "acme", "dag", 0, b"d" * 32)
    return RunRow(*words, RunState.RUNNING, RunCause.TRIGGER, "", NOW_US, NOW_US, NOW_US, 1)


class Bench:
    def __init__(self, store: Store) -> None:
        self.store = store
        self._batches = itertools.count(1)

    async def commit(self, writes: Writes) -> float:
        """Seconds that one batch took."""
        fence = Fence(0, 1, next(self._batches))
        started = time.perf_counter()
        await self.store.shards.commit(fence, writes)
        return time.perf_counter() - started

    async def hops(self) -> list[float]:
        parent = live(1, 0)
        await self.commit(Writes(runs=[new_run(1)], live=[parent]))
        took = []
        for task in range(1, HOPS):
            child = live(1, task)
            took.append(await self.commit(Writes(done=[done(parent)], live=[child])))
            parent = child
        return took

    async def throughput(self) -> float:
        """Rows a second: each batch ends as many attempts as it assigns."""
        previous = [live(2, task) for task in range(A_BATCH)]
        await self.commit(Writes(runs=[new_run(2)], live=previous))
        batches = list(self._chain(previous))
        started = time.perf_counter()
        for writes in batches:
            await self.commit(writes)
        return BATCHES * 2 * A_BATCH / (time.perf_counter() - started)

    def _chain(self, previous: list[LiveRow]) -> Iterator[Writes]:
        for batch in range(BATCHES):
            run = 1_000 + batch
            following = [live(run, task) for task in range(A_BATCH)]
            yield Writes(done=[done(row) for row in previous], live=following)
            previous = following

    async def live_shard(self) -> None:
        """Another shard with 1,000 live runs: 20 K ended attempts, some late, 10 K live ones."""
        await self.store.shards.take_over(1, 0, b"h" * 16, "bench", "bench:1")
        batches = itertools.count(1)
        for first in range(0, LIVE_RUNS, 100):
            runs = range(10_000 + first, 10_000 + first + 100)
            for writes in _live_runs(runs):
                await self.store.shards.commit(Fence(1, 1, next(batches)), writes)

    async def recovery(self) -> list[float]:
        """Seconds that each reading of that shard took, the first with new connections."""
        took = []
        for _ in range(READS):
            self.store.shards.release(1)
            started = time.perf_counter()
            rows = await self.store.shards.recover(1)
            took.append(time.perf_counter() - started)
            counts = (len(rows.runs), len(rows.live), len(rows.ended))
            assert counts == (LIVE_RUNS, LIVE_RUNS * LIVE_TASKS, LIVE_RUNS * ENDED_TASKS), counts
        return took


def _live_runs(runs: range) -> Iterator[Writes]:
    """The batches that make these runs as they are in the middle of their work."""
    parents = [live(run, task) for run in runs for task in range(ENDED_TASKS)]
    yield Writes(runs=[new_run(run) for run in runs], live=parents)
    lost = parents[::LATE_EACH]
    ends = {row.attempt_id: done(row) for row in parents}
    ends |= {row.attempt_id: done(row)._replace(state=AttemptState.LOST) for row in lost}
    following = [live(run, ENDED_TASKS + task) for run in runs for task in range(LIVE_TASKS)]
    yield Writes(done=list(ends.values()), live=following, late=[late(row) for row in lost])


def shown(name: str, took: list[float]) -> None:
    cuts = statistics.quantiles(took, n=100)
    print(f"{name}: p50 {cuts[49] * 1e3:.2f} ms, p99 {cuts[98] * 1e3:.2f} ms")


async def measure(dsn: str) -> None:
    await migrate_database(dsn)
    store = await Store.open(dsn)
    await store.initialise(2)
    await store.ensure_partitions([DAY])
    await store.shards.take_over(0, 0, b"h" * 16, "bench", "bench:1")
    bench = Bench(store)
    shown("empty batch", [await bench.commit(Writes()) for _ in range(EMPTY)])
    shown("batch of one hop (1 ended, 1 assigned)", await bench.hops())
    rows = await bench.throughput()
    print(f"batches of {A_BATCH} ended and {A_BATCH} assigned: {rows:,.0f} rows/s")
    await bench.live_shard()
    first, *rest = await bench.recovery()
    print(
        f"recovery of {LIVE_RUNS:,} live runs with {LIVE_RUNS * LIVE_TASKS:,} live and"
        f" {LIVE_RUNS * ENDED_TASKS:,} ended attempts: {first * 1e3:.0f} ms at first,"
        f" then {min(rest) * 1e3:.0f} ms"
    )
    await store.close()


async def main(dsn: str) -> None:
    if dsn:
        await measure(dsn)
        return
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "pg")
        await postgres.start()
        try:
            await measure(postgres.dsn)
        finally:
            await postgres.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the store by itself.")
    parser.add_argument("--dsn", default="", help="an empty database; default: an embedded one")
    uvloop.run(main(parser.parse_args().dsn))
