"""Fixtures: an etcd for everybody, an etcd to be hurt, a client, a cluster name."""

import pytest

from controlplane.coordination.client import EtcdClient
from tests.servers.etcd import EtcdServer


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory):
    """One healthy etcd for all tests that do not hurt it; each uses a cluster name of its own."""
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
def cluster(request):
    """A cluster name that no other test uses."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:60].strip("-")


@pytest.fixture
async def client(shared_etcd):
    async with EtcdClient([shared_etcd.endpoint], deadline_ms=2_000) as made:
        yield made
