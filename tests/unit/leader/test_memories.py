"""Which words of agents are put before the store, and when again; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.leader.claim import Claim
from controlplane.leader.sessions.memories import RETRY_S, TAKEOVERS_KEPT, Memories
from controlplane.store.errors import StoreUnavailable
from controlplane.store.records import ShardState, ShardWord
from controlplane.telemetry.stats import Stats
from tests.sim.virtual import pass_time, run_virtual

HOLDER, OTHER = b"h" * 16, b"o" * 16
CLAIM = Claim(0, 7, HOLDER, restored_epoch=3)


class Batches:
    batch, sent_ms = 12, 0


class Judge:
    """A store that knows what it is told to know."""

    def __init__(self, *unknown: ShardWord) -> None:
        self.unknown, self.asked, self.marks = unknown, [], []
        self.away = 0
        self.epoch = CLAIM.epoch
        self.before_answer = lambda: None

    async def contradicted(self, words):
        self.before_answer()
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        self.asked.append(sorted(words))
        known = self.epoch if self.marks else 0
        return [word for word in words if word in self.unknown and word.epoch > known]

    async def mark_restored(self, reason, words):
        self.marks.append(reason)
        self.epoch = 1_008
        return {0: 1_008} if len(self.marks) == 1 else {}

    async def read_shard(self, shard):
        return ShardState(shard, self.epoch, 0, HOLDER, "", "", 0)


def judged(memories, judge):
    """Runs until the judge has nothing more to say; whether what waited for it was done."""
    answers = []
    memories.defer(lambda: answers.append(1))

    async def main():
        task = asyncio.ensure_future(memories.run(judge))
        await pass_time(5.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(main())
    return len(answers)


def hearing(*words, led=True, stats=None):
    memories = Memories(stats or Stats())
    if led:
        memories.lead(CLAIM, Batches())
    memories.hear(words)
    return memories


@pytest.mark.parametrize(
    "word",
    [
        ShardWord(0, 7, HOLDER, 12),
        ShardWord(0, 7, b"", 3),
        ShardWord(0, 2, OTHER, 99),
        ShardWord(1, 9, OTHER, 1),
    ],
    ids=["its own", "without a holder", "before a known restore", "led elsewhere"],
)
def test_what_needs_no_proof_is_not_put_before_the_store(word):
    memories = hearing(word)
    assert not memories.judging(0)
    judge = Judge()
    judged(memories, judge)
    assert judge.asked == []


@pytest.mark.parametrize(
    "word",
    [
        ShardWord(0, 7, HOLDER, 13),
        ShardWord(0, 7, OTHER, 1),
        ShardWord(0, 8, OTHER, 1),
        ShardWord(0, 6, OTHER, 1),
    ],
)
def test_anything_else_is_put_before_it_once(word):
    memories = hearing(word)
    assert memories.judging(0)
    judge = Judge()
    assert judged(memories, judge) == 1
    assert judge.asked == [[word]]
    assert not memories.judging(0)
    memories.hear([word])
    assert not memories.judging(0)


def test_a_higher_batch_of_the_same_takeover_is_put_before_it_again():
    memories, judge = hearing(ShardWord(0, 6, OTHER, 1)), Judge()
    judged(memories, judge)
    memories.hear([ShardWord(0, 6, OTHER, 5), ShardWord(0, 6, OTHER, 4)])
    judged(memories, judge)
    assert judge.asked[1] == [ShardWord(0, 6, OTHER, 5)]


def test_what_is_heard_while_the_store_is_asked_is_asked_next():
    memories, judge = hearing(ShardWord(0, 6, OTHER, 1)), Judge()
    later = [ShardWord(0, 6, OTHER, 8)]
    judge.before_answer = lambda: memories.hear(later) if not judge.asked else None
    judged(memories, judge)
    assert judge.asked == [[ShardWord(0, 6, OTHER, 1)], later]


def test_what_was_heard_before_a_shard_is_led_is_put_before_the_store_then():
    word = ShardWord(0, 6, OTHER, 1)
    memories = hearing(word, led=False)
    assert not memories.judging(0)
    memories.lead(CLAIM, Batches())
    assert memories.judging(0)
    assert memories.words(0) == [word]


def test_what_is_heard_of_a_shard_that_is_led_here_no_more_is_kept_only():
    memories = hearing()
    memories.withdraw(CLAIM)
    memories.hear([ShardWord(0, 6, OTHER, 1)])
    assert not memories.judging(0)
    assert memories.words(0) == [ShardWord(0, 6, OTHER, 1)]


def test_a_store_that_does_not_answer_is_asked_again():
    memories, judge = hearing(ShardWord(0, 6, OTHER, 1)), Judge()
    judge.away = 3
    assert 3 * RETRY_S < 5.0
    assert judged(memories, judge) == 1


def test_a_word_that_the_store_does_not_know_raises_one_alarm():
    stats, word = Stats(), ShardWord(0, 8, OTHER, 1)
    memories, judge = hearing(word, stats=stats), Judge(word)
    judged(memories, judge)
    memories.hear([ShardWord(0, 9, OTHER, 1)])
    judged(memories, judge)
    assert len(judge.marks) == 1
    assert "epoch 8 of shard 0" in judge.marks[0]
    assert stats.counters()["stores_went_back"] == 1


@pytest.mark.parametrize("by_others", [False, True], ids=["by these words", "by others"])
def test_a_leader_that_was_deposed_is_told_nothing_more(by_others):
    word = ShardWord(0, 6, OTHER, 99)
    memories, judge = hearing(word), Judge() if by_others else Judge(word)
    if by_others:
        judge.epoch = 1_008
    waiting = []
    memories.defer(lambda: waiting.append(memories.judging(0)))
    judged(memories, judge)
    assert waiting == [True]
    memories.withdraw(CLAIM)
    # What waited for it is looked at, though nothing more is asked.
    assert judged(memories, judge) == 1
    memories.lead(Claim(0, 1_009, HOLDER, restored_epoch=1_008), Batches())
    assert not memories.judging(0)


def test_a_leader_that_goes_while_the_store_is_asked_spoils_nothing():
    memories, judge = hearing(ShardWord(0, 8, OTHER, 1)), Judge()
    judge.before_answer = lambda: memories.withdraw(CLAIM) if not judge.asked else None
    assert judged(memories, judge) == 1


def test_the_words_of_the_highest_takeovers_are_kept():
    many = [ShardWord(0, 100 + n, OTHER, 1) for n in range(2 * TAKEOVERS_KEPT)]
    memories = hearing(*many)
    assert memories.words(0) == many[TAKEOVERS_KEPT:]
    judge = Judge()
    judge.before_answer = lambda: memories.hear([ShardWord(0, 200, OTHER, 1)])
    judged(memories, judge)
    assert judge.asked == [many[TAKEOVERS_KEPT:], [ShardWord(0, 200, OTHER, 1)]]
    assert not memories.judging(0)
