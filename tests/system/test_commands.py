"""The main job through the command line: apply, trigger, watch, logs, cancel, list."""

from __future__ import annotations

import json
import subprocess

from tests.system.dags import dag, fresh, gated_task, ledger_task, process_task, write
from tests.system.up import MAINSPRING, Lines, environment, eventually, runs_anywhere

HELLO = "examples/hello.yaml"


def document(done: subprocess.CompletedProcess[str]):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def applied(cluster, tmp_path, definition) -> str:
    done = cluster.mainspring("dag", "apply", write(tmp_path, definition))
    assert done.returncode == 0, done.stderr
    return definition["dag"]


def triggered(cluster, name: str) -> str:
    return document(cluster.mainspring("run", "trigger", name, "--json"))["name"]


def follow(cluster, *arguments: str) -> tuple[subprocess.Popen[str], Lines]:
    """A command that goes on while the test does, and what it prints."""
    process = subprocess.Popen(
        [MAINSPRING, *arguments],
        env=environment(cluster.up.data),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Lines(process.stdout)


def test_the_example_runs_and_is_watched(cluster):
    assert cluster.mainspring("dag", "apply", HELLO).returncode == 0
    done = cluster.mainspring("run", "trigger", "hello", "--watch")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert "succeeded" in done.stderr


def test_applying_twice_changes_nothing_and_versions_are_listed(cluster, tmp_path):
    name = fresh("versions")
    file = write(tmp_path, dag(name, process_task("one", "true")))
    first = document(cluster.mainspring("dag", "apply", file, "--json"))
    again = document(cluster.mainspring("dag", "apply", file, "--json"))
    assert (first["created"], again["created"], again["changed"]) == (True, False, False)
    write(tmp_path, dag(name, process_task("one", "true"), process_task("two", "true")))
    assert document(cluster.mainspring("dag", "apply", file, "--json"))["changed"]
    listed = document(cluster.mainspring("dag", "versions", name, "--json"))["versions"]
    assert [version["taskCount"] for version in listed] == [2, 1]
    assert [version["current"] for version in listed] == [True, False]


def test_a_run_that_fails_says_which_task_and_why(cluster, tmp_path):
    name = applied(
        cluster,
        tmp_path,
        dag(
            fresh("failing"),
            process_task("bad", "sh", "-c", "echo no >&2; exit 3"),
            process_task("after", "true", depends_on=["bad"]),
        ),
    )
    done = cluster.mainspring("run", "trigger", name, "--watch", "--json")
    assert done.returncode == 1
    assert "task bad failed" in done.stderr
    run = json.loads(done.stdout)["name"]
    listed = cluster.client.runs.task_instances(run).task_instances
    by_name = {task.name.split("/")[-1]: task for task in listed}
    assert by_name["bad"].exit_code == 3
    assert cluster.mainspring("run", "logs", run, "bad", "--stream=stderr").stdout == "no\n"
    assert "upstream_failed" in cluster.mainspring("run", "get", run, "--tasks").stdout


def test_a_task_is_retried_until_it_succeeds(cluster, tmp_path):
    marker = tmp_path / "marker"
    script = f'[ -e "{marker}" ] || {{ touch "{marker}"; exit 1; }}'
    task = process_task("flaky", "sh", "-c", script)
    task["retry"] = {"max_attempts": 3, "initial_backoff": "50ms"}
    name = applied(cluster, tmp_path, dag(fresh("retried"), task))
    run = triggered(cluster, name)
    assert cluster.mainspring("run", "wait", run, "--timeout=30").returncode == 0
    attempts = cluster.client.runs.attempts(run).attempts
    assert [attempt.number for attempt in attempts] == [1, 2]


def test_an_attempt_that_takes_too_long_is_killed(cluster, tmp_path):
    task = process_task("slow", "sleep", "60")
    task["timeout"] = "100ms"
    name = applied(cluster, tmp_path, dag(fresh("slow"), task))
    run = triggered(cluster, name)
    assert cluster.mainspring("run", "wait", run, "--timeout=30").returncode == 1
    assert "timed_out" in cluster.mainspring("run", "get", run, "--attempts").stdout


def test_logs_are_followed_live(cluster, tmp_path):
    gate = tmp_path / "gate"
    name = applied(cluster, tmp_path, dag(fresh("live"), gated_task("talk", gate)))
    run = triggered(cluster, name)
    eventually(lambda: len(cluster.client.runs.attempts(run).attempts) == 1)
    process, lines = follow(cluster, "run", "logs", run, "talk", "--follow")
    lines.wait_for("waiting")
    gate.touch()
    lines.wait_for("going on")
    assert process.wait(30) == 0
    lines.join()
    assert lines.text == "waiting\ngoing on\n"
    assert cluster.mainspring("run", "logs", run, "talk").stdout == "waiting\ngoing on\n"


def test_large_logs_come_back_byte_for_byte(cluster, tmp_path):
    script = "seq 1 200000; seq 1 100000 >&2"
    name = applied(cluster, tmp_path, dag(fresh("loud"), process_task("all", "sh", "-c", script)))
    run = triggered(cluster, name)
    assert cluster.mainspring("run", "wait", run, "--timeout=60").returncode == 0
    expected = "".join(f"{number}\n" for number in range(1, 200_001))
    eventually(
        lambda: cluster.mainspring("run", "logs", run, "all", "--stream=stdout").stdout == expected
    )


def test_a_run_is_cancelled_and_its_processes_end(cluster, tmp_path):
    there = tmp_path / "there"
    script = f'touch "{there}"; tail -f "{there}" & wait'
    name = applied(
        cluster,
        tmp_path,
        dag(
            fresh("cancelled"),
            process_task("long", "sh", "-c", script),
            ledger_task("never", "long"),
        ),
    )
    run = triggered(cluster, name)
    eventually(there.exists)
    done = cluster.mainspring("run", "cancel", run, "--reason=enough", "--wait", "--json")
    assert document(done)["state"] == "RUN_STATE_CANCELLED"
    eventually(lambda: not runs_anywhere(str(there)))
    assert cluster.entries(run) == []
    again = cluster.mainspring("run", "cancel", run)
    assert again.returncode in {0, 4}
    assert "Traceback" not in again.stderr


def test_what_runs_where_is_listed(cluster):
    shards = document(cluster.mainspring("shard", "list", "--json"))["shards"]
    assert [shard["name"] for shard in shards] == [f"shards/{number}" for number in range(4)]
    agents = document(cluster.mainspring("agent", "list", "--json"))["agents"]
    assert [(agent["connected"], agent["cpu"]) for agent in agents] == [(True, 64.0)] * 2
    assert cluster.mainspring("doctor").returncode == 0
    assert "127.0.0.1" in cluster.mainspring("shard", "list").stdout
    assert cluster.mainspring("version", "--server").returncode == 0


def test_runs_and_dags_are_listed_newest_first(cluster, tmp_path):
    name = applied(cluster, tmp_path, dag(fresh("listed"), process_task("one", "true")))
    runs = [triggered(cluster, name) for _ in range(3)]
    for run in runs:
        assert cluster.mainspring("run", "wait", run, "--timeout=30").returncode == 0
    listed = document(cluster.mainspring("run", "list", name, "--json"))["runs"]
    assert [run["name"] for run in listed] == runs[::-1]
    assert name in cluster.mainspring("dag", "list").stdout


def test_the_same_request_id_makes_one_run(cluster, tmp_path):
    name = applied(cluster, tmp_path, dag(fresh("once"), process_task("one", "true")))
    command = ("run", "trigger", name, "--request-id", fresh("request"), "--json")
    first, second = (document(cluster.mainspring(*command)) for _ in range(2))
    assert first["name"] == second["name"]
    assert len(cluster.client.runs.list(name).runs) == 1
