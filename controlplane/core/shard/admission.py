"""Decides which agents the shard speaks to.

An agent is adopted by its inventory, until its session ends or the shard is led anew. Only to an
adopted agent is anything assigned, and only its attempt leases are extended. One that refused an
attempt rests for a moment: nothing is assigned to it, but it stays adopted. Does not know sessions.
"""

from __future__ import annotations

from controlplane.core.shard.book import Book, RestOver
from controlplane.core.time.wheel import TimerId

# How long an agent that refused an attempt is left alone, so that no refusal follows another at the
# speed of commits.
REFUSAL_PAUSE_MS = 500


class Admission:
    """The agents of one shard."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._adopted: dict[str, bytes] = {}
        self._resting: dict[str, TimerId] = {}

    def adopt(self, agent: str, incarnation: bytes) -> bool:
        """The inventory of an agent is taken in; False: it is another incarnation by now."""
        book = self._book
        if book.fleet.room(agent).incarnation != incarnation:
            return False
        self._wake(agent)
        self._adopted[agent] = incarnation
        book.fleet.admit(book.shard, agent)
        return True

    def adopted(self, agent: str, incarnation: bytes) -> bool:
        """Whether the agent, in this incarnation, has told this session what it holds."""
        known = self._adopted.get(agent) == incarnation
        return known and self._book.fleet.room(agent).incarnation == incarnation

    def has_told(self, agent: str) -> bool:
        """Whether an inventory of the agent was taken in, of whatever incarnation."""
        return agent in self._adopted

    def release(self, agent: str) -> None:
        """The session of an agent ended."""
        self._wake(agent)
        self._adopted.pop(agent, None)
        self._book.fleet.expel(self._book.shard, agent)

    def rest(self, agent: str, incarnation: bytes) -> None:
        """Leaves an agent alone for a moment, unless another incarnation has its name by now."""
        book = self._book
        if self.adopted(agent, incarnation) and agent not in self._resting:
            book.fleet.expel(book.shard, agent)
            until_ms = book.now.mono_ms + REFUSAL_PAUSE_MS
            self._resting[agent] = book.wheel.insert(until_ms, RestOver(agent))

    def rest_over(self, agent: str) -> None:
        """The timer of a rest."""
        del self._resting[agent]
        if self.adopted(agent, self._adopted[agent]):
            self._book.fleet.admit(self._book.shard, agent)

    def _wake(self, agent: str) -> None:
        timer = self._resting.pop(agent, None)
        if timer is not None:
            self._book.wheel.cancel(timer)
