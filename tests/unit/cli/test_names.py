"""Short forms of resource names."""

from __future__ import annotations

import pytest
from mainspring.client.errors import InvalidArgumentError
from mainspring.client.names import dag_name, last_segment, run_name, task_name

from tests.unit.cli.fake_server import RUN


def test_a_dag_is_an_id_or_a_name() -> None:
    assert dag_name("etl") == "dags/etl"
    assert dag_name("dags/etl") == "dags/etl"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (RUN, f"dags/-/runs/{RUN}"),
        (RUN.upper(), f"dags/-/runs/{RUN}"),
        (f"etl/{RUN}", f"dags/etl/runs/{RUN}"),
        (f"dags/etl/runs/{RUN}", f"dags/etl/runs/{RUN}"),
        (f"dags/-/runs/{RUN}", f"dags/-/runs/{RUN}"),
    ],
)
def test_a_run_has_three_forms(given: str, name: str) -> None:
    assert run_name(given) == name


def test_a_task_belongs_to_a_run() -> None:
    assert task_name(f"etl/{RUN}", "load") == f"dags/etl/runs/{RUN}/tasks/load"
    assert last_segment(f"dags/etl/runs/{RUN}/tasks/load") == "load"


@pytest.mark.parametrize("dag", ["", "a/b", "../x", "-", "a b", "é", "x" * 201, "a\x00", "dags/"])
def test_what_is_no_dag(dag: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        dag_name(dag)
    assert caught.value.violations[0].field == "dag"
    assert "\x00" not in caught.value.message


@pytest.mark.parametrize(
    "run", ["", "1", "etl/1", f"a/b/{RUN}", f"/{RUN}", f"x y/{RUN}", f"dags/a/b/{RUN}", "x" * 9_999]
)
def test_what_is_no_run(run: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        run_name(run)
    assert caught.value.violations[0].field == "run"
    assert len(caught.value.message) < 300


def test_a_task_id_cannot_smuggle_in_a_segment() -> None:
    with pytest.raises(InvalidArgumentError, match="task"):
        task_name(RUN, "a/attempts/b")
