"""What was said to one agent and not yet handed to its stream, as frames.

Decides which entries share a frame: all that come while the stream is busy, or in one turn of the
event loop, up to a size. Promises first in, first out, and a bound: an agent that does not read is
told from one that does. A Welcome begins a frame, because agents read it before the rest of one.
Does not know why something is said.

What is here was decided under authority, but may be written long after it: the stream was busy, or
the process was stopped and resumed. No kind of entry needs another look at the authority then,
because each is harmless however late it comes, also when another node leads the shard by then:

* An Assign echoes a heartbeat that was received before it was decided: its attempt lease counts
  from there, so a late one is born expired and refused. Before that, the attempt is recorded as
  live, so the next leader knows it, and an agent that has made a later epoch its own refuses it.
* A LeaseExtension echoes a heartbeat in the same way: it moves a deadline to where the last moment
  of this leader's authority allowed it to be, which the next leader's wait includes.
* A Cancel names its epoch. Whatever it stops was cancelled by a committed batch, or was unknown to
  the shard: a later leader cannot have assigned that id, since the agent would know its epoch.
* A ResultAck repeats what the store has for good.
* A Welcome names epochs and holders: an agent ignores those that are not the highest it has seen.
* A HeartbeatAck says that this node lives and extends nothing. Demand, Release and LogTail speak
  for the node, not for a shard; a late Release gives back what the node had stopped using.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from mainspring.agent.v1 import session_pb2 as pb

FRAMES_KEPT = 64
# Far below what gRPC refuses; one assignment alone may be larger.
FRAME_BYTES = 512 * 1_024
_ACK_BYTES = 20
_ASSIGN_BYTES = 250
_EXTENSION_BYTES = 20


class Ready(NamedTuple):
    """A frame. `received_us`: when the oldest result that led to its assignments arrived, or 0."""

    frame: pb.SessionResponse
    received_us: int


class Outbox:
    """One writer of the stream takes; any part of the node adds. All on one event loop."""

    def __init__(self) -> None:
        self._full: deque[Ready] = deque()
        self._frame = pb.SessionResponse()
        self._bytes = 0
        self._received_us = 0
        # The extensions in the unfinished frame, by shard.
        self._extensions: dict[int, pb.LeaseExtension] = {}
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def overfull(self) -> bool:
        """Whether more waits than an agent that reads would leave."""
        return len(self._full) >= FRAMES_KEPT

    def assign(self, entry: pb.Assign, received_us: int) -> None:
        """Adds work; `received_us` as in Ready."""
        frame = self._room(len(entry.spec) + _ASSIGN_BYTES)
        frame.assigns.append(entry)
        if received_us and (not self._received_us or received_us < self._received_us):
            self._received_us = received_us

    def extend(self, shard: int, epoch: int, beat: int) -> None:
        """Lets a shard's attempts run on; replaces what was not sent yet of the same shard."""
        waiting = self._extensions.get(shard)
        if waiting is None:
            added = self._room(_EXTENSION_BYTES).lease_extensions.add()
            waiting = self._extensions[shard] = added
        waiting.shard, waiting.epoch, waiting.beat = shard, epoch, beat

    def acknowledge(self, entry: pb.ResultAck) -> None:
        self._room(_ACK_BYTES).result_acks.append(entry)

    def cancel(self, entry: pb.Cancel) -> None:
        self._room(_ACK_BYTES).cancels.append(entry)

    def welcome(self, entry: pb.Welcome) -> None:
        self._finish_frame()
        self._room(len(entry.shards) * 64 + _ACK_BYTES).welcome.CopyFrom(entry)

    def answer_beat(self, beat: int) -> None:
        self._room(_ACK_BYTES).heartbeat_ack.beat = beat

    def demand(self, entry: pb.Demand) -> None:
        """Replaces a demand that was not sent yet."""
        self._room(_ACK_BYTES).demand.CopyFrom(entry)

    def release(self, entry: pb.Release) -> None:
        if self._frame.HasField("release"):
            self._finish_frame()
        self._room(_ACK_BYTES).release.CopyFrom(entry)

    def tail(self, entry: pb.LogTail) -> None:
        self._room(_ACK_BYTES).log_tails.append(entry)

    def close(self) -> None:
        """Nothing more is taken or added."""
        self._closed = True
        self._wake()

    async def take(self) -> Ready | None:
        """The next frame, once there is one; None: closed."""
        while not self._closed:
            if self._full:
                return self._full.popleft()
            if self._bytes:
                return self._cut()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return None

    def _room(self, size: int) -> pb.SessionResponse:
        if self._bytes and self._bytes + size > FRAME_BYTES:
            self._finish_frame()
        self._bytes += size
        self._wake()
        return self._frame

    def _finish_frame(self) -> None:
        if self._bytes:
            self._full.append(self._cut())

    def _cut(self) -> Ready:
        ready = Ready(self._frame, self._received_us)
        self._frame, self._bytes, self._received_us = pb.SessionResponse(), 0, 0
        self._extensions = {}
        return ready

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
