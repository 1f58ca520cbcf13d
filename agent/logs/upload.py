"""Uploads what attempts write, in chunks.

Decides: when a chunk is uploaded: at once when an attempt is over or 256 KB wait, else a second
after the one before. A failed upload is repeated until it succeeds; the spool keeps the bytes. What
an earlier start of the agent began is gone on with where the chunks in the store end.

Promises: a result never waits for an upload; an attempt without output makes no object; chunks of a
stream are uploaded in order, one at a time.
"""

from __future__ import annotations

import asyncio
import time

import obstore
import structlog
from mainspring.logkeys import STREAMS, chunk_key, parse_offset
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from agent.logs.spool import STDERR, STDOUT, Spool, SpooledLog

CHUNK_BYTES = 1 << 20
EAGER_BYTES = 256 << 10
SCAN_S = 0.25
PAUSE_S = 1.0
RETRY_S = 2.0
PUT_DEADLINE_S = 30.0
WORKERS = 4

log_lines = structlog.get_logger(__name__)


class Uploader:
    """Moves logs from the spool to the object store."""

    def __init__(self, spool: Spool, store: ObjectStore) -> None:
        self._spool = spool
        self._store = store
        # Bounded by the number of logs: each is queued at most once.
        self._queue: asyncio.Queue[tuple[bytes, SpooledLog]] = asyncio.Queue()
        self._started = asyncio.Event()
        self._moved = asyncio.Event()
        self._live: dict[bytes, SpooledLog] = {}

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scan())
            for _ in range(WORKERS):
                group.create_task(self._work())

    def watch(self, attempt_id: bytes, log: SpooledLog) -> None:
        """Uploads from now on what an attempt writes."""
        log.uploaded_at_s = time.monotonic()
        self._live[attempt_id] = log
        self._started.set()

    def finish(self, attempt_id: bytes) -> None:
        """The attempt is over: uploads the rest, then removes the files. One whose log is not
        watched (any more) is passed over.
        """
        log = self._live.pop(attempt_id, None)
        if log is not None:
            self._spool.end(attempt_id)
            self.complete(attempt_id, log)

    def complete(self, attempt_id: bytes, log: SpooledLog) -> None:
        """Uploads the rest of the log of an attempt that is over."""
        if log.waiting():
            self._enqueue(attempt_id, log)
        else:
            self._spool.release(attempt_id)

    async def drain(self) -> None:
        """Returns when nothing of an attempt that is over waits."""
        while self._spool.unfinished():
            self._moved.clear()
            await self._moved.wait()

    def _enqueue(self, attempt_id: bytes, log: SpooledLog) -> None:
        if not log.queued:
            log.queued = True
            self._queue.put_nowait((attempt_id, log))

    async def _scan(self) -> None:
        """Looks at what runs, four times a second; sleeps while nothing does."""
        while True:
            self._started.clear()
            if not self._live:
                await self._started.wait()
            await asyncio.sleep(SCAN_S)
            now_s = time.monotonic()
            for attempt_id, log in self._live.items():
                waiting = log.waiting()
                rested = now_s - log.uploaded_at_s >= PAUSE_S
                if waiting >= EAGER_BYTES or (waiting and rested):
                    self._enqueue(attempt_id, log)

    async def _work(self) -> None:
        while True:
            attempt_id, log = await self._queue.get()
            try:
                await self._upload(log)
            except (BaseError, OSError) as error:
                log_lines.warning("log not uploaded, will retry", key=log.prefix, error=str(error))
                asyncio.get_running_loop().call_later(RETRY_S, self._again, attempt_id, log)
            else:
                self._again(attempt_id, log)
            self._moved.set()

    def _again(self, attempt_id: bytes, log: SpooledLog) -> None:
        """After a pass: there may be more by now, or it was the last."""
        log.queued = False
        if log.ended and not self._spool.release(attempt_id) and log.waiting():
            self._enqueue(attempt_id, log)

    async def _upload(self, log: SpooledLog) -> None:
        """One chunk of each stream."""
        if not log.asked:
            for stream in (STDOUT, STDERR):
                log.uploaded[stream] = await self._uploaded(f"{log.prefix}/{STREAMS[stream]}")
            log.asked = True
        for stream in (STDOUT, STDERR):
            data = log.read(stream, log.uploaded[stream], CHUNK_BYTES)
            if data:
                key = chunk_key(log.prefix, STREAMS[stream], log.uploaded[stream])
                async with asyncio.timeout(PUT_DEADLINE_S):
                    await obstore.put_async(self._store, key, data)
                log.uploaded[stream] += len(data)
                log.uploaded_at_s = time.monotonic()

    async def _uploaded(self, folder: str) -> int:
        """How many bytes from the first on are in the store."""
        try:
            async with asyncio.timeout(PUT_DEADLINE_S):
                listed = await self._store.list(prefix=folder).collect_async()
        except FileNotFoundError:
            return 0
        end = 0
        for offset, size in sorted((parse_offset(str(c["path"])), c["size"]) for c in listed):
            if offset <= end:
                end = max(end, offset + size)
        return end
