"""The real etcd of the wheel: boots, keeps its data and ports, leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import stat
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.embedded import etcd as module
from controlplane.embedded.errors import ServerStartError, StillRunningError
from controlplane.embedded.etcd import EmbeddedEtcd, Ports
from controlplane.embedded.process import processes_in

DEADLINE_S = 10.0
KEY = base64.b64encode(b"key").decode()


@asynccontextmanager
async def running(etcd: EmbeddedEtcd):
    await etcd.start()
    try:
        yield etcd
    finally:
        await etcd.stop()
    assert processes_in(etcd.folder, "etcd") == ()


async def call(etcd: EmbeddedEtcd, method: str, **fields: str) -> dict:
    def send() -> dict:
        request = urllib.request.Request(
            f"http://{etcd.endpoint}/v3/kv/{method}", data=json.dumps(fields).encode()
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return json.load(answer)

    return await asyncio.to_thread(send)


async def put(etcd: EmbeddedEtcd, value: str) -> None:
    await call(etcd, "put", key=KEY, value=base64.b64encode(value.encode()).decode())


async def get(etcd: EmbeddedEtcd) -> str:
    found = await call(etcd, "range", key=KEY)
    return base64.b64decode(found["kvs"][0]["value"]).decode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_data_and_endpoint_survive_a_stop_and_a_sigkill(tmp_path):
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    async with running(etcd):
        endpoint = etcd.endpoint
        await put(etcd, "one")
        await etcd.stop()
        assert etcd.pid is None
        await etcd.start()
        assert await get(etcd) == "one"
        await put(etcd, "two")
        await etcd.kill()
        assert await etcd.wait() == -signal.SIGKILL
        await etcd.start()
        assert await get(etcd) == "two"
    async with running(EmbeddedEtcd(tmp_path / "etcd")) as another:
        assert another.endpoint == endpoint
        assert await get(another) == "two"


async def test_folders_are_for_the_owner_alone_and_the_listener_for_this_machine(tmp_path):
    async with running(EmbeddedEtcd(tmp_path / "etcd")) as etcd:
        assert mode(tmp_path / "etcd") == mode(tmp_path / "etcd" / "data") == 0o700
        assert mode(tmp_path / "etcd" / "ports.json") == 0o600
        assert etcd.endpoint.startswith("127.0.0.1:")


async def test_a_port_taken_meanwhile_is_given_up_and_the_data_stay(tmp_path):
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    async with running(etcd):
        await put(etcd, "one")
        before = etcd.endpoint
    with socket.create_server(("127.0.0.1", int(before.split(":")[1]))):
        async with running(etcd):
            assert etcd.endpoint != before
            assert await get(etcd) == "one"


async def test_a_port_lost_between_choice_and_start_is_chosen_again(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = module.free_ports()
        offers = [Ports(taken.getsockname()[1], free.peer), free]
        monkeypatch.setattr(module, "free_ports", lambda: offers.pop(0))
        async with running(EmbeddedEtcd(tmp_path / "etcd")) as etcd:
            assert etcd.endpoint == f"127.0.0.1:{free.client}"
    assert offers == []


async def test_a_second_start_on_the_same_folder_is_refused(tmp_path, monkeypatch):
    async with running(EmbeddedEtcd(tmp_path / "etcd")) as etcd:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_LEFT_DEADLINE_S", 0.05)
            with pytest.raises(StillRunningError, match=f"kill -INT {etcd.pid}"):
                await EmbeddedEtcd(tmp_path / "etcd").start()
        await put(etcd, "still serving")


async def test_one_that_cannot_start_says_why_and_is_gone(tmp_path, monkeypatch):
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho no luck; exit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(module, "binary", lambda: program)
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    with pytest.raises(ServerStartError, match=r"status 3(.|\n)*no luck"):
        await etcd.start()
    assert etcd.pid is None
    assert not etcd.damaged.exists()


async def test_it_restarts_at_the_same_endpoint_after_any_end(tmp_path):
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    async with running(etcd):
        endpoint = etcd.endpoint
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
            await put(etcd, number.name)
            os.kill(etcd.pid, number)
            await etcd.wait()
            await etcd.restart()
            assert etcd.endpoint == endpoint
            assert await get(etcd) == number.name


async def test_a_restart_waits_for_its_port_rather_than_moving_away(tmp_path):
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    async with running(etcd):
        await put(etcd, "one")
        endpoint = etcd.endpoint
        await etcd.kill()
        with (
            socket.create_server(("127.0.0.1", int(endpoint.split(":")[1]))),
            pytest.raises(ServerStartError, match="address already in use"),
        ):
            await etcd.restart()
        await etcd.restart()
        assert etcd.endpoint == endpoint
        assert await get(etcd) == "one"
    assert not etcd.damaged.exists()


def damage(etcd: EmbeddedEtcd) -> None:
    for log in (etcd.data / "member" / "wal").iterdir():
        log.write_bytes(b"x" * 4_096)


async def test_damaged_data_are_set_aside_and_it_starts_with_none(tmp_path):
    told: list[str] = []
    etcd = EmbeddedEtcd(tmp_path / "etcd", say=told.append)
    async with running(etcd):
        endpoint = etcd.endpoint
        for value in ("first", "second"):
            await put(etcd, value)
            await etcd.kill()
            damage(etcd)
            await etcd.restart()
            assert await call(etcd, "range", key=KEY) != {}
            assert "kvs" not in await call(etcd, "range", key=KEY)
        assert etcd.endpoint == endpoint
    assert len(told) == 2
    assert "etcd REFUSES ITS DATA" in told[0]
    assert str(etcd.damaged) in told[0]
    assert (etcd.damaged / "member").exists()
    damage(etcd)
    async with running(EmbeddedEtcd(tmp_path / "etcd", say=told.append)) as another:
        assert another.endpoint == endpoint
    assert len(told) == 3


async def test_new_data_that_never_served_do_not_replace_those_set_aside(tmp_path, monkeypatch):
    told: list[str] = []
    etcd = EmbeddedEtcd(tmp_path / "etcd", say=told.append)
    async with running(etcd):
        await etcd.kill()
        (etcd.data / "evidence").touch()
        program = tmp_path / "broken"
        program.write_text(f"#!/bin/sh\nmkdir -p {etcd.data}; exit 3\n")
        program.chmod(0o700)
        with monkeypatch.context() as patch:
            patch.setattr(module, "binary", lambda: program)
            for _ in range(2):
                with pytest.raises(ServerStartError):
                    await etcd.restart()
        assert (etcd.damaged / "evidence").exists()
        assert "removed" in told[1]
        damage_left = etcd.data / "member"
        assert not damage_left.exists()
        await etcd.restart()
        assert await call(etcd, "range", key=KEY) != {}
