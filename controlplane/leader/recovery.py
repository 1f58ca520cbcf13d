"""How the rows of the store become what a new leader's core recovers from.

Decides nothing; compiles each definition once, however many runs share it. One that cannot be read
(a damaged row, a version of another release) is told to the core, which sets aside what needs it:
it must not stop the shard. What the core
does with the rows stays on the event loop: 0.1 s for 1,000 runs with 10,000 live attempts, below
what a heartbeat or a fence can wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controlplane.codec.dag import compile_version
from controlplane.codec.errors import CodecError
from controlplane.core.events import Recovered, Unreadable
from controlplane.core.types import DagKey, DagVersion
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
        versions, unreadable = _compiled_all(rows.versions)
    else:
        versions, unreadable = await asyncio.to_thread(_compiled_all, rows.versions)
    return Recovered(versions, *rows[1:], unreadable=unreadable)


def _compiled_all(
    rows: Iterable[VersionRow],
) -> tuple[tuple[DagVersion, ...], tuple[Unreadable, ...]]:
    versions: list[DagVersion] = []
    unreadable: list[Unreadable] = []
    for row in rows:
        try:
            versions.append(compile_version(row.tenant, row.spec, row.digest))
        except CodecError as error:
            key = DagKey(row.tenant, row.dag)
            unreadable.append(Unreadable(key, row.digest, str(error)))
    return tuple(versions), tuple(unreadable)
