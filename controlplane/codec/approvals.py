"""Decides how approvals look to the public. Does not know what waits, nor who decides."""

from __future__ import annotations

from typing import NamedTuple

from mainspring.v1 import approval_pb2

from controlplane.codec.durations import timestamp
from controlplane.codec.runs import run_name


class ApprovalView(NamedTuple):
    """A task instance that waits, or waited, for a decision. `number`: of the attempt that an
    approval starts; `since_us` None where it is not known any more.
    """

    dag: str
    run_id: bytes
    task: str
    reason: str
    number: int
    since_us: int | None
    decision: int = approval_pb2.DECISION_UNSPECIFIED


def approval_message(view: ApprovalView) -> approval_pb2.Approval:
    """An approval."""
    return approval_pb2.Approval(
        name=f"{run_name(view.dag, view.run_id)}/tasks/{view.task}/approval",
        reason=view.reason,
        attempt_number=view.number,
        create_time=timestamp(view.since_us),
        decision=approval_pb2.Decision.ValueType(view.decision),
    )
