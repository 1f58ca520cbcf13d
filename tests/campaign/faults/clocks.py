"""Wall clocks that are set while the process runs, and set back."""

from __future__ import annotations

import random
from typing import Any, Self

from tests.campaign.faults.fault import Fault
from tests.campaign.site import Site

STEPS_S = (-3_600.0, -30.0, -0.7, 0.7, 30.0, 3_600.0)


class ClockStep(Fault):
    """The wall clock of a node, an agent or PostgreSQL jumps."""

    kind = "clock-step"

    def __init__(self, name: str, lasts_s: float, ahead_s: float) -> None:
        super().__init__(name, lasts_s, frozenset({f"clock of {name}"}))
        self._ahead_s = ahead_s

    @classmethod
    def draw(cls, site: Site, dice: random.Random) -> Self:
        name = dice.choice(sorted(site.clocks))
        return cls(name, dice.choice((2.0, 6.0, 15.0)), dice.choice(STEPS_S))

    def begin(self, site: Site) -> None:
        site.clocks[self.target].set(self._ahead_s)

    def heal(self, site: Site) -> None:
        site.clocks[self.target].set(0.0)

    def detail(self) -> dict[str, Any]:
        return {"ahead_s": self._ahead_s}


CLOCKS: tuple[type[Fault], ...] = (ClockStep,)
