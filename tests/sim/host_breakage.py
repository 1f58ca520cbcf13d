"""What breaks on the hosts of a simulated cluster: agents, supervisors, disks, whole machines.

Every fault is drawn from the seed and ends by itself, or with `heal`. Assumes what leases assume:
a supervisor is scheduled within their grace. Does not know what must hold meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.breakage import LEASE_S
from tests.sim.cluster import Cluster
from tests.sim.hosts import SimHost

# What a supervisor has to do at the end of a lease takes it a second of the grace.
SUPERVISOR_PAUSE_S = 0.8


class HostBreakage:
    """The faults of the hosts of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cluster.loop
        self._random = cluster.random
        self._note = cluster.note
        self._rare = (
            *(self._lose_disk, self._reboot, self._crash_all_of, self._leave_agent_dead),
            *(self._isolate, self._copy),
        )
        self._often = (
            *(self._crash_agent, self._crash_agent, self._crash_supervisor),
            *(self._stop_agent, self._stop_supervisor, self._end_agent),
        )

    def strike(self) -> None:
        """One random fault on one host."""
        faults = self._rare if self._random.random() < 0.35 else self._often
        host = self._random.choice(list(self._cluster.hosts.values()))
        self._random.choice(faults)(host)

    def strike_at(self, host: SimHost, where: str) -> None:
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
        for host in list(self._cluster.hosts.values()):
            if host.host != host.name:
                self._note("ends", host.host)
                host.go_down()
                del self._cluster.hosts[host.host]
                continue
            self._wake_agent(host)
            self._wake_supervisor(host)
            self._later(0.1, 2.0, host.come_up)
            self._later(2.1, 3.0, host.start_agent)

    def _later(self, least_s: float, most_s: float, function: Callable[..., object]) -> None:
        self._loop.call_later(self._random.uniform(least_s, most_s), function)

    def _crash_agent(self, host: SimHost) -> None:
        self._note("crash agent", host.host)
        host.crash_agent()
        self._later(0.05, 3.0, host.start_agent)

    def _leave_agent_dead(self, host: SimHost) -> None:
        """Its tasks would run on, if it were not for their leases."""
        self._note("agent stays dead", host.host)
        host.crash_agent()
        self._loop.call_later(3 * LEASE_S, host.start_agent)

    def _crash_supervisor(self, host: SimHost) -> None:
        self._note("crash supervisor", host.host)
        host.crash_supervisor()

    def _crash_all_of(self, host: SimHost) -> None:
        if self._random.random() < 0.5:
            self._crash_supervisor(host)
            self._crash_agent(host)
        else:
            self._crash_agent(host)
            self._crash_supervisor(host)

    def _reboot(self, host: SimHost) -> None:
        self._note("reboot", host.host)
        host.go_down()
        self._later(0.5, 20.0, host.come_up)

    def _lose_disk(self, host: SimHost) -> None:
        """With the old supervisor alive, mostly."""
        self._note("disk lost", host.host)
        if self._random.random() < 0.3:
            host.crash_agent()
            host.crash_supervisor()
        elif self._random.random() < 0.5:
            host.crash_agent()
        host.wipe()
        self._later(0.1, 3.0, host.start_agent)

    def _end_agent(self, host: SimHost) -> None:
        """It is asked to end, with its tasks or without them, and starts again."""
        if host.agent is not None:
            handing_over = self._random.random() < 0.5
            self._note("end agent", host.host, handing_over)
            host.agent.ask_to_end(handing_over=handing_over)

    def _stop_agent(self, host: SimHost) -> None:
        """The process stands still; its supervisor goes on."""
        if host.agent is not None:
            self._note("stop agent", host.host)
            host.agent.stop()
            self._later(0.5, 2 * LEASE_S, lambda: self._wake_agent(host))

    def _wake_agent(self, host: SimHost) -> None:
        if host.agent is not None and host.agent.stopped:
            self._note("continue agent", host.host)
            host.agent.go_on()

    def _stop_supervisor(self, host: SimHost) -> None:
        if host.supervisor is not None:
            self._note("stop supervisor", host.host)
            host.supervisor.stop()
            self._later(0.05, SUPERVISOR_PAUSE_S, lambda: self._wake_supervisor(host))

    def _wake_supervisor(self, host: SimHost) -> None:
        for supervisor in (host.supervisor, *host.forlorn):
            if supervisor is not None and supervisor.stopped:
                supervisor.go_on()

    def _isolate(self, host: SimHost) -> None:
        """An agent reaches no node, for longer than its leases mostly."""
        self._note("isolate", host.host)
        for name in self._cluster.nodes:
            self._cluster.network.part(host.host, name)
        self._later(1.0, 4 * LEASE_S, lambda: self._unite(host))

    def _unite(self, host: SimHost) -> None:
        for name in self._cluster.nodes:
            self._cluster.network.rejoin(host.host, name)

    def _copy(self, host: SimHost) -> None:
        """Another machine has an agent of the same name."""
        copy = f"{host.name}-copy"
        if copy not in self._cluster.hosts:
            self._note("copy", copy)
            self._cluster.start_host(host.name, copy)
