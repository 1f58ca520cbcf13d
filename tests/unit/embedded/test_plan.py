"""The plan of an embedded cluster: ports, shares of the machine, command lines without secrets."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest

from controlplane.embedded import plan
from controlplane.embedded.errors import PortTakenError
from controlplane.embedded.etcd import free_ports
from controlplane.embedded.folder import DataFolder
from controlplane.embedded.plan import Backends, Capacity, ClusterSettings, LeaseFlags
from controlplane.leader import times


@pytest.fixture
def folder(tmp_path):
    with DataFolder(tmp_path / "data") as held:
        yield held


@contextmanager
def taken(port: int):
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


def after(argv, flag):
    return argv[argv.index(flag) + 1]


def test_the_first_node_has_the_asked_port_and_the_others_the_next_free_ones(tmp_path):
    port = free_ports().client
    with taken(port + 1):
        found = plan.node_addresses(ClusterSettings(tmp_path, nodes=3, port=port))
    first, *others = [int(address.rpartition(":")[2]) for address in found]
    assert first == port
    assert others == sorted(others)
    assert port + 1 not in others


def test_a_taken_port_is_an_error_that_names_the_flag(tmp_path):
    port = free_ports().client
    with taken(port), pytest.raises(PortTakenError, match="--port"):
        plan.node_addresses(ClusterSettings(tmp_path, port=port))


def test_ports_end_somewhere(tmp_path):
    with pytest.raises(PortTakenError):
        plan.node_addresses(ClusterSettings(tmp_path, nodes=3, port=65_535))


def test_agents_share_the_machine_but_none_has_less_than_a_core():
    assert plan.share(Capacity(8.0, 64), 4) == Capacity(2.0, 16)
    assert plan.share(Capacity(2.0, 64), 4) == Capacity(1.0, 16)
    assert plan.share(Capacity(2.0), 2) == Capacity(1.0)


def test_the_machine_has_cores_and_memory():
    found = plan.machine()
    assert found.cpu >= 1
    assert found.memory_bytes is not None
    assert found.memory_bytes > 2**20


def test_a_capacity_reads_as_a_flag():
    assert str(Capacity(2.5)) == "2.5"
    assert str(Capacity(64.0, 1024)) == "64,1024"


def test_a_node_is_told_files_and_places_but_no_secret(folder):
    backends = Backends(folder.run / "dsn", "127.0.0.1:2379")
    env = {"PATH": "/bin", "MAINSPRING_DSN": "postgresql://u:secret@h/d"}
    command = plan.node_command(folder, 2, "127.0.0.1:7071", backends, env)
    assert command.argv[1:5] == ("-P", "-m", "controlplane.cli", "node")
    assert after(command.argv, "--node") == command.name == "node-2"
    assert after(command.argv, "--listen") == "127.0.0.1:7071"
    assert after(command.argv, "--dsn-file") == str(folder.run / "dsn")
    assert folder.admin_token not in " ".join(command.argv)
    assert command.env == {"PATH": "/bin"}
    assert command.log_file == folder.logs / "node-2.log"


def test_a_node_is_told_how_etcd_is_reached(folder):
    access = ("--etcd-ca", "/ca.pem", "--etcd-user", "u")
    backends = Backends(folder.run / "dsn", "https://h:1", access)
    argv = plan.node_command(folder, 1, "127.0.0.1:7070", backends, {}).argv
    assert after(argv, "--etcd") == "https://h:1"
    assert (after(argv, "--etcd-ca"), after(argv, "--etcd-user")) == ("/ca.pem", "u")


def test_an_agent_gets_task_variables_through_its_environment(folder):
    settings = ClusterSettings(
        folder.path, task_env=("GIVEN=a secret=value", "PASSED", "ABSENT", "EMPTY=")
    )
    env = {"PATH": "/bin", "PASSED": "on", "OTHER": "no"}
    command = plan.agent_command(folder, 1, ["h:1", "h:2"], settings, env)
    named = [command.argv[i + 1] for i, word in enumerate(command.argv) if word == "--task-env"]
    assert named == ["GIVEN", "PASSED", "ABSENT", "EMPTY"]
    assert after(command.argv, "--nodes") == "h:1,h:2"
    assert command.env == {
        "PATH": "/bin",
        "PASSED": "on",
        "GIVEN": "a secret=value",
        "EMPTY": "",
    }


def test_an_asked_capacity_holds_for_every_agent(folder):
    settings = ClusterSettings(folder.path, agents=2, capacity=Capacity(64.0))
    command = plan.agent_command(folder, 2, ["h:1"], settings, {})
    assert after(command.argv, "--capacity") == "64"


def test_a_folder_with_odd_characters_is_a_url_as_it_is(tmp_path):
    with DataFolder(tmp_path / "my data %20") as held:
        assert plan.objects_url(held) == f"file://{tmp_path}/my data %20/objects"


@pytest.mark.parametrize(
    ("leases", "flags"),
    [
        (LeaseFlags(), ""),
        (LeaseFlags(heartbeat_ms=500), "--heartbeat 500ms"),
        (
            LeaseFlags(attempt_lease_ms=120_000),
            (
                "--heartbeat 5000ms --attempt-lease 120000ms"
                " --lease-grace 10000ms --lease-drift 2000ms"
            ),
        ),
        (
            LeaseFlags(1_200, 6_000),
            "--heartbeat 1200ms --attempt-lease 6000ms --lease-grace 2000ms --lease-drift 100ms",
        ),
        (
            LeaseFlags(attempt_lease_ms=1_000),
            "--heartbeat 166ms --attempt-lease 1000ms --lease-grace 2000ms --lease-drift 100ms",
        ),
    ],
)
def test_leases_that_are_asked_for_bring_what_fits_them(folder, leases, flags):
    backends = Backends(folder.run / "dsn", "h:1")
    command = plan.node_command(folder, 1, "h:2", backends, {}, leases)
    assert " ".join(command.argv).endswith(f"{plan.objects_url(folder)} {flags}".strip())
    assert leases.problem() == ""


def test_a_supervisor_is_ended_in_its_own_folder(folder):
    agent = plan.agent_command(folder, 3, ["h:1"], ClusterSettings(folder.path), {})
    command = plan.end_supervisor_command(folder, agent, {"PATH": "/bin", "TOKEN": "secret"})
    supervisor = folder.work / "agent-3" / "supervisor"
    assert command.argv[1:] == ("-P", "-m", "agent.supervisor", "--end", str(supervisor))
    assert (command.cwd, command.log_file) == (supervisor, agent.log_file)
    assert command.env == {"PATH": "/bin"}


def test_times_of_leases_are_those_of_the_nodes():
    there = times.LeaderTimes()
    assert (
        there.heartbeat_ms,
        there.attempt_lease_ms,
    ) == (plan.HEARTBEAT_MS, plan.ATTEMPT_LEASE_MS)
    assert there.lease_grace_ms == plan.LEASE_GRACE_MS
    assert plan.LEAST_GRACE_MS == times.LEAST_GRACE_MS
    assert plan.LONGEST_ATTEMPT_LEASE_MS == times.LONGEST_ATTEMPT_LEASE_MS


@pytest.mark.parametrize("lease_ms", [1_000, 6_000, 120_000, 86_400_000])
def test_nodes_accept_what_goes_with_a_lease(lease_ms):
    words = LeaseFlags(attempt_lease_ms=lease_ms).arguments()
    flags = dict(zip(words[::2], words[1::2], strict=True))
    fields = {flag.strip("-").replace("-", "_"): text for flag, text in flags.items()}
    given = {f"{name}_ms": int(text.removesuffix("ms")) for name, text in fields.items()}
    assert times.LeaderTimes(**given).attempt_lease_ms == lease_ms
