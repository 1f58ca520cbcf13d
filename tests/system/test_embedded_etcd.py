"""The real etcd of the wheel: boots, keeps its data and ports, leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import json
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


async def test_one_that_cannot_start_says_why_and_is_gone(tmp_path):
    etcd = EmbeddedEtcd(tmp_path / "etcd")
    (tmp_path / "etcd").mkdir()
    (tmp_path / "etcd" / "data").touch()
    with pytest.raises(ServerStartError, match="not a directory"):
        await etcd.start()
    assert etcd.pid is None
