"""The streams of an agent, one per open session.

Decides: how entries become frames (what was said in one turn of the loop, or while a frame was on
its way, travels in the next), and what the end of a stream is called.

Promises: a stream that the core opened ends with one NodeLost, unless the core closed it itself; a
node that does not read is given up before its outbox grows without bound.

Does not know: what the entries mean. Deadlines are the core's: it closes a stream that is silent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import grpc
import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1 import session_pb2_grpc as pb_grpc

from agent.core.entries import Entry
from agent.core.events import Event, Frame, NodeConnected, NodeLost
from agent.settings import is_loopback
from agent.stream.codec import CodecError, decode, encode

OUTBOX_ENTRIES = 50_000
# With more than this in its outbox, a session gets no pieces of logs.
OUTBOX_BUSY = 32
DENIALS = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
# The core decides when to connect again: channels share no state that would do so on its own.
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))

Call = grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionResponse]


class _Ended(Exception):  # noqa: N818  # the end of a stream is no error of ours
    """A stream is over; the reason, and whether the credential was refused."""

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        super().__init__(reason)
        self.denied = denied


class _Stream:
    """One stream: its outbox and the task that runs it."""

    __slots__ = ("address", "filled", "outbox", "session", "task")

    def __init__(self, address: str, session: int) -> None:
        self.address = address
        self.session = session
        self.outbox: deque[Entry] = deque()
        self.filled = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Streams:
    """All streams. `feed` takes the events; tasks run in `group`."""

    def __init__(self, group: asyncio.TaskGroup, token: str, feed: Callable[[Event], None]) -> None:
        self._group = group
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._feed = feed
        self._streams: dict[tuple[str, int], _Stream] = {}

    def open(self, address: str, session: int) -> None:
        stream = _Stream(address, session)
        self._streams[(address, session)] = stream
        stream.task = self._group.create_task(self._run(stream), name=f"stream {address}")

    def close(self, address: str, session: int) -> None:
        """Ends a stream without a NodeLost. One that is over already is left alone."""
        stream = self._streams.pop((address, session), None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    def close_all(self) -> None:
        for key in list(self._streams):
            self.close(*key)

    def send(self, address: str, session: int, entries: tuple[Entry, ...]) -> None:
        """Adds to the next frame of a stream; of one that is over, nothing comes of it."""
        stream = self._streams.get((address, session))
        if stream is None:
            return
        stream.outbox.extend(entries)
        stream.filled.set()
        if len(stream.outbox) > OUTBOX_ENTRIES:
            self.close(address, session)
            self._feed(NodeLost(address, session, "the node does not read"))

    def has_room(self, address: str, session: int) -> bool:
        """Whether a session keeps up with what it is sent."""
        stream = self._streams.get((address, session))
        return stream is not None and len(stream.outbox) < OUTBOX_BUSY

    async def _run(self, stream: _Stream) -> None:
        try:
            await self._converse(stream)
        except* (_Ended, CodecError) as group:
            end = _first(group)
            key = (stream.address, stream.session)
            if self._streams.pop(key, None) is not None:
                denied = isinstance(end, _Ended) and end.denied
                self._feed(NodeLost(*key, str(end), denied=denied))

    async def _converse(self, stream: _Stream) -> None:
        """Runs a stream to its end, which is always an exception."""
        if not is_loopback(stream.address):
            raise _Ended("plain text is only spoken to loopback addresses")
        async with grpc.aio.insecure_channel(stream.address, options=OPTIONS) as channel:
            stub = pb_grpc.AgentSessionServiceStub(channel)
            call = stub.Session(metadata=self._metadata)
            self._feed(NodeConnected(stream.address, stream.session))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(stream, call))
                group.create_task(self._read(stream, call))

    async def _write(self, stream: _Stream, call: Call) -> None:
        try:
            while True:
                await stream.filled.wait()
                stream.filled.clear()
                while stream.outbox:
                    await call.write(encode(stream.outbox))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns why

    async def _read(self, stream: _Stream, call: Call) -> None:
        try:
            async for frame in call:
                self._feed(Frame(stream.address, stream.session, decode(frame)))
        except grpc.aio.AioRpcError as error:
            denied = error.code() in DENIALS
            raise _Ended(f"{error.code().name}: {error.details()}", denied=denied) from None
        raise _Ended("the node ended it")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception inside a group of groups."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
