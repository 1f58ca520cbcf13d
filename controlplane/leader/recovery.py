"""How the rows of the store become what a new leader's core recovers from.

Decides nothing; compiles each definition once, however many runs share it. A definition that does
not compile stops the shard: it was checked before it was stored, so it is our bug. What the core
does with the rows stays on the event loop: 0.1 s for 1,000 runs with 10,000 live attempts, below
what a heartbeat or a fence can wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controlplane.codec.dag import compile_version
from controlplane.core.events import Recovered
from controlplane.core.types import DagVersion
from controlplane.store.records import RecoveredRows, VersionRow

# From this size on, compiling would hold up everybody else on the event loop.
LARGE_SPEC_BYTES = 128 * 1_024


async def compiled(row: VersionRow) -> DagVersion:
    """The compiled form of a stored definition; a large one is compiled beside the event loop."""
    if len(row.spec) < LARGE_SPEC_BYTES:
        return compile_version(row.tenant, row.spec, row.digest)
    return await asyncio.to_thread(compile_version, row.tenant, row.spec, row.digest)


async def compiled_rows(rows: RecoveredRows) -> Recovered:
    """The rows with compiled versions; many are compiled beside the event loop, as a large one."""
    if sum(len(row.spec) for row in rows.versions) < LARGE_SPEC_BYTES:
        return Recovered(_compiled_all(rows.versions), *rows[1:])
    return Recovered(await asyncio.to_thread(_compiled_all, rows.versions), *rows[1:])


def _compiled_all(rows: Iterable[VersionRow]) -> tuple[DagVersion, ...]:
    return tuple(compile_version(row.tenant, row.spec, row.digest) for row in rows)
