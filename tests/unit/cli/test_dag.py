"""Reading DAGs, pausing them, and the forms of output."""

from __future__ import annotations

import json

import pytest
import yaml
from google.protobuf.duration_pb2 import Duration
from mainspring.definition import load
from mainspring.v1 import dag_pb2

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_server import Script, at


@pytest.fixture
def etl(script: Script) -> dag_pb2.Dag:
    spec = dag_pb2.DagSpec(dag="etl", description="Loads\nthings")
    spec.tasks.add(task="load").process.argv.append("true")
    spec.schedules.add(schedule="default", cron="@daily")
    dag = dag_pb2.Dag(
        name="dags/etl",
        spec=spec,
        digest="cd" * 32,
        task_count=1,
        next_instant=at(0),
        update_time=at(60),
    )
    script.dags["dags/etl"] = dag
    return dag


def test_a_list_is_a_table(cli: Cli, etl: dag_pb2.Dag) -> None:
    ended = cli("dag", "list")
    assert (ended.code, ended.err) == (0, "")
    header, line = ended.out.splitlines()
    assert header.split() == ["DAG", "SCHEDULES", "TASKS", "NEXT", "DIGEST", "CHANGED"]
    assert line.split()[:3] == ["etl", "active", "1"]
    assert "2025-06-15 15:06:40Z" in line


def test_a_list_as_json_is_the_message_of_the_api(cli: Cli, etl: dag_pb2.Dag) -> None:
    said = json.loads(cli("dag", "list", "-o", "json").out)
    assert said["nextPageToken"] == ""
    dag = said["dags"][0]
    assert dag["name"] == "dags/etl"
    assert dag["paused"] is False
    assert dag["nextInstant"] == "2025-06-15T15:06:40Z"


def test_yaml_is_the_same_document(cli: Cli, etl: dag_pb2.Dag) -> None:
    said = json.loads(cli("dag", "list", "--json").out)
    assert yaml.safe_load(cli("dag", "list", "-o", "yaml").out) == said


def test_a_cut_list_says_so(cli: Cli, etl: dag_pb2.Dag, script: Script) -> None:
    script.dags["dags/more"] = dag_pb2.Dag(name="dags/more")
    ended = cli("dag", "list", "--limit", "1")
    assert "there are more than 1" in ended.err
    assert json.loads(cli("dag", "list", "-n", "1", "--json").out)["nextPageToken"] == "1"


def test_one_dag_is_a_list_of_facts(cli: Cli, etl: dag_pb2.Dag) -> None:
    etl.paused, etl.pause_reason = True, "source \x1b[31mis down"
    out = cli("dag", "get", "dags/etl").out
    facts = dict(line.split("  ", 1) for line in out.splitlines())
    assert facts["DAG"].strip() == "etl"
    assert facts["description"].strip() == "Loads things"
    assert facts["schedules"].strip() == "1 schedule, paused: source \\x1b[31mis down"


def test_a_definition_comes_back_as_a_dag_file(cli: Cli, etl: dag_pb2.Dag) -> None:
    loaded = load(cli("dag", "get", "etl", "--definition").out.encode())
    assert loaded.problems == []
    assert loaded.documents[0].spec == etl.spec


def test_versions(cli: Cli, etl: dag_pb2.Dag) -> None:
    assert cli("dag", "versions", "etl").out.splitlines()[1].split()[:3] == ["cd" * 32, "yes", "1"]


def test_next_instants(cli: Cli, etl: dag_pb2.Dag, script: Script) -> None:
    out = cli("dag", "next", "etl", "-n", "20", "--after", "2025-01-01T00:00:00+01:00").out
    assert len(out.splitlines()) == 21
    request = script.asked(dag_pb2.ListInstantsRequest)[0]
    assert (request.parent, request.count) == ("dags/etl", 20)
    assert request.after.ToJsonString() == "2024-12-31T23:00:00Z"


def test_pause_and_resume(cli: Cli, etl: dag_pb2.Dag) -> None:
    assert "paused" in cli("dag", "pause", "etl", "--reason", "source is down").out
    assert etl.pause_reason == "source is down"
    assert "active" in cli("dag", "resume", "etl").out
    assert etl.paused is False


def test_the_instants_of_a_paused_dag_do_not_fire(cli: Cli, etl: dag_pb2.Dag) -> None:
    assert cli("dag", "next", "etl").err == ""
    etl.paused = True
    ended = cli("dag", "next", "etl")
    assert "DAG etl is paused: nothing fires until it is resumed" in ended.err


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            dag_pb2.ScheduleSpec(schedule="default", cron="0 6 * * *", timezone="Europe/Berlin"),
            'cron "0 6 * * *" Europe/Berlin',
        ),
        (dag_pb2.ScheduleSpec(schedule="n", cron="@daily"), 'n: cron "@daily" UTC'),
        (dag_pb2.ScheduleSpec(interval=Duration(seconds=10)), "every 10s"),
    ],
)
def test_schedules_read_as_in_a_dag_file(
    cli: Cli, etl: dag_pb2.Dag, schedule: dag_pb2.ScheduleSpec, said: str
) -> None:
    etl.spec.schedules.append(schedule)
    lines = cli("dag", "get", "etl").out.splitlines()
    assert [line.split(maxsplit=1) for line in lines if line.startswith("schedule ")][1:] == [
        ["schedule", said]
    ]
