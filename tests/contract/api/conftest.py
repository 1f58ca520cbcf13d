"""Fixtures: one PostgreSQL for the session, a world of its own for each test."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.store.store import migrate_database
from tests.contract.api.harness import World
from tests.servers.postgres import PostgresServer

TEMPLATE = "api_template"


@pytest.fixture(scope="session")
def postgres():
    with PostgresServer({"fsync": "off"}) as server:
        asyncio.run(migrate_database(server.create_database(TEMPLATE)))
        yield server


@pytest.fixture
async def world(postgres, tmp_path):
    async with World(postgres.fresh_database(TEMPLATE), tmp_path) as made:
        yield made
