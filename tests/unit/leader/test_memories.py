import pytest
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.claim import Claim
from controlplane.leader.sessions.memories import Memories
from controlplane.leader.sessions.session import greeted
from controlplane.telemetry.stats import Stats
from tests.unit.leader.test_session import hello

CLAIM = Claim(0, 7, b"h" * 16, batch_before=40)
HEARD_MS = 100


class Batches:
    def __init__(self, batch=12, sent_ms=0):
        self.batch, self.sent_ms = batch, sent_ms


def alarms(stats):
    return stats.counters().get("stores_went_back", 0)


def heard(*memories):
    stats = Stats()
    found = Memories(stats)
    for shard, epoch, batch in memories:
        entry = pb.ShardMemory(shard=shard, epoch=epoch, batch=batch)
        found.heard(greeted(hello(memories=[entry]), HEARD_MS))
    return found, stats


@pytest.mark.parametrize(
    ("epoch", "batch", "sent_ms", "went_back"),
    [
        (5, 99, 0, False),
        (6, 40, 0, False),
        (6, 41, 0, True),
        (7, 12, 0, False),
        (7, 13, 0, True),
        (8, 1, HEARD_MS, False),
        (8, 1, HEARD_MS + 1, True),
    ],
)
def test_a_memory_above_what_the_store_had_raises_the_alarm(epoch, batch, sent_ms, went_back):
    memories, stats = heard((0, epoch, batch))
    memories.check(CLAIM, Batches(sent_ms=sent_ms))
    assert alarms(stats) == went_back


def test_the_highest_memory_of_all_agents_counts():
    memories, stats = heard((0, 6, 41), (0, 6, 3), (0, 5, 99))
    memories.check(CLAIM, Batches())
    assert alarms(stats) == 1


def test_the_alarm_is_raised_once_in_an_epoch():
    memories, stats = heard((0, 8, 1))
    for epoch in (6, 6, 7):
        memories.check(CLAIM._replace(epoch=epoch), Batches(sent_ms=HEARD_MS + 1))
    assert alarms(stats) == 2


def test_a_shard_that_nobody_remembers_is_fine():
    memories, stats = heard((3, 99, 1))
    memories.check(CLAIM, Batches())
    assert alarms(stats) == 0
