"""The changes of all keys under a prefix, without a gap.

Decides when a stream of changes is followed, resumed or replaced by a new listing. Promises: the
first value is a Snapshot; a lost stream is resumed at the revision after the last one delivered;
when etcd has forgotten that revision, or the store went back in time, a Snapshot follows; the keys
are read again every `poll_ms` anyway, which also finds a member that hangs. No change older than
the last Snapshot is delivered. Knows nothing of what keys mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing

import structlog

from controlplane.coordination.errors import CompactedError, EtcdError
from controlplane.coordination.ports import WatchSource, WatchStream
from controlplane.coordination.records import Change, Changed, Removed, Snapshot
from controlplane.coordination.settings import Backoff

_log = structlog.get_logger(__name__)


class PrefixWatch:
    """One endless iteration over the changes of a prefix; use `changes` once, under aclosing."""

    def __init__(self, source: WatchSource, prefix: str, *, poll_ms: int, backoff: Backoff) -> None:
        self._source = source
        self._prefix = prefix
        self._poll_s = poll_ms / 1_000
        self._backoff = backoff
        self._next_revision = 0  # 0 = list first

    async def changes(self) -> AsyncGenerator[Change, None]:
        while True:
            try:
                if self._next_revision == 0:
                    yield await self._list()
                async with aclosing(self._follow()) as following:
                    async for change in following:
                        self._backoff.reset()
                        yield change
            except CompactedError as error:
                _log.info("watch_compacted", prefix=self._prefix, error=error.message)
                self._next_revision = 0
            except EtcdError as error:
                _log.info("watch_interrupted", prefix=self._prefix, error=str(error))
                await asyncio.sleep(self._backoff.next_s())

    async def _list(self) -> Snapshot:
        snapshot = await self._source.get_prefix(self._prefix)
        self._next_revision = snapshot.revision + 1
        return snapshot

    async def _follow(self) -> AsyncGenerator[Change, None]:
        """Deliver from one stream, until its member is no longer the current one."""
        with closing(await self._source.open_watch(self._prefix, self._next_revision)) as stream:
            # List now, if the member seems to be behind us.
            behind = stream.revision < self._next_revision - 1
            poll_at = self._now() + (0.0 if behind else self._poll_s)
            async with aclosing(self._batches(stream, poll_at)) as batches:
                async for batch in batches:
                    for change in self._fresh(batch or ()):
                        yield change
                    if batch is not None:
                        continue
                    expected = self._next_revision
                    yield await self._list()
                    if self._next_revision < expected:
                        return  # the store went back in time: this stream waits for the future

    async def _batches(
        self, stream: WatchStream, poll_at: float
    ) -> AsyncGenerator[Sequence[Changed | Removed] | None, None]:
        """Yield changes, and None whenever it is time to poll."""
        # A read that is cancelled ends its stream, so one read stays pending across polls.
        read = asyncio.ensure_future(stream.read())
        try:
            while stream.in_use:
                timeout_s = max(0.0, poll_at - self._now())
                done, _ = await asyncio.wait({read}, timeout=timeout_s)
                if done:
                    yield read.result()
                    read = asyncio.ensure_future(stream.read())
                if self._now() >= poll_at:
                    yield None
                    poll_at = self._now() + self._poll_s
        finally:
            read.cancel()
            await asyncio.gather(read, return_exceptions=True)

    def _fresh(self, batch: Sequence[Changed | Removed]) -> list[Changed | Removed]:
        fresh = [change for change in batch if change.revision >= self._next_revision]
        if fresh:
            self._next_revision = fresh[-1].revision + 1
        return fresh

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
