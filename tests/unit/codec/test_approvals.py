from __future__ import annotations

from mainspring.v1 import approval_pb2

from controlplane.codec.approvals import ApprovalView, approval_message

RUN_ID = bytes(15) + b"\1"


def test_an_approval_is_named_after_its_task() -> None:
    view = ApprovalView("d", RUN_ID, "load", "its agent is gone", 2, 3_000_000)
    message = approval_message(view)
    run = "00000000-0000-0000-0000-000000000001"
    assert message.name == f"dags/d/runs/{run}/tasks/load/approval"
    assert (message.reason, message.attempt_number) == ("its agent is gone", 2)
    assert message.create_time.seconds == 3
    assert message.decision == approval_pb2.DECISION_UNSPECIFIED


def test_what_is_decided_need_not_say_since_when_it_waited() -> None:
    decided = approval_pb2.DECISION_REJECTED
    message = approval_message(ApprovalView("d", RUN_ID, "load", "", 0, None, decided))
    assert not message.HasField("create_time")
    assert message.decision == decided
