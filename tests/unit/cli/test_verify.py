"""`verify` becomes the server's process, which is told where the database is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mainspring.cli import server
from mainspring.cli.exit_codes import ExitCode

from tests.unit.cli.conftest import Cli

BECOMES = [sys.executable, "-P", "-m", "controlplane.cli", "verify"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.delenv("MAINSPRING_DSN", raising=False)
    monkeypatch.setattr("os.execv", lambda _program, command: commands.append(command))
    monkeypatch.setattr(server, "find_spec", lambda _name: object())
    return commands


def test_flags_are_passed_on(cli: Cli, executed: list[list[str]]) -> None:
    assert cli("verify", "--dsn", "postgresql://u@h/d", "--since", "24h", "--json").code == 0
    assert executed == [[*BECOMES, "--dsn=postgresql://u@h/d", "--since=24h", "--output=json"]]


def test_the_local_cluster_is_the_one_that_clients_call(
    cli: Cli, executed: list[list[str]], bare_environment: Path
) -> None:
    assert cli("verify", "--run", "etl/x").code == 0
    file = bare_environment / "share" / "mainspring" / "run" / "dsn"
    assert executed == [[*BECOMES, f"--dsn-file={file}", "--run=etl/x", "--output=table"]]


def test_a_named_folder_goes_before_the_environment(
    cli: Cli, executed: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAINSPRING_DSN", "postgresql://u@h/d")
    assert cli("verify").code == 0
    assert cli("verify", "--data", str(tmp_path)).code == 0
    assert executed == [
        [*BECOMES, "--output=table"],
        [*BECOMES, f"--dsn-file={tmp_path / 'run' / 'dsn'}", "--output=table"],
    ]


def test_without_the_server_it_says_how_to_get_it(
    cli: Cli, executed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_spec", lambda _name: None)
    ended = cli("verify")
    assert ended.code == ExitCode.NOT_ALLOWED
    assert "mainspring[local]" in ended.err
    assert executed == []
