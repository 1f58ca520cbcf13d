from __future__ import annotations

import pytest
from mainspring.agent.v1 import session_pb2

from controlplane.codec import agents
from controlplane.codec.errors import CodecError
from controlplane.core.effects import AssignMessage, CancelMessage, ResultAckMessage
from controlplane.core.events import Finished, Inventory, Rejected, Started, Subject
from controlplane.core.states import AttemptState
from controlplane.core.types import Resources, uuid_text

ID = bytes(range(16))


def result(**fields: object) -> session_pb2.Result:
    plain = {"attempt_id": ID, "outcome": session_pb2.OUTCOME_SUCCEEDED}
    return session_pb2.Result(**{**plain, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (session_pb2.OUTCOME_SUCCEEDED, AttemptState.SUCCEEDED),
        (session_pb2.OUTCOME_FAILED, AttemptState.FAILED),
        (session_pb2.OUTCOME_TIMED_OUT, AttemptState.TIMED_OUT),
        (session_pb2.OUTCOME_CANCELLED, AttemptState.CANCELLED),
        (session_pb2.OUTCOME_LOST, AttemptState.LOST),
    ],
)
def test_an_outcome_is_a_state(outcome: session_pb2.Outcome.ValueType, state: AttemptState) -> None:
    assert agents.finished("a", result(outcome=outcome)).state is state


def test_a_result_keeps_all_it_says() -> None:
    entry = result(
        exit_code=3, signal=9, started_at_us=1, finished_at_us=2, stdout_bytes=4, stderr_bytes=5,
        message="m",
    )  # fmt: skip
    state = AttemptState.SUCCEEDED
    assert agents.finished("a", entry) == Finished("a", ID, state, 1, 2, 3, 9, 4, 5, "m")


def test_no_exit_status_is_none() -> None:
    assert agents.finished("a", result(exit_code=-1)).exit_code is None


def test_text_is_made_fit_to_store() -> None:
    message = agents.finished("a", result(message="\0" + "x" * 2_000)).message
    assert message == "\N{REPLACEMENT CHARACTER}" + "x" * 999


@pytest.mark.parametrize(
    "entry",
    [result(outcome=0), result(outcome=99), result(signal=-1), result(attempt_id=b"x")],
)
def test_a_bad_result_is_refused(entry: session_pb2.Result) -> None:
    with pytest.raises(CodecError):
        agents.finished("a", entry)


def test_a_start_and_a_refusal_become_events() -> None:
    start = session_pb2.Started(attempt_id=ID, started_at_us=5)
    assert agents.started("a", start) == Started("a", ID, 5)
    reason = session_pb2.REJECT_REASON_CAPACITY
    refusal = session_pb2.Rejected(attempt_id=ID, reason=reason, message="full")
    assert agents.rejected("a", refusal) == Rejected("a", ID, "capacity: full")
    foreign = session_pb2.Rejected(attempt_id=ID, reason=99, message="x")  # type: ignore[arg-type]
    assert agents.rejected("a", foreign).message == "unknown: x"


def test_an_inventory_holds_live_and_finished() -> None:
    entry = session_pb2.Inventory(
        live=[session_pb2.LiveAttempt(attempt_id=ID, started_at_us=3)], finished=[result()]
    )
    done = agents.finished("a", result())
    assert agents.inventory("a", b"i", entry) == Inventory("a", b"i", ((ID, 3),), (done,))


def test_an_inventory_says_what_its_attempts_are_of_as_far_as_that_can_be_read() -> None:
    run = uuid_text(b"r" * 16)
    subjects = [
        session_pb2.AttemptSubject(attempt_id=ID, run=run, task="t", number=2),
        session_pb2.AttemptSubject(attempt_id=ID, run="no id", task="t", number=2),
        session_pb2.AttemptSubject(attempt_id=ID, run=run, task="t"),
    ]
    found = agents.inventory("a", b"i", session_pb2.Inventory(subjects=subjects))
    assert found.subjects == (Subject(ID, b"r" * 16, "t", 2),)


def test_messages_become_entries() -> None:
    message = AssignMessage("a", b"i", ID, 2, "t", "d", bytes(16), "k", 9, b"spec")
    assert agents.assign(message, 1, 2, 3, 4) == session_pb2.Assign(
        shard=1, epoch=2, batch=3, beat=4, attempt_id=ID, incarnation=b"i", number=2, dag="d",
        run="00000000-0000-0000-0000-000000000000", task="k", tenant="t", logical_time_us=9,
        spec=b"spec",
    )  # fmt: skip
    cancel = session_pb2.Cancel(shard=1, epoch=2, attempt_id=ID)
    assert agents.cancel(CancelMessage("a", ID), 1, 2) == cancel
    acknowledged = session_pb2.ResultAck(attempt_id=ID)
    assert agents.result_ack(ResultAckMessage("a", ID)) == acknowledged


def test_amounts_go_both_ways() -> None:
    amount = Resources(5, 6)
    assert agents.resources(agents.capacity(amount)) == amount
    with pytest.raises(CodecError):
        agents.resources(session_pb2.Capacity(cpu_millis=-1))
