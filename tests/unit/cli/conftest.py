"""A command line without anything of this machine, and a server to call."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mainspring.cli.main import run

from tests.unit.cli.fake_server import TOKEN, FakeServer, Script


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "DATA", "CA", "DEBUG"):
        monkeypatch.delenv(f"MAINSPRING_{name}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as started:
        yield started


@pytest.fixture
def script(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Script:
    """The script of a server that the environment names."""
    monkeypatch.setenv("MAINSPRING_ADDRESS", server.address)
    monkeypatch.setenv("MAINSPRING_TOKEN", TOKEN)
    return server.script


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process."""

    def call(*arguments: str) -> Ended:
        code = int(run(arguments))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def dead_address() -> Iterator[str]:
    """An address where nothing listens, kept so until the end of the test."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
