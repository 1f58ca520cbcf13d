"""Pauses between two tries of something that failed for want of another process.

Decides how long: each pause is drawn between the shortest one and three times the last one, up to
the longest, so that many who lost the same server at one moment do not come back at one moment, nor
in step later. Drawn from a seed: the same seed gives the same pauses. Does not know what is tried.
"""

from __future__ import annotations

from random import Random


class Pauses:
    """`reset` when something worked."""

    def __init__(self, seed: bytes, min_ms: int, max_ms: int) -> None:
        self._random = Random(seed)  # noqa: S311  (no secret)
        self._min_ms = min_ms
        self._max_ms = max_ms
        self._last_ms: float = min_ms

    def next_s(self) -> float:
        """The next pause, in seconds."""
        drawn_ms = self._random.uniform(self._min_ms, 3 * self._last_ms)
        self._last_ms = min(drawn_ms, self._max_ms)
        return self._last_ms / 1_000

    def reset(self) -> None:
        """The next pause is a short one again."""
        self._last_ms = self._min_ms
