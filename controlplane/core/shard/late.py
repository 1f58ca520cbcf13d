"""Remembers attempts that were given up, for results that come after all.

Decides nothing. A result that nobody remembers is acknowledged and changes nothing, so forgetting
costs no more than its record: what is final is forgotten, and beyond a bound what is oldest. Does
not know what a result means.
"""

from __future__ import annotations

from controlplane.core.run.run import Run

LATE_KEPT = 10_000


class LateMemory:
    """Attempts of live runs that ended as LOST or UNKNOWN, by id: run and task."""

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[Run, int]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def remember(self, attempt_id: bytes, run: Run, task: int) -> None:
        """An attempt was given up."""
        if len(self._of) >= LATE_KEPT:
            oldest = next(iter(self._of))
            self._of.pop(oldest)[0].given_up.discard(oldest)
        self._of[attempt_id] = run, task
        run.given_up.add(attempt_id)

    def take(self, attempt_id: bytes) -> tuple[Run, int] | None:
        """Run and task of an attempt that is remembered; its result comes once."""
        found = self._of.pop(attempt_id, None)
        if found is not None:
            found[0].given_up.discard(attempt_id)
        return found

    def forget(self, run: Run) -> None:
        """A run is final."""
        for attempt_id in run.given_up:
            del self._of[attempt_id]
        run.given_up.clear()
