"""Who receives the log of a real PostgreSQL, and what is known of it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from controlplane.embedded.postgres import binaries
from controlplane.store.store import Store, migrate_database
from tests.contract.store.harness import eventually
from tests.servers.postgres import PostgresServer

STREAMS = {"fsync": "off", "wal_level": "replica", "max_wal_senders": "2"}


@pytest.fixture(scope="module")
def streaming():
    with PostgresServer(STREAMS) as server:
        yield server


async def named(store, expected):
    """Waits until these are the standbys."""

    async def found():
        return await store.api.list_asynchronous_standbys() == expected

    await eventually(found)


async def test_an_asynchronous_standby_is_named_while_it_is_there(streaming, tmp_path):
    dsn = streaming.fresh_database()
    await migrate_database(dsn)
    with (streaming.postgres.data / "pg_hba.conf").open("a") as rules:
        rules.write("local replication all scram-sha-256\n")
    owner = await asyncpg.connect(dsn)
    await owner.execute("SELECT pg_reload_conf()")
    await owner.close()
    store = await Store.open(dsn)
    receives = [binaries() / "pg_receivewal", "--no-password"]
    where = [f"--directory={tmp_path}", f"--dbname={dsn}"]
    try:
        await named(store, [])
        # A server that does not know the new rule yet refuses, and the program tries again.
        following = await asyncio.create_subprocess_exec(
            *receives, *where, env={"PGAPPNAME": "db-2"}
        )
        try:
            await named(store, ["db-2"])
        finally:
            following.terminate()
            await following.wait()
        await named(store, [])
    finally:
        await store.close()
