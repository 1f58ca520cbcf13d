"""Calls of ApprovalService."""

from __future__ import annotations

from mainspring.client.connection import Connection
from mainspring.client.dags import new_request_id
from mainspring.client.names import approval_name, dag_or_run_name
from mainspring.client.paging import gather
from mainspring.v1 import approval_pb2


class Approvals:
    """What waits for a person, and the decision.

    Every method raises a `MainspringError`: InvalidArgumentError for a name or a reason that is
    wrong, NotFoundError for what is not there, FailedPreconditionError for a task that does not
    wait, and the errors of the connection.
    """

    def __init__(self, connection: Connection, deadline_s: float) -> None:
        self._connection = connection
        self._deadline_s = deadline_s

    def list(
        self, parent: str | None = None, *, limit: int | None = None
    ) -> approval_pb2.ListApprovalsResponse:
        """The oldest `limit` approvals (None: all) of a DAG, of a run (None: of all DAGs)."""
        named = "" if parent is None else dag_or_run_name(parent)
        answer = approval_pb2.ListApprovalsResponse()

        def read(page_size: int, page_token: str) -> tuple[int, str]:
            request = approval_pb2.ListApprovalsRequest(
                parent=named, page_size=page_size, page_token=page_token
            )
            page = self._connection.call(
                lambda node: node.approvals.ListApprovals, request, deadline_s=self._deadline_s
            )
            answer.approvals.extend(page.approvals)
            return len(page.approvals), page.next_page_token

        answer.next_page_token = gather(read, limit)
        return answer

    def decide(
        self,
        run: str,
        task: str,
        *,
        approved: bool,
        reason: str,
        request_id: str | None = None,
    ) -> approval_pb2.Approval:
        """Has another attempt of a task started, or the task fail; returns once it is recorded."""
        decided = approval_pb2.DECISION_APPROVED if approved else approval_pb2.DECISION_REJECTED
        request = approval_pb2.DecideApprovalRequest(
            name=approval_name(run, task),
            decision=decided,
            reason=reason,
            request_id=request_id or new_request_id(),
        )
        return self._connection.call(
            lambda node: node.approvals.DecideApproval, request, deadline_s=self._deadline_s
        )
