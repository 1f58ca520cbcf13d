"""`mainspring up`: it starts, tells where it is, refuses a second one, stops, and starts again."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import psutil
import pytest
from mainspring.ledger import check_ledger, read_ledger
from mainspring.v1 import run_pb2

from controlplane.embedded.etcd import is_free
from tests.system.dags import chain, dag, edges_of, fresh, gated_task, process_task, write
from tests.system.up import Up, eventually, mainspring, running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    data = tmp_path_factory.mktemp("up") / "data"
    with running(data, "--nodes=2", "--shards=3", "--agents=1") as up:
        yield up


def access(up: Up) -> dict:
    return json.loads((up.data / "client.json").read_text())


def test_it_prints_what_runs_where(cluster):
    words = [line.split()[0] for line in cluster.out.text.splitlines()]
    assert words[1:6] == ["PostgreSQL", "etcd", "node-1", "node-2", "agent-1"]
    assert f"127.0.0.1:{cluster.port}" in cluster.out.text
    assert cluster.err.text == ""


def test_clients_find_it_by_its_folder(cluster):
    said = access(cluster)
    assert said["address"] == said["addresses"][0] == f"127.0.0.1:{cluster.port}"
    assert len(said["addresses"]) == 2
    assert stat.S_IMODE(Path(said["token_file"]).stat().st_mode) == 0o600


def test_all_shards_are_led_and_they_spread_over_the_nodes(cluster):
    with cluster.client() as client:
        shards = client.admin.shards().shards
        assert [shard.name for shard in shards] == ["shards/0", "shards/1", "shards/2"]
        assert all(shard.epoch >= 1 for shard in shards)
        eventually(
            lambda: {shard.node for shard in client.admin.shards().shards} == {"node-1", "node-2"}
        )
        assert [agent.connected for agent in client.admin.agents().agents] == [True]


def test_secrets_are_in_no_command_line(cluster):
    token = Path(access(cluster)["token_file"]).read_text().strip()
    password = (cluster.data / "pg" / "password").read_text().strip()
    lines = cluster.command_lines()
    assert len(lines) > 5
    assert not [line for line in lines if token in line or password in line]


def test_a_second_one_on_the_same_folder_says_where_the_first_is(cluster):
    done = mainspring(cluster.data, "up", "--port=1")
    assert done.returncode == 4
    assert f"127.0.0.1:{cluster.port}" in done.stderr
    assert str(cluster.pid) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_one_on_the_same_port_names_the_flag(cluster, tmp_path):
    done = mainspring(tmp_path / "other", "up", f"--port={cluster.port}")
    assert done.returncode == 4
    assert "--port" in done.stderr


def trigger(up: Up, name: str) -> run_pb2.Run:
    with up.client() as client:
        return client.runs.wait(client.runs.trigger(name).name, timeout_s=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_and_starts_again_with_everything(tmp_path, number):
    up = Up(tmp_path / "data", "--shards=2")
    up.start()
    up.wait_ready()
    file = write(tmp_path, dag("kept", process_task("one", "echo", "it was me")))
    assert mainspring(up.data, "dag", "apply", file).returncode == 0
    before = trigger(up, "kept")
    assert up.stop(number) == 0
    assert up.left() == []
    assert not (up.data / "client.json").exists()
    assert is_free(up.port)

    with running(up.data, port=up.port) as again, again.client() as client:
        run = client.runs.get(before.name)
        assert run == before
        assert len(client.admin.shards().shards) == 2
        logs = b"".join(piece.data for piece in client.runs.logs(before.name, "one"))
        assert logs == b"it was me\n"
        assert trigger(again, "kept").state == run_pb2.RUN_STATE_SUCCEEDED


def test_a_run_goes_on_after_a_restart(tmp_path):
    ledger = tmp_path / "ledger"
    flags = ("--shards=2", "--capacity=8", f"--task-env=MAINSPRING_LEDGER={ledger}")
    definition = chain("going", 8, 0.3)
    up = Up(tmp_path / "data", *flags)
    up.start()
    up.wait_ready()
    assert mainspring(up.data, "dag", "apply", write(tmp_path, definition)).returncode == 0
    with up.client() as client:
        run = client.runs.trigger("going").name
        eventually(lambda: ledger.exists() and len(ledger.read_text().splitlines()) >= 3)
    assert up.stop() == 0

    with running(up.data, *flags, port=up.port) as again, again.client() as client:
        assert client.runs.wait(run, timeout_s=30).state == run_pb2.RUN_STATE_SUCCEEDED
    report = check_ledger(read_ledger(ledger), edges_of(definition))
    assert report.clean, report
    assert report.finished == 8


def test_a_killed_one_takes_its_processes_along_and_starts_again(tmp_path):
    up = Up(tmp_path / "data", "--shards=1", "--agents=1")
    up.start()
    up.wait_ready()
    assert up.stop(signal.SIGKILL) == -signal.SIGKILL
    assert up.left() == []
    assert (up.data / "client.json").exists()
    with running(up.data, port=up.port) as again, again.client() as client:
        assert [shard.epoch for shard in client.admin.shards().shards] == [2]


def test_another_number_of_shards_is_refused_with_the_number(tmp_path):
    with running(tmp_path / "data", "--shards=2", "--agents=0"):
        pass
    done = mainspring(tmp_path / "data", "up", "--shards=5")
    assert done.returncode == 4
    assert "2 shards" in done.stderr


def test_ctrl_c_before_it_is_ready_leaves_nothing(tmp_path):
    up = Up(tmp_path / "data")
    up.start()
    while not (up.data / "pg").exists():
        assert up._process.poll() is None
    up.see()
    assert up.stop() == 130
    assert up.left() == []


def test_a_node_that_dies_is_started_again(tmp_path):
    with running(tmp_path / "data", "--shards=1", "--agents=0") as up:
        node = up.child("node-1")
        node.kill()
        up.err.wait_for("node-1 ended .killed by SIGKILL")
        up.err.wait_for("node-1 runs again")
        assert up.child("node-1").pid != node.pid


def gated_run(up: Up, folder: Path) -> tuple[str, Path]:
    """A run whose only task runs by now, and the file that lets it end."""
    gate, name = folder / "gate", fresh("gated")
    definition = dag(name, gated_task("held", gate))
    assert mainspring(up.data, "dag", "apply", write(folder, definition)).returncode == 0
    with up.client() as client:
        run = client.runs.trigger(name).name
    eventually(lambda: mainspring(up.data, "run", "logs", run, "held").stdout.startswith("waiting"))
    up.see()
    return run, gate


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stop_leaves_no_task_behind_whatever_became_of_its_agent(tmp_path, number):
    with running(tmp_path / "data", "--shards=1", "--agents=2") as up:
        gated_run(up, tmp_path)
        supervisors = set(up.supervisors().values())
        assert len(supervisors) == 2
        for name in ("agent-1", "agent-2"):
            up.child(name).send_signal(number)
        assert up.stop() == 0
        assert up.left() == []
        assert not [each for each in supervisors if each.is_running()]


def test_tasks_that_outlive_up_and_agent_are_taken_up_by_the_next_ones(tmp_path):
    up = Up(tmp_path / "data", "--shards=1", "--agents=1")
    up.start()
    up.wait_ready()
    run, gate = gated_run(up, tmp_path)
    supervisor, agent = up.supervisors()["agent-1"], up.child("agent-1")
    held = {each.pid for each in supervisor.children(recursive=True)}
    agent.suspend()  # it would end its tasks when it is told of the death of `up`
    assert up.stop(signal.SIGKILL) == -signal.SIGKILL
    agent.kill()
    assert held
    with running(up.data, "--agents=1", port=up.port) as again, again.client() as client:
        assert again.supervisors()["agent-1"] == supervisor
        gate.touch()
        assert client.runs.wait(run, timeout_s=30).state == run_pb2.RUN_STATE_SUCCEEDED
        attempts = client.runs.attempts(run).attempts
        assert [attempt.number for attempt in attempts] == [1]
    assert up.left() == []


def test_lease_times_reach_the_nodes(tmp_path):
    flags = ("--heartbeat=500ms", "--attempt-lease=6s")
    with running(tmp_path / "data", "--shards=1", "--agents=1", *flags) as up:
        argv = up.child("node-1").cmdline()
        assert argv[argv.index("--heartbeat") + 1] == "500ms"
        assert argv[argv.index("--attempt-lease") + 1] == "6000ms"


def server(up: Up, name: str) -> psutil.Process:
    """The postmaster or etcd, by the name of its program."""
    return next(each for each in psutil.Process(up.pid).children() if each.name() == name)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_that_die_are_started_again_where_clients_look_for_them(tmp_path, number):
    with running(tmp_path / "data", "--shards=2", "--agents=1") as up:
        file = write(tmp_path, dag("kept", process_task("one", "true")))
        assert mainspring(up.data, "dag", "apply", file).returncode == 0
        dsn = (up.data / "run" / "dsn").read_text()
        ports = (up.data / "etcd" / "ports.json").read_text()
        for name, program in (("etcd", "etcd"), ("PostgreSQL", "postgres")):
            before = server(up, program).pid
            server(up, program).send_signal(number)
            up.err.wait_for(f"^{name} ended .*; it starts again in .* s. Its log: .*log")
            up.err.wait_for(f"^{name} runs again as process")
            assert server(up, program).pid != before
        eventually(lambda: trigger(up, "kept").state == run_pb2.RUN_STATE_SUCCEEDED)
        assert (up.data / "run" / "dsn").read_text() == dsn
        assert (up.data / "etcd" / "ports.json").read_text() == ports
        assert up.stop() == 0
        assert up.left() == []


def test_a_damaged_etcd_is_set_aside_and_the_cluster_serves_on(tmp_path):
    with running(tmp_path / "data", "--shards=1", "--agents=0") as up:
        etcd = server(up, "etcd")
        etcd.suspend()  # so that it is not started before it is damaged
        for log in (up.data / "etcd" / "data" / "member" / "wal").iterdir():
            log.write_bytes(b"damage")
        etcd.kill()
        up.err.wait_for(r"^etcd REFUSES ITS DATA: .*data.damaged")
        up.err.wait_for("^etcd runs again")
        epoch = shards(up)[0].epoch
        up.child("node-1").kill()
        eventually(lambda: shards(up)[0].epoch > epoch)


def shards(up: Up):
    with up.client() as client:
        return client.admin.shards().shards
