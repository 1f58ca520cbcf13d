"""One PostgreSQL for all tests that do not hurt it; each folder has databases of its own in it."""

from __future__ import annotations

from asyncio import constants

import pytest

from tests.servers.postgres import PostgresServer

# Debug mode notes where each callback was made; with ten frames each that is a third of the time
# of these tests. One frame says what is needed.
constants.DEBUG_STACK_DEPTH = 1


@pytest.fixture(scope="session")
def postgres():
    with PostgresServer({"fsync": "off"}) as server:
        yield server
