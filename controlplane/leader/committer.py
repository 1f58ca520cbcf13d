"""The numbered batches of one epoch, one at a time, until each outcome is known.

Decides when a batch is sent again and how long a fence allows to speak. Promises that `commit`
returns only when the batch is known to be stored, that nothing else is sent while it is not known,
and that the allowance counts from the moment when a fence was *sent*. Does not know what is in a
batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from controlplane.core.effects import Writes
from controlplane.leader.claim import Claim, LeaderClock
from controlplane.leader.patience import Patience
from controlplane.leader.times import LeaderTimes
from controlplane.store.errors import CommitUnknown, StoreUnavailable
from controlplane.store.ports import ShardStore
from controlplane.store.records import Fence
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)

_NOTHING = Writes()


class Committer:
    """`sent_ms`: when the takeover was sent, which is the first fence of the epoch."""

    def __init__(
        self,
        claim: Claim,
        store: ShardStore,
        clock: LeaderClock,
        stats: Stats,
        times: LeaderTimes,
        patience: Patience,
        sent_ms: int,
    ) -> None:
        self._claim = claim
        self._store = store
        self._clock = clock
        self._stats = stats
        self._times = times
        self._patience = patience
        self._sent_ms = sent_ms
        self._batch = 0
        self.committed_wall_us = 0

    @property
    def batch(self) -> int:
        """Number of the last batch that is known to be stored; 0: none of this epoch."""
        return self._batch

    @property
    def sent_ms(self) -> int:
        """When the last fence that passed was sent, on the monotonic clock."""
        return self._sent_ms

    @property
    def fence_due_ms(self) -> int:
        """When the next fence is due at the latest, with or without rows."""
        return self._sent_ms + self._times.idle_fence_ms

    @property
    def may_speak(self) -> bool:
        """Whether the last fence still allows to send messages."""
        return self._clock.now().mono_ms - self._sent_ms <= self._times.authority_ms

    async def commit(self, writes: Writes) -> None:
        """Stores a batch. Raises Deposed; BatchRefused, nothing being stored; GivenUp."""
        await self._settle(lambda fence, settle: self._store.commit(fence, writes, settle=settle))

    async def fence(self) -> None:
        """An empty batch: proves that the epoch is still in force."""
        await self.commit(_NOTHING)

    async def quarantine(self, source: int | str, reason: str) -> None:
        """A batch that sets a source aside."""
        await self._settle(
            lambda fence, settle: self._store.quarantine(fence, source, reason, settle=settle)
        )

    async def _settle(self, write: Callable[[Fence, bool], Awaitable[bool]]) -> None:
        """Sends one batch until its outcome is known.

        A batch that is known not to be there is sent again as well: nothing else has this number,
        and memory stays as it is. Found there already, its first sending counts.
        """
        fence = Fence(self._claim.shard, self._claim.epoch, self._batch + 1)
        begun_us = self._clock.ticks_us()
        first_ms = sent_ms = self._clock.now().mono_ms
        settle = False
        while True:
            try:
                by_this_call = await write(fence, settle)
                break
            except (CommitUnknown, StoreUnavailable) as error:
                settle = settle or isinstance(error, CommitUnknown)
                self._stats.count("commits_retried")
                _log.warning("batch_not_known", **fence._asdict(), error=str(error))
                await self._patience.pause()
            sent_ms = self._clock.now().mono_ms
        self._patience.reset()
        self._batch = fence.batch
        self._sent_ms = sent_ms if by_this_call else first_ms
        self.committed_wall_us = self._clock.now().wall_us
        self._stats.time("commit", self._clock.ticks_us() - begun_us)
