"""The cluster of a campaign: real processes, each of which can be hurt by itself.

Decides what runs: nodes, agents with their supervisors, a PostgreSQL that syncs, an etcd, the
clients; and that every connection between two of them passes a proxy. Every node has a door for
clients, one for agents and other nodes (told apart by their processes), and its own ways to
PostgreSQL and etcd. Nothing is restarted behind anybody's back. Promises that everything it started
is gone when it is left, in whatever way; what it wrote stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import psutil
from mainspring.cli.exit_codes import ExitCode
from mainspring.client.client import Client
from mainspring.client.errors import MainspringError

from controlplane.embedded.postgres import socket_path
from controlplane.embedded.preparation import ADMIN, Preparation
from tests.campaign import clocks
from tests.campaign.clocks import WallClock
from tests.campaign.evidence import Evidence
from tests.servers.etcd import EtcdServer, free_port
from tests.servers.fault_proxy import FaultProxy, ProxyThread, by_process
from tests.servers.postgres import PostgresServer
from tests.system.parts import NODE_TIMES, Agent, Part
from tests.system.up import eventually, start_ticks

READY_S = 60.0
POSTGRES = "postgres"
CLUSTER = "campaign"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything there is; without clocks nobody can set one, and none is needed."""

    nodes: int = 3
    shards: int = 4
    agents: int = 6
    # Ten tasks at a time each: placement fills an agent before it takes the next one.
    capacity: str = "1,1TiB"
    clocks: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """A part ended, and nobody had asked for it."""

    name: str
    status: int
    log: str

    @property
    def expected(self) -> bool:
        """A node that finds no PostgreSQL when it starts says so and ends."""
        return self.name.startswith("node") and self.status == ExitCode.UNREACHABLE


@dataclass(frozen=True, slots=True)
class Doors:
    """The proxies around one node."""

    clients: FaultProxy
    peers: FaultProxy
    postgres: FaultProxy
    etcd: FaultProxy


@dataclass
class Site:
    """Use `opened`. Names are `node-1`, …, `agent-1`, …."""

    evidence: Evidence
    size: Size
    proxies: ProxyThread
    postgres: PostgresServer
    etcd: EtcdServer
    dsn: str
    clocks: Mapping[str, WallClock]
    nodes: dict[str, Part] = field(default_factory=dict)
    doors: dict[str, Doors] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    # Parts that are meant to be down.
    down: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def token_file(self) -> Path:
        return self.evidence.folder / "token"

    @property
    def addresses(self) -> str:
        """Where clients call."""
        return ",".join(doors.clients.endpoint for doors in self.doors.values())

    def prepare(self) -> None:
        """An empty store with a token."""
        token = secrets.token_hex(16)
        self.token_file.write_text(f"{token}\n")

        async def prepared() -> None:
            store = await Preparation.of(self.dsn, self.size.shards, token, ADMIN)
            await store.close()

        asyncio.run(prepared())

    def add_node(self) -> Part:
        """One more node with its doors, not started yet."""
        folder, name = self.evidence.folder, f"node-{len(self.nodes) + 1}"
        listen = f"127.0.0.1:{free_port()}"
        doors = self.doors[name] = self._doors(name, listen)
        dsn_file = folder / f"{name}.dsn"
        dsn_file.write_text(f"{self._dsn_through(name)}\n")
        argv = [sys.executable, "-P", "-m", "controlplane.cli", "node", f"--node={name}"]
        argv += [f"--cluster={CLUSTER}", f"--listen={listen}"]
        argv += [f"--advertise={doors.peers.endpoint}", f"--dsn-file={dsn_file}"]
        argv += [f"--etcd={doors.etcd.endpoint}", f"--token-file={self.token_file}"]
        argv += [f"--objects=file://{folder / 'objects'}", *NODE_TIMES]
        part = Part(name, argv, folder / "logs" / f"{name}.log", self._environment(name))
        self.nodes[name] = part
        return part

    def _doors(self, name: str, listen: str) -> Doors:
        postgres = socket_path(self._postgres_door(name))
        postgres.parent.mkdir(mode=0o700)
        (served,) = parse_qs(urlsplit(self.dsn).query)["host"]
        return Doors(
            clients=self.proxies.open(FaultProxy(listen)),
            peers=self.proxies.open(FaultProxy(listen, named=by_process(self._callers))),
            postgres=self.proxies.open(FaultProxy(str(socket_path(Path(served))), listen=postgres)),
            etcd=self.proxies.open(FaultProxy(self.etcd.endpoint)),
        )

    def _postgres_door(self, name: str) -> Path:
        return self.evidence.folder / "doors" / name

    def _dsn_through(self, name: str) -> str:
        """The way of one node to PostgreSQL."""
        query = parse_qs(urlsplit(self.dsn).query) | {"host": [str(self._postgres_door(name))]}
        return urlsplit(self.dsn)._replace(query=urlencode(query, doseq=True)).geturl()

    def _callers(self) -> dict[str, list[int]]:
        """Who connects to nodes, besides clients."""
        parts = {**self.nodes, **self.agents}
        return {name: [part.pid] for name, part in parts.items() if part.running}

    def add_agent(self) -> Agent:
        """One more agent, not started yet."""
        folder, name = self.evidence.folder, f"agent-{len(self.agents) + 1}"
        work = folder / "work" / name
        nodes = ",".join(doors.peers.endpoint for doors in self.doors.values())
        argv = [sys.executable, "-P", "-m", "agent.main", "run", f"--name={name}"]
        argv += [f"--nodes={nodes}", f"--token-file={self.token_file}", f"--work={work}"]
        argv += [f"--capacity={self.size.capacity}", f"--objects=file://{folder / 'objects'}"]
        argv += ["--log-format=json"]
        log = folder / "logs" / f"{name}.log"
        agent = Agent(name, argv, work, log, self._environment(name))
        self.agents[name] = agent
        return agent

    def _environment(self, name: str) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        return kept | (self.clocks[name].environment if name in self.clocks else {})

    def part(self, name: str) -> Part:
        """A node or an agent."""
        return self.nodes[name] if name in self.nodes else self.agents[name]

    def kill(self, name: str) -> None:
        """SIGKILL; it stays down until it is started."""
        with self.lock:
            self.down.add(name)
            self.part(name).kill()

    def stop(self, name: str) -> None:
        """SIGTERM, and it is gone when this returns; it stays down until it is started."""
        self.down.add(name)
        self.part(name).signal(signal.SIGTERM)
        self.part(name).wait()

    def start(self, name: str) -> None:
        with self.lock:
            self.part(name).start()
            self.down.discard(name)

    def tend(self) -> list[End]:
        """Starts again what ended by itself, as the service manager of a machine would."""
        ends = []
        with self.lock:
            for part in (*self.nodes.values(), *self.agents.values()):
                if part.name not in self.down and not part.running:
                    ends.append(End(part.name, part.wait(), tail(part.log)))
                    part.start()
        return ends

    def ready(self) -> bool:
        """Whether every node serves, every shard is led by one that runs, all agents are there."""
        return all(map(self.serves, self.nodes)) and self._complete()

    def serves(self, node: str) -> bool:
        """Whether a node answers its clients."""
        address = self.doors[node].clients.endpoint
        with self._client(address) as client, contextlib.suppress(MainspringError):
            client.admin.shards()
            return True
        return False

    def _complete(self) -> bool:
        with self._client(self.addresses) as client, contextlib.suppress(MainspringError):
            shards = client.admin.shards().shards
            agents = {each.name.partition("/")[2] for each in client.admin.agents().agents}
            led = all(shard.epoch and self.nodes[shard.node].running for shard in shards)
            return led and agents >= set(self.agents)
        return False

    def _client(self, addresses: str) -> Client:
        access = {"MAINSPRING_ADDRESS": addresses, "MAINSPRING_TOKEN_FILE": str(self.token_file)}
        return Client.open(environment=access, patience_s=0.5)

    def supervisor_of(self, agent: str) -> psutil.Process | None:
        """The supervisor of an agent, if it runs."""
        file = self.agents[agent].work / "supervisor" / "pid"
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            pid, ticks, _boot_id = file.read_text("ascii").split()
            if start_ticks(int(pid)) == int(ticks):
                return psutil.Process(int(pid))
        return None

    def end(self) -> None:
        """Kills every process of ours that is left."""
        for part in (*self.agents.values(), *self.nodes.values()):
            if part.running:
                part.signal(signal.SIGKILL)
        for agent in self.agents:
            if (supervisor := self.supervisor_of(agent)) is not None:
                supervisor.kill()
        for part in (*self.agents.values(), *self.nodes.values()):
            if part.running:
                part.wait()


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log."""
    if not log.exists():
        return ""
    return " | ".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])


@contextmanager
def opened(evidence: Evidence, size: Size) -> Iterator[Site]:
    """A cluster that is ready, in the folder of the evidence."""
    folder = evidence.folder
    for name in ("logs", "doors", "clocks"):
        (folder / name).mkdir()
    evidence.ledger.touch()
    with ExitStack() as stack:
        names = [f"node-{number + 1}" for number in range(size.nodes)]
        names += [f"agent-{number + 1}" for number in range(size.agents)]
        wall = wall_clocks(folder / "clocks", [*names, POSTGRES]) if size.clocks else {}
        environment = wall[POSTGRES].environment if wall else None
        postgres = PostgresServer(folder=folder, environment=environment)
        stack.enter_context(postgres)
        etcd = EtcdServer(folder / "etcd")
        stack.callback(etcd.stop)
        etcd.start()
        proxies = stack.enter_context(ProxyThread())
        site = Site(evidence, size, proxies, postgres, etcd, postgres.postgres.dsn, wall)
        site.prepare()
        stack.callback(site.end)
        for _ in range(size.nodes):
            site.add_node().start()
        for _ in range(size.agents):
            site.add_agent().start()
        eventually(site.ready, READY_S)
        yield site


def wall_clocks(folder: Path, names: list[str]) -> dict[str, WallClock]:
    """A clock for each name."""
    library = clocks.build(folder)
    return {name: WallClock(library, folder / name) for name in names}
