"""A simulated agent that starts what it is given and ends only part of it.

It keeps one session to each of several nodes at once and opens them again when they end, so that it
outlives any node. What it holds it tells in its inventories and never lets go. Everything else ends
at once, with success.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable
from typing import Any, Self

import grpc
import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1.session_pb2_grpc import AgentSessionServiceStub

from loadtest.agents import PROTOCOL_VERSION
from loadtest.measures import LARGE

NAME = "holder"
BEAT_S = 2.0
PAUSE_S = 0.05


class _Session:
    """One session: what is to be said, and which epochs were heard."""

    def __init__(self) -> None:
        self.out: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()
        self.epochs: dict[int, int] = {}
        self.granted = False

    async def write_to(self, stream: Any) -> None:
        """Sends what is to be said, until cancelled."""
        while True:
            await stream.write(await self.out.get())


class Holder:
    """Sessions to `addresses` from one incarnation, under `async with`. `holds` says by its task
    which attempt never ends.

    `welcomed`: (shard, epoch) → when a node first said that it leads; `assigned`: task → when an
    attempt of it came last.
    """

    def __init__(
        self, addresses: list[str], token: str, cores: int, holds: Callable[[str], bool]
    ) -> None:
        self.welcomed: dict[tuple[int, int], float] = {}
        self.assigned: dict[str, float] = {}
        self.held: dict[bytes, pb.Started] = {}
        self._addresses = addresses
        self._token = token
        self._capacity = pb.Capacity(cpu_millis=cores * 1_000, memory_bytes=1 << 40)
        self._holds = holds
        self._incarnation = os.urandom(16)
        self._numbers = itertools.count(1)
        self._unacknowledged: dict[bytes, pb.Result] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep(each)) for each in self._addresses]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, address: str) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with grpc.aio.insecure_channel(address, options=LARGE) as channel:
                    await self._serve(channel)
            await asyncio.sleep(PAUSE_S)

    async def _serve(self, channel: grpc.aio.Channel) -> None:
        session = _Session()
        session.out.put_nowait(pb.SessionRequest(hello=self._hello()))
        metadata = (("authorization", f"Bearer {self._token}"),)
        stream = AgentSessionServiceStub(channel).Session(metadata=metadata)
        others = [asyncio.create_task(session.write_to(stream))]
        others.append(asyncio.create_task(self._beat(session)))
        try:
            async for frame in stream:
                if frame.HasField("refusal"):
                    raise RuntimeError(frame.refusal.message)
                self._handle(session, frame)
        finally:
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            stream.cancel()

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            agent=NAME,
            incarnation=self._incarnation,
            boot_id="simulated",
            protocol_version=PROTOCOL_VERSION,
            capacity=self._capacity,
            version="simulated",
            session=next(self._numbers),
        )

    async def _beat(self, session: _Session) -> None:
        for beat in itertools.count(1):
            session.out.put_nowait(pb.SessionRequest(heartbeat=pb.Heartbeat(beat=beat)))
            await asyncio.sleep(BEAT_S)

    def _handle(self, session: _Session, frame: pb.SessionResponse) -> None:
        if frame.HasField("welcome"):
            self._welcome(session, frame.welcome)
        for ack in frame.result_acks:
            self._unacknowledged.pop(ack.attempt_id, None)
        if frame.assigns:
            self._work(session, frame)

    def _welcome(self, session: _Session, welcome: pb.Welcome) -> None:
        now = time.time()
        claims = {claim.shard: claim.epoch for claim in welcome.shards}
        fresh = {shard: n for shard, n in claims.items() if session.epochs.get(shard) != n}
        session.epochs = claims
        for claim in claims.items():
            self.welcomed.setdefault(claim, now)
        answer = pb.SessionRequest(inventories=[self._inventory(*claim) for claim in fresh.items()])
        if not session.granted:
            session.granted = True
            answer.grant.number = 1
            answer.grant.amount.CopyFrom(self._capacity)
            answer.grant.amount.cpu_millis //= len(self._addresses)
            answer.grant.amount.memory_bytes //= len(self._addresses)
        session.out.put_nowait(answer)

    def _inventory(self, shard: int, epoch: int) -> pb.Inventory:
        live = [
            pb.LiveAttempt(attempt_id=each.attempt_id, started_at_us=each.started_at_us)
            for each in self.held.values()
            if each.shard == shard
        ]
        finished = [each for each in self._unacknowledged.values() if each.shard == shard]
        return pb.Inventory(shard=shard, epoch=epoch, live=live, finished=finished)

    def _work(self, session: _Session, frame: pb.SessionResponse) -> None:
        now_us = time.time_ns() // 1_000
        answer = pb.SessionRequest()
        for assign in frame.assigns:
            self.assigned[assign.task] = now_us / 1e6
            attempt = {"shard": assign.shard, "attempt_id": assign.attempt_id}
            answer.accepted.add(**attempt)
            started = answer.started.add(**attempt, started_at_us=now_us)
            if self._holds(assign.task):
                self.held[assign.attempt_id] = started
                continue
            self._unacknowledged[assign.attempt_id] = answer.results.add(
                **attempt,
                outcome=pb.OUTCOME_SUCCEEDED,
                started_at_us=now_us,
                finished_at_us=now_us,
            )
        session.out.put_nowait(answer)
