"""The interface of a fault."""

from __future__ import annotations

import abc
import random
from typing import Any, ClassVar, Self

from tests.campaign.site import Site


class Fault(abc.ABC):
    """Something that is broken for a while.

    `kind` names it in evidence; `target` is what is hurt. `touches` are the parts that no other
    fault may touch meanwhile. `lasts_s` is the time between `begin` and `heal`.
    """

    kind: ClassVar[str]

    def __init__(self, target: str, lasts_s: float, touches: frozenset[str] | None = None) -> None:
        self.target = target
        self.lasts_s = lasts_s
        self.touches = frozenset({target}) if touches is None else touches

    @classmethod
    @abc.abstractmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        """One of this kind somewhere in the cluster."""

    @abc.abstractmethod
    def begin(self, site: Site) -> None:
        """Breaks it."""

    def heal(self, site: Site) -> None:  # noqa: B027 - some need no healing
        """Ends it."""

    def detail(self) -> dict[str, Any]:
        """What else is worth knowing of it."""
        return {}


def any_node(site: Site, dice: random.Random) -> str:
    return dice.choice(list(site.nodes))


def any_agent(site: Site, dice: random.Random) -> str:
    return dice.choice(list(site.agents))
