"""The page on approvals, played through: its DAG, an unknown outcome, its commands, its program."""

from __future__ import annotations

from pathlib import Path

import psutil
from mainspring.v1 import run_pb2

from tests.docs.pages import blocks, commands
from tests.system.clusters import Cluster
from tests.system.up import eventually

PAGE = "docs/approvals.md"


def kill_supervisors(cluster: Cluster) -> None:
    """Ends whatever tasks run, so that nobody knows how far they got."""
    for file in (cluster.up.data / "work").glob("*/supervisor/pid"):
        psutil.Process(int(file.read_text().split()[0])).kill()


def states(cluster: Cluster, run: str) -> set[int]:
    return {each.state for each in cluster.client.runs.task_instances(run).task_instances}


def in_doubt(cluster: Cluster, folder: Path) -> str:
    """A run of the page's DAG whose tasks wait for a person."""
    file = folder / "settlement.yaml"
    file.write_text(blocks(PAGE, "yaml")[0].text, encoding="utf-8")
    applied = cluster.mainspring("dag", "apply", str(file))
    assert applied.returncode == 0, applied.stderr
    run = cluster.client.runs.trigger("settlement").name
    eventually(lambda: states(cluster, run) == {run_pb2.TASK_STATE_RUNNING})
    kill_supervisors(cluster)
    eventually(lambda: states(cluster, run) == {run_pb2.TASK_STATE_AWAITING_APPROVAL})
    return run


def test_the_page_is_true(cluster: Cluster, tmp_path: Path, monkeypatch, capsys):
    run = in_doubt(cluster, tmp_path)
    [program] = blocks(PAGE, "python")
    monkeypatch.setenv("MAINSPRING_DATA", str(cluster.up.data))
    exec(compile(program.text, PAGE, "exec"), {})
    assert capsys.readouterr().out.count("/approval ") == 2
    run_id = run.rpartition("/")[2]
    tasks = iter(("pay", "refund"))
    for block in blocks(PAGE, "sh"):
        for command in commands(block):
            words = [f"{run_id}/{next(tasks)}" if word == "RUN/TASK" else word for word in command]
            done = cluster.mainspring(*[run_id if word == "RUN" else word for word in words])
            assert done.returncode == 0, f"{block}: {command}: {done.stderr}"
    assert next(tasks, None) is None
    listed = cluster.client.runs.task_instances(run).task_instances
    assert [each.state == run_pb2.TASK_STATE_FAILED for each in listed] == [False, True]
    assert "booked by hand" in listed[1].reason
    cluster.client.runs.cancel(run)
    cluster.client.runs.wait(run, timeout_s=30)
