"""A door in front of one node that tells when its agents' inventories pass.

Sessions pass frame by frame, in both directions and unchanged; the node advertises the door instead
of itself. Nothing in the system says by itself when an agent has told everything, since nothing has
to wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1.session_pb2_grpc import (
    AgentSessionServiceServicer,
    AgentSessionServiceStub,
    add_AgentSessionServiceServicer_to_server,
)

from loadtest.measures import LARGE


@dataclass(slots=True)
class Door(AgentSessionServiceServicer):
    """`address`: where it listens; `inventories`: when each passed, and how many live attempts it
    told of.
    """

    address: str = ""
    upstream: str = ""
    inventories: list[tuple[float, int]] = field(default_factory=list)

    async def Session(  # noqa: N802  (named by the contract)
        self,
        request_iterator: AsyncIterator[pb.SessionRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.SessionResponse]:
        """One session of an agent, passed on."""
        metadata = [(k, v) for k, v in context.invocation_metadata() if k == "authorization"]
        async with grpc.aio.insecure_channel(self.upstream, options=LARGE) as channel:
            stub = AgentSessionServiceStub(channel)
            async for frame in stub.Session(self._watched(request_iterator), metadata=metadata):
                yield frame

    async def told(self, live: int, since: float) -> float:
        """Waits for the first inventory since a moment with so many live attempts; its moment."""
        while True:
            for at, count in self.inventories:
                if at >= since and count >= live:
                    return at
            await asyncio.sleep(0.002)

    async def _watched(
        self, frames: AsyncIterator[pb.SessionRequest]
    ) -> AsyncIterator[pb.SessionRequest]:
        async for frame in frames:
            if frame.inventories:
                live = sum(len(entry.live) for entry in frame.inventories)
                self.inventories.append((time.time(), live))
            yield frame


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """An open door; set its `upstream` before the first agent comes."""
    opened = Door()
    server = grpc.aio.server(options=LARGE)
    add_AgentSessionServiceServicer_to_server(opened, server)
    opened.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield opened
    finally:
        await server.stop(None)
