"""A cluster from single processes, each of which a measurement may kill and start again.

PostgreSQL and etcd are those of `mainspring up`, with everything synced; nodes and agents keep the
times that they have in production. Nothing is restarted behind the back of the measurement. All
clocks are those of one machine, so that moments noted by different processes may be compared.
Promises that no process outlives the cluster, supervisors included.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import psutil

from agent.supervisor import start as supervisors
from controlplane.coordination.rendezvous import preferred
from controlplane.embedded.etcd import EmbeddedEtcd, free_ports
from controlplane.embedded.postgres import EmbeddedPostgres
from controlplane.embedded.preparation import ADMIN, Preparation
from controlplane.embedded.process import ChildProcess, Command
from controlplane.store.records import ShardItem
from controlplane.store.store import Store
from loadtest.logbook import Entry, entries_of
from loadtest.measures import LARGE, Api

READY_S = 60.0
STOP_S = 10.0
LOOK_S = 0.02
# By their hashes each of the two is the preferred owner of two of four shards.
NODES = ("south", "east")
SHARDS = 4


class Part:
    """A node or an agent. `start` again after its end."""

    def __init__(self, name: str, argv: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._child: ChildProcess | None = None

    def start(self) -> float:
        """Starts it; returns the moment just before, in seconds since the epoch."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        command = Command(self.name, tuple(self._argv), kept, self.log.parent, self.log)
        begun = time.time()
        self._child = ChildProcess(command)
        return begun

    @property
    def child(self) -> ChildProcess:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_status is None

    def signal(self, number: signal.Signals) -> float:
        """Sends a signal; returns the moment just before."""
        moment = time.time()
        self.child.send_signal(number)
        return moment

    async def stop(self) -> None:
        if self.running:
            await self.child.stop(STOP_S)

    def entries(self) -> list[Entry]:
        """Its log so far."""
        return entries_of(self.log.read_text("utf-8", "replace"))


class Node(Part):
    """A node and where it listens."""

    def __init__(self, name: str, argv: list[str], log: Path, address: str) -> None:
        super().__init__(name, argv, log)
        self.address = address


class Agent(Part):
    """An agent and its work folder."""

    def __init__(self, name: str, argv: list[str], log: Path, work: Path) -> None:
        super().__init__(name, argv, log)
        self.work = work

    @property
    def supervisor(self) -> psutil.Process:
        """The supervisor, as its own file names it."""
        return psutil.Process(int((self.work / "supervisor" / "pid").read_text().split()[0]))

    async def stop(self) -> None:
        """A clean stop, and the end of a supervisor that was left behind."""
        await super().stop()
        await asyncio.to_thread(supervisors.end, str(self.work / "supervisor"), STOP_S)


class Parts:
    """The cluster. Use `cluster`."""

    def __init__(
        self, place: Path, store: Store, postgres: EmbeddedPostgres, etcd: str, token: str
    ) -> None:
        self.place = place
        self.store = store
        self.token = token
        self.nodes: dict[str, Node] = {}
        self.agents: dict[str, Agent] = {}
        self._postgres = postgres
        self._etcd = etcd
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._token_file = place / "token"
        self._dsn_file = place / "dsn"
        self._token_file.write_text(f"{token}\n")
        self._dsn_file.write_text(f"{postgres.dsn}\n")

    @property
    def postgres_pid(self) -> int:
        """The first of PostgreSQL's processes."""
        pid = self._postgres.pid
        assert pid is not None, "PostgreSQL runs as long as the cluster"
        return pid

    def node(self, name: str, advertise: str = "") -> Node:
        """One more node, not started yet; agents are told `advertise` where that is given."""
        address = f"127.0.0.1:{free_ports().client}"
        argv = [sys.executable, "-P", "-m", "controlplane.cli", "node", f"--node={name}"]
        argv += ["--cluster=bench", f"--listen={address}", f"--dsn-file={self._dsn_file}"]
        argv += [f"--etcd={self._etcd}", f"--token-file={self._token_file}", self._objects]
        argv += [f"--advertise={advertise}"] if advertise else []
        node = self.nodes[name] = Node(name, argv, self.place / f"{name}.log", address)
        return node

    def agent(self, name: str, nodes: str = "", capacity: str = "64,1TiB") -> Agent:
        """One more agent, not started yet; `nodes`: where it dials first."""
        nodes = nodes or ",".join(node.address for node in self.nodes.values())
        work = self.place / "work" / name
        argv = [sys.executable, "-P", "-m", "agent.main", "run", f"--name={name}"]
        argv += [f"--nodes={nodes}", f"--token-file={self._token_file}", f"--work={work}"]
        argv += [f"--capacity={capacity}", self._objects, "--log-format=json"]
        agent = self.agents[name] = Agent(name, argv, self.place / f"{name}.log", work)
        return agent

    def api(self, node: str) -> Api:
        """The public API of one node."""
        if node not in self._channels:
            address = self.nodes[node].address
            self._channels[node] = grpc.aio.insecure_channel(address, options=LARGE)
        return Api(self._channels[node], self.token)

    async def forget_api(self, node: str) -> None:
        """The node was killed: its next call must not wait for the backoff of the last one."""
        if (channel := self._channels.pop(node, None)) is not None:
            await channel.close()

    async def shards(self) -> list[ShardItem]:
        """Who leads what, as the store says."""
        return await self.store.api.list_shards()

    async def settled(self) -> None:
        """Waits until each shard is led by its preferred owner among the nodes that run."""
        alive = {name for name, node in self.nodes.items() if node.running}

        async def spread() -> bool:
            shards = await self.shards()
            return all(each.node == preferred(each.shard, alive) for each in shards)

        await until(spread)

    async def connected(self, agent: str) -> None:
        """Waits until a node knows an agent."""

        async def known() -> bool:
            return any(each.agent == agent for each in await self.store.api.list_agents("", 100))

        await until(known)

    async def stop(self) -> None:
        """Everything ends, whatever state it was left in."""
        for channel in self._channels.values():
            await channel.close()
        await asyncio.gather(*(agent.stop() for agent in self.agents.values()))
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    @property
    def _objects(self) -> str:
        return f"--objects=file://{self.place / 'objects'}"


async def until(holds: Callable[[], Awaitable[bool]], deadline_s: float = READY_S) -> None:
    """Waits until something holds; raises TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while not await holds():  # noqa: ASYNC110  (what makes it hold is another process)
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def cluster(*nodes: str, shards: int = SHARDS) -> AsyncIterator[Parts]:
    """A cluster of these nodes, started and settled, without agents."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mainspring-bench-"))
        place = Path(folder)
        postgres, etcd = EmbeddedPostgres(place / "pg"), EmbeddedEtcd(place / "etcd")
        for server in (postgres, etcd):
            stack.push_async_callback(server.stop)
            await server.start()
        token = secrets.token_hex(16)
        await (await Preparation.of(postgres.dsn, shards, token, ADMIN)).close()
        store = await Store.open(postgres.dsn)
        stack.push_async_callback(store.close)
        parts = Parts(place, store, postgres, etcd.endpoint, token)
        stack.push_async_callback(parts.stop)
        for name in nodes:
            parts.node(name).start()
        if nodes:
            await parts.settled()
        yield parts


def resident_mb(process: psutil.Process) -> float:
    """Resident memory in MB (10^6 bytes)."""
    return process.memory_info().rss / 1e6


def processor_s(process: psutil.Process) -> float:
    """Processor time of a process and of those of its children that have ended; 0: it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0
