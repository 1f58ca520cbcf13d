from __future__ import annotations

import pytest

from controlplane.services.errors import InvalidArgument
from controlplane.services.names import (
    RunName,
    TaskName,
    parse_approval,
    parse_dag,
    parse_dag_or_any,
    parse_dag_or_run,
    parse_run,
    parse_run_or_task,
)

TEXT = "01890a5d-ac96-774b-bcce-b302099a8057"
RUN = bytes.fromhex(TEXT.replace("-", ""))
NAME = f"dags/d/runs/{TEXT}"


def test_names_are_taken_apart() -> None:
    assert parse_dag("name", "dags/d.e_f-g") == "d.e_f-g"
    assert parse_dag_or_any("parent", "dags/-") is None
    assert parse_dag_or_any("parent", "dags/d") == "d"
    assert parse_run("name", NAME.upper().replace("DAGS/D/RUNS", "dags/-/runs")) == (None, RUN)
    assert parse_run_or_task("name", NAME) == TaskName(RunName("d", RUN), None, None)
    assert parse_run_or_task("name", f"{NAME}/tasks/-").task is None
    assert parse_run_or_task("name", f"{NAME}/tasks/t").task == "t"
    attempt = f"{NAME}/tasks/t/attempts/{bytes(16).hex()}"
    assert parse_run_or_task("name", attempt).attempt_id == bytes(16)


@pytest.mark.parametrize("name", ["", "d", "dags/", "dags/a/b", "dag/a", "dags/a b", "dags/\0"])
def test_what_names_no_dag_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_dag("name", name)
    assert caught.value.violations[0].field == "name"


@pytest.mark.parametrize(
    "name",
    [
        "",
        f"dags/d/run/{TEXT}",
        "dags/d/runs/7",
        f"dags//runs/{TEXT}",
        f"{NAME}/tasks",
        f"{NAME}/tasks/..",
        f"{NAME}/tasks/t/attempts/7",
        f"{NAME}/tries/t",
        f"{NAME}\n",
    ],
)
def test_what_names_no_run_or_task_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_run_or_task("parent", name)


def test_an_approval_is_that_of_a_task() -> None:
    assert parse_approval("name", f"{NAME}/tasks/t/approval") == (RunName("d", RUN), "t")
    bare = f"dags/-/runs/{TEXT}/tasks/t/approval"
    assert parse_approval("name", bare) == (RunName(None, RUN), "t")


@pytest.mark.parametrize(
    "name",
    ["", NAME, f"{NAME}/tasks/t", f"{NAME}/tasks/-/approval", f"{NAME}/tasks/t/approvals"],
)
def test_what_names_no_approval_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_approval("name", name)


def test_a_parent_may_be_a_dag_or_a_run() -> None:
    assert parse_dag_or_run("parent", "dags/-") == (None, None)
    assert parse_dag_or_run("parent", "dags/d") == ("d", None)
    assert parse_dag_or_run("parent", NAME) == ("d", RunName("d", RUN))
    with pytest.raises(InvalidArgument):
        parse_dag_or_run("parent", f"{NAME}/tasks")


def test_a_task_is_no_run() -> None:
    with pytest.raises(InvalidArgument):
        parse_run("name", f"{NAME}/tasks/t")
