"""What agents remember of shards, against what the store has.

Decides which words have to be put before the store: an agent keeps the highest epoch and batch of
each shard durably, and it hears of a batch only when that is committed; what the leader here said
itself since its takeover needs no proof, anything else does. Promises that a word is put before the
store again until that answers, and that words of a shard under judgement are known: what their
agents hold must wait for it, since a leader that knows nothing would stop it, or start it again.
Does not know what the store finds out by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from controlplane.leader.claim import Batches, Claim
from controlplane.leader.testimony import testify
from controlplane.store.errors import StoreError
from controlplane.store.ports import ShardStore
from controlplane.store.records import ShardWord
from controlplane.telemetry.stats import Stats

_log = structlog.get_logger(__name__)

# Of a shard the words of so many takeovers are kept, the highest ones.
TAKEOVERS_KEPT = 16
RETRY_S = 0.2

Led = tuple[Claim, Batches]


class Memories:
    """The words of all sessions of a node, for its life."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        # By shard: (epoch, holder) → the highest batch; heard, and found to be right.
        self._heard: dict[int, dict[tuple[int, bytes], int]] = {}
        self._right: dict[int, dict[tuple[int, bytes], int]] = {}
        self._asking: dict[int, set[tuple[int, bytes]]] = {}
        self._asked = asyncio.Event()
        self._led: dict[int, Led] = {}
        # What may be done once the store has answered.
        self._deferred: list[Callable[[], None]] = []

    def hear(self, words: Iterable[ShardWord]) -> None:
        """Takes in what an agent says. Of shards that are led elsewhere, their node hears too."""
        for word in words:
            mine = self._heard.setdefault(word.shard, {})
            name = word.epoch, word.holder
            mine[name] = max(word.batch, mine.get(name, 0))
            if len(mine) > TAKEOVERS_KEPT:
                self._drop(word.shard, min(mine))
            if word.shard in self._led:
                self._ask(word, *self._led[word.shard])

    def lead(self, claim: Claim, batches: Batches) -> None:
        """A shard is led here from now on: what was heard of it before is put before the store."""
        self._led[claim.shard] = claim, batches
        for word in self.words(claim.shard):
            self._ask(word, claim, batches)

    def withdraw(self, claim: Claim) -> None:
        """A shard is not led here any more: nobody here waits for what is said of it."""
        del self._led[claim.shard]
        self._asking.pop(claim.shard, None)
        self._asked.set()

    def words(self, shard: int) -> list[ShardWord]:
        """All that was heard of a shard."""
        return [ShardWord(shard, *name, n) for name, n in self._heard.get(shard, {}).items()]

    def judging(self, shard: int) -> bool:
        """Whether words of a shard are before the store."""
        return bool(self._asking.get(shard))

    def defer(self, do: Callable[[], None]) -> None:
        """Has something done when the store has answered; it looks again by itself."""
        self._deferred.append(do)

    async def run(self, store: ShardStore) -> None:
        """Puts words before the store, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            words = [
                ShardWord(shard, *name, self._heard[shard][name])
                for shard, names in self._asking.items()
                for name in names
            ]
            led, asking = dict(self._led), {word.shard for word in words}
            try:
                # None: what was asked last is forgotten, or was for a leader that has gone.
                await testify(store, words, self._stats)
                epochs = {shard: (await store.read_shard(shard)).epoch for shard in asking}
            except StoreError as error:
                _log.info("memories_not_judged", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._asked.set()
            else:
                self._settle([word for word in words if self._leads(word.shard, led, epochs)])
                deferred, self._deferred = self._deferred, []
                for do in deferred:
                    do()

    def _leads(self, shard: int, led: dict[int, Led], epochs: dict[int, int]) -> bool:
        """Whether who led a shard here when the store was asked still does. A leader that was
        deposed, maybe by these very words, would take what an agent holds for news of its own rows:
        until it goes, its shard stays under judgement.
        """
        return self._led.get(shard) is led[shard] and led[shard][0].epoch == epochs[shard]

    def _drop(self, shard: int, name: tuple[int, bytes]) -> None:
        del self._heard[shard][name]
        self._right.get(shard, {}).pop(name, None)
        self._asking.get(shard, set()).discard(name)

    def _settle(self, words: Iterable[ShardWord]) -> None:
        for shard, epoch, holder, batch in words:
            name = epoch, holder
            heard = self._heard[shard].get(name)
            if heard is None:
                continue
            self._right.setdefault(shard, {})[name] = batch
            if heard > batch:
                self._asked.set()
            else:
                self._asking[shard].discard(name)

    def _ask(self, word: ShardWord, claim: Claim, batches: Batches) -> None:
        name = word.epoch, word.holder
        right = self._right.get(word.shard, {}).get(name, -1)
        known = name in self._heard[word.shard]
        if known and word.batch > right and not _own(word, claim, batches):
            self._asking.setdefault(word.shard, set()).add(name)
            self._asked.set()


def _own(word: ShardWord, claim: Claim, batches: Batches) -> bool:
    """Whether the leader here said so itself, or it was said before a restore that is known."""
    if word.epoch < claim.restored_epoch:
        return True
    same = word.epoch == claim.epoch and word.holder in {b"", claim.holder}
    return same and word.batch <= batches.batch
