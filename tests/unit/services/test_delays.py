from __future__ import annotations

from array import array

import pytest

from controlplane.core.states import TaskState
from controlplane.core.types import Adjacency, DagKey, DagVersion, Resources, TaskDef
from controlplane.services.delays import amount, for_next_attempt, for_others, for_room
from controlplane.store.records import AgentItem

GIB = 1 << 30


def agent(cpu_millis: int, gib: int, live: int = 0) -> AgentItem:
    return AgentItem("a", b"i", "boot", "0", cpu_millis, gib * GIB, 0, live)


@pytest.mark.parametrize(
    ("cpu_millis", "memory", "said"),
    [
        (1_000, 0, "1 core"),
        (500, 0, "0.5 cores"),
        (0, 2 * GIB, "2 GiB"),
        (2_000, GIB // 2, "2 cores and 0.5 GiB"),
        (0, 0, "0 cores"),
    ],
)
def test_amounts_leave_out_what_is_zero(cpu_millis: int, memory: int, said: str) -> None:
    assert amount(Resources(cpu_millis, memory)) == said


@pytest.mark.parametrize(
    ("request_", "agents", "said"),
    [
        (Resources(1_000), [], ""),
        (
            Resources(1_000),
            [agent(2_000, 1, 2), agent(1_000, 1, 3)],
            "waits for a free slot: 2 agents offer 3 cores, 5 attempts are live",
        ),
        (
            Resources(30_000),
            [agent(1_000, 1)] * 2,
            (
                "asks for 30 cores; the largest agent offers 1 core; "
                "lower its resources or add a larger agent"
            ),
        ),
        (
            Resources(2_000, 2 * GIB),
            [agent(2_000, 1), agent(1_000, 2)],
            (
                "asks for 2 cores and 2 GiB; no agent offers both together; "
                "lower its resources or add a larger agent"
            ),
        ),
    ],
)
def test_a_ready_task_waits_for_its_turn_or_for_an_agent_that_could_take_it(
    request_: Resources, agents: list[AgentItem], said: str
) -> None:
    assert for_room(request_, agents) == said


def test_parents_that_have_not_ended_are_named_up_to_three() -> None:
    count = 6
    starts = array("I", [0, 1, 2, 3, 4, 5, 5])
    edges = Adjacency(starts, array("I", [5] * 5), array("I", [0] * 5 + [5]), array("I", range(6)))
    tasks = tuple(TaskDef(f"t{number}") for number in range(count))
    version = DagVersion(DagKey("t", "d"), b"", tasks, edges)
    states = [TaskState.RUNNING] * 5 + [TaskState.WAITING]
    assert for_others(version, states, {5}) == {5: "waits for t0, t1, t2 and 2 more"}
    states[0] = states[1] = TaskState.SUCCEEDED
    assert for_others(version, states, {5}) == {5: "waits for t2, t3, t4"}
    assert for_others(version, states, {0}) == {}


def test_a_backoff_says_when_the_next_attempt_comes() -> None:
    due_us = (4 * 3_600 + 29 * 60 + 26) * 1_000_000
    assert for_next_attempt("exit status 3", 1, due_us) == (
        "exit status 3; attempt 2 is due at 04:29:26Z"
    )
    assert for_next_attempt("", 1, due_us) == "attempt 2 is due at 04:29:26Z"
