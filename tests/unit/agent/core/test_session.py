from __future__ import annotations

import pytest

from agent.core import entries, events
from agent.core.actions import CloseSession, Note
from agent.core.records import AcceptedRecord
from agent.core.session import BACKOFF_LAST_MS, BEATS_KEPT, HANDSHAKE_MS, EpochMemory, Link
from agent.core.types import Containment
from tests.unit.agent.core.driver import (
    FIRST,
    HOLDER,
    LEASE_MS,
    Driver,
    assignment,
    journal,
    leadership,
)


def test_the_memory_of_epochs_refuses_lower_epochs_and_other_holders():
    memory = EpochMemory()
    assert memory.get(0) is None
    assert memory.note(leadership(0, 5))
    assert memory.note(leadership(0, 5))
    assert not memory.note(leadership(0, 4))
    assert not memory.note(leadership(0, 5, b"other"))
    assert memory.note(leadership(0, 6, b"other"))


def test_the_memory_of_epochs_keeps_the_highest_batch():
    memory = EpochMemory()
    memory.note(leadership(0, 5, batch=7))
    memory.note(leadership(0, 5, batch=3))
    memory.note_batch(0, 2)
    assert memory.get(0) == leadership(0, 5, batch=7)
    memory.note_batch(0, 8)
    assert memory.get(0) == leadership(0, 5, batch=8)
    memory.note(leadership(0, 5, batch=9))
    assert memory.get(0) == leadership(0, 5, batch=9)


def test_the_memory_of_epochs_begins_with_what_was_recorded():
    memory = EpochMemory([leadership(3, 5, batch=7)])
    assert not memory.note(leadership(3, 4))
    assert memory.told() == (entries.ShardMemory(3, 5, 7, HOLDER),)


def test_no_session_is_opened_before_a_supervisor_has_answered():
    driver = Driver(supervised=False)
    assert driver.core.next_deadline() is None
    assert driver.tick() == []
    driver.supervisor()
    assert driver.core.next_deadline() == driver.now_ms
    driver.handle(events.SupervisorGone("killed"))
    assert driver.last == [Note("the supervisor is gone: killed")]
    driver.tick()
    assert driver.opened() == [("h:1", FIRST)]


def test_a_hello_tells_the_highest_epochs_and_how_well_tasks_are_contained():
    driver = Driver(state=journal(leadership(2, 4, batch=9), number=3), supervised=False)
    driver.handle(events.SupervisorReady(Containment.PROCESS, ()))
    driver.tick()
    (stream,) = driver.opened()
    assert stream == ("h:1", 3 * FIRST)
    driver.handle(events.NodeConnected(*stream))
    (hello,) = driver.said("h:1")
    assert hello.containment is Containment.PROCESS
    assert hello.memories == (entries.ShardMemory(2, 4, 9, HOLDER),)


def test_every_seed_is_opened_under_a_number_of_its_own():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    assert driver.opened() == [("h:1", FIRST), ("h:2", FIRST + 1)]


def test_the_first_word_of_a_session_is_hello():
    driver = Driver()
    driver.tick()
    driver.handle(events.NodeConnected("h:1", FIRST))
    (hello,) = driver.said("h:1")
    assert (hello.agent, hello.session, hello.version) == ("a-1", FIRST, "0.1")
    driver.handle(events.NodeConnected("h:1", FIRST - 1))
    assert driver.last == []


def test_a_session_that_is_not_welcomed_in_time_is_opened_again():
    driver = Driver()
    driver.tick()
    driver.tick(HANDSHAKE_MS)
    assert driver.did(CloseSession) == [CloseSession("h:1", FIRST, "no sign of life")]
    driver.tick(100)
    assert driver.opened() == [("h:1", FIRST + 1)]


def test_failures_are_repeated_at_growing_distances_up_to_a_limit():
    driver = Driver()
    pauses = []
    driver.tick()
    for _ in range(12):
        ((address, session),) = driver.opened()
        driver.handle(events.NodeLost(address, session, "refused"))
        pauses.append(driver.core.next_deadline() - driver.now_ms)
        driver.tick(pauses[-1])
    assert 50 <= pauses[0] <= 100
    assert all(BACKOFF_LAST_MS / 2 <= pause <= BACKOFF_LAST_MS for pause in pauses[-4:])


def test_what_belongs_to_an_older_session_is_dropped():
    driver = Driver()
    address, session = driver.connect("n1", leadership(0))
    old = (address, session - 1)
    assert driver.handle(events.NodeLost(*old, "late")) == []
    assert driver.welcome(old, "n1", leadership(1)) == []
    assert driver.handle(events.NodeLost("h:9", 1, "unknown")) == []


def test_a_welcome_that_answers_another_hello_is_ignored():
    driver = Driver()
    driver.tick()
    welcome = entries.Welcome("n1", (leadership(0),), (), 1_000, FIRST - 1, LEASE_MS)
    driver.frame(("h:1", FIRST), welcome=welcome, result_acks=(b"x",))
    assert driver.last == []


def test_inventories_go_out_for_newly_led_shards_only():
    driver = Driver()
    stream = driver.connect("n1", leadership(0), leadership(1, 3))
    told = [(i.shard, i.epoch) for i in driver.said("h:1", entries.Inventory)]
    assert told == [(0, 1), (1, 3)]
    driver.welcome(stream, "n1", leadership(0), leadership(1, 4), leadership(2))
    told = [(i.shard, i.epoch) for i in driver.said("h:1", entries.Inventory)]
    assert told == [(1, 4), (2, 1)]
    driver.welcome(stream, "n1", leadership(2))
    assert driver.said("h:1", entries.Inventory) == []
    driver.welcome(stream, "n1", leadership(0), leadership(2))
    assert [i.shard for i in driver.said("h:1", entries.Inventory)] == [0]


def test_what_is_seen_of_a_shard_is_on_disk_before_its_inventory():
    driver = Driver()
    stream = driver.connect("n1", leadership(0), leadership(1, 3, batch=5))
    assert driver.records == [(leadership(0), True), (leadership(1, 3, batch=5), True)]
    assert driver.all[-1] == driver.last[-1]
    driver.welcome(stream, "n1", leadership(0, batch=2), leadership(1, 3, batch=4))
    assert driver.records == [(leadership(0, batch=2), True)]


def test_who_claims_a_shard_anew_is_told_what_was_seen_of_it_before():
    driver = Driver()
    stream = driver.connect("n1", leadership(0, 4, batch=7))
    assert driver.said("h:1", entries.ShardMemory) == []
    driver.welcome(stream, "n1", leadership(0, 4, batch=8))
    assert driver.said("h:1", entries.ShardMemory) == []
    driver.welcome(stream, "n1", leadership(0, 5))
    memory, inventory = driver.said("h:1")[:2]
    assert memory == entries.ShardMemory(0, 4, 8, HOLDER)
    assert inventory.epoch == 5


@pytest.mark.parametrize("claim", [leadership(0, 3), leadership(0, 4, b"o" * 16)])
def test_who_claims_what_is_over_or_of_another_is_told_so(claim):
    driver = Driver()
    stream = driver.connect("n1", leadership(0, 4, batch=7))
    driver.welcome(stream, "n1", claim)
    memories = driver.said("h:1", entries.ShardMemory)
    assert memories == [entries.ShardMemory(0, 4, 7, HOLDER)]


def test_a_refused_claim_is_not_recorded():
    driver = Driver(state=journal(leadership(0, 5)))
    driver.connect("n1", leadership(0, 4))
    assert driver.records == []
    assert driver.said("h:1", entries.Inventory) == []


def test_a_claim_of_an_epoch_that_is_over_gets_no_inventory():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1", leadership(0, 2))
    driver.welcome(second, "n2", leadership(0, 1))
    assert driver.said("h:2", entries.Inventory) == []
    assert [(n.address, n.shard) for n in driver.did(Note)] == [("h:2", 0)]


def test_a_lost_session_gives_up_only_what_it_still_led():
    driver = Driver(("h:1", "h:2"))
    driver.tick()
    first, second = driver.opened()
    driver.welcome(first, "n1", leadership(0), leadership(1))
    driver.welcome(second, "n2", leadership(0, 2))
    driver.handle(events.NodeLost(*first, "gone"))
    assert driver.core.sessions.leader(0).address == "h:2"
    assert driver.core.sessions.leader(1) is None


def test_heartbeats_are_numbered_and_come_at_the_pace_of_the_welcome():
    driver = Driver()
    stream = driver.connect()
    beats = []
    for _ in range(3):
        assert driver.core.next_deadline() <= driver.now_ms + 1_000
        driver.now_ms = driver.core.next_deadline()
        driver.tick()
        beats += [(b.beat, driver.now_ms) for b in driver.said("h:1", entries.Heartbeat)]
        driver.frame(stream)
    assert beats == [(1, 1_000), (2, 2_000), (3, 3_000)]


def test_a_pace_that_is_missing_or_absurd_is_replaced():
    driver = Driver()
    stream = driver.connect()
    driver.tick()
    driver.welcome(stream, "n1", heartbeat_ms=1)
    assert driver.core.next_deadline() == driver.now_ms + 100
    driver.tick(100)
    driver.welcome(stream, "n1", heartbeat_ms=0)
    driver.tick(100)
    assert driver.core.next_deadline() == driver.now_ms + 5_000


def test_a_silent_node_is_given_up_after_three_beats():
    driver = Driver()
    driver.connect()
    for _ in range(3):
        driver.tick(999)
        assert driver.did(CloseSession) == []
    driver.tick(3)
    assert driver.did(CloseSession) == [CloseSession("h:1", FIRST, "no sign of life")]


def test_peers_are_learned_and_forgotten_with_those_who_name_them():
    driver = Driver()
    stream = driver.connect(peers=["h:1", "h:2", "h:3"])
    driver.tick()
    opened = driver.opened()
    assert [address for address, _ in opened] == ["h:2", "h:3"]
    driver.welcome(opened[0], "n2", peers=["h:2"])
    driver.welcome(stream, "n1", peers=["h:2"])
    driver.handle(events.NodeLost(*opened[1], "gone"))
    driver.tick(10_000)
    assert "h:3" not in [address for address, _ in driver.opened()]


def test_without_any_node_the_known_peers_are_tried_on():
    driver = Driver()
    stream = driver.connect(peers=["h:2"])
    driver.handle(events.NodeLost(*stream, "gone"))
    driver.tick(200)
    assert [address for address, _ in driver.opened()] == ["h:1", "h:2"]


def test_two_addresses_of_one_node_do_not_push_each_other_out():
    driver = Driver(("localhost:1",))
    seed = driver.connect("n1", leadership(0), peers=["127.0.0.1:1"])
    driver.tick()
    (peer,) = driver.opened()
    driver.welcome(peer, "n1", leadership(0), peers=["127.0.0.1:1"])
    assert [c.address for c in driver.did(CloseSession)] == ["localhost:1"]
    assert [i.shard for i in driver.said("127.0.0.1:1", entries.Inventory)] == [0]
    driver.frame(peer)
    driver.tick(2_000)
    assert driver.opened() == []
    driver.handle(events.NodeLost(*seed, "closed"))
    assert driver.last == []
    driver.handle(events.NodeLost(*peer, "gone"))
    driver.tick(200)
    assert [address for address, _ in driver.opened()] == ["localhost:1", "127.0.0.1:1"]


def test_three_addresses_of_one_node_come_to_rest():
    driver = Driver(("localhost:1", "127.0.0.1:1", "h:1"))
    driver.tick()
    streams = driver.opened()
    for stream in streams:
        driver.welcome(stream, "n1", leadership(0))
    assert [link.address for link in driver.core.sessions.welcomed()] == ["h:1"]
    for _ in range(10):
        driver.tick(1_000)
        assert driver.opened() == []
        driver.frame(streams[-1])
    driver.handle(events.NodeLost(*streams[-1], "gone"))
    driver.tick(200)
    assert len(driver.opened()) == 3


def test_an_alias_rests_while_other_nodes_come_and_go():
    driver = Driver(("localhost:1", "h:2"))
    driver.tick()
    seed, other = driver.opened()
    driver.welcome(seed, "n1", peers=["127.0.0.1:1"])
    driver.welcome(other, "n2", peers=["127.0.0.1:1"])
    driver.tick()
    (peer,) = driver.opened()
    driver.welcome(peer, "n1", peers=["127.0.0.1:1"])
    driver.handle(events.NodeLost(*other, "gone"))
    driver.tick(200)
    assert [address for address, _ in driver.opened()] == ["h:2"]


def test_an_agent_without_seeds_has_nothing_to_wait_for():
    assert Driver(()).core.next_deadline() is None


def test_a_lease_counts_from_the_sending_of_the_beat_that_is_answered():
    link = Link("h:1", 0, attempt_lease_ms=100)
    link.beats(0, 1_000)
    link.beats(1, 1_050)
    assert [link.lease_until_ms(beat) for beat in (0, 1, 2)] == [1_100, 1_150, 0]


def test_only_the_last_beats_count():
    link = Link("h:1", 0, attempt_lease_ms=100)
    for beat in range(BEATS_KEPT + 2):
        link.beats(beat, 1_000 + beat)
    assert link.lease_until_ms(1) == 0
    assert link.lease_until_ms(2) == 1_102


def test_a_new_session_knows_no_beat_of_the_one_before():
    driver = Driver()
    stream = driver.connect("n1", leadership(0))
    driver.tick()
    assert [b.beat for b in driver.said("h:1", entries.Heartbeat)] == [1]
    driver.handle(events.NodeLost(*stream, "gone"))
    stream = driver.connect("n1", leadership(0), after_ms=200)
    driver.assign(stream, assignment(1, beat=1))
    assert [type(e) for e in driver.said("h:1")] == [entries.Rejected]
    driver.assign(stream, assignment(2, beat=0))
    accepted = AcceptedRecord(assignment(2, beat=0), driver.now_ms + LEASE_MS)
    assert driver.records == [(accepted, True)]


@pytest.mark.parametrize("denied", [True, False])
def test_a_lost_session_is_noted(denied: bool):
    driver = Driver()
    stream = driver.connect()
    driver.handle(events.NodeLost(*stream, "reset", denied=denied))
    assert driver.did(Note) == [Note("session ended: reset", "h:1")]
