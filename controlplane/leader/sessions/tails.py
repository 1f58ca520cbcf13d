"""Live readings of logs through the sessions of agents.

Promises the bytes of each stream in order and each once, from the offsets asked for. A reader that
is slower than the agent loses nothing: what does not fit is dropped and asked for again from where
the reader is. Does not know archives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.sessions.session import Session
from controlplane.objectstore.logs import LogPiece

PIECES_KEPT = 64
_NAMES = ("stdout", "stderr")


class Tail:
    """One reading."""

    def __init__(
        self, number: int, session: Session, attempt_id: bytes, offsets: tuple[int, int]
    ) -> None:
        self.number = number
        self.session = session
        self._attempt_id = attempt_id
        self._offsets = list(offsets)
        self._pieces: deque[LogPiece] = deque()
        self._lagging = False
        self._over = False
        self._news = asyncio.Event()

    def ask(self) -> None:
        """Starts the reading, or moves it to where the reader is."""
        self._lagging = False
        self.session.outbox.tail(
            pb.LogTail(
                tail=self.number,
                attempt_id=self._attempt_id,
                stdout_offset=self._offsets[0],
                stderr_offset=self._offsets[1],
            )
        )

    def stop(self) -> None:
        """Tells the agent that nobody reads any more."""
        if self.session.live and not self._over:
            self.session.outbox.tail(
                pb.LogTail(tail=self.number, attempt_id=self._attempt_id, stop=True)
            )

    def end(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._news.set()

    def take_in(self, data: pb.LogData) -> None:
        """A piece from the agent; one that does not follow the last one is dropped."""
        stream = int(data.is_stderr)
        if len(self._pieces) >= PIECES_KEPT:
            self._lagging = True
        if self._lagging:
            self._news.set()
            return
        if data.data and data.offset == self._offsets[stream]:
            self._offsets[stream] += len(data.data)
            self._pieces.append(LogPiece(_NAMES[stream], data.offset, data.data))
        self._over = self._over or data.eof
        self._news.set()

    async def pieces(self) -> AsyncIterator[LogPiece]:
        """What arrives, until the reading is over."""
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._over:
                return
            if self._lagging:
                self.ask()
            self._news.clear()
            await self._news.wait()


class Tails:
    """All readings of a node. `session_of`: the session of an agent, if it has one."""

    def __init__(self, session_of: Callable[[str], Session | None]) -> None:
        self._session_of = session_of
        self._tails: dict[int, Tail] = {}
        self._last = 0

    async def tail(
        self, agent: str, attempt_id: bytes, offsets: tuple[int, int]
    ) -> AsyncGenerator[LogPiece, None]:
        """What an attempt writes from the offsets (stdout, stderr) on.

        Ends when the attempt is over, when its agent does not hold it, and when the agent has no
        session here.
        """
        session = self._session_of(agent)
        if session is None:
            return
        self._last += 1
        tail = self._tails[self._last] = Tail(self._last, session, attempt_id, offsets)
        tail.ask()
        try:
            async for piece in tail.pieces():
                yield piece
        finally:
            del self._tails[tail.number]
            tail.stop()

    def take_in(self, session: Session, data: pb.LogData) -> None:
        """A piece from an agent; one of a reading that has ended is dropped."""
        tail = self._tails.get(data.tail)
        if tail is not None and tail.session is session:
            tail.take_in(data)

    def ended(self, session: Session) -> None:
        """A session is over, and all readings through it."""
        for tail in self._tails.values():
            if tail.session is session:
                tail.end()
