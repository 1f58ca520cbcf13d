import pytest
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.sessions.session import BEATS_KEPT, MOST_EPOCH, Refused, greeted
from controlplane.store.records import ShardWord


def hello(**changes):
    fields = {
        "agent": "a-1",
        "incarnation": b"i" * 16,
        "boot_id": "b",
        "protocol_version": 2,
        "capacity": pb.Capacity(cpu_millis=4_000, memory_bytes=1),
        "version": "0.1",
        "session": 3,
    }
    return pb.SessionRequest(hello=pb.Hello(**{**fields, **changes}))


def test_a_well_formed_hello_begins_a_session():
    session = greeted(hello(), 5)
    assert (session.agent, session.number, session.heard_ms) == ("a-1", 3, 5)
    assert session.capacity.cpu_millis == 4_000
    assert session.live


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (pb.CONTAINMENT_UNSPECIFIED, ""),
        (pb.CONTAINMENT_NAMESPACE, "namespace"),
        (pb.CONTAINMENT_PROCESS, "process"),
        (9, ""),
    ],
)
def test_containment_is_a_word(said, word):
    assert greeted(hello(containment=said), 0).containment == word


@pytest.mark.parametrize(
    ("frame", "reason", "words"),
    [
        (pb.SessionRequest(), pb.REFUSAL_REASON_BAD_HELLO, "must be a hello"),
        (hello(protocol_version=1), pb.REFUSAL_REASON_VERSION, "version 2"),
        (hello(agent=""), pb.REFUSAL_REASON_BAD_HELLO, "name is missing"),
        (hello(agent="a b"), pb.REFUSAL_REASON_BAD_HELLO, "is not an id"),
        (hello(incarnation=b"i"), pb.REFUSAL_REASON_BAD_HELLO, "16 bytes"),
        (hello(boot_id="\0"), pb.REFUSAL_REASON_BAD_HELLO, "boot_id"),
        (hello(version="v" * 300), pb.REFUSAL_REASON_BAD_HELLO, "version"),
        (hello(capacity=pb.Capacity(cpu_millis=-1)), pb.REFUSAL_REASON_BAD_HELLO, "negative"),
    ],
)
def test_any_other_first_frame_is_refused(frame, reason, words):
    with pytest.raises(Refused, match=words) as caught:
        greeted(frame, 0)
    assert caught.value.reason == reason


def test_the_newest_heartbeat_received_before_a_decision_is_echoed():
    session = greeted(hello(), 10)
    assert (session.beat_at(10), session.beat_at(9)) == (0, None)
    session.beat_came(1, 20)
    session.beat_came(2, 30)
    assert [session.beat_at(decided_ms) for decided_ms in (9, 19, 20, 29, 30, 99)] == [
        None,
        0,
        1,
        1,
        2,
        2,
    ]


def test_of_what_is_longer_ago_than_heartbeats_are_kept_the_hello_is_echoed():
    session = greeted(hello(), 0)
    for beat in range(1, BEATS_KEPT + 3):
        session.beat_came(beat, 10 * beat)
    assert session.beat_at(20) == 0
    assert session.beat_at(30) == 3


def test_a_heartbeat_that_comes_again_is_not_newer():
    session = greeted(hello(), 0)
    session.beat_came(2, 20)
    session.beat_came(2, 30)
    session.beat_came(1, 40)
    assert (session.beat, session.beat_at(29)) == (2, 2)


def test_what_the_agent_remembers_of_shards_is_kept():
    memory = pb.ShardMemory(shard=3, epoch=4, batch=5, holder=b"h")
    assert greeted(hello(memories=[memory]), 0).words == [ShardWord(3, 4, b"h", 5)]


def test_an_epoch_that_no_shard_can_be_in_is_not_believed():
    memories = [pb.ShardMemory(shard=3, epoch=epoch) for epoch in (MOST_EPOCH, MOST_EPOCH + 1)]
    assert greeted(hello(memories=memories), 0).words == [ShardWord(3, MOST_EPOCH, b"", 0)]
