"""What breaks on the hosts of a simulated cluster: agents, supervisors, disks, whole machines.

Every fault draws from dice of its own and ends by itself, or with `heal`. Assumes what leases
assume: a supervisor is scheduled within their grace. Does not know what must hold meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tests.sim.breakage import LEASE_S, Strike
from tests.sim.cluster import Cluster
from tests.sim.hosts import SimHost

# What a supervisor has to do at the end of a lease takes it a second of the grace.
SUPERVISOR_PAUSE_S = 0.8
Hurt = Callable[[SimHost, Random], None]


class HostBreakage:
    """The faults of the hosts of one cluster, by kind."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        on_host: dict[str, Hurt] = {
            "crash-agent": self._crash_agent,
            "crash-supervisor": self._crash_supervisor,
            "stop-agent": self._stop_agent,
            "stop-supervisor": self._stop_supervisor,
            "end-agent": self._end_agent,
            "lose-disk": self._lose_disk,
            "reboot": self._reboot,
            "crash-both": self._crash_both,
            "leave-agent-dead": self._leave_agent_dead,
            "isolate": self._isolate,
            "copy": self._copy,
        }
        self.kinds: dict[str, Strike] = {
            kind: partial(self._strike, hurt) for kind, hurt in on_host.items()
        }

    def _strike(self, hurt: Hurt, random: Random) -> None:
        host = random.choice(list(self._cluster.hosts.values()))
        self._note("on", host.host)
        hurt(host, random)

    def strike_at(self, host: SimHost, random: Random) -> None:
        """Processes of a host die at this very moment."""
        deaths = (self._crash_agent, self._crash_agent, self._crash_supervisor, self._crash_both)
        worse = (self._reboot, self._lose_disk)
        random.choice(deaths if random.random() < 0.85 else worse)(host, random)

    def heal(self) -> None:
        """Nothing is broken any more, but for processes that come back a little later."""
        wait_s = 0.1
        for host in list(self._cluster.hosts.values()):
            if host.host != host.name:
                self._note(host.host, "ends")
                host.scrap()
                del self._cluster.hosts[host.host]
                continue
            self._wake_agent(host)
            self._wake_supervisor(host)
            self._loop.call_later(wait_s, host.come_up)
            self._loop.call_later(2.0 + wait_s, host.start_agent)
            wait_s = wait_s % 2.0 + 0.17

    def _note(self, *words: object) -> None:
        self._cluster.note("f", *words)

    def _later(
        self, random: Random, least_s: float, most_s: float, function: Callable[..., object]
    ) -> None:
        self._loop.call_later(random.uniform(least_s, most_s), function)

    def _crash_agent(self, host: SimHost, random: Random) -> None:
        self._note("the agent dies")
        host.crash_agent()
        self._later(random, 0.05, 3.0, host.start_agent)

    def _leave_agent_dead(self, host: SimHost, _: Random) -> None:
        """Its tasks would run on, if it were not for their leases."""
        host.crash_agent()
        self._loop.call_later(3 * LEASE_S, host.start_agent)

    def _crash_supervisor(self, host: SimHost, _: Random) -> None:
        self._note("the supervisor dies")
        host.crash_supervisor()

    def _crash_both(self, host: SimHost, random: Random) -> None:
        first, then = self._crash_agent, self._crash_supervisor
        if random.random() < 0.5:
            first, then = then, first
        first(host, random)
        then(host, random)

    def _reboot(self, host: SimHost, random: Random) -> None:
        self._note("the power goes")
        host.go_down()
        self._later(random, 0.5, 20.0, host.come_up)

    def _lose_disk(self, host: SimHost, random: Random) -> None:
        """With the old supervisor alive, mostly."""
        self._note("the disk is lost")
        chance = random.random()
        if chance < 0.3:
            host.crash_agent()
            host.crash_supervisor()
        elif chance < 0.65:
            host.crash_agent()
        host.wipe()
        self._later(random, 0.1, 3.0, host.start_agent)

    def _end_agent(self, host: SimHost, random: Random) -> None:
        """It is asked to end, with its tasks or without them, and starts again."""
        if host.agent is not None:
            handing_over = random.random() < 0.5
            self._note("the agent is asked to end", "and hand over" if handing_over else "")
            host.agent.ask_to_end(handing_over=handing_over)

    def _stop_agent(self, host: SimHost, random: Random) -> None:
        """The process stands still; its supervisor goes on."""
        if host.agent is not None:
            host.agent.stop()
            self._later(random, 0.5, 2 * LEASE_S, partial(self._wake_agent, host))

    def _wake_agent(self, host: SimHost) -> None:
        if host.agent is not None and host.agent.stopped:
            self._note("the agent of", host.host, "goes on")
            host.agent.go_on()

    def _stop_supervisor(self, host: SimHost, random: Random) -> None:
        if host.supervisor is not None:
            host.supervisor.stop()
            self._later(random, 0.05, SUPERVISOR_PAUSE_S, partial(self._wake_supervisor, host))

    def _wake_supervisor(self, host: SimHost) -> None:
        for supervisor in (host.supervisor, *host.forlorn):
            if supervisor is not None and supervisor.stopped:
                supervisor.go_on()

    def _isolate(self, host: SimHost, random: Random) -> None:
        """An agent reaches no node, for longer than its leases mostly."""
        for name in self._cluster.nodes:
            self._cluster.network.part(host.host, name)
        self._later(random, 1.0, 4 * LEASE_S, partial(self._unite, host))

    def _unite(self, host: SimHost) -> None:
        for name in self._cluster.nodes:
            self._cluster.network.rejoin(host.host, name)

    def _copy(self, host: SimHost, _: Random) -> None:
        """Another machine has an agent of the same name."""
        copy = f"{host.name}-copy"
        if copy not in self._cluster.hosts:
            self._cluster.start_host(host.name, copy)
