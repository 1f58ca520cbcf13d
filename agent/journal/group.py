"""Writes records to disk in a thread of its own, many with one write.

Decides: when the journal is written: at once when something waits for it, with all that was
appended meanwhile in the next; what nothing waits for within a tenth of a second.

Promises: `durable` never counts a record that is not on disk; after a writing that failed, nothing
is called durable any more, and `on_broken` was called once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from agent.core.records import Record
from agent.journal.file import Journal

FLUSH_S = 0.1

log_lines = structlog.get_logger(__name__)


class GroupCommit:
    """The writer of one journal. `on_durable` is called in the loop when more is on disk."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        on_durable: Callable[[], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._on_durable = on_durable
        self._on_broken = on_broken
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._appended = self._written = self._wanted = 0
        self._broken = False
        self.durable = 0

    def append(self, record: Record) -> int:
        """Takes a record in; returns its number, from 1."""
        self._journal.append((record,))
        self._appended += 1
        self._flush_later()
        return self._appended

    def want(self, number: int) -> None:
        """Something waits until the record of this number is on disk."""
        self._wanted = max(self._wanted, number)
        self._sync()

    async def close(self) -> None:
        """Writes what is left, unless writing has failed, and closes the journal."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if not self._broken:
            try:
                await self._loop.run_in_executor(self._thread, self._journal.flush)
            except OSError as error:
                log_lines.warning("the end of the journal was not written", error=str(error))
        self._thread.shutdown()
        self._journal.close()

    def _flush_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if self._written == self._appended or self._broken:
            return
        if self._writing is None:
            self._start(self._journal.flush, synced=False)
        else:
            self._flush_later()

    def _sync(self) -> None:
        if self._writing is None and self._wanted > self.durable and not self._broken:
            self._start(self._journal.sync, synced=True)

    def _start(self, write: Callable[[], None], *, synced: bool) -> None:
        done = partial(self._done, self._appended, synced)
        self._writing = self._loop.run_in_executor(self._thread, write)
        self._writing.add_done_callback(done)

    def _done(self, number: int, synced: bool, writing: asyncio.Future[None]) -> None:
        """All records up to `number` are in the file, or nothing is known about them."""
        self._writing = None
        error = writing.exception()
        if error is not None:
            self._broken = True
            self._on_broken(error)
            return
        self._written = number
        if synced:
            self.durable = number
            self._on_durable()
        self._sync()
