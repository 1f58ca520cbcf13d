"""Clusters for the tests of survival: servers are shared where no test ends them."""

from __future__ import annotations

import pytest

from tests.servers.etcd import EtcdServer
from tests.servers.postgres import PostgresServer
from tests.system.parts import cluster, started_servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """A PostgreSQL and an etcd that no test ends."""
    with started_servers(tmp_path_factory.mktemp("servers")) as both:
        yield both


@pytest.fixture
def parts(tmp_path, servers: tuple[PostgresServer, EtcdServer]):
    """2 nodes, 2 shards, 2 agents: each may die."""
    with cluster(tmp_path, servers) as started:
        yield started


@pytest.fixture
def lone(tmp_path, servers: tuple[PostgresServer, EtcdServer]):
    """As `parts`, with one agent: whatever runs runs there."""
    with cluster(tmp_path, servers, agents=1) as started:
        yield started


@pytest.fixture
def mortal_servers(tmp_path):
    """As `parts`, with servers of its own, which may be ended too."""
    with started_servers(tmp_path) as own, cluster(tmp_path, own) as started:
        yield started
