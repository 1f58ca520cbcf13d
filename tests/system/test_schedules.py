"""Schedules fire by themselves: each instant once, while they are not paused."""

from __future__ import annotations

from tests.system.dags import dag, fresh, ledger_task, write
from tests.system.up import eventually


def seconds_of(runs) -> list[int]:
    return sorted(run.logical_time.seconds for run in runs)


def test_a_schedule_fires_every_second_until_it_is_paused(cluster, tmp_path):
    name = fresh("ticking")
    definition = dag(name, ledger_task("tick"), schedules=[{"schedule": "often", "interval": "1s"}])
    assert cluster.mainspring("dag", "apply", write(tmp_path, definition)).returncode == 0
    assert cluster.mainspring("dag", "next", name, "-n", "3").stdout.count("often") == 3
    eventually(lambda: len(cluster.client.runs.list(name).runs) >= 4)
    assert cluster.mainspring("dag", "pause", name, "--reason=enough").returncode == 0
    runs = cluster.client.runs.list(name).runs
    fired = seconds_of(runs)
    assert fired == list(range(fired[0], fired[0] + len(fired)))
    for run in runs:
        cluster.client.runs.wait(run.name, timeout_s=30)
        assert [entry.kind for entry in cluster.entries(run.name)] == ["start", "end"]
    assert seconds_of(cluster.client.runs.list(name).runs) == fired
    assert cluster.client.dags.get(name).paused
