"""Reads the spool files live, for readers at the other end of a session.

Decides: how fast: at most four pieces of 64 KB for each reading in a tenth of a second, and none
while its session does not keep up.

Promises: every byte from the offsets asked for, in order for each stream, then one piece with
`eof`; the files stay until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.actions import StartTail
from agent.core.events import LogPiece
from agent.logs.spool import STDERR, STDOUT, Spool, SpooledLog

PIECE_BYTES = 64 << 10
PIECES = 4
POLL_S = 0.1

Key = tuple[str, int, int]


@dataclass(slots=True)
class _Reading:
    attempt_id: bytes
    log: SpooledLog
    offsets: list[int]


class TailReader:
    """All live readings. `has_room(address, session)` says whether a session keeps up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spool: Spool,
        feed: Callable[[LogPiece], None],
        has_room: Callable[[str, int], bool],
    ) -> None:
        self._loop = loop
        self._spool = spool
        self._feed = feed
        self._has_room = has_room
        self._readings: dict[Key, _Reading] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, tail: StartTail) -> None:
        key = (tail.address, tail.session, tail.tail)
        log = self._spool.find(tail.attempt_id)
        if log is None:
            self._feed(LogPiece(*key, is_stderr=False, offset=0, data=b"", eof=True))
            return
        log.readers += 1
        offsets = [tail.stdout_offset, tail.stderr_offset]
        self._readings[key] = _Reading(tail.attempt_id, log, offsets)
        self.poke()

    def stop(self, key: Key) -> None:
        reading = self._readings.pop(key, None)
        if reading is not None:
            reading.log.readers -= 1
            self._spool.release(reading.attempt_id)

    def poke(self) -> None:
        """Looks at the files in this turn of the loop, if anybody reads."""
        if self._readings:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(0, self._poll)

    def _poll(self) -> None:
        self._timer = None
        for key, reading in list(self._readings.items()):
            if self._has_room(key[0], key[1]):
                self._pass_on(key, reading)
        if self._readings:
            self._timer = self._loop.call_later(POLL_S, self._poll)

    def _pass_on(self, key: Key, reading: _Reading) -> None:
        ended = reading.log.ended
        for stream in (STDOUT, STDERR):
            for _ in range(PIECES // 2):
                offset = reading.offsets[stream]
                data = reading.log.read(stream, offset, PIECE_BYTES)
                if not data:
                    break
                reading.offsets[stream] += len(data)
                self._feed(LogPiece(*key, stream == STDERR, offset, data, eof=False))
        sizes = (reading.log.size(STDOUT), reading.log.size(STDERR))
        if ended and reading.offsets[0] >= sizes[0] and reading.offsets[1] >= sizes[1]:
            self._feed(LogPiece(*key, is_stderr=False, offset=sizes[0], data=b"", eof=True))
            self.stop(key)
