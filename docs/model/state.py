"""What the protocol of assignment is about: one task instance, one agent, two nodes.

Attempt x goes to the agent, which is modelled whole. Attempt y follows when x is over, and goes
elsewhere, where all is well. Whoever is slow, stands still or is dead takes no steps. A stretch of
time is a tick, and so long are lease, grace and authority; ages are ticks since an event. Decides
nothing; does not know the rules but for how messages leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from docs.model.search import Rules

NAME = "AB"
LEASE = GRACE = AUTHORITY = 1
ACCEPTED, SUCCEEDED, LOST, NEVER, REJECTED = "ACCEPTED", "SUCCEEDED", "LOST", "NEVER", "REJECTED"
RUNS, EXITED, DEAD = "runs", "exited", "dead"
Steps = Iterator[tuple[str, "World"]]


class Message(NamedTuple):
    """`age`: ticks since the agent sent the beat that this is or echoes. `says`: of attempt x."""

    kind: str
    session: int
    epoch: int = 0
    age: int = 0
    says: str = ""


class Node(NamedTuple):
    """A node and its stream to the agent. `epoch`: what it believes to lead, or 0; `live`: what
    its memory holds; `fenced`, `quiet`: ticks since its last fence, since it last spoke to x;
    `session`, `whose`: the newest it knows, of which incarnation; `beat`: the age of that.
    `opened`, `open`: what the agent knows of its sessions here.
    """

    epoch: int = 0
    live: str = ""
    fenced: int = 0
    quiet: int = 0
    session: int = 1
    whose: int = 1
    adopted: bool = False
    beat: int = 0
    opened: int = 1
    open: bool = True
    down: tuple[Message, ...] = ()
    up: tuple[Message, ...] = ()


class Faults(NamedTuple):
    """How many may still come. `clock`: whether time passes at all."""

    takeovers: int = 0
    cuts: int = 0
    refusals: int = 0
    restarts: int = 0
    deaths: int = 0
    reboots: int = 0
    wipes: int = 0
    clock: bool = False


class World(NamedTuple):
    """`whose`: the incarnation that x was assigned to. `seen`: the agent's highest epoch, `kept`:
    that on disk; likewise `journal`, `disk`. `claim`: of x at the supervisor; `lease`: ticks left.
    `orphan`: ticks left of a process that only a supervisor of a lost disk knows.
    """

    left: Faults
    nodes: tuple[Node, ...] = (Node(epoch=1, adopted=True), Node())
    epoch: int = 1
    live: str = ""
    x_end: str = ""
    y_end: str = ""
    whose: int = 0
    incarnation: int = 1
    leader: int = 0
    seen: int = 1
    kept: int = 1
    journal: str = ""
    disk: str = ""
    asked: bool = False
    claim: str = ""
    lease: int = 0
    orphan: int | None = None
    elsewhere: bool = False
    spawns: int = 0
    synced: bool = False

    def node(self, n: int, **changes: Any) -> World:
        nodes = list(self.nodes)
        nodes[n] = nodes[n]._replace(**changes)
        return self._replace(nodes=tuple(nodes))

    def spend(self, fault: str) -> World:
        return self._replace(left=self.left._replace(**{fault: getattr(self.left, fault) - 1}))

    def leads(self, n: int) -> bool:
        """Whether a commit of node n passes the fence."""
        return self.nodes[n].epoch == self.epoch

    def down(self, n: int, kind: str, on: Rules) -> World:
        """Node n speaks to the agent, in the newest session it knows."""
        node = self.nodes[n]
        heard = (node.open and node.session == node.opened) or "agent_drops_old_session" not in on
        message = Message(kind, node.session, node.epoch, node.beat)
        return self.node(n, down=(*node.down, message)) if heard else self

    def up(self, n: int, kind: str, epoch: int = 0, says: str = "") -> World:
        """The agent speaks to node n, if it has a session there."""
        node = self.nodes[n]
        message = Message(kind, node.opened, epoch, 0, says)
        return self.node(n, up=(*node.up, message)) if node.open else self


def firsts(queue: tuple[Message, ...]) -> list[Message]:
    return list({message.session: message for message in reversed(queue)}.values())
