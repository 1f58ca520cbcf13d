"""The doctor tells every finding and what to do about it."""

from __future__ import annotations

import json

import grpc
import pytest
from mainspring.cli.exit_codes import ExitCode
from mainspring.v1 import admin_pb2

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import Failure, FakeServer, Script


@pytest.fixture
def healthy(script: Script) -> Script:
    script.nodes = [admin_pb2.Node(name="nodes/n1")]
    script.shards = [admin_pb2.Shard(name=f"shards/{number}", node="n1") for number in range(4)]
    script.agents = [
        admin_pb2.Agent(
            name="agents/a1",
            connected=True,
            cpu=2,
            memory_bytes=3 * 2**30,
            granted_cpu=1.5,
            containment="namespace",
        ),
        admin_pb2.Agent(name="agents/a2"),
    ]
    return script


def results(out: str) -> dict[str, str]:
    return {line.split("  ")[0]: line for line in out.splitlines()[1:]}


def test_a_healthy_cluster(cli: Cli, healthy: Script) -> None:
    ended = cli("doctor")
    assert ended.code == 0
    assert "problem" not in ended.out
    found = results(ended.out)
    assert "MAINSPRING_ADDRESS" in found["address"]
    assert "all 4 are led" in found["shards"]
    assert "1 connected with 2 cores, 1 gone" in found["agents"]


def test_each_trouble_has_a_next_step(cli: Cli, healthy: Script) -> None:
    healthy.shards[1].node = ""
    healthy.shards[2].quarantined = 3
    healthy.agents[0].connected = False
    healthy.failures["ListNodes"] = Failure(grpc.StatusCode.INTERNAL, "etcd is away")
    ended = cli("doctor", "--json")
    assert ended.code == ExitCode.FAILED
    findings = {each["check"]: each for each in json.loads(ended.out)["findings"]}
    bad = {check for check, each in findings.items() if each["result"] == "problem"}
    assert bad == {"nodes", "shards", "quarantine", "agents"}
    assert all(findings[check]["next_step"] for check in bad)
    assert findings["shards"]["detail"] == "without leader: 1"


def test_weak_agents_and_absent_ones_are_warned_of(cli: Cli, healthy: Script) -> None:
    healthy.agents[0].containment = "process"
    healthy.agents[1].live_attempts = 2
    healthy.agents += [
        admin_pb2.Agent(name=f"agents/b{number}", connected=True, containment="process")
        for number in range(7)
    ]
    ended = cli("doctor")
    assert ended.code == ExitCode.OK
    found = results(ended.out)
    assert "warning" in found["attempts"]
    assert "2 attempts with agents that are away: a2" in found["attempts"]
    assert "a1, b0, b1, b2, b3 and 3 more" in found["containment"]


def test_a_store_that_went_back_is_warned_of_and_seen_in_the_list(
    cli: Cli, healthy: Script
) -> None:
    for number, seconds in ((1, 1_800_000_000), (2, 1_800_000_060)):
        shard = healthy.shards[number]
        shard.recovering_reason = "restored"
        shard.recovering_until.FromSeconds(seconds)
    [found] = [line for line in cli("doctor").out.splitlines() if "restored store" in line]
    assert "warning" in found
    assert "shard 1, 2, until 2027-01-15 08:01:00Z: restored" in found
    listed = cli("shard", "list").out.splitlines()
    assert listed[2].endswith("recovering until 2027-01-15 08:00:00Z")


def test_an_asynchronous_standby_is_warned_of(cli: Cli, healthy: Script) -> None:
    healthy.standbys = ["db-2"]
    [found] = [line for line in cli("doctor").out.splitlines() if "replication" in line]
    assert "warning" in found
    assert "asynchronous standby: db-2" in found


def test_an_empty_cluster(cli: Cli, script: Script) -> None:
    found = results(cli("doctor").out)
    assert "none is a member" in found["nodes"]
    assert "there are none" in found["shards"]
    assert "none is connected" in found["agents"]


def test_nothing_is_known(cli: Cli) -> None:
    ended = cli("doctor")
    assert ended.code == ExitCode.FAILED
    assert "no server is known" in ended.out


def test_no_token(cli: Cli, server: FakeServer) -> None:
    ended = cli("doctor", "--address", server.address)
    assert ended.code == ExitCode.FAILED
    assert "none is known" in results(ended.out)["token"]


def test_nobody_answers(cli: Cli, script: Script, dead_address: str) -> None:
    ended = cli("doctor", "--address", dead_address)
    assert ended.code == ExitCode.FAILED
    said = results(ended.out)["connection"]
    assert "connection refused by" in said
    assert "doctor" not in said


def test_agents_and_shards_are_listed(cli: Cli, healthy: Script) -> None:
    agents = cli("agent", "list").out.splitlines()
    assert agents[1].split() == ["a1", "yes", "2", "3.0", "GiB", "1.5", "0", "namespace", "-"]
    shards = cli("shard", "list").out.splitlines()
    assert shards[1].split() == ["0", "n1", "-", "0", "0", "0", "0", "-", "ok"]
    assert len(json.loads(cli("shard", "list", "--json").out)["shards"]) == 4


def test_versions(cli: Cli, script: Script) -> None:
    assert cli("version").out.startswith("mainspring  0.")
    assert json.loads(cli("version", "--server", "--json").out)["server"] == "0.1.0"
