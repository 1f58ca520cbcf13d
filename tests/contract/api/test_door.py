from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from mainspring.agent.v1 import session_pb2, session_pb2_grpc
from mainspring.v1 import admin_pb2, dag_pb2

from controlplane.api.server import Extra
from tests.contract.api.harness import TOKEN, World, details_of, spec_of

PROTO = Path(__file__).resolve().parents[3] / "proto" / "mainspring"


class Echo(session_pb2_grpc.AgentSessionServiceServicer):
    """Answers every frame by an empty one, and fails on request."""

    async def Session(self, request_iterator, context):  # noqa: N802
        async for frame in request_iterator:
            if frame.hello.agent == "break":
                raise RuntimeError("the secret of the house")
            yield session_pb2.SessionResponse()


def register(server: grpc.aio.Server) -> None:
    session_pb2_grpc.add_AgentSessionServiceServicer_to_server(Echo(), server)


EXTRA = Extra("mainspring.agent.v1.AgentSessionService", register)


@pytest.fixture
async def world(dsn, tmp_path):
    async with World(dsn, tmp_path, (EXTRA,)) as made:
        yield made


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    """Names of all services that the server says it has."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    async for answer in stub.ServerReflectionInfo(iter([request]), metadata=metadata):
        return [service.name for service in answer.list_services_response.service]
    return []


def methods(service: str) -> list[descriptor_pb2.MethodDescriptorProto]:
    found = descriptor_pool.Default().FindServiceByName(service)
    message = descriptor_pb2.ServiceDescriptorProto()
    found.CopyToProto(message)
    return list(message.method)


async def call(channel: grpc.aio.Channel, path: str, kind: object, token: str | None) -> None:
    """Calls a method of any kind with an empty message."""
    metadata = () if token is None else (("authorization", token),)
    streams_in, streams_out = kind.client_streaming, kind.server_streaming
    made = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[streams_in, streams_out](path)
    answer = made(iter([b""]) if streams_in else b"", metadata=metadata, timeout=10)
    if streams_out:
        async for _ in answer:
            pass
    else:
        await answer


async def test_every_method_of_every_service_is_closed_but_health(world) -> None:
    services = await reflected(world.channel)
    declared = sum(path.read_text().count("\nservice ") for path in PROTO.rglob("*.proto"))
    assert len([name for name in services if name.startswith("mainspring.")]) == declared
    bare = await world.connect(None)
    tried = 0
    for service in services:
        for method in methods(service):
            path = f"/{service}/{method.name}"
            for token in (None, "Bearer wrong", "Basic x", f"Bearer {TOKEN}x", "Bearer "):
                if service == "grpc.health.v1.Health":
                    continue
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(bare, path, method, token)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, (path, token)
                tried += 1
    assert tried > 100


async def test_a_method_that_is_not_there_is_closed_too(world) -> None:
    bare = await world.connect(None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bare.unary_unary("/mainspring.v1.DagService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.channel.unary_unary("/mainspring.v1.DagService/Nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_open(world) -> None:
    bare = await world.connect(None)
    answer = await health_pb2_grpc.HealthStub(bare).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_role_opens_only_what_is_its_own(world) -> None:
    from hashlib import sha256

    await world.store.api.put_token(sha256(b"agents").digest(), "acme", "agent", "agents")
    bare = await world.connect(None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await bare.unary_unary("/mainspring.v1.AdminService/ListShards")(
            b"", metadata=(("authorization", "Bearer agents"),)
        )
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    stub = session_pb2_grpc.AgentSessionServiceStub(bare)
    stream = stub.Session(
        iter([session_pb2.SessionRequest()]), metadata=(("authorization", "bearer agents"),)
    )
    assert [each async for each in stream] == [session_pb2.SessionResponse()]


async def test_a_defect_tells_the_client_a_number_and_nothing_else(world) -> None:
    stub = session_pb2_grpc.AgentSessionServiceStub(await world.connect(None))
    frame = session_pb2.SessionRequest(hello=session_pb2.Hello(agent="break"))
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Session(iter([frame]), metadata=metadata):
            pass
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    number = details_of(caught.value, error_details_pb2.ErrorInfo).metadata["id"]
    assert number in caught.value.details()
    assert "secret" not in f"{caught.value.details()} {caught.value.trailing_metadata()}"


async def test_messages_have_limits(world) -> None:
    name = "x" * (4 * 1_024 * 1_024)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.dags.GetDag(dag_pb2.GetDagRequest(name=name))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(caught.value, error_details_pb2.ErrorInfo).reason == "MESSAGE_TOO_LARGE"


async def test_frames_of_a_stream_have_limits(world) -> None:
    stub = session_pb2_grpc.AgentSessionServiceStub(await world.connect(None))
    frame = session_pb2.SessionRequest(hello=session_pb2.Hello(agent="x" * 5_000_000))
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Session(iter([frame]), metadata=metadata):
            pass
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_definition_may_be_larger_than_other_messages(world) -> None:
    spec = spec_of()
    for number in range(60):
        process = spec.tasks.add(task=f"large-{number}").process
        process.argv.extend(["true", "x" * 100_000])
    assert spec.ByteSize() > 5_000_000
    answer = await world.dags.ApplyDag(dag_pb2.ApplyDagRequest(spec=spec, validate_only=True))
    assert answer.dag.task_count == 61


async def test_an_address_is_listened_on_once(world) -> None:
    from controlplane.api.listeners import Listener, ListenerError, open_port

    second = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    with pytest.raises(ListenerError, match="in use"):
        open_port(second, Listener(world.address))


async def test_a_withdrawn_token_ends_within_seconds(world) -> None:
    from hashlib import sha256

    from controlplane.api.credentials import Gatekeeper
    from controlplane.core.time.deadlines import Now
    from controlplane.services.errors import Unauthenticated

    class Clock:
        mono_ms = 0

        def now(self) -> Now:
            return Now(0, self.mono_ms)

    clock, api = Clock(), world.store.api
    gatekeeper = Gatekeeper(api, clock)
    metadata = (("authorization", "Bearer short-lived"),)
    method = "/mainspring.v1.DagService/GetDag"
    with pytest.raises(Unauthenticated):
        await gatekeeper.admit(method, metadata)
    await api.put_token(sha256(b"short-lived").digest(), "acme", "admin", "short")
    clock.mono_ms = 1_001
    assert (await gatekeeper.admit(method, metadata)).tenant == "acme"
    await api.drop_token("acme", "short")
    clock.mono_ms = 9_000
    assert await gatekeeper.admit(method, metadata) is not None
    clock.mono_ms = 11_002
    with pytest.raises(Unauthenticated):
        await gatekeeper.admit(method, metadata)


async def test_the_tenant_is_that_of_the_credential(world) -> None:
    answer = await world.admin.GetServerInfo(admin_pb2.GetServerInfoRequest())
    assert answer.tenant == "acme"
