"""Simulated agents: real sessions, real frames, no processes.

Each agent keeps one session to every node, as a real one does: it says hello, takes its inventory
when a shard speaks for the first time, grants all of its capacity to the node that it was told to
serve, and answers every assignment at once with accepted, started and a successful result. What is
assigned in one frame is answered in one frame. Results are kept until they are acknowledged, so the
driver can tell a finished attempt from a recorded one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Self

import grpc
import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1.session_pb2_grpc import AgentSessionServiceStub

QUEUE_FRAMES = 1_024
CONNECT_DEADLINE_S = 10.0
PROTOCOL_VERSION = 2


class Tally:
    """What all simulated agents have seen together."""

    def __init__(self) -> None:
        self.assigned = 0
        self.acknowledged = 0
        self.frames = 0
        self.twice = 0
        self.seen: set[bytes] = set()
        self.on_progress: Callable[[], None] = lambda: None


class SimulatedAgent:
    """One agent with a session to one node."""

    def __init__(
        self, name: str, address: str, token: str, tally: Tally, capacity: pb.Capacity
    ) -> None:
        self._name = name
        self._address = address
        self._token = token
        self._tally = tally
        self._capacity = capacity
        self._incarnation = os.urandom(16)
        self._out: asyncio.Queue[pb.SessionRequest] = asyncio.Queue(QUEUE_FRAMES)
        self._shards: dict[int, int] = {}
        self._unacknowledged: dict[bytes, pb.Result] = {}
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serves one session until it is cancelled or the node ends it."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = AgentSessionServiceStub(channel)
            self._out.put_nowait(pb.SessionRequest(hello=self._hello()))
            metadata = (("authorization", f"Bearer {self._token}"),)
            stream = stub.Session(self._requests(), metadata=metadata)
            beats = asyncio.create_task(self._beat(), name=f"{self._name} beats")
            try:
                async for frame in stream:
                    self._handle(frame)
            finally:
                beats.cancel()

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            agent=self._name,
            incarnation=self._incarnation,
            boot_id="simulated",
            protocol_version=PROTOCOL_VERSION,
            capacity=self._capacity,
            version="simulated",
            session=1,
        )

    async def _requests(self):  # noqa: ANN202  (an async generator of frames, typed by gRPC)
        while True:
            yield await self._out.get()

    async def _beat(self) -> None:
        beat = 0
        while True:
            beat += 1
            await self._out.put(pb.SessionRequest(heartbeat=pb.Heartbeat(beat=beat)))
            await asyncio.sleep(2.0)

    def _handle(self, frame: pb.SessionResponse) -> None:
        if frame.HasField("refusal"):
            raise RuntimeError(frame.refusal.message)
        if frame.HasField("welcome"):
            self._welcome(frame.welcome)
        for ack in frame.result_acks:
            if self._unacknowledged.pop(ack.attempt_id, None) is not None:
                self._tally.acknowledged += 1
        if frame.assigns:
            self._work(frame.assigns)
        if frame.result_acks:
            self._tally.on_progress()

    def _welcome(self, welcome: pb.Welcome) -> None:
        fresh = [item for item in welcome.shards if self._shards.get(item.shard) != item.epoch]
        self._shards = {item.shard: item.epoch for item in welcome.shards}
        answer = pb.SessionRequest(
            inventories=[
                pb.Inventory(
                    shard=item.shard,
                    epoch=item.epoch,
                    finished=[
                        held for held in self._unacknowledged.values() if held.shard == item.shard
                    ],
                )
                for item in fresh
            ]
        )
        if not self.ready.is_set():
            answer.grant.number = 1
            answer.grant.amount.CopyFrom(self._capacity)
        self._out.put_nowait(answer)
        self.ready.set()

    def _work(self, assigns: object) -> None:
        now_us = time.time_ns() // 1_000
        answer = pb.SessionRequest()
        tally = self._tally
        for assign in assigns:  # type: ignore[attr-defined]
            attempt_id, shard = assign.attempt_id, assign.shard
            if attempt_id in tally.seen:
                tally.twice += 1
                continue
            tally.seen.add(attempt_id)
            answer.accepted.add(shard=shard, attempt_id=attempt_id)
            answer.started.add(shard=shard, attempt_id=attempt_id, started_at_us=now_us)
            self._unacknowledged[attempt_id] = answer.results.add(
                shard=shard,
                attempt_id=attempt_id,
                outcome=pb.OUTCOME_SUCCEEDED,
                started_at_us=now_us,
                finished_at_us=now_us,
            )
        tally.assigned += len(answer.results)
        tally.frames += 1
        self._out.put_nowait(answer)


class SimulatedFleet:
    """A number of simulated agents, each with a session to every node."""

    def __init__(self, count: int, nodes: list[str], token: str, cpu: int = 1_000) -> None:
        self.tally = Tally()
        # An agent's grants must not exceed its capacity: each node gets an equal part.
        share = pb.Capacity(cpu_millis=cpu * 1_000 // len(nodes), memory_bytes=1 << 40)
        self._agents = [
            SimulatedAgent(f"simulated-{number}-{index}", node, token, self.tally, share)
            for number in range(count)
            for index, node in enumerate(nodes)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(agent.run()) for agent in self._agents]
        ready = asyncio.gather(*(agent.ready.wait() for agent in self._agents))
        await asyncio.wait_for(ready, CONNECT_DEADLINE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
