"""Fixtures: a migrated template of databases and one etcd for the whole session."""

import asyncio

import asyncpg
import pytest

from controlplane.store.store import migrate_database
from tests.servers.etcd import EtcdServer

TEMPLATE = "leader_template"


@pytest.fixture(scope="session")
def template(postgres):
    """A migrated database to be copied."""
    asyncio.run(migrate_database(postgres.create_database(TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def etcd(tmp_path_factory):
    server = EtcdServer(tmp_path_factory.mktemp("etcd") / "data")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_etcd(tmp_path):
    """An etcd to be hurt."""
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def dsn(postgres, template):
    """A migrated database of one's own."""
    return postgres.fresh_database(template)


@pytest.fixture
def cluster(request):
    """A cluster name that no other test uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:60].strip("-")


@pytest.fixture
def sql(dsn):
    """Executes a statement on a connection of its own."""

    async def execute(statement):
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    return execute
