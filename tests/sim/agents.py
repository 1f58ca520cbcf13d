"""A simulated agent: the production AgentCore, with streams and processes of virtual time.

Frames pass through the production codecs of both sides. A process takes the time that the seed
gives it and ends with the status that the seed gives it; the world is told of every spawn and end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from mainspring.agent.v1 import session_pb2 as pb

from agent.core import actions, events
from agent.core.agent import AgentConfig, AgentCore
from agent.core.entries import Assign
from agent.core.types import NOTHING, Amount, Now
from agent.stream import codec
from tests.sim.network import Link, Network
from tests.sim.nodes import SimNode
from tests.sim.virtual import VirtualLoop

KILLED = 9


class Witness(Protocol):
    """Who is told what agents really do."""

    def assigned(self, agent: str, assign: Assign) -> None: ...
    def spawned(self, agent: str, assign: Assign) -> None: ...
    def ended(self, attempt_id: bytes, exit_code: int, signal: int) -> None: ...


class SimAgent:
    """One start of an agent; it never dies here."""

    def __init__(
        self,
        name: str,
        capacity: Amount,
        nodes: dict[str, SimNode],
        network: Network,
        random: Random,
        witness: Witness,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop = loop
        self.name = name
        self._nodes = nodes
        self._network = network
        self._random = random
        self._witness = witness
        config = AgentConfig(name, random.randbytes(16), "boot", capacity, tuple(nodes))
        self._core = AgentCore(config, self._now())
        self._links: dict[tuple[str, int], Link] = {}
        self._running: dict[bytes, asyncio.TimerHandle] = {}
        self._events: deque[events.Event] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._performers: dict[type, Callable[..., None]] = {
            actions.OpenSession: self._open,
            actions.CloseSession: self._close,
            actions.Send: self._send,
            actions.Spawn: self._spawn,
            actions.Kill: self._kill,
            actions.Note: lambda _: None,
            actions.Refused: lambda _: None,
        }
        self._feed(events.Tick(NOTHING))

    def _now(self) -> Now:
        return Now(self._loop.wall_us, round(self._loop.time() * 1_000))

    def _feed(self, event: events.Event) -> None:
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            for action in self._core.handle(self._events.popleft(), self._now()):
                self._performers[type(action)](action)
        self._busy = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._core.next_deadline()
        if deadline_ms is not None:
            due_s = max(deadline_ms / 1_000, self._loop.time() + 0.001)
            self._timer = self._loop.call_at(due_s, self._feed, events.Tick(NOTHING))

    def _open(self, action: actions.OpenSession) -> None:
        key = (action.address, action.session)

        def answer() -> None:
            node = self._nodes.get(action.address)
            reached = self._network.reaches(self.name, action.address)
            if node is None or not node.alive or not reached:
                self._feed(events.NodeLost(*key, "nobody answers"))
                return
            link = self._links[key] = self._network.connect(
                self.name,
                action.address,
                lambda frame: self._receive(key, frame),
                lambda: self._lost(key),
            )
            node.accept(link)
            self._feed(events.NodeConnected(*key))

        self._loop.call_later(self._network.delay_s(), answer)

    def _receive(self, key: tuple[str, int], frame: pb.SessionResponse) -> None:
        decoded = codec.decode(frame)
        for assign in decoded.assigns:
            self._witness.assigned(self.name, assign)
        self._feed(events.Frame(*key, decoded))

    def _lost(self, key: tuple[str, int]) -> None:
        if self._links.pop(key, None) is not None:
            self._feed(events.NodeLost(*key, "the stream broke"))

    def _close(self, action: actions.CloseSession) -> None:
        link = self._links.pop((action.address, action.session), None)
        if link is not None:
            link.break_off()

    def _send(self, action: actions.Send) -> None:
        link = self._links.get((action.address, action.session))
        pending = deque(action.entries)
        while link is not None and pending:
            link.send_to_node(codec.encode(pending))

    def _spawn(self, action: actions.Spawn) -> None:
        assign, random = action.assign, self._random
        if random.random() < 0.01:
            text = "the program cannot be started"
            failed = events.SpawnFailed(assign.attempt_id, text, self._loop.wall_us)
            self._loop.call_soon(self._feed, failed)
            return
        self._witness.spawned(self.name, assign)
        started = events.ProcessSpawned(assign.attempt_id, self._loop.wall_us)
        self._loop.call_soon(self._feed, started)
        lasts_s = random.choice((0.001, 0.01, 0.1, 1.0, 3.0)) * random.uniform(0.5, 1.5)
        status = 0 if random.random() < 0.9 else 1
        self._running[assign.attempt_id] = self._loop.call_later(
            lasts_s, self._exited, assign.attempt_id, status, 0
        )

    def _exited(self, attempt_id: bytes, status: int, signal: int) -> None:
        del self._running[attempt_id]
        self._witness.ended(attempt_id, status, signal)
        exited = events.ProcessExited(attempt_id, status, signal, self._loop.wall_us)
        self._feed(exited)

    def _kill(self, action: actions.Kill) -> None:
        timer = self._running.get(action.attempt_id)
        if timer is not None:
            timer.cancel()
            self._running[action.attempt_id] = self._loop.call_later(
                0.005, self._exited, action.attempt_id, -1, KILLED
            )
