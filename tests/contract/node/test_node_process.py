"""The entry point of a node: real servers, a real process, real signals."""

import asyncio
import signal
import socket
import subprocess
import sys
from hashlib import sha256

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import admin_pb2, admin_pb2_grpc

from controlplane.store.store import Store, migrate_database
from tests.servers.etcd import EtcdServer, free_port

DEADLINE_S = 30.0
TOKEN = "token-of-the-node"
METADATA = (("authorization", f"Bearer {TOKEN}"),)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    server = EtcdServer(tmp_path_factory.mktemp("etcd") / "data")
    server.start()
    yield server
    server.stop()


async def initialise(dsn):
    await migrate_database(dsn)
    store = await Store.open(dsn)
    await store.initialise(2)
    await store.api.put_token(sha256(TOKEN.encode()).digest(), "default", "admin", "node")
    await store.close()


@pytest.fixture
def flags(postgres, etcd, tmp_path):
    """The flags of a node over a database that is migrated and has two shards."""
    dsn = postgres.fresh_database()
    asyncio.run(initialise(dsn))
    (tmp_path / "dsn").write_text(dsn)
    (tmp_path / "token").write_text(TOKEN)
    return {
        "--node": "n1",
        "--cluster": tmp_path.name.replace("_", "-"),
        "--listen": f"127.0.0.1:{free_port()}",
        "--dsn-file": str(tmp_path / "dsn"),
        "--etcd": etcd.endpoint,
        "--token-file": str(tmp_path / "token"),
        "--objects": f"file://{tmp_path}/objects",
    }


def start(flags):
    words = [word for pair in flags.items() for word in pair]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "controlplane.cli", "node", *words],
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(flags):
    """Exit code and words of a node that does not start."""
    process = start(flags)
    _, said = process.communicate(timeout=DEADLINE_S)
    return process.returncode, said


async def led(channel):
    """Waits until the node says that it leads all shards."""
    stub = admin_pb2_grpc.AdminServiceStub(channel)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                answer = await stub.ListShards(admin_pb2.ListShardsRequest(), metadata=METADATA)
            except grpc.aio.AioRpcError:
                answer = None
            if answer is not None and all(shard.node for shard in answer.shards):
                return [shard.node for shard in answer.shards]
            await asyncio.sleep(0.01)


async def test_a_node_leads_serves_and_stops_by_a_signal(flags):
    process = start(flags)
    try:
        async with grpc.aio.insecure_channel(flags["--listen"]) as channel:
            assert await led(channel) == ["n1", "n1"]
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.to_thread(process.communicate, None, DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert said.count("leader_key_resigned") == 2
    assert "Traceback" not in said


def test_wrong_settings_are_all_named(tmp_path):
    code, said = refused({"--node": "a b", "--listen": "x", "--dsn-file": str(tmp_path / "no")})
    assert code == ExitCode.USAGE
    for flag in ("--node", "--listen", "--dsn-file", "--cluster", "--etcd", "--objects"):
        assert f"error: {flag} " in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"--listen": "0.0.0.0:17999"}, ExitCode.NOT_ALLOWED, "can be reached from outside"),
        ({"--cluster": "UPPER"}, ExitCode.USAGE, "cluster must be a short name"),
    ],
)
def test_what_must_not_be_is_refused_in_one_sentence(flags, changes, code, words):
    found, said = refused({**flags, **changes})
    assert (found, words in said) == (code, True)
    assert "Traceback" not in said


def test_a_store_that_is_away_is_named(flags, tmp_path):
    (tmp_path / "dsn").write_text("postgresql://nobody@127.0.0.1:1/nothing")
    code, said = refused(flags)
    assert (code, "cannot connect to PostgreSQL" in said) == (ExitCode.UNREACHABLE, True)
    assert "Traceback" not in said


def test_a_store_without_a_schema_is_named(flags, postgres, tmp_path):
    (tmp_path / "dsn").write_text(postgres.fresh_database())
    code, said = refused(flags)
    assert (code, "migrat" in said) == (ExitCode.CONFLICT, True)
    assert "Traceback" not in said


def test_an_address_that_is_taken_is_named(flags):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags["--listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = refused(flags)
    assert (code, "cannot be listened on" in said) == (ExitCode.CONFLICT, True)
    assert "Traceback" not in said
