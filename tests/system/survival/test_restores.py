"""A PostgreSQL whose data folder of earlier is put back, under nodes and agents that go on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controlplane.embedded.postgres import EmbeddedPostgres
from tests.servers.postgres import PostgresServer
from tests.system.dags import dag, fresh
from tests.system.parts import LOST_AFTER_TAKEOVER_S, Parts
from tests.system.survival.evidence import Evidence, states, succeeded, trigger
from tests.system.up import eventually


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


class Backup:
    """The data folder of a server, as a crash left it."""

    def __init__(self, server: PostgresServer, place: Path) -> None:
        self._server, self._place = server, place
        embedded: EmbeddedPostgres = server.postgres
        self._data = embedded.data
        server.end_at_once()
        shutil.copytree(self._data, place, symlinks=True)
        server.boot()

    def put_back(self) -> None:
        self._server.end_at_once()
        shutil.rmtree(self._data)
        shutil.copytree(self._place, self._data, symlinks=True)
        self._server.boot()


def recovering(parts: Parts) -> list[str]:
    """Why shards hold their tasks back."""
    if not parts.answers():
        return []
    shards = parts.client.admin.shards().shards
    return [shard.recovering_reason for shard in shards if shard.HasField("recovering_until")]


def test_a_data_folder_of_earlier_is_put_back(
    mortal_servers: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """What runs is taken in, what had ended is done again, and what may do harm asks first."""
    parts = mortal_servers
    definition = dag(
        fresh("restored"),
        evidence.task("first"),
        evidence.task("second", "first"),
        evidence.task("careful", "first", idempotent=False),
    )
    run = trigger(parts, tmp_path, definition)
    eventually(lambda: len(evidence.of_task("first")) == 1)
    backup = Backup(parts.postgres, tmp_path / "backup")
    eventually(lambda: parts.answers() and parts.led(), 60.0)
    evidence.open_gate()
    succeeded(parts, run)
    second = len(evidence.of_task("second"))
    backup.put_back()
    eventually(lambda: len(recovering(parts)) == 2, 60.0)
    assert all("was committed and is not there" in reason for reason in recovering(parts))
    eventually(lambda: parts.client.approvals.list(run).approvals, 4 * LOST_AFTER_TAKEOVER_S)
    assert len(evidence.of_task("careful")) == 1
    # Each shard counts from its own takeover.
    eventually(lambda: not recovering(parts), 4 * LOST_AFTER_TAKEOVER_S)
    decided = parts.mainspring(
        "approval", "approve", f"{run.rpartition('/')[2]}/careful", "--reason", "seen"
    )
    assert decided.returncode == 0, decided.stderr
    succeeded(parts, run)
    assert len(evidence.of_task("careful")) == 2
    assert len(evidence.of_task("second")) > second
    assert states(parts, run).count("SUCCEEDED") == 3
    evidence.check()
