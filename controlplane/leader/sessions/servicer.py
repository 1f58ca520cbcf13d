"""Serves the streams of agents: frames in, frames out, nothing else.

Promises that a stream ends with its session and a session with its stream, and that an agent which
does not read for long is let go. Does not know what frames mean.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1.session_pb2_grpc import (
    AgentSessionServiceServicer,
    add_AgentSessionServiceServicer_to_server,
)

from controlplane.leader.sessions.hub import SessionHub
from controlplane.leader.sessions.session import Refused
from controlplane.leader.sessions.session import Session as AgentSession
from controlplane.telemetry.clock import Ticker
from controlplane.telemetry.stats import Stats

SERVICE = "mainspring.agent.v1.AgentSessionService"
HELLO_DEADLINE_S = 5.0
WRITE_DEADLINE_S = 15.0


class AgentSessions(AgentSessionServiceServicer):
    """The service of one node."""

    def __init__(self, hub: SessionHub, clock: Ticker, stats: Stats) -> None:
        self._hub = hub
        self._clock = clock
        self._stats = stats

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server."""
        add_AgentSessionServiceServicer_to_server(self, server)

    async def Session(  # type: ignore[override]  # noqa: N802  (writes its answers itself)
        self, _requests: Any, context: Any
    ) -> None:
        """One stream from its hello to its end."""
        try:
            async with asyncio.timeout(HELLO_DEADLINE_S):
                first = await context.read()
        except TimeoutError:
            return
        if first is grpc.aio.EOF:
            return
        try:
            session = self._hub.open(first)
        except Refused as refused:
            refusal = pb.Refusal(reason=refused.reason, message=str(refused))
            await context.write(pb.SessionResponse(refusal=refusal))
            return
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(session, context))
                await self._write(session, context)
                reading.cancel()
        finally:
            self._hub.close(session, "the stream ended")

    async def _read(self, session: AgentSession, context: Any) -> None:
        """Frames of the agent, until it ends the stream."""
        while session.live:
            try:
                frame = await context.read()
            except grpc.aio.BaseError:
                break
            if frame is grpc.aio.EOF:
                break
            self._hub.receive(session, frame)
        self._hub.close(session, "the agent ended the stream")

    async def _write(self, session: AgentSession, context: Any) -> None:
        """Frames to the agent, until the session is over or the agent does not read."""
        while (ready := await session.outbox.take()) is not None:
            if ready.received_us and ready.frame.assigns:
                passed_us = self._clock.ticks_us() - ready.received_us
                self._stats.time("result_to_assign", passed_us)
            try:
                async with asyncio.timeout(WRITE_DEADLINE_S):
                    await context.write(ready.frame)
            except TimeoutError:
                self._hub.close(session, "the agent does not read what it is sent")
            except grpc.aio.BaseError as error:
                self._hub.close(session, f"the stream broke: {error}")
