"""What agents remember of the shards that are led here, against what the store had.

Decides whether the store went back in time: an agent keeps the highest (epoch, batch) of each shard
durably, and it hears of a batch only when that is committed. A memory above what the store had at
the takeover means that the store lost commits. Promises one alarm a shard and epoch. Does not mend
anything, and does not know sessions that are over.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from controlplane.leader.claim import Batches, Claim
from controlplane.leader.sessions.session import Session
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)


class Memory(NamedTuple):
    """The highest word of a shard that any agent remembers, and when this node heard of it."""

    epoch: int
    batch: int
    agent: str
    heard_ms: int


class Memories:
    """One entry a shard, for the life of the node."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._highest: dict[int, Memory] = {}
        self._alarmed: set[tuple[int, int]] = set()

    def heard(self, session: Session) -> None:
        """Takes in what the hello of a session said."""
        for shard, (epoch, batch) in session.memories.items():
            known = self._highest.get(shard)
            if known is None or (epoch, batch) > known[:2]:
                memory = Memory(epoch, batch, session.agent, session.opened_ms)
                self._highest[shard] = memory

    def check(self, claim: Claim, batches: Batches) -> None:
        """Compares the memory of a shard with what its leader here knows of the store."""
        memory = self._highest.get(claim.shard)
        name = claim.shard, claim.epoch
        if memory is None or name in self._alarmed or not _is_above(memory, claim, batches):
            return
        self._alarmed.add(name)
        self._stats.count("stores_went_back")
        _log.error(
            "store_went_back",
            shard=claim.shard,
            epoch=claim.epoch,
            agent=memory.agent,
            seen_epoch=memory.epoch,
            seen_batch=memory.batch,
        )


def _is_above(memory: Memory, claim: Claim, batches: Batches) -> bool:
    """Whether the store surely lost what an agent remembers.

    A later epoch may be that of another leader which has deposed this one: it is proof only when a
    fence of this one was sent afterwards and passed. Of the epoch before, the last batch is known
    as it was read for the takeover; a leader that commits between that reading and its deposition
    raises a false alarm.
    """
    if memory.epoch > claim.epoch:
        return batches.sent_ms > memory.heard_ms
    if memory.epoch == claim.epoch:
        return memory.batch > batches.batch
    return memory.epoch == claim.epoch - 1 and memory.batch > claim.batch_before
