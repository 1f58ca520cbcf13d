"""One PostgreSQL for all tests that do not hurt it; each folder has databases of its own in it."""

from __future__ import annotations

import pytest

from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres():
    with PostgresServer({"fsync": "off"}) as server:
        yield server
