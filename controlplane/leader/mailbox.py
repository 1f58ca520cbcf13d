"""What has arrived for a shard and was not yet taken by its loop.

Decides nothing. Promises first in, first out; a bound: what does not fit is refused, and its source
says it again later; and that a waiting loop wakes in the turn of the event loop that follows.
Does not know what an event means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from controlplane.core.events import Event

# Some seconds of work at full speed; an agent that has more to say is asked to come again.
EVENTS_KEPT = 100_000


class Source(Protocol):
    """Where events come from, as far as it can go away: a session of an agent."""

    @property
    def live(self) -> bool:
        """False: what came from here belongs to the past and is dropped when handled."""
        ...


class Delivery(NamedTuple):
    """Events that arrived together.

    `source` None: it cannot go away. `received_us`: when their frame arrived, on the clock that
    measures; 0: they have no frame.
    """

    events: Sequence[Event]
    source: Source | None = None
    received_us: int = 0


class Mailbox:
    """One reader, any number of writers, all on one event loop."""

    def __init__(self, limit: int = EVENTS_KEPT) -> None:
        self._limit = limit
        self._deliveries: deque[Delivery] = deque()
        self._events = 0
        self._nudged = False
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Number of events."""
        return self._events

    def put(self, delivery: Delivery) -> bool:
        """False: there is no room; nothing was kept."""
        if self._events + len(delivery.events) > self._limit:
            return False
        self._deliveries.append(delivery)
        self._events += len(delivery.events)
        self._wake()
        return True

    def nudge(self) -> None:
        """Makes the reader look around, although nothing arrived."""
        self._nudged = True
        self._wake()

    def take(self, most: int) -> list[Delivery]:
        """Deliveries in order until they hold `most` events or more, and the nudge with them.

        A delivery is never split, so a step may be larger by what arrived together.
        """
        self._nudged = False
        taken: list[Delivery] = []
        room = most
        while self._deliveries and room > 0:
            delivery = self._deliveries.popleft()
            taken.append(delivery)
            room -= len(delivery.events)
        self._events -= most - room
        return taken

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Returns what was taken and not used, to the front."""
        self._deliveries.extendleft(reversed(deliveries))
        self._events += sum(len(delivery.events) for delivery in deliveries)

    async def wait(self, at_most_s: float) -> None:
        """Until there is something, or a nudge, or the time has passed."""
        if self._deliveries or self._nudged or at_most_s <= 0:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(at_most_s, self._wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
