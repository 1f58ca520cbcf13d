"""`up` becomes the server's process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mainspring.cli import server
from mainspring.cli.exit_codes import ExitCode

from controlplane.embedded.plan import DEFAULT_PORT, DEFAULT_SHARDS
from tests.unit.cli.conftest import Cli


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def execute(program: str, command: list[str]) -> None:
        assert program == sys.executable
        commands.append(command)

    monkeypatch.setattr("os.execv", execute)
    monkeypatch.setattr(server, "find_spec", lambda _name: object())
    return commands


def test_flags_are_passed_on(cli: Cli, executed: list[list[str]], tmp_path: Path) -> None:
    flags = ["--nodes", "2", "--shards", "4", "--agents", "2", "--port", "7171"]
    more = ["--capacity", "64,8GiB", "--task-env", "A=1 2", "--task-env", "B", "--dsn", "x=y"]
    times = ["--heartbeat", "1s", "--attempt-lease", "6s"]
    assert cli("up", "--data", str(tmp_path), *flags, *more, *times).code == 0
    assert executed == [
        [
            *(sys.executable, "-P", "-m", "controlplane.cli", "up"),
            *("--nodes=2", "--shards=4", "--agents=2", f"--data={tmp_path}", "--dsn=x=y"),
            *("--port=7171", "--capacity=64,8GiB", "--heartbeat=1s", "--attempt-lease=6s"),
            *("--task-env=A=1 2", "--task-env=B"),
        ]
    ]


def test_files_for_etcd_are_passed_on(cli: Cli, executed: list[list[str]], tmp_path: Path) -> None:
    flags = ["--etcd", "https://h:1", "--etcd-ca", "ca.pem", "--etcd-user", "u"]
    assert cli("up", "--data", str(tmp_path), *flags).code == 0
    assert executed[0][6:] == ["--etcd=https://h:1", "--etcd-ca=ca.pem", "--etcd-user=u"]


def test_the_data_folder_is_the_one_that_clients_look_in(
    cli: Cli, executed: list[list[str]], bare_environment: Path
) -> None:
    assert cli("up").code == 0
    assert executed[0][5:] == [f"--data={bare_environment / 'share' / 'mainspring'}"]


def test_without_the_server_it_says_how_to_get_it(
    cli: Cli, executed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _name: None)
    ended = cli("up")
    assert ended.code == ExitCode.NOT_ALLOWED
    assert "mainspring[local]" in ended.err
    assert executed == []


def test_the_help_tells_the_defaults_of_the_server(cli: Cli) -> None:
    said = " ".join(cli("up", "--help").out.split())
    for default in (f"default: {DEFAULT_PORT}.", f"default: {DEFAULT_SHARDS}.", "default: 1."):
        assert default in said
