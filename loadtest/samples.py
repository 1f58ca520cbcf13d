"""What many samples of one quantity come to.

Decides how a distribution is told: median, 99th percentile and the worst, with the number of
samples next to them, since the 99th of twenty is the worst of twenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Distribution(NamedTuple):
    """Nearest ranks."""

    p50: float
    p99: float
    most: float
    count: int


def distribution(samples: Sequence[float]) -> Distribution:
    """Raises ValueError when there are none."""
    if not samples:
        raise ValueError("no samples")
    return Distribution(at_rank(samples, 50), at_rank(samples, 99), max(samples), len(samples))


def at_rank(samples: Sequence[float], percent: int) -> float:
    """The least sample that this percentage of all do not exceed."""
    rank = -(-len(samples) * percent // 100)
    return sorted(samples)[max(rank, 1) - 1]
