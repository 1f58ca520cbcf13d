"""Serves ApprovalService: takes the tenant of the credential and hands over."""

from __future__ import annotations

from typing import Any

from mainspring.v1 import approval_pb2, approval_pb2_grpc

from controlplane.api.credentials import caller
from controlplane.services.approvals import ApprovalService


class ApprovalServicer(approval_pb2_grpc.ApprovalServiceServicer):
    """One method for each of the contract."""

    def __init__(self, approvals: ApprovalService) -> None:
        self._approvals = approvals

    async def ListApprovals(  # noqa: N802
        self, request: approval_pb2.ListApprovalsRequest, _context: Any
    ) -> approval_pb2.ListApprovalsResponse:
        return await self._approvals.list_approvals(caller().tenant, request)

    async def DecideApproval(  # noqa: N802
        self, request: approval_pb2.DecideApprovalRequest, _context: Any
    ) -> approval_pb2.Approval:
        return await self._approvals.decide(caller().tenant, request)
