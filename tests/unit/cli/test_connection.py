"""Calls over several addresses, and tokens that do not leave the machine in the open."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from mainspring.client import (
    Client,
    ConfigurationError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from mainspring.client.addresses import parse_addresses
from mainspring.client.connection import Connection
from mainspring.client.settings import Settings
from mainspring.v1 import admin_pb2, dag_pb2, run_pb2

from tests.unit.cli.fake_server import RUN, TOKEN, Failure, FakeServer, final_run

INFO = admin_pb2.GetServerInfoRequest()


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now_s += pause_s


def connect(addresses: str, clock: Clock, *, patience_s: float = 3.0) -> Connection:
    return Connection(
        Settings(parse_addresses(addresses), "test", TOKEN),
        patience_s=patience_s,
        clock=lambda: clock.now_s,
        sleep=clock.sleep,
        dice=lambda: 0.5,
    )


def server_info(connection: Connection) -> admin_pb2.ServerInfo:
    return connection.call(lambda node: node.admin.GetServerInfo, INFO, deadline_s=10)


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client.at(server.address, TOKEN) as opened:
        yield opened


def test_a_dead_address_is_passed_over_and_the_living_one_kept(
    server: FakeServer, dead_address: str
) -> None:
    clock = Clock()
    connection = connect(f"{dead_address},{server.address}", clock)
    assert server_info(connection).node == "n1"
    assert str(connection.address) == server.address
    assert clock.pauses == []
    connection.close()


def test_a_dead_address_is_tried_until_patience_ends(dead_address: str) -> None:
    clock = Clock()
    connection = connect(dead_address, clock)
    with pytest.raises(UnavailableError, match=f"connection refused by {dead_address}"):
        server_info(connection)
    assert 1 < sum(clock.pauses) <= 3
    connection.close()


def test_a_call_is_repeated_with_the_same_request_id(client: Client, server: FakeServer) -> None:
    gone = Failure(grpc.StatusCode.UNAVAILABLE, "no leader", times=2)
    server.script.failures["TriggerRun"] = gone
    client.runs.trigger("etl")
    ids = [each.request_id for each in server.script.asked(run_pb2.TriggerRunRequest)]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0]


def test_each_call_has_its_own_request_id(client: Client, server: FakeServer) -> None:
    client.runs.trigger("etl")
    client.runs.trigger("etl")
    client.dags.apply(dag_pb2.DagSpec(dag="etl"))
    client.dags.pause("etl")
    client.dags.resume("etl")
    client.runs.cancel(RUN)
    ids = [each.request_id for each in server.script.requests]
    assert len(set(ids)) == len(ids) == 6


def test_a_refusal_is_not_repeated(client: Client, server: FakeServer) -> None:
    with pytest.raises(NotFoundError):
        client.dags.get("absent")
    assert len(server.script.requests) == 1


def test_no_token_means_no_call(server: FakeServer) -> None:
    settings = Settings(parse_addresses(server.address), "test", token=None)
    with Client(settings) as client, pytest.raises(UnauthenticatedError) as caught:
        client.admin.server_info()
    assert caught.value.reason == "NO_TOKEN"
    assert server.script.requests == []


def test_a_token_in_plain_text_is_refused_outside_this_machine() -> None:
    settings = Settings(parse_addresses("10.0.0.1:7070"), "test", TOKEN)
    with pytest.raises(ConfigurationError, match="not on this machine"):
        Connection(settings, patience_s=0, encrypted=False)


def test_an_address_outside_this_machine_is_called_encrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []

    def secure(address: str, _credentials: object, _options: object) -> grpc.Channel:
        opened.append(address)
        return grpc.insecure_channel("127.0.0.1:1")

    monkeypatch.setattr(grpc, "secure_channel", secure)
    settings = Settings(parse_addresses("127.0.0.1:1,10.0.0.1:2"), "test", TOKEN)
    Connection(settings, patience_s=0).close()
    assert opened == ["10.0.0.1:2"]
    with_ca = Settings(parse_addresses("127.0.0.1:3"), "test", TOKEN, ca=b"pem")
    Connection(with_ca, patience_s=0).close()
    assert opened == ["10.0.0.1:2", "127.0.0.1:3"]


def test_a_broken_watch_starts_over(client: Client, server: FakeServer) -> None:
    running = run_pb2.WatchRunResponse(run=run_pb2.Run(state=run_pb2.RUN_STATE_RUNNING))
    ended = run_pb2.WatchRunResponse(run=final_run(run_pb2.RUN_STATE_SUCCEEDED))
    server.script.steps = [running, ended]
    server.script.break_after = 1
    states = [step.run.state for step in client.runs.watch(RUN)]
    assert states == [
        run_pb2.RUN_STATE_RUNNING,
        run_pb2.RUN_STATE_RUNNING,
        run_pb2.RUN_STATE_SUCCEEDED,
    ]


def test_a_watch_that_always_ends_early_is_given_up(client: Client, server: FakeServer) -> None:
    server.script.steps = []
    with pytest.raises(UnavailableError, match="ends every watch"):
        list(client.runs.watch(RUN))


def piece(offset: int, data: bytes, stream=run_pb2.LOG_STREAM_STDOUT) -> run_pb2.ReadLogsResponse:
    return run_pb2.ReadLogsResponse(stream=stream, offset=offset, data=data, attempt_number=2)


def test_broken_logs_double_no_byte(client: Client, server: FakeServer) -> None:
    server.script.pieces = [
        piece(0, b"abc"),
        piece(0, b"E1", run_pb2.LOG_STREAM_STDERR),
        piece(3, b"def"),
    ]
    server.script.break_after = 2
    pieces = client.runs.logs(RUN, "load", follow=True)
    assert [each.data for each in pieces] == [b"abc", b"E1", b"def"]
    asked = server.script.asked(run_pb2.ReadLogsRequest)
    assert [each.attempt_number for each in asked] == [0, 2]


def test_overlapping_pieces_are_cut(client: Client, server: FakeServer) -> None:
    server.script.pieces = [piece(0, b"abcd"), piece(2, b"cdef"), piece(0, b"")]
    pieces = list(client.runs.logs(RUN, "load"))
    assert [(each.offset, each.data) for each in pieces] == [(0, b"abcd"), (4, b"ef")]


def test_waiting_goes_on_until_the_run_is_final(client: Client, server: FakeServer) -> None:
    running = run_pb2.Run(state=run_pb2.RUN_STATE_RUNNING)
    server.script.waits = [running, running, final_run(run_pb2.RUN_STATE_FAILED)]
    assert client.runs.wait(RUN).state == run_pb2.RUN_STATE_FAILED
    assert len(server.script.asked(run_pb2.WaitRunRequest)) == 3


def test_lists_are_read_over_pages(client: Client, server: FakeServer) -> None:
    for number in range(1_005):
        server.script.dags[f"d{number:04}"] = dag_pb2.Dag(name=f"d{number:04}")
    assert len(client.dags.list().dags) == 1_005
    assert client.dags.list(5).next_page_token == "5"
