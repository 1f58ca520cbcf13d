"""Every foreseeable failure is one message, the next step and an exit code; never a traceback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from mainspring.cli.exit_codes import ExitCode

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import RUN, Failure, FakeServer, Script

CODES = [
    (grpc.StatusCode.INVALID_ARGUMENT, ExitCode.INVALID),
    (grpc.StatusCode.OUT_OF_RANGE, ExitCode.INVALID),
    (grpc.StatusCode.NOT_FOUND, ExitCode.CONFLICT),
    (grpc.StatusCode.ALREADY_EXISTS, ExitCode.CONFLICT),
    (grpc.StatusCode.FAILED_PRECONDITION, ExitCode.CONFLICT),
    (grpc.StatusCode.ABORTED, ExitCode.CONFLICT),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, ExitCode.CONFLICT),
    (grpc.StatusCode.UNAUTHENTICATED, ExitCode.NOT_ALLOWED),
    (grpc.StatusCode.PERMISSION_DENIED, ExitCode.NOT_ALLOWED),
    (grpc.StatusCode.UNIMPLEMENTED, ExitCode.UNREACHABLE),
    (grpc.StatusCode.INTERNAL, ExitCode.UNREACHABLE),
    (grpc.StatusCode.UNKNOWN, ExitCode.UNREACHABLE),
    (grpc.StatusCode.DATA_LOSS, ExitCode.UNREACHABLE),
    (grpc.StatusCode.DEADLINE_EXCEEDED, ExitCode.UNREACHABLE),
    (grpc.StatusCode.CANCELLED, ExitCode.UNREACHABLE),
]


@pytest.mark.parametrize(("status", "code"), CODES, ids=lambda each: getattr(each, "name", ""))
def test_each_status_has_its_exit_code(cli: Cli, script: Script, status, code) -> None:
    script.failures["GetRun"] = Failure(status, "the text of the server")
    ended = cli("run", "get", RUN)
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err


def test_refused_fields_are_named_with_their_reasons(cli: Cli, script: Script) -> None:
    script.failures["TriggerRun"] = Failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the request has problems",
        (("logical_time", "is before\nthe epoch"), ("request_id", "too \x1blong")),
        reason="BAD_REQUEST",
    )
    assert cli("run", "trigger", "etl").err.splitlines() == [
        "error: the request has problems",
        "  logical_time: is before the epoch",
        "  request_id: too \\x1blong",
        "next:  correct what is named above and try again",
    ]


def test_many_and_huge_refusals_make_no_huge_message(cli: Cli, script: Script) -> None:
    violations = tuple((f"field{number}", "x" * 100) for number in range(150))
    script.failures["GetRun"] = Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad", violations)
    ended = cli("run", "get", RUN)
    assert "… and 50 more" in ended.err
    assert len(ended.err) < 20_000


def test_details_that_cannot_be_read_cost_nothing(
    cli: Cli, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failure, "details", lambda _self: b"\xff\xff\xff")
    ended = cli("dag", "get", "absent")
    assert ended.code == ExitCode.CONFLICT
    assert ended.err.startswith("error: dags/absent does not exist\nnext:  ")


def test_a_dead_port(cli: Cli, script: Script, dead_address: str) -> None:
    ended = cli("dag", "list", "--address", dead_address)
    assert ended.code == ExitCode.UNREACHABLE
    assert f"connection refused by {dead_address}" in ended.err
    assert "mainspring doctor" in ended.err


def test_a_wrong_token(cli: Cli, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSPRING_TOKEN", "wrong")
    ended = cli("dag", "list")
    assert ended.code == ExitCode.NOT_ALLOWED
    assert "--token-file" in ended.err
    assert "wrong" not in ended.err


def test_no_token(cli: Cli, server: FakeServer) -> None:
    ended = cli("dag", "list", "--address", server.address)
    assert ended.code == ExitCode.NOT_ALLOWED
    assert f"no token is known for {server.address}\n" in ended.err


def test_a_token_of_a_folder_that_is_withheld(
    cli: Cli, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "admin.token").write_text("t")
    said = '{"address": "127.0.0.1:1", "token_file": "admin.token"}'
    (folder / "client.json").write_text(said)
    monkeypatch.setenv("MAINSPRING_DATA", str(folder))
    sentence = f"the token of {folder} is used for its own addresses only (127.0.0.1:1)"
    assert sentence in cli("dag", "list", "--address", server.address).err
    assert f"the token of {folder} is used" in cli("doctor", "--address", server.address).out


def test_a_folder_without_a_cluster(cli: Cli, tmp_path: Path) -> None:
    ended = cli("dag", "list", "--data", str(tmp_path))
    assert f"no cluster is running on {tmp_path}" in ended.err
    assert f"start it: `mainspring up --data {tmp_path}`" in ended.err


def test_a_task_that_the_run_does_not_have(cli: Cli, script: Script) -> None:
    script.failures["ReadLogs"] = Failure(grpc.StatusCode.NOT_FOUND, "no task", reason="TASK")
    ended = cli("run", "logs", RUN, "nonesuch")
    assert ended.code == ExitCode.CONFLICT
    assert "`mainspring run get RUN --tasks` lists its tasks" in ended.err


def test_no_server_is_known(cli: Cli) -> None:
    ended = cli("dag", "list")
    assert ended.code == ExitCode.UNREACHABLE
    assert "no server is known" in ended.err
    assert "`mainspring up`" in ended.err


def test_a_token_file_that_is_not_there(cli: Cli, script: Script, tmp_path: Path) -> None:
    ended = cli("dag", "list", "--token-file", str(tmp_path / "absent"))
    assert ended.code == ExitCode.NOT_ALLOWED
    assert "cannot be read" in ended.err
    assert "\nnext:  check the file" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["dag", "get", "a b"],
        ["dag", "get", "x" * 1_000_000],
        ["dag", "get", ""],
        ["run", "get", "not-a-uuid"],
        ["run", "logs", RUN, "a/b"],
        ["dag", "list", "--address", "nowhere"],
        ["dag", "list", "--address", "h:99999"],
    ],
)
def test_names_and_addresses_are_refused_before_any_call(
    cli: Cli, script: Script, arguments
) -> None:
    ended = cli(*arguments)
    assert ended.code == ExitCode.INVALID
    assert len(ended.err) < 500
    assert "\nnext:  " in ended.err
    assert script.requests == []


def test_a_server_that_is_no_mainspring(cli: Cli, script: Script) -> None:
    bare = grpc.server(ThreadPoolExecutor(1))
    port = bare.add_insecure_port("127.0.0.1:0")
    bare.start()
    ended = cli("dag", "list", "--address", f"127.0.0.1:{port}")
    bare.stop(None).wait(5)
    assert ended.code == ExitCode.UNREACHABLE
    assert "another program" in ended.err
