"""The rows of the failure table about PostgreSQL and etcd, on real processes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from tests.system.dags import dag, fresh
from tests.system.parts import LEASE_S, Parts
from tests.system.survival.evidence import Evidence, now_s, states, succeeded, trigger
from tests.system.up import eventually


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def pass_s(seconds: float) -> None:
    """Lets time pass while processes do what they do."""
    since_s = now_s()
    eventually(lambda: now_s() - since_s > seconds, 2 * seconds + 10)


class Postgres:
    """Crashes the server of a cluster and brings it back on the same data."""

    def __init__(self, parts: Parts) -> None:
        self._server = parts.postgres

    def away_for(self, seconds: float) -> None:
        self._server.kill()
        pass_s(seconds)
        self._server.restart()


def test_etcd_down_3_x_lease(mortal_servers: Parts, evidence: Evidence, tmp_path: Path) -> None:
    """Leaders go on: what runs goes on, and what is triggered meanwhile runs."""
    parts = mortal_servers
    run = trigger(parts, tmp_path, dag(fresh("held"), evidence.task("held")))
    eventually(lambda: len(evidence.lives()) == 1)
    epochs = [shard.epoch for shard in parts.client.admin.shards().shards]
    parts.etcd.kill()
    down_s = now_s()
    quick = Evidence(tmp_path / "quick")
    quick.gate.parent.mkdir()
    quick.open_gate()
    for number in itertools.count():
        succeeded(parts, trigger(parts, tmp_path, dag(fresh("quick"), quick.task(f"q{number}"))))
        if now_s() - down_s > 3 * LEASE_S:
            break
        pass_s(1.0)
    assert [shard.epoch for shard in parts.client.admin.shards().shards] == epochs
    parts.etcd.start()
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    quick.check()
    assert states(parts, run) == ["SUCCEEDED"]


def test_etcd_wiped(mortal_servers: Parts, evidence: Evidence, tmp_path: Path) -> None:
    """An etcd that forgot everything: nobody leads twice, and the run goes on."""
    parts = mortal_servers
    run = trigger(parts, tmp_path, dag(fresh("held"), evidence.task("held")))
    eventually(lambda: len(evidence.lives()) == 1)
    parts.etcd.kill()
    parts.etcd.wipe()
    parts.etcd.start()
    pass_s(LEASE_S)
    eventually(parts.led)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"]


def test_postgresql_down_half_a_lease(
    mortal_servers: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """Shorter than attempt lease - beat - recovery: no task is killed."""
    parts = mortal_servers
    tasks = [evidence.task(f"t{number}") for number in range(10)]
    tasks.append(evidence.task("join", *(task["task"] for task in tasks)))
    run = trigger(parts, tmp_path, dag(fresh("short"), *tasks))
    eventually(lambda: len(evidence.lives()) == 10)
    Postgres(parts).away_for(0.25 * LEASE_S)
    pass_s(2 * LEASE_S)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"] * 11


def test_postgresql_down_two_leases(
    mortal_servers: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """Longer: what ran is killed in time, and started again afterwards."""
    parts = mortal_servers
    tasks = [evidence.task(f"t{number}") for number in range(4)]
    run = trigger(parts, tmp_path, dag(fresh("long"), *tasks))
    eventually(lambda: len(evidence.lives()) == 4)
    before_s = now_s()
    Postgres(parts).away_for(2 * LEASE_S)
    assert all(life.last_s < before_s + LEASE_S + 3.0 for life in evidence.lives().values())
    eventually(lambda: len(evidence.lives()) == 8, 60.0)
    evidence.open_gate()
    succeeded(parts, run)
    evidence.check()
    assert sorted(states(parts, run)) == ["LOST"] * 4 + ["SUCCEEDED"] * 4


def test_postgresql_ends_what_finished_meanwhile(
    mortal_servers: Parts, evidence: Evidence, tmp_path: Path
) -> None:
    """Tasks that end while nothing can be recorded are recorded later, once."""
    parts = mortal_servers
    run = trigger(parts, tmp_path, dag(fresh("ends"), evidence.task("held")))
    eventually(lambda: len(evidence.lives()) == 1)
    opening = threading.Timer(0.5, evidence.open_gate)
    opening.start()
    Postgres(parts).away_for(0.25 * LEASE_S)
    opening.join()
    succeeded(parts, run)
    evidence.check()
    assert states(parts, run) == ["SUCCEEDED"]
