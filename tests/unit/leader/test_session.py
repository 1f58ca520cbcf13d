import pytest
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.leader.sessions.session import Refused, greeted


def hello(**changes):
    fields = {
        "agent": "a-1",
        "incarnation": b"i" * 16,
        "boot_id": "b",
        "protocol_version": 1,
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
    ("frame", "reason", "words"),
    [
        (pb.SessionRequest(), pb.REFUSAL_REASON_BAD_HELLO, "must be a hello"),
        (hello(protocol_version=2), pb.REFUSAL_REASON_VERSION, "version 1"),
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
