"""Decides which tables have a partition for each day, and makes them ahead of time.

A day without a partition loses nothing: its rows go to the default partition, and move over when
the partition is made.
"""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg

from controlplane.core.types import MICROS_PER_DAY
from controlplane.store.connections import deadline
from controlplane.store.queries import query

_ENSURE = query("ensure_partition")
_LOCK = query("lock_schema")

BY_DAY = ("run", "sealed_run", "attempt", "attempt_late")
BY_INSTANT = ("schedule_instant",)


async def ensure_partitions(
    connection: asyncpg.Connection, days: Iterable[int], limit_ms: int
) -> int:
    """Makes what is missing for `days` (days since the epoch); the number of partitions made.

    One transaction a day, so that locks are short; each ends within `limit_ms`, or the connection
    is cut.
    """
    made = 0
    for day in days:
        bounds = [(table, day, day + 1) for table in BY_DAY]
        lowest_us = day * MICROS_PER_DAY
        bounds += [(table, lowest_us, lowest_us + MICROS_PER_DAY) for table in BY_INSTANT]
        with deadline(connection, limit_ms):
            async with connection.transaction():
                await connection.execute(_LOCK)
                for table, lowest, above in bounds:
                    made += await connection.fetchval(_ENSURE, table, day, lowest, above)
    return made
