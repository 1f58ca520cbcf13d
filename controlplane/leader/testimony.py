"""What is done with words that a leader spoke and the store may not know.

Decides that one of them which the store contradicts proves that it went back in time: all shards
are marked, which deposes their leaders. Promises an alarm for each time that it marked. Does not
know who remembered the words.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from controlplane.store.ports import ShardStore
from controlplane.store.records import ShardWord
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)


async def testify(store: ShardStore, words: Sequence[ShardWord], stats: Stats) -> None:
    """Marks all shards if the store forgot one of the words. Raises StoreUnavailable."""
    wrong = await store.contradicted(words) if words else []
    if not wrong:
        return
    worst = max(wrong, key=lambda word: (word.epoch, word.batch))
    reason = (
        f"batch {worst.batch} of epoch {worst.epoch} of shard {worst.shard} was committed"
        " and is not there"
    )
    epochs = await store.mark_restored(reason, wrong)
    if epochs:
        stats.count("stores_went_back")
        _log.error("store_went_back", reason=reason, shards=sorted(epochs))
