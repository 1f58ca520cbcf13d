"""A node's API over a real socket and a real database; in place of leaders and agents, the core.

`Leader` carries out commands when it is poked, as a leader does, for all shards and without any
network; it can be told to be away. Attempts are ended by the test, in the name of agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Self

import grpc
from mainspring.internal.v1 import node_pb2_grpc
from mainspring.v1 import (
    admin_pb2_grpc,
    approval_pb2_grpc,
    dag_pb2,
    dag_pb2_grpc,
    run_pb2_grpc,
)

from controlplane.api.admin_servicer import AdminServicer
from controlplane.api.approval_servicer import ApprovalServicer
from controlplane.api.credentials import Gatekeeper
from controlplane.api.dag_servicer import DagServicer
from controlplane.api.listeners import Listener
from controlplane.api.node_servicer import NodeServicer
from controlplane.api.run_servicer import RunServicer
from controlplane.api.server import Extra, Servicers, build_server
from controlplane.codec.commands import command_event, parse_command, wanted_version
from controlplane.codec.dag import compile_version
from controlplane.coordination.membership import LiveNode, NodeInfo
from controlplane.core.effects import AssignMessage
from controlplane.core.events import Event, Finished, Inventory, Recovered, Started
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.shard import Shard
from controlplane.core.states import AttemptState
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import DagKey, Resources
from controlplane.leader.news import RunNews
from controlplane.leader.sessions.absences import Absences
from controlplane.objectstore.logs import LogPiece, LogStore
from controlplane.services.approvals import ApprovalService
from controlplane.services.cluster import ClusterService, Server
from controlplane.services.dags import DagService
from controlplane.services.log_reading import LogService
from controlplane.services.notices import Notices
from controlplane.services.pictures import Pictures
from controlplane.services.runs import RunService
from controlplane.services.versions import Versions
from controlplane.services.waiting import Commands
from controlplane.services.watching import WatchService
from controlplane.store.records import AgentRow, Fence
from controlplane.store.store import Store
from controlplane.telemetry.clock import EntropySource, SystemClock
from controlplane.telemetry.stats import Stats

SHARDS = 2
TOKEN = "token-of-the-admin"
OTHER_TOKEN = "token-of-another-tenant"
TENANT = "acme"
NODE = "node-1"


class Leader:
    """The leader of all shards, in memory; every poke carries out what is in the inboxes."""

    def __init__(self, store: Store) -> None:
        self._store = store.shards
        self.away = False
        self.fleet = Fleet()
        self.assigned: list[AssignMessage] = []
        self._clock, self._entropy = SystemClock(), EntropySource()
        self._shards: dict[int, Shard] = {}
        self._fences: dict[int, Fence] = {}
        self._turn = asyncio.Lock()

    async def take_over(self) -> None:
        for number in range(SHARDS):
            epoch = await self._store.take_over(number, 0, bytes(16), NODE, "127.0.0.1:1")
            shard = self._shards[number] = Shard(number, self.fleet, self._clock.now())
            shard.recover(Recovered((), (), (), (), (), (), ()), self._clock.now())
            self._fences[number] = Fence(number, epoch, 1)

    async def poke(
        self, shards: Collection[int], commands: Collection[int], wait_ms: int
    ) -> frozenset[int]:
        if self.away:
            return frozenset()
        async with self._turn:
            for shard in shards:
                rows = await self._store.read_commands(shard, 1_000, frozenset())
                await self._step(shard, [await self._event(*row) for row in rows])
        return frozenset(shards)

    async def _event(self, number: int, tenant: str, body: bytes) -> Event:
        command = parse_command(body)
        wanted = wanted_version(tenant, command)
        if wanted is None:
            return command_event(number, tenant, command)
        [row] = await self._store.read_versions([(DagKey(tenant, wanted.dag), wanted.digest)])
        version = compile_version(tenant, row.spec, row.digest)
        return command_event(number, tenant, command, version)

    async def step(self, number: int, events: list[Event]) -> None:
        async with self._turn:
            await self._step(number, events)

    async def _step(self, number: int, events: list[Event]) -> None:
        shard, fence = self._shards[number], self._fences[number]
        shard.offer_attempt_ids(self._entropy.attempt_ids(shard.attempt_ids_wanted))
        if shard.run_keys_wanted:
            shard.offer_run_keys(await self._store.reserve_run_keys(shard.run_keys_wanted))
        effects = shard.step(events, self._clock.now())
        await self._store.commit(fence, effects.writes)
        self._fences[number] = fence._replace(batch=fence.batch + 1)
        self.assigned += (each for each in effects.messages if isinstance(each, AssignMessage))

    async def connect(self, agent: str, capacity: Resources) -> None:
        """An agent has a session and grants all it has."""
        self.fleet.connect(agent, b"i" * 16, capacity)
        self.fleet.grant(agent, capacity)
        for number in self._shards:
            await self.step(number, [Inventory(agent, b"i" * 16, (), ())])

    async def start(self, attempt: AssignMessage, shard: int) -> None:
        now_us = self._clock.now().wall_us
        await self.step(shard, [Started(attempt.agent, attempt.attempt_id, now_us)])

    async def end(
        self,
        attempt: AssignMessage,
        shard: int,
        state: AttemptState = AttemptState.SUCCEEDED,
        written: int = 0,
    ) -> None:
        now_us = self._clock.now().wall_us
        code = 0 if state is AttemptState.SUCCEEDED else 3
        ended = (state, now_us, now_us + 5, code, 0, written, 0, "")
        await self.step(shard, [Finished(attempt.agent, attempt.attempt_id, *ended)])

    def take(self, task: str) -> AssignMessage:
        """The assignment of a task that was sent last."""
        return next(each for each in reversed(self.assigned) if each.task == task)


class Tails:
    """Live logs: what a test puts here."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[LogPiece | None] = asyncio.Queue()
        self.asked: list[tuple[str, bytes, tuple[int, int]]] = []

    async def tail(
        self, agent: str, attempt_id: bytes, offsets: tuple[int, int]
    ) -> AsyncGenerator[LogPiece, None]:
        self.asked.append((agent, attempt_id, offsets))
        while (piece := await self.pieces.get()) is not None:
            yield piece


class Members:
    """A membership of one node."""

    def __init__(self) -> None:
        info = NodeInfo(NODE, "127.0.0.1:1", 1_700_000_000_000)
        self.members = {NODE: LiveNode(info, 1, 0.0)}


class World:
    """Everything, started: stubs are clients with the admin's token."""

    def __init__(self, dsn: str, folder: Path, extras: tuple[Extra, ...] = ()) -> None:
        self.dsn = dsn
        self.folder = folder
        self._extras = extras
        self._stack = AsyncExitStack()
        self.tails, self.members, self.stats = Tails(), Members(), Stats()
        self.absences = Absences()

    async def __aenter__(self) -> Self:
        self.store = await Store.open(self.dsn)
        self._stack.push_async_callback(self.store.close)
        await self.store.initialise(SHARDS)
        api = self.store.api
        for token, tenant in ((TOKEN, TENANT), (OTHER_TOKEN, "other")):
            await api.put_token(sha256(token.encode()).digest(), tenant, "admin", "first")
        self.leader = Leader(self.store)
        await self.leader.take_over()
        clock = SystemClock()
        inbox = Commands(api, self.leader, clock, outcome_wait_ms=300)
        pokes = asyncio.create_task(inbox.run())
        self._stack.callback(pokes.cancel)
        gatekeeper = Gatekeeper(api, clock)
        listener = Listener("127.0.0.1:0")
        built = build_server(self._servicers(inbox, clock), gatekeeper, [listener], self._extras)
        await built.server.start()
        self._stack.push_async_callback(built.server.stop, None)
        self.server, self.address = built.server, f"127.0.0.1:{built.ports[0]}"
        self.channel = await self.connect(TOKEN, ("grpc.max_receive_message_length", 64 << 20))
        self.dags = dag_pb2_grpc.DagServiceStub(self.channel)
        self.runs = run_pb2_grpc.RunServiceStub(self.channel)
        self.approvals = approval_pb2_grpc.ApprovalServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)
        self.nodes = node_pb2_grpc.NodeServiceStub(self.channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _servicers(self, inbox: Commands, clock: SystemClock) -> Servicers:
        api, members, rooms = self.store.api, self.members, self.leader.fleet
        versions = Versions(api)
        pictures = Pictures(api, versions)
        around = (rooms, self.absences, members, LeaseTimes())
        notices = Notices(api, self.store.shards, *around)
        runs = RunService(api, inbox, pictures, notices, clock, EntropySource())
        watches = WatchService(pictures, runs, RunNews(), clock)
        logs = LogService(api, pictures, LogStore(f"file://{self.folder}"), self.tails, clock)
        server = Server("0.0", "test", NODE, SHARDS)
        return Servicers(
            DagServicer(DagService(api, inbox, clock)),
            RunServicer(runs, watches, logs),
            ApprovalServicer(ApprovalService(api, inbox, pictures, versions)),
            AdminServicer(ClusterService(api, rooms, members, server)),
            NodeServicer(self.leader, self.stats),
        )

    async def connect(self, token: str | None, *options: tuple[str, int]) -> grpc.aio.Channel:
        """A channel whose every call carries the token."""
        interceptors = [] if token is None else [*_with_token(token)]
        channel = grpc.aio.insecure_channel(self.address, options, None, interceptors)
        self._stack.push_async_callback(channel.close)
        return channel

    async def add_agent(self, agent: str = "agent-1", cpu_millis: int = 4_000) -> None:
        """An agent that has said hello."""
        now_us = SystemClock().now().wall_us
        row = AgentRow(agent, b"i" * 16, "boot", "0.0", cpu_millis, 1 << 30, now_us, "process")
        await self.store.api.put_agent(row)
        await self.leader.connect(agent, Resources(cpu_millis, 1 << 30))

    async def apply(self, *edges: str, **fields: object) -> dag_pb2.Dag:
        """A DAG of tasks; `a>b` makes b depend on a."""
        request = dag_pb2.ApplyDagRequest(spec=spec_of(*edges, **fields))
        return (await self.dags.ApplyDag(request)).dag


class _Token:
    def __init__(self, token: str) -> None:
        self._token = token

    async def _call(self, continuation, details, request):
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add("authorization", f"Bearer {self._token}")
        return await continuation(details._replace(metadata=metadata), request)


class _Single(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = _Token._call


class _Stream(_Token, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = _Token._call


def _with_token(token: str):
    return _Single(token), _Stream(token)


def spec_of(*edges: str, dag: str = "d", **fields: object) -> dag_pb2.DagSpec:
    """A definition of tasks that do nothing; `a>b` makes b depend on a."""
    spec = dag_pb2.DagSpec(dag=dag, **fields)  # type: ignore[arg-type]
    tasks: dict[str, dag_pb2.TaskSpec] = {}
    for edge in edges or ("a",):
        parent = None
        for name in edge.split(">"):
            if name not in tasks:
                tasks[name] = spec.tasks.add(task=name)
                tasks[name].process.argv.append("true")
            if parent:
                tasks[name].depends_on.append(parent)
            parent = name
    return spec


def details_of(failure: grpc.aio.AioRpcError, kind):
    """The detail of this kind in the status of a failed call."""
    from google.rpc import status_pb2

    raw = dict(failure.trailing_metadata())["grpc-status-details-bin"]
    for packed in status_pb2.Status.FromString(raw).details:
        found = kind()
        if packed.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__}")
