"""A node without doors, and an agent that follows a script, over real servers and real sockets."""

import asyncio
import os
from contextlib import asynccontextmanager

import grpc
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.agent.v1.session_pb2_grpc import AgentSessionServiceStub
from mainspring.v1 import dag_pb2

from controlplane.codec import commands
from controlplane.codec.dag import canonical
from controlplane.coordination.membership import NodeInfo
from controlplane.core.effects import CommandOutcome
from controlplane.core.types import DagKey, bucket_of
from controlplane.leader.node import LeadingNode
from controlplane.leader.times import LeaderTimes
from controlplane.store.store import Store
from controlplane.telemetry.clock import EntropySource, SystemClock
from controlplane.telemetry.stats import Stats
from tests.contract.coordination.harness import short_settings
from tests.servers.etcd import free_port
from tests.servers.until import until

PATIENCE_S = 20.0
TIMES = LeaderTimes(
    authority_ms=800,
    lease_ttl_ms=1_000,
    idle_fence_ms=200,
    sweep_ms=200,
    stuck_ms=2_000,
    peer_commit_ms=1_000,
)
CAPACITY = pb.Capacity(cpu_millis=64_000, memory_bytes=1 << 36)


class Node:
    """A leading node behind a plain gRPC server."""

    def __init__(self, name, store, cluster, etcd, shards):
        self.name = name
        self.store = store
        self.address = f"127.0.0.1:{free_port()}"
        self.stats = Stats()
        clock = SystemClock()
        self.leading = LeadingNode(
            NodeInfo(node=name, address=self.address, started_at_ms=1),
            shards,
            store.shards,
            store.api,
            short_settings(cluster, etcd.endpoint),
            clock,
            EntropySource(),
            self.stats,
            TIMES,
        )

    @property
    def leads_some(self):
        return bool(self.leading.leaderships.led)

    async def leads(self, *shards):
        await until(lambda: self.leading.leaderships.led >= set(shards))

    async def command(self, key, body, **more):
        """Appends a command, pokes, and waits until it is applied; returns its state."""
        bucket = bucket_of(key)
        appended = await self.store.api.append_command(key.tenant, bucket, body, **more)
        await self.leading.leaderships.poke([appended.shard], [appended.command], 10_000)
        return await self.store.api.read_command(appended.command)

    async def apply(self, spec):
        stored, digest = canonical(spec)
        body = commands.apply_dag(spec.dag, digest, "")
        key = DagKey("default", spec.dag)
        return await self.command(key, body, version=(digest, stored))

    async def trigger(self, dag):
        """Returns the id of the run."""
        clock = SystemClock()
        run_id = EntropySource().run_id(clock.now().wall_us)
        body = commands.trigger_run(dag, run_id, 0)
        state = await self.command(DagKey("default", dag), body, run_id=run_id)
        assert state.outcome == CommandOutcome.APPLIED
        return run_id

    async def cancel(self, dag, run_id):
        body = commands.cancel_run(dag, run_id, "enough")
        state = await self.command(DagKey("default", dag), body)
        assert state.outcome == CommandOutcome.APPLIED

    async def run_is(self, run_id, state):
        """Waits until the store has a run in a state."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.store.api.find_run("default", run_id)
                if found.state == state:
                    return
                await asyncio.sleep(0.005)


@asynccontextmanager
async def store_of(dsn, shards):
    store = await Store.open(dsn)
    await store.initialise(shards)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def running_node(name, dsn, cluster, etcd, shards=1, *, stop=True):
    """A node in this process, stopped gracefully unless the test says otherwise."""
    async with store_of(dsn, shards) as store:
        node = Node(name, store, cluster, etcd, shards)
        server = grpc.aio.server()
        node.leading.sessions.register(server)
        server.add_insecure_port(node.address)
        await server.start()
        task = asyncio.create_task(node.leading.run())
        try:
            yield node
            if stop:
                await node.leading.stop()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await server.stop(0)
        if not task.cancelled():
            task.result()


class ScriptedAgent:
    """Says hello and keeps what it is told; the test says the rest."""

    def __init__(self, address, *, incarnation=None, **hello):
        self.incarnation = incarnation or os.urandom(16)
        self.frames = []
        self.shards = {}
        self.assigns = {}
        self.acks = set()
        self.cancels = set()
        self.tails = []
        self.welcome = None
        self.ended = False
        self._news = asyncio.Event()
        self._hello = hello
        self._channel = grpc.aio.insecure_channel(address)

    async def __aenter__(self):
        self._call = AgentSessionServiceStub(self._channel).Session()
        self._reading = asyncio.create_task(self._read())
        await self.say(hello=self._made_hello())
        return self

    async def __aexit__(self, *_):
        self._call.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._channel.close()

    def _made_hello(self):
        fields = {
            "agent": "agent-1",
            "incarnation": self.incarnation,
            "boot_id": "boot",
            "protocol_version": 2,
            "capacity": CAPACITY,
            "version": "0",
            "session": 1,
        }
        return pb.Hello(**{**fields, **self._hello})

    async def say(self, **entries):
        await self._call.write(pb.SessionRequest(**entries))

    async def _read(self):
        async for frame in self._call:
            self._take(frame)
        self.ended = True
        self._news.set()

    def _take(self, frame):
        self.frames.append(frame)
        if frame.HasField("welcome"):
            self.welcome = frame.welcome
            self.shards = {each.shard: each.epoch for each in frame.welcome.shards}
        self.assigns.update({each.attempt_id: each for each in frame.assigns})
        self.acks.update(each.attempt_id for each in frame.result_acks)
        self.cancels.update(each.attempt_id for each in frame.cancels)
        self.tails += frame.log_tails
        self._news.set()

    async def until(self, holds):
        while not holds(self):
            await self.news()

    async def news(self):
        """Waits for a frame, or the end."""
        self._news.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self._news.wait()

    async def adopt(self, shard=0, *, live=(), finished=(), grant=True):
        """Waits for the shard's leader, then gives the inventory and everything it has."""
        await self.until(lambda agent: shard in agent.shards)
        epoch = self.shards[shard]
        inventory = pb.Inventory(shard=shard, epoch=epoch, live=live, finished=finished)
        more = {"grant": pb.Grant(number=1, amount=CAPACITY)} if grant else {}
        await self.say(inventories=[inventory], **more)

    async def work(self, count, *, outcome=pb.OUTCOME_SUCCEEDED):
        """Answers assignments until `count` were acknowledged; returns them in order."""
        answered = {}
        while len(answered) < count or not set(answered) <= self.acks:
            new = [each for key, each in self.assigns.items() if key not in answered]
            answered.update((each.attempt_id, each) for each in new)
            if new:
                await self.say(results=[result(each, outcome) for each in new])
            else:
                await self.news()
        return list(answered.values())


def result(assign, outcome=pb.OUTCOME_SUCCEEDED):
    return pb.Result(
        shard=assign.shard,
        attempt_id=assign.attempt_id,
        outcome=outcome,
        exit_code=0 if outcome == pb.OUTCOME_SUCCEEDED else 1,
        started_at_us=1,
        finished_at_us=2,
    )


def chain(dag, count):
    """A DAG of tasks one after the other."""
    tasks = [
        dag_pb2.TaskSpec(
            task=f"t{n}",
            depends_on=[f"t{n - 1}"] if n else [],
            process=dag_pb2.ProcessSpec(argv=["true"]),
        )
        for n in range(count)
    ]
    return dag_pb2.DagSpec(dag=dag, tasks=tasks)
