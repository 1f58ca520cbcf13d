"""Nodes, agents and supervisors that die, stand still, or are restarted."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any, Self

from tests.campaign.faults.fault import Fault, any_agent, any_node
from tests.campaign.site import Site
from tests.system.parts import LEASE_S
from tests.system.up import eventually

LEADER_LEASE_S = 3.0
HOLDER_END_S = 10.0


class NodeKill(Fault):
    """SIGKILL; it is started again after a while."""

    kind = "node-kill"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_node(site, dice), dice.choice((0.0, 1.0, 5.0, 10.0)))

    def begin(self, site: Site) -> None:
        site.kill(self.target)

    def heal(self, site: Site) -> None:
        site.start(self.target)


class NodePause(Fault):
    """SIGSTOP, shorter and longer than the leader lease."""

    kind = "node-pause"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_node(site, dice), LEADER_LEASE_S * dice.choice((0.5, 1.5, 4.0)))

    def begin(self, site: Site) -> None:
        site.nodes[self.target].pause()

    def heal(self, site: Site) -> None:
        site.nodes[self.target].resume()


class NodeBlock(Fault):
    """Its event loop stands still, and its other threads, such as that of its lease, do not."""

    kind = "node-block"

    def __init__(self, target: str, lasts_s: float) -> None:
        super().__init__(target, lasts_s)
        self._holder: subprocess.Popen[bytes] | None = None

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_node(site, dice), LEADER_LEASE_S * dice.choice((0.3, 0.8, 1.5, 4.0)))

    def begin(self, site: Site) -> None:
        argv = [sys.executable, "-m", "tests.campaign.hold_thread"]
        argv += [str(site.nodes[self.target].pid), str(self.lasts_s)]
        self._holder = subprocess.Popen(argv, stdin=subprocess.PIPE)

    def heal(self, site: Site) -> None:
        assert self._holder is not None
        self._holder.communicate(timeout=HOLDER_END_S)
        assert self._holder.returncode == 0, "the thread could not be held"


class RollingRestart(Fault):
    """Every node is stopped cleanly and started again, one after the other."""

    kind = "rolling-restart"

    def __init__(self, nodes: frozenset[str]) -> None:
        super().__init__("nodes", 0.0, nodes)

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(frozenset(site.nodes))

    def begin(self, site: Site) -> None:
        for name in sorted(self.touches):
            site.stop(name)
            site.start(name)
            eventually(lambda name=name: site.serves(name))  # type: ignore[misc]


class AgentKill(Fault):
    """SIGKILL of an agent; its supervisor and its tasks live on, for some time."""

    kind = "agent-kill"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_agent(site, dice), dice.choice((0.0, 1.0, 0.6 * LEASE_S, 2.5 * LEASE_S)))

    def begin(self, site: Site) -> None:
        site.kill(self.target)

    def heal(self, site: Site) -> None:
        site.start(self.target)


class SupervisorKill(Fault):
    """SIGKILL of a supervisor, and by the kernel of all its tasks."""

    kind = "supervisor-kill"

    def __init__(self, target: str) -> None:
        super().__init__(target, 0.0)
        self._found = False

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_agent(site, dice))

    def begin(self, site: Site) -> None:
        self._found = kill_supervisor(site, self.target)

    def detail(self) -> dict[str, Any]:
        return {"found": self._found}


class AgentAndSupervisorKill(Fault):
    """Both at once, as the end of a machine would."""

    kind = "agent-and-supervisor-kill"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_agent(site, dice), dice.choice((0.0, 1.0, 1.5 * LEASE_S)))

    def begin(self, site: Site) -> None:
        site.kill(self.target)
        kill_supervisor(site, self.target)

    def heal(self, site: Site) -> None:
        site.start(self.target)


class AgentPause(Fault):
    """SIGSTOP of an agent for longer than the attempt lease: its supervisor ends what it must."""

    kind = "agent-pause"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_agent(site, dice), LEASE_S * dice.choice((1.2, 2.5)))

    def begin(self, site: Site) -> None:
        site.agents[self.target].pause()

    def heal(self, site: Site) -> None:
        site.agents[self.target].resume()


class SupervisorStandstill(Fault):
    """Agent and supervisor stand still, and the processes they should end do not.

    It breaks what is taken for granted (a supervisor gets processor time within the grace), so it
    is no part of a campaign by itself: asked for, it must be found as a violation of I3.
    """

    kind = "supervisor-standstill"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(any_agent(site, dice), 3 * LEASE_S)

    def begin(self, site: Site) -> None:
        site.agents[self.target].pause()
        supervisor = site.supervisor_of(self.target)
        assert supervisor is not None, "an agent has a supervisor"
        supervisor.suspend()

    def heal(self, site: Site) -> None:
        supervisor = site.supervisor_of(self.target)
        assert supervisor is not None, "it stood still"
        supervisor.resume()
        site.agents[self.target].resume()


def kill_supervisor(site: Site, agent: str) -> bool:
    """Whether there was one."""
    supervisor = site.supervisor_of(agent)
    if supervisor is None:
        return False
    supervisor.kill()
    eventually(lambda: site.supervisor_of(agent) != supervisor)
    return True


PROCESSES: tuple[type[Fault], ...] = (
    NodeKill,
    NodePause,
    NodeBlock,
    RollingRestart,
    AgentKill,
    SupervisorKill,
    AgentAndSupervisorKill,
    AgentPause,
)
