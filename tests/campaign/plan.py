"""Which faults a round has, and when: drawn from the seed before anything happens.

Promises that kinds come round in turn (each is drawn once before any is drawn again), and that two
faults that touch the same part are never in force together. Does not know how anything is broken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.campaign.faults import Fault
from tests.campaign.site import Site

# Between the end of a fault and the next one at the same part, so that it can stand up.
APART_S = 2.0
MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault, and how long after the begin of its round's faults it begins."""

    begins_s: float
    fault: Fault

    @property
    def ends_s(self) -> float:
        return self.begins_s + self.fault.lasts_s


class Planner:
    """Draws the faults of round after round."""

    def __init__(self, site: Site, kinds: Sequence[type[Fault]], seed: int) -> None:
        self._site = site
        self._dice = random.Random(f"faults {seed}")
        self._deck = self._dealt(kinds)

    def _dealt(self, kinds: Sequence[type[Fault]]) -> Iterator[type[Fault]]:
        while True:
            yield from self._dice.sample(kinds, len(kinds))

    def round(self, count: int, within_s: float) -> list[Planned]:
        """At most `count` faults that begin within a time, in the order of their begins."""
        planned: list[Planned] = []
        for _ in range(count):
            kind = next(self._deck)
            for _ in range(MOST_TRIES):
                found = Planned(
                    self._dice.uniform(0.0, within_s), kind.draw(self._site, self._dice)
                )
                if not any(collide(found, other) for other in planned):
                    planned.append(found)
                    break
        return sorted(planned, key=lambda each: each.begins_s)


def collide(one: Planned, other: Planned) -> bool:
    """Whether both touch a part at about the same time."""
    together = one.begins_s < other.ends_s + APART_S and other.begins_s < one.ends_s + APART_S
    return together and bool(one.fault.touches & other.fault.touches)
