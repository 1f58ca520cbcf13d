"""A cluster is verified while it works: what moves raises no alarm, and what is broken does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import run_pb2

from tests.system.clusters import Cluster
from tests.system.dags import dag, fresh, process_task, write

FINAL = {run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED}
RETRIED = {"max_attempts": 3, "initial_backoff": "50ms"}
FAILS_ONCE = '[ "$MAINSPRING_ATTEMPT_NUMBER" -gt 1 ]'
RUNS = 40
ROUNDS_AT_WORK = 3


def busy(cluster: Cluster, folder: Path, gate: Path) -> list[str]:
    """Runs with retries and work side by side; the last one of them ends after the gate opens."""
    name = fresh("busy")
    first = process_task("first", "sleep", "0.5")
    middle = [
        process_task(f"m{n}", "sh", "-c", FAILS_ONCE, depends_on=["first"], retry=RETRIED)
        for n in range(4)
    ]
    last = process_task("last", "true", depends_on=[f"m{n}" for n in range(4)])
    applied = cluster.mainspring("dag", "apply", write(folder, dag(name, first, *middle, last)))
    assert applied.returncode == 0, applied.stderr
    held = fresh("held")
    waits = process_task("waits", "sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', str(gate))
    applied = cluster.mainspring("dag", "apply", write(folder, dag(held, waits)))
    assert applied.returncode == 0, applied.stderr
    work = [cluster.client.runs.trigger(name).name for _ in range(RUNS)]
    return [*work, cluster.client.runs.trigger(held).name]


def judged(document: dict[str, object], invariant: str) -> int:
    [found] = [each for each in document["invariants"] if each["invariant"] == invariant]
    return found["judged"]


def test_a_busy_cluster_is_verified_while_it_works(cluster: Cluster, tmp_path: Path):
    gate = tmp_path / "gate"
    runs, rounds = busy(cluster, tmp_path, gate), 0
    while True:
        over = all(cluster.client.runs.get(run).state in FINAL for run in runs)
        done = cluster.mainspring("verify", "-o", "json")
        document = json.loads(done.stdout)
        assert document["violations"] == []
        assert done.returncode == ExitCode.OK, done.stderr
        if over:
            break
        rounds += 1
        if rounds == ROUNDS_AT_WORK:
            gate.touch()
    assert rounds >= ROUNDS_AT_WORK
    assert judged(document, "I3") >= RUNS * 10


def test_what_is_broken_is_told_with_its_evidence(cluster: Cluster, tmp_path: Path):
    name = fresh("broken")
    task = process_task("only", "true")
    assert cluster.mainspring("dag", "apply", write(tmp_path, dag(name, task))).returncode == 0
    run = cluster.client.runs.wait(cluster.client.runs.trigger(name).name, timeout_s=30)
    run_id = run.name.rpartition("/")[2]
    raw = run_id.replace("-", "")
    dsn = (cluster.up.data / "run" / "dsn").read_text().strip()
    set_exit = "UPDATE attempt SET exit_code = {} WHERE run = (SELECT run FROM run"
    of_run = f" WHERE run_id = '\\x{raw}')"
    asyncio.run(execute(dsn, set_exit.format(7) + of_run))
    done = cluster.mainspring("verify", "--run", run_id)
    asyncio.run(execute(dsn, set_exit.format(0) + of_run))
    assert done.returncode == ExitCode.FAILED
    assert "it succeeded with exit status 7" in done.stdout
    assert f"{name}/{run_id}/only" in done.stdout
    assert cluster.mainspring("verify", "--run", f"{name}/{run_id}").returncode == ExitCode.OK


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.execute(statement) == "UPDATE 1"
    finally:
        await connection.close()
