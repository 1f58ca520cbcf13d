"""`admin recover` becomes the server's process, which is told what to mark and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mainspring.cli import server
from mainspring.cli.exit_codes import ExitCode

from tests.unit.cli.conftest import Cli

BECOMES = [sys.executable, "-P", "-m", "controlplane.cli", "recover", "--reason=restored"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.delenv("MAINSPRING_DSN", raising=False)
    monkeypatch.setattr("os.execv", lambda _program, command: commands.append(command))
    monkeypatch.setattr(server, "find_spec", lambda _name: object())
    return commands


def test_flags_are_passed_on(cli: Cli, executed: list[list[str]]) -> None:
    flags = ["--reason", "restored", "--dsn", "postgresql://u@h/d", "--shard", "0", "--shard", "2"]
    assert cli("admin", "recover", *flags).code == 0
    assert executed == [[*BECOMES, "--dsn=postgresql://u@h/d", "--shard=0", "--shard=2"]]


def test_the_local_cluster_is_the_one_that_clients_call(
    cli: Cli, executed: list[list[str]], bare_environment: Path
) -> None:
    assert cli("admin", "recover", "--reason", "restored").code == 0
    file = bare_environment / "share" / "mainspring" / "run" / "dsn"
    assert executed == [[*BECOMES, f"--dsn-file={file}"]]


def test_a_reason_is_asked_for(cli: Cli, executed: list[list[str]]) -> None:
    assert cli("admin", "recover").code == ExitCode.USAGE
    assert executed == []


def test_without_the_server_it_says_how_to_get_it(
    cli: Cli, executed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _name: None)
    ended = cli("admin", "recover", "--reason", "restored")
    assert ended.code == ExitCode.NOT_ALLOWED
    assert executed == []
