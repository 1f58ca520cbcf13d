"""The embedded cluster: PostgreSQL, etcd, nodes and agents from one data folder.

Decides the order of starting and stopping. Starting: both servers at once, then the store's schema
and its shards, then all nodes and agents together, so that shards spread by preference and none has
to be handed over. Stopping: agents, then nodes, which resign, then the servers. Promises that
`start` returns only when every shard is led and every agent has a session, that a start which fails
leaves no process behind, and that `stop` ends in seconds whatever its processes do. Whatever ends
while the cluster serves is started again, a server under the same address and on the same data.

Does not know what nodes and agents do, nor the tables of the store.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.embedded import plan
from controlplane.embedded.errors import BackendError, EmbeddedError, NotReadyError
from controlplane.embedded.etcd import EmbeddedEtcd
from controlplane.embedded.folder import DataFolder, write_private
from controlplane.embedded.plan import Backends, ClusterSettings
from controlplane.embedded.postgres import EmbeddedPostgres
from controlplane.embedded.preparation import ADMIN, Preparation
from controlplane.embedded.process import wait_until_left
from controlplane.embedded.race import first_end
from controlplane.embedded.supervision import Say, Supervised, keep
from controlplane.embedded.supervisors import end_left

READY_DEADLINE_S = 60.0
AGENT_GRACE_S = 2.8  # an agent gives its tasks 1.5 s, and itself 2.5 s
NODE_GRACE_S = 1.5
_READY_POLL_S = 0.01
_LISTENS_DEADLINE_S = 1.0
_LEFT_DEADLINE_S = 10.0
# What runs of ours, as the kernel shows it.
_PROGRAM = Path(sys.executable).resolve().name
_NODE_WORDS = ("controlplane.cli", "node")
_AGENT_WORDS = ("agent.main",)


@dataclass(frozen=True, slots=True)
class Place:
    """One process of the cluster and where it is found; `pid` None: it does not run just now."""

    name: str
    where: str
    pid: int | None


class EmbeddedCluster:
    """One cluster on a data folder that the caller holds. `start`, `serve`, `stop`, each once."""

    def __init__(
        self, settings: ClusterSettings, folder: DataFolder, env: Mapping[str, str], say: Say
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._env = env
        self._say = say
        self._postgres: EmbeddedPostgres | None = None
        self._etcd: EmbeddedEtcd | None = None
        if settings.dsn is None:
            self._postgres = EmbeddedPostgres(folder.pg, log_file=folder.logs / "postgres.log")
        if settings.etcd is None:
            self._etcd = EmbeddedEtcd(folder.etcd, log_file=folder.logs / "etcd.log", say=say)
        self._nodes: list[Supervised] = []
        self._agents: list[Supervised] = []
        self.addresses: tuple[str, ...] = ()
        self.shards = 0

    async def start(self) -> None:
        """Boot everything and announce it in the folder; raises an EmbeddedError."""
        try:
            await self._earlier_ones_left()
            self.addresses = plan.node_addresses(self._settings)
            await self._start_servers()
            store = await self._prepare_store()
            try:
                self._start_processes()
                await self._ready(store)
            finally:
                await store.close()
        except BaseException:
            await self.stop()
            raise
        self._folder.announce(*self.addresses)

    async def serve(self, stop: asyncio.Event) -> None:
        """Keep everything running until `stop` is set."""
        await first_end([stop.wait(), *self._keepers()])

    async def stop(self) -> None:
        """End every process that was started, the servers last."""
        try:
            await self._stop_agents()
        finally:
            try:
                await asyncio.gather(*(each.stop(NODE_GRACE_S) for each in self._nodes))
            finally:
                await asyncio.gather(*(server.stop() for server in self._servers()))

    def places(self) -> list[Place]:
        """What runs where, servers first; those of `--dsn` and `--etcd` are not ours to list."""
        found = []
        if self._postgres is not None:
            found.append(Place("PostgreSQL", str(self._folder.pg), self._postgres.pid))
        if self._etcd is not None:
            found.append(Place("etcd", self._etcd.endpoint, self._etcd.pid))
        for node, address in zip(self._nodes, self.addresses, strict=True):
            found.append(Place(node.name, address, node.pid))
        for agent in self._agents:
            work = str(self._folder.work / agent.name)
            found.append(Place(agent.name, work, agent.pid))
        return found

    async def _earlier_ones_left(self) -> None:
        """Nodes and agents of an `up` that was killed here are told by the kernel and on their way
        out; until then they hold ports and work folders.
        """
        for words in (_NODE_WORDS, _AGENT_WORDS):
            await wait_until_left(self._folder.path, _PROGRAM, _LEFT_DEADLINE_S, *words)

    async def _stop_agents(self) -> None:
        """One that had to be killed, or was dead already, left a supervisor with its tasks."""
        await asyncio.gather(*(each.stop(AGENT_GRACE_S) for each in self._agents))
        agents = (each.command for each in self._agents)
        await end_left(plan.end_supervisor_command(self._folder, a, self._env) for a in agents)

    def _servers(self) -> list[EmbeddedPostgres | EmbeddedEtcd]:
        return [server for server in (self._postgres, self._etcd) if server is not None]

    async def _start_servers(self) -> None:
        """Both at once. Where one fails the other is awaited, so that it can be stopped."""
        starts = (server.start() for server in self._servers())
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if self._etcd is None and self._settings.etcd is not None:
            from controlplane.settings.etcd import parse_endpoint

            found = [parse_endpoint(each).address for each in self._settings.etcd.split(",")]
            if not any([await listens(each) for each in found]):
                raise BackendError(f"nobody listens on {', '.join(found)} (--etcd)")

    async def _prepare_store(self) -> Preparation:
        """A token of its own for each data folder, so that two may share one PostgreSQL."""
        name = ADMIN
        if self._postgres is None:
            name = f"{ADMIN} of {socket.gethostname()}:{self._folder.path}"
        token = self._folder.admin_token
        store = await Preparation.of(self._dsn(), self._settings.shards, token, name)
        self.shards = store.shards
        return store

    def _dsn(self) -> str:
        return self._postgres.dsn if self._postgres is not None else self._settings.dsn or ""

    def _start_processes(self) -> None:
        folder, env = self._folder, self._env
        dsn_file = folder.run / "dsn"
        write_private(dsn_file, f"{self._dsn()}\n")
        etcd = self._etcd.endpoint if self._etcd is not None else self._settings.etcd or ""
        backends = Backends(dsn_file, etcd, self._settings.etcd_access)
        for number, address in enumerate(self.addresses, 1):
            leases = self._settings.leases
            command = plan.node_command(folder, number, address, backends, env, leases)
            self._nodes.append(Supervised(command, self._say))
        for number in range(1, self._settings.agents + 1):
            command = plan.agent_command(folder, number, self.addresses, self._settings, env)
            self._agents.append(Supervised(command, self._say))
        for each in (*self._nodes, *self._agents):
            each.start()

    async def _ready(self, store: Preparation) -> None:
        """Return once nothing is missing; raises when a process ends first, or after a while."""
        ends = (each.first_end() for each in (*self._nodes, *self._agents))
        error = await first_end([self._nothing_missing(store), *ends])
        if error is not None:
            raise error

    async def _nothing_missing(self, store: Preparation) -> EmbeddedError | None:
        missing = ""
        agents = frozenset(each.name for each in self._agents)
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                while True:
                    missing = await self._missing(store, agents)
                    if not missing:
                        return None
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError:
            return NotReadyError(READY_DEADLINE_S, missing, self._folder.logs)

    async def _missing(self, store: Preparation, agents: frozenset[str]) -> str:
        for node, address in zip(self._nodes, self.addresses, strict=True):
            if not await listens(address):
                return f"{node.name} does not listen on {address}"
        if left := await store.unled():
            return f"nobody leads {_counted(left, 'shard')}"
        if absent := agents - await store.connected_agents():
            return f"no session with {', '.join(sorted(absent))}"
        return ""

    def _keepers(self) -> Iterable[Coroutine[Any, Any, Any]]:
        yield from (each.keep() for each in (*self._nodes, *self._agents))
        yield from (keep(server, self._say) for server in self._servers())


async def listens(address: str) -> bool:
    """Whether somebody accepts connections there."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_LISTENS_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except OSError:  # refused; a missed deadline is one as well
        return False
    writer.close()
    return True


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
