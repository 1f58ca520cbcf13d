"""How the rows of the store become what a new leader's core recovers from.

Decides nothing; compiles each definition once, however many runs share it. A definition that does
not compile stops the shard: it was checked before it was stored, so it is our bug.
"""

from __future__ import annotations

import asyncio

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
    """The rows with compiled versions."""
    versions = tuple([await compiled(row) for row in rows.versions])
    return Recovered(versions, *rows[1:])
