"""A node that says what a test tells it to, over real gRPC, and a real agent process beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import grpc.aio
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1 import session_pb2_grpc as pb_grpc

TOKEN = "token-of-the-test"
DEADLINE_S = 10.0
HOLDER = b"h" * 16
CORE = pb.Capacity(cpu_millis=1000, memory_bytes=1 << 20)
ROOT = Path(__file__).resolve().parents[3]


def capacity(cores: int) -> pb.Capacity:
    return pb.Capacity(cpu_millis=1000 * cores, memory_bytes=cores << 20)


class Session:
    """One stream of the agent, seen from the node. `hello` is its first frame."""

    def __init__(self, hello: pb.Hello) -> None:
        self.hello = hello
        self.outgoing: asyncio.Queue[pb.SessionResponse | None] = asyncio.Queue()
        self.ended = asyncio.Event()
        self._waiting: dict[str, list] = defaultdict(list)
        self._arrived = asyncio.Condition()

    async def take_in(self, frame: pb.SessionRequest) -> None:
        async with self._arrived:
            for field, value in frame.ListFields():
                many = not isinstance(value, (pb.Heartbeat, pb.Grant, pb.Recall, pb.Hello))
                self._waiting[field.name].extend(value if many else [value])
            self._arrived.notify_all()

    async def next(self, kind: str, **fields):
        """The first entry of this kind that has these values; it is consumed."""
        async with asyncio.timeout(DEADLINE_S), self._arrived:
            while True:
                for index, entry in enumerate(self._waiting[kind]):
                    if all(getattr(entry, name) == value for name, value in fields.items()):
                        return self._waiting[kind].pop(index)
                await self._arrived.wait()

    def seen(self, kind: str) -> list:
        """What has arrived of this kind and was not consumed."""
        return list(self._waiting[kind])

    def send(self, **entries) -> None:
        self.outgoing.put_nowait(pb.SessionResponse(**entries))

    def end(self) -> None:
        self.outgoing.put_nowait(None)

    def welcome(
        self,
        node: str,
        shards: dict[int, int],
        peers=(),
        heartbeat_ms=1000,
        attempt_lease_ms=60_000,
    ) -> None:
        leads = [pb.ShardLeadership(shard=s, epoch=e, holder=HOLDER) for s, e in shards.items()]
        self.send(
            welcome=pb.Welcome(
                node=node,
                shards=leads,
                peers=peers,
                heartbeat_ms=heartbeat_ms,
                session=self.hello.session,
                attempt_lease_ms=attempt_lease_ms,
            )
        )

    def assign(self, attempt_id: bytes, spec: pb.ExecSpec, shard=0, epoch=1, **fields) -> None:
        values = {
            "dag": "d",
            "run": "r",
            "task": "t",
            "tenant": "acme",
            "number": 1,
            "incarnation": self.hello.incarnation,
            **fields,
        }
        encoded = spec.SerializeToString()
        entry = pb.Assign(shard=shard, epoch=epoch, attempt_id=attempt_id, spec=encoded, **values)
        self.send(assigns=[entry])

    def acknowledge(self, attempt_id: bytes) -> None:
        self.send(result_acks=[pb.ResultAck(attempt_id=attempt_id)])


class ScriptedNode(pb_grpc.AgentSessionServiceServicer):
    """A node of the test: a server on a free port, sessions in the order in which they come."""

    def __init__(self) -> None:
        self.address = ""
        self.tokens: list[str] = []
        self._sessions: asyncio.Queue[Session] = asyncio.Queue()
        self._server = grpc.aio.server()

    async def start(self) -> ScriptedNode:
        pb_grpc.add_AgentSessionServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    async def session(self) -> Session:
        """The next session that the agent opens."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._sessions.get()

    async def Session(self, request_iterator, context):  # noqa: N802
        metadata = dict(context.invocation_metadata())
        self.tokens.append(metadata.get("authorization", ""))
        if metadata.get("authorization") != f"Bearer {TOKEN}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")
        first = await anext(aiter(request_iterator))
        session = Session(first.hello)
        self._sessions.put_nowait(session)
        reader = asyncio.create_task(self._read(session, request_iterator))
        try:
            while (frame := await session.outgoing.get()) is not None:
                yield frame
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, session: Session, frames) -> None:
        try:
            async for frame in frames:
                await session.take_in(frame)
        finally:
            session.ended.set()


class AgentProcess:
    """The agent as users start it. Whatever becomes of it, `kill` leaves nothing of it."""

    def __init__(self, work: Path, nodes: list[str], *extra: str, token: str = TOKEN) -> None:
        self.objects = work / "objects"
        self.work = work / "work"
        token_file = work / "token"
        token_file.write_text(token)
        self.errors = work / "agent.err"
        command = [sys.executable, "-P", "-m", "agent.main", "run", "--name", "a-1"]
        command += ["--nodes", ",".join(nodes), "--token-file", str(token_file)]
        command += ["--work", str(self.work), "--objects", f"file://{self.objects}"]
        self._command = [*command, "--capacity", "4,4M", *extra]
        self.start()

    def start(self) -> None:
        """Starts it, anew if it has ended before."""
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "SECRET_OF_THE_AGENT": "x", "PASSED": "on"},
            )

    async def exit_code(self, deadline_s: float = DEADLINE_S) -> int:
        return await asyncio.to_thread(self.process.wait, deadline_s)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def die(self) -> None:
        """The agent alone: its supervisor and its tasks go on."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        self.die()
        supervisor = str(self.work / "supervisor")
        end = [sys.executable, "-P", "-m", "agent.supervisor", "--end", supervisor]
        subprocess.run(end, cwd=ROOT, check=True, timeout=DEADLINE_S)
