"""A server on loopback that answers the public contract from a few dictionaries.

It checks the token, keeps every request, and fails where a test asks it to, with the details that
the real server attaches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from mainspring.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    approval_pb2,
    approval_pb2_grpc,
    dag_pb2,
    dag_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
)

TOKEN = "right-token"
RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
RUN_NAME = f"dags/etl/runs/{RUN}"


@dataclass
class Failure:
    """A status with details, for the next `times` calls of a method."""

    code: grpc.StatusCode
    text: str
    violations: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    times: int = 1_000_000

    def details(self) -> bytes:
        status = status_pb2.Status(code=self.code.value[0], message=self.text)
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for name, description in self.violations:
                bad.field_violations.add(field=name, description=description)
            status.details.add().Pack(bad)
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain="mainspring")
            status.details.add().Pack(info)
        return status.SerializeToString()


@dataclass
class Script:
    """What the server knows, how it fails, and what it was asked."""

    dags: dict[str, dag_pb2.Dag] = field(default_factory=dict)
    steps: list[run_pb2.WatchRunResponse] = field(default_factory=list)
    pieces: list[run_pb2.ReadLogsResponse] = field(default_factory=list)
    waits: list[run_pb2.Run] = field(default_factory=list)
    run: run_pb2.Run = field(default_factory=lambda: run_pb2.Run(name=RUN_NAME))
    shards: list[admin_pb2.Shard] = field(default_factory=list)
    standbys: list[str] = field(default_factory=list)
    agents: list[admin_pb2.Agent] = field(default_factory=list)
    approvals: list[approval_pb2.Approval] = field(default_factory=list)
    attempts: list[run_pb2.Attempt] = field(default_factory=list)
    nodes: list[admin_pb2.Node] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    break_after: int | None = None
    judge: Callable[[dag_pb2.DagSpec], tuple[tuple[str, str], ...]] = lambda spec: ()
    warnings: tuple[str, ...] = ()
    requests: list[Message] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def asked(self, kind: type[Message]) -> list[Any]:
        return [each for each in self.requests if isinstance(each, kind)]


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=1_750_000_000 + seconds)


def final_run(state: run_pb2.RunState.ValueType) -> run_pb2.Run:
    counts = [run_pb2.TaskCount(state=run_pb2.TASK_STATE_SUCCEEDED, count=3)]
    return run_pb2.Run(
        name=RUN_NAME, state=state, create_time=at(0), end_time=at(75), task_counts=counts
    )


class Scripted:
    """What all services share: one script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def _enter(self, request: Message, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {TOKEN}":
            self._fail(Failure(grpc.StatusCode.UNAUTHENTICATED, "the token is not known"), context)
        self.script.requests.append(type(request).FromString(request.SerializeToString()))
        failure = self.script.failures.get(type(request).__name__.removesuffix("Request"))
        if failure is not None and failure.times > 0:
            failure.times -= 1
            self._fail(failure, context)

    def _fail(self, failure: Failure, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", failure.details()),))
        context.abort(failure.code, failure.text)


class Work(Scripted, dag_pb2_grpc.DagServiceServicer, run_pb2_grpc.RunServiceServicer):
    """DAGs and runs."""

    def _dag(self, name: str, context: grpc.ServicerContext) -> dag_pb2.Dag:
        if name not in self.script.dags:
            self._fail(Failure(grpc.StatusCode.NOT_FOUND, f"{name} does not exist"), context)
        return self.script.dags[name]

    def ApplyDag(self, request, context):  # noqa: N802
        self._enter(request, context)
        violations = self.script.judge(request.spec)
        if violations:
            text = "the definition has problems"
            self._fail(Failure(grpc.StatusCode.INVALID_ARGUMENT, text, violations), context)
        name = f"dags/{request.spec.dag}"
        created = name not in self.script.dags
        dag = dag_pb2.Dag(
            name=name, spec=request.spec, digest="ab" * 32, task_count=len(request.spec.tasks)
        )
        if not request.validate_only:
            self.script.dags[name] = dag
        return dag_pb2.ApplyDagResponse(
            dag=dag, created=created, changed=True, warnings=self.script.warnings
        )

    def GetDag(self, request, context):  # noqa: N802
        self._enter(request, context)
        return self._dag(request.name, context)

    def ListDags(self, request, context):  # noqa: N802
        self._enter(request, context)
        first = int(request.page_token or 0)
        last = first + request.page_size
        dags = sorted(self.script.dags.values(), key=lambda dag: dag.name)
        following = str(last) if last < len(dags) else ""
        return dag_pb2.ListDagsResponse(dags=dags[first:last], next_page_token=following)

    def ListDagVersions(self, request, context):  # noqa: N802
        self._enter(request, context)
        dag = self._dag(request.parent, context)
        version = dag_pb2.DagVersion(digest=dag.digest, current=True, task_count=dag.task_count)
        return dag_pb2.ListDagVersionsResponse(versions=[version])

    def ListInstants(self, request, context):  # noqa: N802
        self._enter(request, context)
        instants = [
            dag_pb2.Instant(schedule="default", time=at(60 * number), local_time="local")
            for number in range(request.count)
        ]
        return dag_pb2.ListInstantsResponse(instants=instants)

    def PauseDag(self, request, context):  # noqa: N802
        self._enter(request, context)
        dag = self._dag(request.name, context)
        dag.paused, dag.pause_reason = True, request.reason
        return dag

    def ResumeDag(self, request, context):  # noqa: N802
        self._enter(request, context)
        dag = self._dag(request.name, context)
        dag.paused = False
        return dag

    def TriggerRun(self, request, context):  # noqa: N802
        self._enter(request, context)
        return run_pb2.Run(name=RUN_NAME, state=run_pb2.RUN_STATE_PENDING, create_time=at(0))

    def GetRun(self, request, context):  # noqa: N802
        self._enter(request, context)
        return self.script.run

    def ListRuns(self, request, context):  # noqa: N802
        self._enter(request, context)
        return run_pb2.ListRunsResponse(runs=[self.script.run])

    def ListTaskInstances(self, request, context):  # noqa: N802
        self._enter(request, context)
        tasks = [task for step in self.script.steps for task in step.task_instances]
        return run_pb2.ListTaskInstancesResponse(task_instances=tasks)

    def ListAttempts(self, request, context):  # noqa: N802
        self._enter(request, context)
        attempt = run_pb2.Attempt(
            name=f"{RUN_NAME}/tasks/extract/attempts/{'0' * 32}",
            number=1,
            state=run_pb2.ATTEMPT_STATE_FAILED,
            agent="agents/a1",
            signal=9,
            start_time=at(1),
            end_time=at(3),
        )
        return run_pb2.ListAttemptsResponse(attempts=[attempt, *self.script.attempts])

    def WaitRun(self, request, context):  # noqa: N802
        self._enter(request, context)
        self.script.entered.set()
        if not self.script.waits:
            self.script.release.wait(60)
            return run_pb2.Run()
        return self.script.waits.pop(0) if len(self.script.waits) > 1 else self.script.waits[0]

    def CancelRun(self, request, context):  # noqa: N802
        self._enter(request, context)
        return run_pb2.Run(name=RUN_NAME, state=run_pb2.RUN_STATE_CANCELLING)

    def WatchRun(self, request, context) -> Iterator[run_pb2.WatchRunResponse]:  # noqa: N802
        self._enter(request, context)
        yield from self._broken(self.script.steps, context)

    def ReadLogs(self, request, context) -> Iterator[run_pb2.ReadLogsResponse]:  # noqa: N802
        self._enter(request, context)
        yield from self._broken(self.script.pieces, context)

    def _broken(self, answers: list[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """The answers; once, the stream breaks after some of them."""
        for number, answer in enumerate(answers):
            if number == self.script.break_after:
                self.script.break_after = None
                self._fail(Failure(grpc.StatusCode.UNAVAILABLE, "the node stops"), context)
            yield answer


class People(
    Scripted, approval_pb2_grpc.ApprovalServiceServicer, admin_pb2_grpc.AdminServiceServicer
):
    """What people decide and look after."""

    def ListApprovals(self, request, context):  # noqa: N802
        self._enter(request, context)
        first = int(request.page_token or 0)
        last = first + request.page_size
        following = str(last) if last < len(self.script.approvals) else ""
        return approval_pb2.ListApprovalsResponse(
            approvals=self.script.approvals[first:last], next_page_token=following
        )

    def DecideApproval(self, request, context):  # noqa: N802
        self._enter(request, context)
        return approval_pb2.Approval(name=request.name, decision=request.decision)

    def ListShards(self, request, context):  # noqa: N802
        self._enter(request, context)
        return admin_pb2.ListShardsResponse(shards=self.script.shards)

    def ListNodes(self, request, context):  # noqa: N802
        self._enter(request, context)
        return admin_pb2.ListNodesResponse(nodes=self.script.nodes)

    def ListAgents(self, request, context):  # noqa: N802
        self._enter(request, context)
        return admin_pb2.ListAgentsResponse(agents=self.script.agents)

    def GetServerInfo(self, request, context):  # noqa: N802
        self._enter(request, context)
        return admin_pb2.ServerInfo(
            version="0.1.0",
            cluster="c1",
            node="n1",
            shards=4,
            asynchronous_standbys=self.script.standbys,
        )


class FakeServer:
    """The server and its address; use it as a context manager."""

    def __init__(self) -> None:
        self.script = Script()
        self._server = grpc.server(ThreadPoolExecutor(4))
        work, people = Work(self.script), People(self.script)
        dag_pb2_grpc.add_DagServiceServicer_to_server(work, self._server)
        run_pb2_grpc.add_RunServiceServicer_to_server(work, self._server)
        approval_pb2_grpc.add_ApprovalServiceServicer_to_server(people, self._server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(people, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *args: object) -> None:
        stopped: threading.Event = self._server.stop(grace=None)
        stopped.wait(5)
