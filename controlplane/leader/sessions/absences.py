"""Which agents have left this node, and when: for people who ask why nothing goes on.

Promises a bounded memory: of more agents than it keeps, those that left first are forgotten.
Decides nothing.
"""

from __future__ import annotations

MOST_KEPT = 10_000


class Absences:
    """Agents whose last session here has ended."""

    def __init__(self) -> None:
        self._left_us: dict[str, int] = {}

    def left_us(self, agent: str) -> int | None:
        """When an agent's last session ended; None: it has one, or it is not known here."""
        return self._left_us.get(agent)

    def left(self, agent: str, wall_us: int) -> None:
        """The session of an agent ended."""
        self._left_us.pop(agent, None)
        self._left_us[agent] = wall_us
        if len(self._left_us) > MOST_KEPT:
            del self._left_us[next(iter(self._left_us))]

    def came(self, agent: str) -> None:
        """A session of an agent began."""
        self._left_us.pop(agent, None)
