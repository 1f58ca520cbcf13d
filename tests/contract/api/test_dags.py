from __future__ import annotations

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from mainspring.v1 import dag_pb2

from tests.contract.api.harness import OTHER_TOKEN, details_of, spec_of

Apply = dag_pb2.ApplyDagRequest


async def test_apply_creates_then_changes_then_nothing(world) -> None:
    first = await world.dags.ApplyDag(Apply(spec=spec_of("a>b")))
    assert (first.created, first.changed, list(first.warnings)) == (True, True, [])
    assert (first.dag.name, first.dag.task_count, first.dag.spec) == ("dags/d", 2, spec_of("a>b"))
    again = await world.dags.ApplyDag(Apply(spec=spec_of("a>b")))
    assert (again.created, again.changed) == (False, False)
    assert again.dag == first.dag
    other = await world.dags.ApplyDag(Apply(spec=spec_of("a>b>c")))
    assert (other.created, other.changed) == (False, True)
    assert other.dag.etag != first.dag.etag
    assert other.dag.digest != first.dag.digest


async def test_every_problem_is_told_at_once_with_its_field(world) -> None:
    spec = spec_of("a>b", dag="/", max_active_runs=-1)
    spec.tasks[0].depends_on.append("b")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.ApplyDag(Apply(spec=spec))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert {each.field for each in found} == {
        "spec.dag",
        "spec.max_active_runs",
        "spec.tasks[0].depends_on",
    }
    info = details_of(caught.value, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("DAG_SPEC", "mainspring")


async def test_a_thousand_problems_reach_a_client_that_takes_little(world) -> None:
    spec = dag_pb2.DagSpec(dag="d")
    for number in range(1_500):
        spec.tasks.add(task=f"task-{number}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.ApplyDag(Apply(spec=spec))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert 20 < len(found) < 200
    assert "more problems" in found[-1].description


async def test_a_client_that_takes_more_gets_all_problems(world) -> None:
    spec = dag_pb2.DagSpec(dag="d")
    for number in range(900):
        spec.tasks.add(task=f"task-{number}")
    channel = await world.connect(None, ("grpc.max_metadata_size", 1 << 20))
    call = channel.unary_unary(
        "/mainspring.v1.DagService/ApplyDag", request_serializer=Apply.SerializeToString
    )
    metadata = (("authorization", f"Bearer {OTHER_TOKEN}"), ("mainspring-details-limit", "500000"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(Apply(spec=spec), metadata=metadata)
    found = details_of(caught.value, error_details_pb2.BadRequest).field_violations
    assert len(found) == 900


async def test_validate_only_changes_nothing(world) -> None:
    spec = spec_of()
    spec.schedules.add(cron="0 0 30 2 *")
    answer = await world.dags.ApplyDag(Apply(spec=spec, validate_only=True))
    assert answer.dag.task_count == 1
    assert "never fires" in answer.warnings[0]
    assert list((await world.dags.ListDags(dag_pb2.ListDagsRequest())).dags) == []


async def test_an_etag_of_before_is_refused(world) -> None:
    etag = (await world.apply("a")).etag
    await world.apply("a>b")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.ApplyDag(Apply(spec=spec_of("c"), etag=etag))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details_of(caught.value, error_details_pb2.ErrorInfo).reason == "ETAG"


async def test_the_same_request_id_has_one_effect(world) -> None:
    request = Apply(spec=spec_of(), request_id="r1")
    first, second = await world.dags.ApplyDag(request), await world.dags.ApplyDag(request)
    assert first == second
    assert first.created
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.ApplyDag(Apply(spec=spec_of("x"), request_id="r1"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert details_of(caught.value, error_details_pb2.ErrorInfo).reason == "REQUEST_ID_REUSED"


async def test_without_a_leader_the_definition_is_stored_and_applied_later(world) -> None:
    world.leader.away = True
    answer = await world.dags.ApplyDag(Apply(spec=spec_of()))
    assert "no leader" in answer.warnings[-1]
    assert answer.dag.task_count == 1
    world.leader.away = False
    await world.leader.poke([0, 1], (), 0)
    dag = await world.dags.GetDag(dag_pb2.GetDagRequest(name="dags/d"))
    assert dag.digest == answer.dag.digest


async def test_tenants_do_not_see_each_other(world) -> None:
    await world.apply("a")
    other = await world.connect(OTHER_TOKEN)
    call = other.unary_unary(
        "/mainspring.v1.DagService/GetDag",
        request_serializer=dag_pb2.GetDagRequest.SerializeToString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(dag_pb2.GetDagRequest(name="dags/d"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_lists_go_page_by_page(world) -> None:
    for name in ("c", "a", "b"):
        await world.dags.ApplyDag(Apply(spec=spec_of(dag=name)))
    page = await world.dags.ListDags(dag_pb2.ListDagsRequest(page_size=2))
    assert [dag.name for dag in page.dags] == ["dags/a", "dags/b"]
    assert not page.dags[0].HasField("spec")
    rest = await world.dags.ListDags(
        dag_pb2.ListDagsRequest(page_size=2, page_token=page.next_page_token)
    )
    assert [dag.name for dag in rest.dags] == ["dags/c"]
    assert rest.next_page_token == ""


async def test_versions_come_newest_first(world) -> None:
    digests = [(await world.apply(edges)).digest for edges in ("a", "a>b", "a>c")]
    seen, token = [], ""
    while True:
        page = await world.dags.ListDagVersions(
            dag_pb2.ListDagVersionsRequest(parent="dags/d", page_size=2, page_token=token)
        )
        seen += page.versions
        token = page.next_page_token
        if not token:
            break
    assert [each.digest for each in seen] == digests[::-1]
    assert [each.current for each in seen] == [True, False, False]


async def test_instants_of_all_schedules_come_in_order(world) -> None:
    spec = spec_of()
    spec.schedules.add(schedule="noon", cron="0 12 * * *", timezone="Europe/Berlin")
    spec.schedules.add(schedule="often").interval.seconds = 12 * 3_600
    await world.dags.ApplyDag(Apply(spec=spec))
    request = dag_pb2.ListInstantsRequest(
        parent="dags/d", after=Timestamp(seconds=1_750_000_000), count=3
    )
    instants = (await world.dags.ListInstants(request)).instants
    assert [(each.schedule, each.local_time) for each in instants] == [
        ("often", "2025-06-16T00:00:00+00:00"),
        ("noon", "2025-06-16T12:00:00+02:00"),
        ("often", "2025-06-16T12:00:00+00:00"),
    ]


async def test_pause_and_resume(world) -> None:
    spec = spec_of()
    spec.schedules.add(cron="@yearly")
    await world.dags.ApplyDag(Apply(spec=spec))
    paused = await world.dags.PauseDag(dag_pb2.PauseDagRequest(name="dags/d", reason="why"))
    assert (paused.paused, paused.pause_reason) == (True, "why")
    assert not paused.HasField("next_instant")
    resumed = await world.dags.ResumeDag(dag_pb2.ResumeDagRequest(name="dags/d"))
    assert not resumed.paused
    assert resumed.HasField("next_instant")


async def test_a_pause_without_a_leader_may_be_repeated(world) -> None:
    await world.apply("a")
    world.leader.away = True
    request = dag_pb2.PauseDagRequest(name="dags/d", request_id="p")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.PauseDag(request)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    world.leader.away = False
    assert (await world.dags.PauseDag(request)).paused


@pytest.mark.parametrize(
    ("method", "request_message", "code", "field"),
    [
        ("GetDag", dag_pb2.GetDagRequest(name="d"), "INVALID_ARGUMENT", "name"),
        ("GetDag", dag_pb2.GetDagRequest(name="dags/../x"), "INVALID_ARGUMENT", "name"),
        ("GetDag", dag_pb2.GetDagRequest(name="dags/x"), "NOT_FOUND", ""),
        ("PauseDag", dag_pb2.PauseDagRequest(name="dags/x"), "NOT_FOUND", ""),
        ("ListDags", dag_pb2.ListDagsRequest(page_size=-1), "INVALID_ARGUMENT", "page_size"),
        ("ListDags", dag_pb2.ListDagsRequest(page_size=1_001), "INVALID_ARGUMENT", "page_size"),
        ("ListDags", dag_pb2.ListDagsRequest(page_token="x"), "INVALID_ARGUMENT", "page_token"),
        (
            "ListInstants",
            dag_pb2.ListInstantsRequest(parent="dags/x", count=1_001),
            "INVALID_ARGUMENT",
            "count",
        ),
        (
            "ListInstants",
            dag_pb2.ListInstantsRequest(parent="dags/x", after=Timestamp(nanos=-1)),
            "INVALID_ARGUMENT",
            "after",
        ),
        (
            "PauseDag",
            dag_pb2.PauseDagRequest(name="dags/x", reason="x" * 1_001),
            "INVALID_ARGUMENT",
            "reason",
        ),
        (
            "ApplyDag",
            Apply(spec=spec_of(), request_id="x" * 129),
            "INVALID_ARGUMENT",
            "request_id",
        ),
        ("ListDagVersions", dag_pb2.ListDagVersionsRequest(parent="dags/x"), "NOT_FOUND", ""),
    ],
)
async def test_a_bad_request_names_its_field(world, method, request_message, code, field) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(world.dags, method)(request_message)
    assert caught.value.code() is grpc.StatusCode[code]
    if field:
        found = details_of(caught.value, error_details_pb2.BadRequest).field_violations
        assert [each.field for each in found] == [field]
