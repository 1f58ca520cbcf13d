from __future__ import annotations

from collections import deque

import pytest
from mainspring.agent.v1 import session_pb2 as pb

from agent.core import entries
from agent.core.types import (
    NOTHING,
    Amount,
    Containment,
    ExecSpec,
    Outcome,
    RefusalReason,
    RejectReason,
)
from agent.stream.codec import (
    FRAME_BYTES,
    CodecError,
    assign_message,
    assign_of,
    decode,
    encode,
    result_message,
    result_of,
)

ID = b"a" * 16


def test_entries_of_one_turn_share_a_frame():
    result = entries.Result(1, ID, Outcome.FAILED, -1, 9, 4, 5, 6, 7, "why")
    pending: deque[entries.Entry] = deque(
        [
            entries.Heartbeat(3, Amount(1, 2)),
            result,
            entries.Grant(1, Amount(5, 6)),
            entries.Recall(1, Amount(7, 8)),
            entries.Inventory(2, 3, (entries.LiveAttempt(ID, 4),), (result,)),
        ]
    )
    frame = encode(pending)
    assert not pending
    message = pb.Result(
        shard=1,
        attempt_id=ID,
        outcome=pb.OUTCOME_FAILED,
        exit_code=-1,
        signal=9,
        started_at_us=4,
        finished_at_us=5,
        stdout_bytes=6,
        stderr_bytes=7,
        message="why",
    )
    assert list(frame.results) == list(frame.inventories[0].finished) == [message]
    assert frame.heartbeat == pb.Heartbeat(beat=3, cpu_used_millis=1, memory_used_bytes=2)
    assert frame.grant.amount == pb.Capacity(cpu_millis=5, memory_bytes=6)
    assert frame.recall.amount == pb.Capacity(cpu_millis=7, memory_bytes=8)


def test_frames_are_cut_before_they_grow_too_large():
    piece = entries.LogData(1, is_stderr=False, offset=0, data=b"x" * 400_000, eof=False)
    pending: deque[entries.Entry] = deque([piece] * 5)
    sizes = []
    while pending:
        sizes.append(encode(pending).ByteSize())
    assert len(sizes) == 2
    assert max(sizes) < FRAME_BYTES + 500_000


def test_an_unreadable_specification_does_not_end_the_session():
    message = pb.Assign(attempt_id=ID, spec=b"\xff\xff")
    (assign,) = decode(pb.SessionResponse(assigns=[message])).assigns
    assert assign.spec is None


def test_a_specification_becomes_a_value():
    spec = pb.ExecSpec(argv=["a"], env={"K": "v"}, cwd="/x", timeout_ms=1, grace_ms=2)
    message = pb.Assign(attempt_id=ID, spec=spec.SerializeToString())
    (assign,) = decode(pb.SessionResponse(assigns=[message])).assigns
    assert assign.spec.argv == ("a",)
    assert (assign.spec.env, assign.spec.cwd) == ((("K", "v"),), "/x")
    assert (assign.spec.timeout_ms, assign.spec.grace_ms) == (1, 2)
    assert assign.request == NOTHING


@pytest.mark.parametrize("field", ["assigns", "cancels"])
def test_an_attempt_id_of_another_length_breaks_the_contract(field: str):
    kind = {"assigns": pb.Assign, "cancels": pb.Cancel}[field]
    with pytest.raises(CodecError, match="3 bytes"):
        decode(pb.SessionResponse(**{field: [kind(attempt_id=b"abc")]}))


def test_a_hello_says_what_it_has_seen():
    memories = (entries.ShardMemory(1, 2, 3, b"h"), entries.ShardMemory(4, 5, 6, b"o"))
    hello = entries.Hello(
        "a", b"i" * 16, "boot", Amount(1, 2), (), "v", 7, Containment.PROCESS, memories
    )
    message = encode(deque([hello])).hello
    assert message.protocol_version == 2
    assert message.containment == pb.CONTAINMENT_PROCESS
    told = [(m.shard, m.epoch, m.batch, m.holder) for m in message.memories]
    assert told == [(1, 2, 3, b"h"), (4, 5, 6, b"o")]
    assert list(encode(deque(memories)).memories) == list(message.memories)


def test_a_refusal_for_want_of_a_lease_has_its_own_reason():
    frame = encode(deque([entries.Rejected(1, ID, RejectReason.LEASE, "late")]))
    assert frame.rejected[0].reason == pb.REJECT_REASON_LEASE


def test_leases_demands_and_the_welcome_become_values():
    rank = pb.Rank(priority_class=1, share_ppm=2, oldest_ready_us=3)
    shape = pb.ShapeDemand(request=pb.Capacity(cpu_millis=4), count=5, rank=rank)
    frame = pb.SessionResponse(
        welcome=pb.Welcome(node="n", heartbeat_ms=1, session=2, attempt_lease_ms=3),
        lease_extensions=[pb.LeaseExtension(shard=1, epoch=2, beat=3)],
        demand=pb.Demand(shapes=[shape], grant_number=6),
    )
    decoded = decode(frame)
    assert decoded.welcome == entries.Welcome("n", (), (), 1, 2, 3)
    assert decoded.lease_extensions == (entries.LeaseExtension(1, 2, 3),)
    wanted = entries.ShapeDemand(Amount(4), 5, entries.Rank(1, 2, 3))
    assert decoded.demand == entries.Demand((wanted,), 6)


def full_assign(spec: ExecSpec | None) -> entries.Assign:
    return entries.Assign(1, 2, 3, ID, b"i" * 16, 4, 5, "d", "r", "t", "acme", 6, spec)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        ExecSpec(()),
        ExecSpec(("a", "b"), (("A", "1"), ("B", "2"), ("C", "")), "/x", 1, 2, Amount(3, 4), 5),
    ],
)
def test_an_assignment_comes_back_as_it_was(spec: ExecSpec | None):
    assign = full_assign(spec)
    encoded = assign_message(assign).SerializeToString()
    assert assign_of(pb.Assign.FromString(encoded)) == assign


def test_a_result_comes_back_as_it_was():
    result = entries.Result(1, ID, Outcome.LOST, -1, 9, 4, 5, 6, 7, "why")
    assert result_of(result_message(result)) == result


def test_an_unknown_outcome_breaks_the_contract():
    with pytest.raises(CodecError, match="ended as 99"):
        result_of(pb.Result(attempt_id=ID, outcome=99))


def test_a_refusal_of_an_unknown_kind_is_still_a_refusal():
    frame = pb.SessionResponse(refusal=pb.Refusal(reason=99, message="m"))
    assert decode(frame).refusal == entries.Refusal(RefusalReason.UNSPECIFIED, "m")


def test_an_empty_frame_says_nothing():
    assert decode(pb.SessionResponse()) == entries.NodeFrame()
