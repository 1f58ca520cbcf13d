"""A failing seed with fewer faults and less time, as long as the same invariant is violated.

Decides by delta debugging (Zeller and Hildebrandt, 2002): leaves out ever smaller portions of the
faults while the rest still fails alike. Promises that what it returns was run and failed. A world
with fewer faults takes another course, so the result is small, not smallest. Does not know what
a fault is: they have indexes, and leaving one out moves no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.sim.swarm import Options, planned
from tests.sim.world import SeedFailedError, World, simulate

# The first phase ends so soon after the violation.
MARGIN_S = 0.5
Told = Callable[[str], None]


class Shrinker:
    """Shrinks one seed. `last`: the smallest failure so far."""

    def __init__(
        self, seed: int, options: Options, tell: Told, world_class: type[World] = World
    ) -> None:
        self._seed = seed
        self._world_class = world_class
        self._tell = tell
        self.options = options
        self.runs = 0
        self.last: SeedFailedError | None = None

    def shrink(self) -> SeedFailedError | None:
        """The smallest failure that was found; None: the seed does not fail."""
        if not self._fails(self.options):
            return None
        self._shorten()
        plan = frozenset(fault.index for fault in planned(self._seed, self.options))
        self._try(replace(self.options, only=plan))
        self._leave_out()
        self._shorten()
        return self.last

    def _fails(self, options: Options) -> bool:
        """Whether it fails like the first time."""
        self.runs += 1
        try:
            simulate(self._seed, options, self._world_class)
        except SeedFailedError as failed:
            if self.last is not None and failed.kind != self.last.kind:
                return False
            self.last = failed
            return True
        return False

    def _try(self, options: Options) -> bool:
        fails = self._fails(options)
        if fails:
            self.options = options
            self._tell(f"{self.last.kind if self.last else ''} with {options}")
        return fails

    def _shorten(self) -> None:
        """Ends the first phase soon after the violation."""
        assert self.last is not None, "it has failed"
        seconds = round(self.last.at_s + MARGIN_S, 1)
        if seconds < self.options.seconds:
            self._try(replace(self.options, seconds=seconds))

    def _leave_out(self) -> None:
        """Portions of the faults: halves, quarters, … single ones."""
        portions = 2
        while (faults := sorted(self.options.only or ())) and portions <= 2 * len(faults):
            size = max(1, len(faults) // portions)
            cuts = [faults[at : at + size] for at in range(0, len(faults), size)]
            rests = (frozenset(faults).difference(cut) for cut in cuts)
            if any(self._try(replace(self.options, only=rest)) for rest in rests):
                portions = max(2, portions - 1)
            elif size == 1:
                return
            else:
                portions *= 2
