"""Networks that lose, delay or break connections, one link at a time.

A link is named `SOURCE>SERVER`, such as `agent-2>node-1` or `node-3>postgres`; of the links between
agents and nodes one or all of an agent may be hurt.
"""

from __future__ import annotations

import abc
import random
from typing import Any, ClassVar, Self

from tests.campaign.faults.fault import Fault, any_agent, any_node
from tests.campaign.site import Site
from tests.servers.fault_proxy import BOTH, EVERYBODY, FROM_SERVER, TO_SERVER, Link

CLIENTS = "clients"
HOLDS_S = (1.0, 5.0, 12.0)


class LinkFault(Fault):
    """Something about one or several links."""

    def __init__(self, links: tuple[str, ...], lasts_s: float) -> None:
        super().__init__(",".join(links), lasts_s, frozenset(links))
        self.links = links

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(some_links(site, dice), dice.choice(HOLDS_S))

    def begin(self, site: Site) -> None:
        for name in self.links:
            link = link_of(site, name)
            site.proxies.call(lambda link=link: self.hurt(link))  # type: ignore[misc]

    def heal(self, site: Site) -> None:
        for name in self.links:
            site.proxies.call(link_of(site, name).heal)

    @abc.abstractmethod
    def hurt(self, link: Link) -> None:
        """What happens to each of them."""


class Blackhole(LinkFault):
    """Nothing passes, and nobody is told."""

    kind = "link-blackhole"

    def hurt(self, link: Link) -> None:
        link.hold(BOTH)


class OneWay(LinkFault):
    """What one side says arrives; what the other says does not."""

    kind = "link-one-way"
    directions: ClassVar[tuple[str, str]] = (TO_SERVER, FROM_SERVER)

    def __init__(self, links: tuple[str, ...], lasts_s: float, direction: str) -> None:
        super().__init__(links, lasts_s)
        self._direction = direction

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(some_links(site, dice), dice.choice(HOLDS_S), dice.choice(cls.directions))

    def hurt(self, link: Link) -> None:
        link.hold(self._direction)

    def detail(self) -> dict[str, Any]:
        return {"held": self._direction}


class Slow(LinkFault):
    """Every chunk is late."""

    kind = "link-slow"

    def __init__(self, links: tuple[str, ...], lasts_s: float, delay_s: float) -> None:
        super().__init__(links, lasts_s)
        self._delay_s = delay_s

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(some_links(site, dice), dice.choice((3.0, 10.0)), dice.choice((0.05, 0.3, 1.0)))

    def hurt(self, link: Link) -> None:
        link.slow(self._delay_s)

    def detail(self) -> dict[str, Any]:
        return {"delay_s": self._delay_s}


class Reset(LinkFault):
    """Connections break at once, and again a few times."""

    kind = "link-reset"

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        return cls(some_links(site, dice), dice.choice((0.0, 0.3, 1.0)))

    def hurt(self, link: Link) -> None:
        link.reset()

    def heal(self, site: Site) -> None:
        self.begin(site)


class Refused(LinkFault):
    """Connections break, and new ones are turned away."""

    kind = "link-refused"

    def hurt(self, link: Link) -> None:
        link.refuse()


def some_links(site: Site, dice: random.Random) -> tuple[str, ...]:
    """One link, or all of one agent."""
    node = any_node(site, dice)
    agent = any_agent(site, dice)
    others = [name for name in site.nodes if name != node]
    kinds: list[tuple[str, ...]] = [
        (f"{CLIENTS}>{node}",),
        (f"{node}>postgres",),
        (f"{node}>etcd",),
        (f"{agent}>{node}",),
        tuple(f"{agent}>{each}" for each in site.nodes),
    ]
    if others:
        kinds.append((f"{dice.choice(others)}>{node}",))
    return dice.choice(kinds)


def link_of(site: Site, name: str) -> Link:
    source, _, server = name.partition(">")
    if server == "postgres":
        return site.doors[source].postgres.link(EVERYBODY)
    if server == "etcd":
        return site.doors[source].etcd.link(EVERYBODY)
    doors = site.doors[server]
    return doors.clients.link(EVERYBODY) if source == CLIENTS else doors.peers.link(source)


LINKS: tuple[type[Fault], ...] = (Blackhole, OneWay, Slow, Reset, Refused)
