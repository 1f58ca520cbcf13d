"""Remembers attempts that were given up, for results that come after all.

Decides nothing. A result that nobody remembers is acknowledged and changes nothing, so forgetting
costs no more than its record: beyond a bound the oldest is forgotten. Of a run that is final only
its key is kept, since nothing can be decided any more. Does not know what a result means.
"""

from __future__ import annotations

from typing import NamedTuple

from controlplane.core.run.run import Run
from controlplane.core.types import RunKey

LATE_KEPT = 10_000


class GivenUp(NamedTuple):
    """An attempt that ended as LOST or UNKNOWN. `run` None: it is final by now."""

    key: RunKey
    task: int
    run: Run | None


class LateMemory:
    """Attempts that were given up, by id."""

    def __init__(self) -> None:
        self._of: dict[bytes, GivenUp] = {}

    def __len__(self) -> int:
        return len(self._of)

    def remember(self, attempt_id: bytes, run: Run, task: int) -> None:
        """An attempt was given up."""
        if len(self._of) >= LATE_KEPT:
            self.take(next(iter(self._of)))
        self._of[attempt_id] = GivenUp(run.key, task, run)
        run.given_up.add(attempt_id)

    def knows(self, attempt_id: bytes) -> bool:
        """Whether a result of an attempt would be late."""
        return attempt_id in self._of

    def take(self, attempt_id: bytes) -> GivenUp | None:
        """What is remembered of an attempt; its result comes once."""
        found = self._of.pop(attempt_id, None)
        if found is not None and found.run is not None:
            found.run.given_up.discard(attempt_id)
        return found

    def close(self, run: Run) -> None:
        """A run is final."""
        for attempt_id in run.given_up:
            self._of[attempt_id] = self._of[attempt_id]._replace(run=None)
        run.given_up.clear()
