"""Keeps compiled DAG versions for reads, the most recently used ones.

Versions never change, so what is kept is never stale. Large definitions are compiled beside the
event loop: a leader may share it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from controlplane.codec.dag import compile_version, parse_spec
from controlplane.core.types import DagKey, DagVersion
from controlplane.services.errors import NotFound
from controlplane.store.api import ApiStore

MOST_TASKS_KEPT = 200_000
LARGE_BYTES = 64 * 1_024


@dataclass(frozen=True, slots=True)
class ReadVersion:
    """A version as reads need it: compiled, with the tasks' names for display."""

    compiled: DagVersion
    labels: tuple[str, ...]
    numbers: dict[str, int] = field(repr=False)


class Versions:
    """Compiled versions by DAG and digest."""

    def __init__(self, store: ApiStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[DagKey, bytes], ReadVersion] = OrderedDict()
        self._tasks = 0

    async def get(self, key: DagKey, digest: bytes) -> ReadVersion:
        """A version that a run or a DAG names. Raises NotFound when it is stored no more."""
        found = self._kept.get((key, digest))
        if found is None:
            found = self._keep(key, digest, await self._load(key, digest))
        self._kept.move_to_end((key, digest))
        return found

    async def _load(self, key: DagKey, digest: bytes) -> ReadVersion:
        stored = await self._store.read_spec(digest)
        if stored is None:
            raise NotFound("VERSION", f"version {digest.hex()} of {key.dag!r} is stored no more")
        if len(stored) < LARGE_BYTES:
            return _compile(key, digest, stored)
        return await asyncio.to_thread(_compile, key, digest, stored)

    def _keep(self, key: DagKey, digest: bytes, version: ReadVersion) -> ReadVersion:
        self._tasks -= self._size((key, digest))
        self._kept[key, digest] = version
        self._tasks += len(version.labels)
        while self._tasks > MOST_TASKS_KEPT and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._tasks -= self._size(oldest)
            del self._kept[oldest]
        return version

    def _size(self, item: tuple[DagKey, bytes]) -> int:
        kept = self._kept.get(item)
        return 0 if kept is None else len(kept.labels)


def _compile(key: DagKey, digest: bytes, stored: bytes) -> ReadVersion:
    spec = parse_spec(stored)
    compiled = compile_version(key.tenant, spec, digest)
    labels = tuple(task.label for task in spec.tasks)
    return ReadVersion(compiled, labels, {task.task: n for n, task in enumerate(compiled.tasks)})
