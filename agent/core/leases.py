"""The attempt leases that an agent was given, on its own clock.

Decides: until when an attempt may run (the later of what its assignment and what its shard was
given last), and which of those that still wait for their spawn have waited too long. A lease counts
from the sending of the heartbeat that was answered, so what was given is over no later than its
giver thinks.

Promises: a lease is never shortened, and what is said for one shard extends no other.

Does not know: processes. Those are ended by the supervisor, which is told the same times.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from agent.core.attempts import Attempt, State


class Leases:
    """The leases of all shards, and the attempts that wait for their spawn under one."""

    def __init__(self) -> None:
        self._shards: dict[int, int] = {}
        # (end of the lease when it was last looked at, number of the entry, attempt), a heap.
        self._waiting: list[tuple[int, int, Attempt]] = []
        self._entries = 0

    def extend(self, shard: int, until_ms: int) -> bool:
        """Whether attempts of the shard may now run longer than before."""
        if until_ms <= self._shards.get(shard, 0):
            return False
        self._shards[shard] = until_ms
        return True

    def until_ms(self, attempt: Attempt) -> int:
        return max(attempt.lease_until_ms, self._shards.get(attempt.assign.shard, 0))

    def in_force(self, mono_ms: int) -> Iterator[tuple[int, int]]:
        """(shard, until_ms) of every lease that is not over."""
        for shard, until_ms in self._shards.items():
            if until_ms > mono_ms:
                yield shard, until_ms

    def watch(self, attempt: Attempt) -> None:
        """Looks after an ACCEPTED attempt until it is something else."""
        self._entries += 1
        heapq.heappush(self._waiting, (self.until_ms(attempt), self._entries, attempt))

    def lapsed(self, mono_ms: int) -> Iterator[Attempt]:
        """The attempts that still wait for their spawn at the end of their lease; each once."""
        while (until_ms := self.next_deadline()) is not None and until_ms <= mono_ms:
            yield heapq.heappop(self._waiting)[2]

    def next_deadline(self) -> int | None:
        """When the next lease of an attempt that waits is over."""
        waiting = self._waiting
        while waiting:
            looked_at_ms, entry, attempt = waiting[0]
            until_ms = self.until_ms(attempt)
            if attempt.state is not State.ACCEPTED:
                heapq.heappop(waiting)
            elif until_ms > looked_at_ms:
                heapq.heapreplace(waiting, (until_ms, entry, attempt))
            else:
                return until_ms
        return None
