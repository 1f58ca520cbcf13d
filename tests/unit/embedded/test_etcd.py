from __future__ import annotations

import json
import socket

import pytest

from controlplane.embedded import etcd
from controlplane.embedded.errors import ProgramMissingError
from controlplane.embedded.etcd import (
    Ports,
    free_ports,
    healthy,
    is_free,
    is_healthy_answer,
    remembered_ports,
)

OK = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "is_healthy"),
    [
        (OK + b'{"health":"true","reason":""}', True),
        (OK + b'{"health":"false","reason":"RAFT NO LEADER"}', False),
        (OK + b"true", False),
        (OK + b"<html>", False),
        (b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"health":"true"}', False),
        (b"", False),
    ],
)
def test_only_a_clear_yes_is_healthy(answer, is_healthy):
    assert is_healthy_answer(answer) is is_healthy


async def test_nobody_listening_is_not_healthy():
    assert not await healthy(free_ports().client)


def test_free_ports_differ_and_lie_below_those_of_outgoing_connections():
    ports = free_ports()
    assert ports.client != ports.peer
    assert all(20_000 <= port < 32_000 for port in (ports.client, ports.peer))


def test_ports_are_remembered_while_they_are_free(tmp_path):
    file, ports = tmp_path / "ports.json", free_ports()
    file.write_text(json.dumps({"client": ports.client, "peer": ports.peer}))
    assert remembered_ports(file) == ports
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports.peer))
        other.listen()
        assert not is_free(ports.peer)
        assert remembered_ports(file) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"client": "x", "peer": 1}'])
def test_a_damaged_memory_of_ports_is_no_memory(tmp_path, text):
    (tmp_path / "ports.json").write_text(text)
    assert remembered_ports(tmp_path / "ports.json") is None


def test_a_machine_without_free_ports_is_told(monkeypatch):
    monkeypatch.setattr(etcd, "is_free", lambda _port: False)
    with pytest.raises(ProgramMissingError, match="no free port"):
        free_ports()


def test_a_wheel_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(etcd.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ProgramMissingError, match="--etcd"):
        etcd.binary()


def test_ports_are_a_value():
    assert Ports(1, 2) == Ports(1, 2)
