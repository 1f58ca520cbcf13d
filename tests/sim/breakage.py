"""What breaks in a simulated cluster: processes, hosts, disks, streams, etcd, PostgreSQL; from the
seed.

Every fault ends by itself, or with `heal`. Does not know what must hold meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from tests.sim.hosts import SimHost
from tests.sim.memory_store import MemoryDatabase
from tests.sim.network import Network
from tests.sim.nodes import TIMES, SimNode

LEASE_S = TIMES.attempt_lease_ms / 1_000
# A supervisor is scheduled within the grace of leases: that is assumed. What it has to do at the
# end of one takes it a second.
SUPERVISOR_PAUSE_S = 0.8


class Breakage:
    """The faults of one world. `start_node` starts a node of a name again."""

    def __init__(
        self,
        random: Random,
        network: Network,
        nodes: Mapping[str, SimNode],
        hosts: Mapping[str, SimHost],
        database: MemoryDatabase,
        start_node: Callable[[str], None],
        note: Callable[..., None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random
        self._network = network
        self._nodes = nodes
        self._hosts = hosts
        self._database = database
        self._start_node = start_node
        self._note = note
        self.database_down = False
        self._rare = (
            *(self._hide_etcd_from_all, self._stop_database, self._steal_keys, self._isolate),
            *(self._lose_disk, self._reboot, self._crash_all_of, self._leave_agent_dead),
        )
        self._often = (
            *(self._crash_node, self._stop_node, self._cut_links, self._part, self._slow_down),
            *(self._hide_etcd, self._crash_agent, self._crash_agent, self._crash_supervisor),
            *(self._stop_agent, self._stop_supervisor, self._end_agent),
        )

    def strike(self) -> None:
        """One random fault."""
        faults = self._rare if self._random.random() < 0.25 else self._often
        self._random.choice(faults)()

    def strike_host(self, host: SimHost, where: object) -> None:
        """A process of a host dies at this very moment."""
        self._note("at", where)
        fault = self._random.choice(
            (self._crash_agent, self._crash_agent, self._crash_supervisor, self._crash_all_of)
            if self._random.random() < 0.85
            else (self._reboot, self._lose_disk)
        )
        fault(host)

    def heal(self) -> None:
        """Nothing is broken any more, but for processes that come back a little later."""
        self._network.slow = 1.0
        self.database_down = False
        for node in self._nodes.values():
            node.election.sees_etcd = True
            node.go_on()
        for host in self._hosts.values():
            self._wake_agent(host)
            self._wake_supervisor(host)
            self._loop.call_later(self._random.uniform(0.1, 2.0), host.come_up)
            self._loop.call_later(self._random.uniform(2.1, 3.0), host.start_agent)
        for pair in sorted(self._network.parted):
            self._network.rejoin(*pair)

    def _later(self, least_s: float, most_s: float, function: Callable[..., object]) -> None:
        self._loop.call_later(self._random.uniform(least_s, most_s), function)

    def _any_host(self) -> SimHost:
        return self._random.choice(list(self._hosts.values()))

    def _outage_s(self) -> float:
        return LEASE_S * self._random.choice((0.1, 0.5, 0.5, 2.0, 3.0))

    # Nodes

    def _crash_node(self) -> None:
        alive = [node for node in self._nodes.values() if node.alive]
        if len(alive) < 2:
            return
        node = self._random.choice(alive)
        self._note("crash", node.name)
        node.crash()
        self._network.break_links(lambda link: link.node == node.name)
        self._later(0.5, 12.0, lambda: self._restart(node.name))

    def _restart(self, name: str) -> None:
        self._note("restart", name)
        self._start_node(name)

    def _stop_node(self) -> None:
        """Longer than its authority, or shorter."""
        node = self._random.choice(list(self._nodes.values()))
        self._note("stop", node.name)
        node.stop()
        self._later(0.5, 12.0, lambda: self._continue(node))

    def _continue(self, node: SimNode) -> None:
        self._note("continue", node.name)
        node.go_on()

    # etcd and PostgreSQL

    def _hide_etcd(self) -> None:
        """A node loses sight of etcd for a while: its keys go to others, it goes on leading."""
        node = self._random.choice(list(self._nodes.values()))
        self._note("etcd hidden", node.name)
        node.election.sees_etcd = False
        self._later(1.0, 15.0, lambda: setattr(node.election, "sees_etcd", True))

    def _hide_etcd_from_all(self) -> None:
        self._note("etcd down")
        for node in self._nodes.values():
            node.election.sees_etcd = False
        self._loop.call_later(self._outage_s(), self._show_etcd)

    def _show_etcd(self) -> None:
        self._note("etcd up")
        for node in self._nodes.values():
            node.election.sees_etcd = True

    def _steal_keys(self) -> None:
        """etcd has lost keys whose owners live."""
        keys = next(iter(self._nodes.values())).election.keys
        for shard in list(keys.holders):
            if self._random.random() < 0.5:
                self._note("key lost", shard)
                keys.remove(shard, self._loop.time())

    def _stop_database(self) -> None:
        """What it was doing is done or not; whoever asks hears nothing."""
        self._note("database down")
        self.database_down = True
        for transaction in list(self._database.locks.values()):
            transaction.rollback()
        self._loop.call_later(self._outage_s(), self._start_database)

    def _start_database(self) -> None:
        self._note("database up")
        self.database_down = False

    # Streams

    def _cut_links(self) -> None:
        share = self._random.choice((0.2, 0.5, 1.0))
        count = self._network.break_links(lambda _: self._random.random() < share)
        self._note("cut", count)

    def _part(self) -> None:
        """Nothing passes between one pair for a while; both find out by the silence."""
        pair = (self._any_host().host, self._random.choice(list(self._nodes)))
        self._note("part", *pair)
        self._network.part(*pair)
        self._later(0.5, 10.0, lambda: self._network.rejoin(*pair))

    def _isolate(self) -> None:
        """An agent reaches no node, for longer than its leases mostly."""
        host = self._any_host()
        self._note("isolate", host.host)
        for name in self._nodes:
            self._network.part(host.host, name)
        self._later(1.0, 4 * LEASE_S, lambda: self._unite(host))

    def _unite(self, host: SimHost) -> None:
        for name in self._nodes:
            self._network.rejoin(host.host, name)

    def _slow_down(self) -> None:
        self._network.slow = self._random.choice((1.0, 5.0, 100.0, 1_000.0))
        self._note("slow", self._network.slow)
        self._later(1.0, 5.0, self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow = 1.0

    # Agents, supervisors, hosts

    def _crash_agent(self, host: SimHost | None = None) -> None:
        host = host or self._any_host()
        self._note("crash agent", host.host)
        host.crash_agent()
        self._later(0.05, 3.0, host.start_agent)

    def _leave_agent_dead(self) -> None:
        """Its tasks would run on, if it were not for their leases."""
        host = self._any_host()
        self._note("agent stays dead", host.host)
        host.crash_agent()
        self._loop.call_later(3 * LEASE_S, host.start_agent)

    def _crash_supervisor(self, host: SimHost | None = None) -> None:
        host = host or self._any_host()
        self._note("crash supervisor", host.host)
        host.crash_supervisor()

    def _crash_all_of(self, host: SimHost | None = None) -> None:
        host = host or self._any_host()
        if self._random.random() < 0.5:
            self._crash_supervisor(host)
            self._crash_agent(host)
        else:
            self._crash_agent(host)
            self._crash_supervisor(host)

    def _reboot(self, host: SimHost | None = None) -> None:
        host = host or self._any_host()
        self._note("reboot", host.host)
        host.go_down()
        self._later(0.5, 20.0, host.come_up)

    def _lose_disk(self, host: SimHost | None = None) -> None:
        """With the old supervisor alive, mostly."""
        host = host or self._any_host()
        self._note("disk lost", host.host)
        if self._random.random() < 0.3:
            host.crash_agent()
            host.crash_supervisor()
        elif self._random.random() < 0.5:
            host.crash_agent()
        host.wipe()
        self._later(0.1, 3.0, host.start_agent)

    def _end_agent(self) -> None:
        """It is asked to end, with its tasks or without them, and starts again."""
        host = self._any_host()
        if host.agent is not None:
            handing_over = self._random.random() < 0.5
            self._note("end agent", host.host, handing_over)
            host.agent.ask_to_end(handing_over=handing_over)

    def _stop_agent(self) -> None:
        """The process stands still; its supervisor goes on."""
        host = self._any_host()
        if host.agent is not None:
            self._note("stop agent", host.host)
            host.agent.stop()
            self._later(0.5, 2 * LEASE_S, lambda: self._wake_agent(host))

    def _wake_agent(self, host: SimHost) -> None:
        if host.agent is not None and host.agent.stopped:
            self._note("continue agent", host.host)
            host.agent.go_on()

    def _stop_supervisor(self) -> None:
        host = self._any_host()
        if host.supervisor is not None:
            self._note("stop supervisor", host.host)
            host.supervisor.stop()
            self._later(0.05, SUPERVISOR_PAUSE_S, lambda: self._wake_supervisor(host))

    def _wake_supervisor(self, host: SimHost) -> None:
        for supervisor in (host.supervisor, *host.forlorn):
            if supervisor is not None and supervisor.stopped:
                supervisor.go_on()
