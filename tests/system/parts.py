"""A cluster whose every part a test may kill, pause, cut off or start again by itself.

Unlike `mainspring up` nothing is restarted behind the back of the test. Nodes advertise a door
(FaultProxy) that can be closed for one agent. Attempt leases last 6 s and agents beat every
second, so that what takes minutes in production takes seconds here. Promises that no process
outlives it, whatever a test did: agents' supervisors included.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from mainspring.client.client import Client
from mainspring.client.errors import MainspringError
from mainspring.ledger import LedgerEntry, read_ledger

from controlplane.coordination.rendezvous import preferred
from controlplane.embedded.preparation import ADMIN, Preparation
from tests.servers.etcd import EtcdServer, free_port
from tests.servers.fault_proxy import FaultProxy, ProxyThread, by_process
from tests.servers.postgres import PostgresServer
from tests.system import up as up_process
from tests.system.up import eventually

LEASE_S = 6.0
BEAT_S = 1.0
GRACE_S = 3.0
DRIFT_S = 1.0
NODE_TIMES = (
    f"--attempt-lease={LEASE_S:g}s",
    f"--heartbeat={BEAT_S:g}s",
    f"--lease-grace={GRACE_S:g}s",
    f"--lease-drift={DRIFT_S:g}s",
    # Short enough for a failover within an attempt lease.
    "--leader-lease=3s",
)
# After the last answer, and after a takeover: when a shard has given an attempt up for sure.
LOST_S = LEASE_S + GRACE_S + DRIFT_S
LOST_AFTER_TAKEOVER_S = LOST_S + 4.0
END_DEADLINE_S = 20.0


class Part:
    """One process: a node or an agent. `start` again after its end."""

    def __init__(self, name: str, argv: list[str], log: Path, env: dict[str, str]) -> None:
        self.name = name
        self.log = log
        self._argv = argv
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._argv, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} was not started"
        self._process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and it is gone when this returns."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, deadline_s: float = END_DEADLINE_S) -> int:
        """Its exit status."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.wait(deadline_s)

    def stop(self) -> None:
        """A clean stop, or a kill when that takes too long; nothing where it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Agent(Part):
    """An agent with its work folder and its supervisor."""

    def __init__(self, name: str, argv: list[str], work: Path, log: Path, env: dict[str, str]):
        super().__init__(name, argv, log, env)
        self.work = work

    @property
    def journal(self) -> Path:
        return self.work / "journal"

    def supervisor(self) -> psutil.Process:
        """The supervisor, as its own file names it."""
        pid = (self.work / "supervisor" / "pid").read_text().split()[0]
        return psutil.Process(int(pid))

    def has_supervisor(self) -> bool:
        with contextlib.suppress(OSError, IndexError, ValueError, psutil.Error):
            return self.supervisor().status() != psutil.STATUS_ZOMBIE
        return False

    def end_supervisor(self) -> None:
        if self.has_supervisor():
            self.supervisor().kill()
            eventually(lambda: not self.has_supervisor())


class Parts:
    """The cluster. Use `cluster()`."""

    def __init__(
        self, place: Path, postgres: PostgresServer, etcd: EtcdServer, proxies: ProxyThread
    ) -> None:
        self.place = place
        self.proxies = proxies
        self.data = place / "data"
        self.ledger = place / "ledger"
        self.postgres = postgres
        self.etcd = etcd
        self.nodes: dict[str, Part] = {}
        self.doors: dict[str, FaultProxy] = {}
        self.agents: dict[str, Agent] = {}
        self.client: Client
        self._addresses: list[str] = []
        self._token_file = self.data / "admin.token"
        self._dsn_file = self.data / "dsn"
        # Both wait for each other otherwise: etcd's keys outlive one cluster of a test session.
        self._cluster = f"test-{secrets.token_hex(4)}"

    def prepare(self, shards: int) -> None:
        """An empty store with a token."""
        self.data.mkdir(mode=0o700)
        token, dsn = secrets.token_hex(16), self.postgres.fresh_database()
        self._token_file.write_text(f"{token}\n")
        self._dsn_file.write_text(f"{dsn}\n")

        async def prepared() -> None:
            store = await Preparation.of(dsn, shards, token, ADMIN)
            await store.close()

        asyncio.run(prepared())

    def add_node(self) -> Part:
        """One more node, not started yet."""
        name = f"node-{len(self.nodes) + 1}"
        listen = f"127.0.0.1:{free_port()}"
        named = by_process(lambda: {str(pid): [pid] for pid in self._pids()})
        door = self.doors[name] = self.proxies.open(FaultProxy(listen, named=named))
        self._addresses.append(listen)
        argv = [sys.executable, "-P", "-m", "controlplane.cli", "node", f"--node={name}"]
        argv += [f"--cluster={self._cluster}", f"--listen={listen}", f"--advertise={door.endpoint}"]
        argv += [f"--dsn-file={self._dsn_file}", f"--etcd={self.etcd.endpoint}"]
        argv += [f"--token-file={self._token_file}", f"--objects=file://{self.place / 'objects'}"]
        part = Part(name, [*argv, *NODE_TIMES], self.place / f"{name}.log", self._env())
        self.nodes[name] = part
        return part

    def agent(self, name: str, work: str = "", capacity: str = "64,1TiB") -> Agent:
        """One more agent, not started yet; `work`: a name for its folder other than its own."""
        folder = self.place / "work" / (work or name)
        argv = [sys.executable, "-P", "-m", "agent.main", "run", f"--name={name}"]
        argv += [f"--nodes={','.join(door.endpoint for door in self.doors.values())}"]
        argv += [f"--token-file={self._token_file}", f"--work={folder}", f"--capacity={capacity}"]
        argv += [f"--objects=file://{self.place / 'objects'}", "--log-format=json"]
        argv += [f"--task-env=MAINSPRING_LEDGER={self.ledger}"]
        log = self.place / f"{work or name}.log"
        return self.agents.setdefault(work or name, Agent(name, argv, folder, log, self._env()))

    def _env(self) -> dict[str, str]:
        return {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}

    def answers(self) -> bool:
        """Whether a node answers."""
        try:
            self.client.admin.shards()
        except MainspringError:
            return False
        return True

    def led(self) -> bool:
        """Whether every shard is led by a node that runs."""
        shards = self.client.admin.shards().shards
        alive = {name for name, node in self.nodes.items() if node.running}
        return all(shard.epoch > 0 and shard.node in alive for shard in shards)

    def at_rest(self) -> bool:
        """Whether every shard is led by the node that should lead it: none is handed over soon."""
        alive = [name for name, node in self.nodes.items() if node.running]
        shards = enumerate(self.client.admin.shards().shards)
        return all(shard.node == preferred(number, alive) for number, shard in shards)

    def connected(self, *agents: str) -> bool:
        """Whether the nodes know these agents, as a node says that leads something."""
        found = {each.name.partition("/")[2] for each in self.client.admin.agents().agents}
        return set(agents) <= found

    def leader_of(self, dag: str) -> Part:
        """The node that leads the shard of a DAG."""
        shard = self.client.dags.get(dag).shard
        return self.nodes[self.client.admin.shards().shards[shard].node]

    def epoch_of(self, dag: str) -> int:
        shard = self.client.dags.get(dag).shard
        return int(self.client.admin.shards().shards[shard].epoch)

    def part_agent(self, agent: Part) -> None:
        """Cuts an agent off from all nodes."""
        for door in self.doors.values():
            self.proxies.call(door.link(str(agent.pid)).hold)

    def join_agent(self, agent: Part) -> None:
        for door in self.doors.values():
            self.proxies.call(door.link(str(agent.pid)).heal)

    def _pids(self) -> list[int]:
        """The processes that a door may be closed for."""
        return [agent.pid for agent in self.agents.values() if agent.running]

    def mainspring(
        self, *arguments: str, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return up_process.mainspring(self.data, *arguments, env=self._access(), text=text)

    def open_client(self) -> Client:
        return Client.open(environment=self._access())

    def _access(self) -> dict[str, str]:
        return {
            "MAINSPRING_ADDRESS": ",".join(self._addresses),
            "MAINSPRING_TOKEN_FILE": str(self._token_file),
        }

    def entries(self, run: str) -> list[LedgerEntry]:
        """What the tasks of one run wrote."""
        wanted = run.rpartition("/")[2]
        if not self.ledger.exists():
            return []
        return [entry for entry in read_ledger(self.ledger) if entry.run == wanted]

    def stop(self) -> None:
        """Everything ends, whatever state it was left in."""
        for kind in (self.agents, self.nodes):
            with ThreadPoolExecutor() as pool:
                list(pool.map(Part.stop, kind.values()))
        for agent in self.agents.values():
            agent.end_supervisor()


Servers = tuple[PostgresServer, EtcdServer]


@contextmanager
def started_servers(place: Path) -> Iterator[Servers]:
    """A PostgreSQL and an etcd."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        etcd = EtcdServer(place / "etcd")
        stack.callback(etcd.stop)
        etcd.start()
        yield postgres, etcd


@contextmanager
def cluster(
    place: Path, servers: Servers, *, nodes: int = 2, agents: int = 2, shards: int = 2
) -> Iterator[Parts]:
    """A cluster that is ready; agents are `agent-1`, … with room for 64 cores each."""
    with ExitStack() as stack:
        parts = Parts(place, *servers, stack.enter_context(ProxyThread()))
        parts.prepare(shards)
        stack.callback(parts.stop)
        for _ in range(nodes):
            parts.add_node().start()
        parts.client = stack.enter_context(parts.open_client())
        eventually(lambda: parts.answers() and parts.led(), 60.0)
        names = [f"agent-{number + 1}" for number in range(agents)]
        for name in names:
            parts.agent(name).start()
        eventually(lambda: parts.connected(*names), 60.0)
        yield parts


def wipe(folder: Path) -> None:
    """A disk is lost: everything in a folder, and the folder."""
    shutil.rmtree(folder)
