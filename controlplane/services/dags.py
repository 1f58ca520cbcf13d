"""Use cases of DAGs: apply, read, list, pause; and when their schedules are due next.

A definition is checked here and made durable together with the command that applies it; the leader
of its shard makes it current. No leader: it is stored all the same, and the answer says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from heapq import merge
from itertools import islice

from mainspring.v1 import dag_pb2

from controlplane.codec import commands
from controlplane.codec.dag import canonical, parse_spec
from controlplane.codec.dags import DagView, dag_message, unapplied_dag, version_message
from controlplane.codec.durations import MICROS_PER_S, instant_us, timestamp, timestamp_problem
from controlplane.codec.spec_checks import check_spec, warnings
from controlplane.core.graph.edges import Problem
from controlplane.core.shard.schedules import parse_definition
from controlplane.core.time.timetable import EARLIEST_INSTANT_US, LATEST_INSTANT_US, Cron, instants
from controlplane.core.time.zone import span_at
from controlplane.core.types import DagKey
from controlplane.services.errors import InvalidArgument, NotFound, Violation, refused
from controlplane.services.names import parse_dag
from controlplane.services.requests import (
    MAX_ETAG,
    MAX_REASON,
    check_text,
    page_key,
    page_size,
    page_token,
    question,
)
from controlplane.services.waiting import Commands, applied, request_key
from controlplane.store.api import ApiStore, VersionKey
from controlplane.store.records import Appended, DagItem, RequestKey, ScheduleItem
from controlplane.telemetry.clock import Clock

DEFAULT_PAGE, MOST_PAGE = 100, 1_000
DEFAULT_INSTANTS, MOST_INSTANTS = 5, 1_000
# Checking this many tasks takes long enough to be done beside the event loop.
LARGE_TASKS = 500


class DagService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(self, store: ApiStore, inbox: Commands, clock: Clock) -> None:
        self._store = store
        self._commands = inbox
        self._clock = clock

    async def apply(
        self, tenant: str, request: dag_pb2.ApplyDagRequest
    ) -> dag_pb2.ApplyDagResponse:
        """Checks a definition and makes it the current version of its DAG."""
        spec = request.spec
        check_text("etag", request.etag, MAX_ETAG)
        await _check(spec)
        stored, digest = canonical(spec)
        if request.validate_only:
            dag = unapplied_dag(spec, digest)
            return dag_pb2.ApplyDagResponse(dag=dag, warnings=warnings(spec))
        bare = dag_pb2.ApplyDagRequest(etag=request.etag)
        key = request_key("apply " + digest.hex(), request.request_id, bare)
        body = commands.apply_dag(spec.dag, digest, request.etag)
        appended = await self._commands.append(
            DagKey(tenant, spec.dag), body, key, version=(digest, stored)
        )
        return await self._applied(tenant, spec, digest, appended)

    async def _applied(
        self, tenant: str, spec: dag_pb2.DagSpec, digest: bytes, appended: Appended
    ) -> dag_pb2.ApplyDagResponse:
        said = warnings(spec)
        state = await self._commands.outcome(appended)
        if state is None:
            said.append(
                f"the definition is stored; shard {appended.shard} has no leader that answers, "
                "and it is applied once there is one"
            )
            dag = unapplied_dag(spec, digest, appended.shard)
            return dag_pb2.ApplyDagResponse(dag=dag, warnings=said)
        detail = applied(state, appended.shard).detail
        return dag_pb2.ApplyDagResponse(
            dag=await self._read(tenant, spec.dag),
            created=detail == "created",
            changed=detail in {"created", "changed"},
            warnings=said,
        )

    async def get(self, tenant: str, request: dag_pb2.GetDagRequest) -> dag_pb2.Dag:
        """One DAG with its definition."""
        return await self._read(tenant, parse_dag("name", request.name))

    async def _item(self, tenant: str, dag: str) -> DagItem:
        item = await self._store.read_dag(tenant, dag)
        if item is None:
            raise NotFound("DAG", f"there is no DAG {dag!r}", metadata={"dag": dag})
        return item

    async def _read(self, tenant: str, dag: str) -> dag_pb2.Dag:
        item = await self._item(tenant, dag)
        stored = await self._store.read_spec(item.digest)
        return dag_message(_view(item), None if stored is None else parse_spec(stored))

    async def list_dags(
        self, tenant: str, request: dag_pb2.ListDagsRequest
    ) -> dag_pb2.ListDagsResponse:
        """A page of DAGs, in the order of their ids."""
        size = page_size(request.page_size, DEFAULT_PAGE, MOST_PAGE)
        asked = question("dags", tenant)
        key = page_key(asked, request.page_token, (str,))
        items = await self._store.list_dags(tenant, str(key[0]) if key else "", size + 1)
        return dag_pb2.ListDagsResponse(
            dags=[dag_message(_view(item)) for item in items[:size]],
            next_page_token=page_token(asked, [items[size - 1].dag]) if len(items) > size else "",
        )

    async def list_versions(
        self, tenant: str, request: dag_pb2.ListDagVersionsRequest
    ) -> dag_pb2.ListDagVersionsResponse:
        """A page of versions, the newest first."""
        dag = parse_dag("parent", request.parent)
        size = page_size(request.page_size, DEFAULT_PAGE, MOST_PAGE)
        asked = question("versions", tenant, dag)
        before = _version_key(page_key(asked, request.page_token, (int, str)))
        current = (await self._item(tenant, dag)).digest
        items = await self._store.list_versions(tenant, dag, before, size + 1)
        last = items[size - 1] if len(items) > size else None
        return dag_pb2.ListDagVersionsResponse(
            versions=[
                version_message(dag, *item, current=item.digest == current) for item in items[:size]
            ],
            next_page_token=page_token(asked, [last.created_us, last.digest.hex()]) if last else "",
        )

    async def list_instants(
        self, tenant: str, request: dag_pb2.ListInstantsRequest
    ) -> dag_pb2.ListInstantsResponse:
        """The next instants of all schedules of a DAG, paused or not."""
        dag = parse_dag("parent", request.parent)
        if not 0 <= request.count <= MOST_INSTANTS:
            raise refused("count", f"{request.count} is out of range; give 1 to {MOST_INSTANTS:,}")
        after = self._after(request)
        await self._item(tenant, dag)
        schedules = await self._store.list_schedules(tenant, dag)
        count = request.count or DEFAULT_INSTANTS
        streams = (_due(schedule, after, count) for schedule in schedules)
        first = islice(merge(*streams), count)
        zones = {each.schedule: _zone(each) for each in schedules}
        return dag_pb2.ListInstantsResponse(
            instants=[_instant(due_us, name, zones[name]) for due_us, name in first]
        )

    def _after(self, request: dag_pb2.ListInstantsRequest) -> int:
        if not request.HasField("after"):
            return self._clock.now().wall_us
        if reason := timestamp_problem(request.after):
            raise refused("after", reason)
        return min(max(instant_us(request.after), EARLIEST_INSTANT_US), LATEST_INSTANT_US)

    async def pause(self, tenant: str, request: dag_pb2.PauseDagRequest) -> dag_pb2.Dag:
        """Stops the schedules of a DAG."""
        dag = parse_dag("name", request.name)
        reason = check_text("reason", request.reason, MAX_REASON)
        bare = dag_pb2.PauseDagRequest(name=request.name, reason=reason)
        key = request_key("pause", request.request_id, bare)
        body = commands.pause_dag(dag, reason, paused=True)
        return await self._change(DagKey(tenant, dag), body, key)

    async def resume(self, tenant: str, request: dag_pb2.ResumeDagRequest) -> dag_pb2.Dag:
        """Starts the schedules of a DAG again."""
        dag = parse_dag("name", request.name)
        bare = dag_pb2.ResumeDagRequest(name=request.name)
        key = request_key("resume", request.request_id, bare)
        body = commands.pause_dag(dag, "", paused=False)
        return await self._change(DagKey(tenant, dag), body, key)

    async def _change(self, dag: DagKey, body: bytes, key: RequestKey | None) -> dag_pb2.Dag:
        appended = await self._commands.append(dag, body, key)
        applied(await self._commands.outcome(appended), appended.shard)
        return await self._read(*dag)


async def _check(spec: dag_pb2.DagSpec) -> None:
    if len(spec.tasks) > LARGE_TASKS:
        problems = await asyncio.to_thread(check_spec, spec)
    else:
        problems = check_spec(spec)
    if problems:
        raise InvalidArgument([_violation(problem) for problem in problems], "DAG_SPEC")


def _violation(problem: Problem) -> Violation:
    return Violation(f"spec.{problem.field}" if problem.field else "spec", problem.message)


def _view(item: DagItem) -> DagView:
    return DagView(
        dag=item.dag,
        shard=item.shard,
        digest=item.digest,
        task_count=item.task_count,
        paused=item.paused,
        pause_reason=item.pause_reason,
        revision=item.revision,
        created_us=item.created_us,
        updated_us=item.updated_us,
        next_us=item.next_us,
    )


def _version_key(key: object) -> VersionKey:
    match key:
        case [int(created_us), str(digest)]:
            try:
                return VersionKey(created_us, bytes.fromhex(digest))
            except ValueError:
                raise refused("page_token", "is no token of this list") from None
        case _:
            return VersionKey()


def _due(schedule: ScheduleItem, after: int, count: int) -> Iterator[tuple[int, str]]:
    timetable = parse_definition(schedule.definition, schedule.next_us or EARLIEST_INSTANT_US)
    return ((due_us, schedule.schedule) for due_us in instants(timetable, after, count))


def _zone(schedule: ScheduleItem) -> str:
    """The zone in which a person reads the instants of a schedule."""
    timetable = parse_definition(schedule.definition, 0)
    return timetable.zone if isinstance(timetable, Cron) else "UTC"


def _instant(due_us: int, schedule: str, zone: str) -> dag_pb2.Instant:
    seconds = due_us // MICROS_PER_S
    offset = timezone(timedelta(seconds=span_at(zone, seconds).offset_s))
    local = datetime.fromtimestamp(seconds, offset).isoformat()
    return dag_pb2.Instant(schedule=schedule, time=timestamp(due_us), local_time=local)
