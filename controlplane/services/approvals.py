"""Use cases of approvals: what waits for a person, and what the person decides.

A decision is a command to the leader of the run, which alone knows whether the task instance still
waits; its refusal is told in its own words. Does not know what made a task instance wait.
"""

from __future__ import annotations

from mainspring.v1 import approval_pb2

from controlplane.codec import commands
from controlplane.codec.approvals import ApprovalView, approval_message
from controlplane.codec.runs import RunView
from controlplane.core.graph.names import shown
from controlplane.core.types import DagKey
from controlplane.services.errors import FailedPrecondition, NotFound, refused
from controlplane.services.names import RunName, parse_approval, parse_dag_or_run
from controlplane.services.pictures import Pictures, no_task
from controlplane.services.requests import (
    MAX_REASON,
    check_text,
    page_key,
    page_size,
    page_token,
    question,
)
from controlplane.services.versions import Versions
from controlplane.services.waiting import Commands, applied, request_key
from controlplane.store.api import ApiStore
from controlplane.store.records import ApprovalItem, ApprovalKey

DEFAULT_PAGE, MOST_PAGE = 100, 1_000
_DECISIONS = (approval_pb2.DECISION_APPROVED, approval_pb2.DECISION_REJECTED)


class ApprovalService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(
        self, store: ApiStore, inbox: Commands, pictures: Pictures, versions: Versions
    ) -> None:
        self._store = store
        self._commands = inbox
        self._pictures = pictures
        self._versions = versions

    async def list_approvals(
        self, tenant: str, request: approval_pb2.ListApprovalsRequest
    ) -> approval_pb2.ListApprovalsResponse:
        """A page of what waits, the oldest first: of a run, of a DAG, or of the tenant."""
        dag, run = parse_dag_or_run("parent", request.parent or "dags/-")
        size = page_size(request.page_size, DEFAULT_PAGE, MOST_PAGE)
        asked = question("approvals", tenant, dag, run)
        key = page_key(asked, request.page_token, (int, int, int, int))
        after = ApprovalKey(*map(int, key)) if key else ApprovalKey()
        parent = dag if run is None else await self._pictures.find(tenant, run)
        if isinstance(parent, RunView):
            return approval_pb2.ListApprovalsResponse()
        items = await self._store.list_approvals(tenant, parent, after, size + 1)
        if isinstance(parent, str) and not items and not await self._known(tenant, parent):
            raise NotFound("DAG", f"there is no DAG {shown(parent)}")
        last = items[size - 1] if len(items) > size else None
        place = (last.since_us, last.run, last.task, last.expansion) if last else ()
        return approval_pb2.ListApprovalsResponse(
            approvals=[approval_message(await self._view(tenant, each)) for each in items[:size]],
            next_page_token=page_token(asked, place) if last else "",
        )

    async def _known(self, tenant: str, dag: str) -> bool:
        return await self._store.read_dag(tenant, dag) is not None

    async def _view(self, tenant: str, item: ApprovalItem) -> ApprovalView:
        version = await self._versions.get(DagKey(tenant, item.dag), item.digest)
        task = version.compiled.tasks[item.task].task
        return ApprovalView(item.dag, item.run_id, task, item.reason, item.number, item.since_us)

    async def decide(
        self, tenant: str, request: approval_pb2.DecideApprovalRequest
    ) -> approval_pb2.Approval:
        """Has another attempt started, or the task fail; returns once that is recorded."""
        name, task = parse_approval("name", request.name)
        if request.decision not in _DECISIONS:
            raise refused("decision", f"{request.decision} is none; approve or reject")
        if not request.reason.strip():
            raise refused("reason", "is missing; say why, others will read it")
        reason = check_text("reason", request.reason, MAX_REASON)
        bare = approval_pb2.DecideApprovalRequest(
            name=request.name, decision=request.decision, reason=reason
        )
        request_id = request_key("decide", request.request_id, bare)
        view = await self._waiting(tenant, name, task)
        key = DagKey(tenant, view.dag)
        approved = request.decision == approval_pb2.DECISION_APPROVED
        body = commands.decide_approval(view.dag, view.run_id, task, reason, approved=approved)
        appended = await self._commands.append(key, body, request_id)
        applied(await self._commands.outcome(appended), appended.shard)
        return approval_message(view._replace(decision=request.decision))

    async def _waiting(self, tenant: str, name: RunName, task: str) -> ApprovalView:
        """The approval as it waits; a bare one when it is decided already, or was never asked for.

        Raises NotFound, and FailedPrecondition for a run that has not begun.
        """
        found = await self._pictures.find(tenant, name)
        if isinstance(found, RunView):
            raise FailedPrecondition("NOT_WAITING", "the run has not begun: nothing of it waits")
        number = (await self._pictures.version_of(found)).numbers.get(task)
        if number is None:
            raise no_task(found, task)
        waits = (await self._pictures.of(found)).approvals()
        wait = next((each for each in waits if each.task == number), None)
        if wait is None:
            return ApprovalView(found.dag, found.run_id, task, "", 0, None)
        return ApprovalView(found.dag, found.run_id, task, wait.reason, wait.number, wait.due_us)
