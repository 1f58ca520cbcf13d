"""What services read of attempts that were given up, and of what waits for a person."""

from __future__ import annotations

import pytest

from controlplane.core.effects import WaitKind, Writes
from controlplane.core.events import WaitRecord
from controlplane.core.states import AttemptState, RunState
from controlplane.store.records import (
    AgentRow,
    ApprovalItem,
    ApprovalKey,
    AttemptKey,
    Fence,
    LateItem,
)
from tests.contract.store.rows import (
    AGENT,
    DAY,
    DIGEST,
    INCARNATION,
    NOW_US,
    TENANT,
    approval_row,
    attempt_id,
    change_row,
    dag_of,
    done_row,
    first_hop,
    late_row,
    live_row,
    mark_row,
    run_id,
    run_row,
    sealed_row,
    wait_gone_row,
    wait_row,
)

KEY = dag_of(0)
UNKNOWN, LOST = AttemptState.UNKNOWN, AttemptState.LOST
SAID_LATE = (NOW_US + 11, NOW_US + 60, 0, 0, 7, 8, "said late")


@pytest.fixture
async def commit(api):
    """Commits batches of shard 0 in order."""
    await api.shards.take_over(0, 0, b"h" * 16, "node-1", "node-1:1")
    batches = iter(range(1, 1_000))

    async def write(*several):
        for writes in several:
            await api.shards.commit(Fence(0, 1, next(batches)), writes)

    return write


def key_of(item: ApprovalItem) -> ApprovalKey:
    return ApprovalKey(item.since_us, item.run, item.task, item.expansion)


async def listed(api, parent=None, *, limit=10, tenant=TENANT):
    """Runs and tasks of all pages."""
    after, found = ApprovalKey(), []
    while page := await api.api.list_approvals(tenant, parent, after, limit):
        found += [(item.run, item.task) for item in page]
        after = key_of(page[-1])
    return found


async def test_an_attempt_stays_lost_whatever_was_said_of_it_late(api, commit):
    lost = Writes(done=[done_row(1, 0, 1, LOST)], live=[live_row(1, 1, 2)])
    await commit(first_hop(), lost, Writes(late=[late_row(1, 0, 1, adopted=True)]))
    run = await api.api.find_run(TENANT, run_id(1))
    one, two = await api.api.list_attempts(run, None, AttemptKey(), 9)
    assert (one.state, one.finished_us, one.incarnation) == (LOST, NOW_US + 20, INCARNATION)
    assert one.late == LateItem(AttemptState.SUCCEEDED, *SAID_LATE, True, NOW_US + 90)
    assert (two.late, two.incarnation) == (None, INCARNATION)
    again = AttemptKey(one.task, one.expansion, one.number, one.assigned_us, one.attempt_id)
    assert await api.api.list_attempts(run, None, again, 9) == [two]


async def test_a_run_is_read_with_its_adopted_late_success(api, commit):
    await commit(first_hop(), Writes(done=[done_row(1, 0, 1, UNKNOWN)]))
    await commit(Writes(late=[late_row(1, 0, 1, adopted=True)]))
    [ended] = (await api.api.run_task_rows(DAY, 1)).ended
    assert (ended.state, ended.attempt_id) == (AttemptState.SUCCEEDED, attempt_id(1))
    assert (ended.started_us, ended.finished_us, ended.exit_code) == (NOW_US + 11, NOW_US + 60, 0)
    assert (ended.stdout_bytes, ended.stderr_bytes, ended.message) == (7, 8, "said late")
    assert ended.late.adopted


async def test_a_late_result_that_was_not_adopted_is_only_told(api, commit):
    late = late_row(1, 0, 1, AttemptState.FAILED)
    await commit(first_hop(), Writes(done=[done_row(1, 0, 1, LOST)]), Writes(late=[late]))
    [ended] = (await api.api.run_task_rows(DAY, 1)).ended
    assert (ended.state, ended.finished_us) == (LOST, NOW_US + 20)
    assert ended.late == LateItem(AttemptState.FAILED, *SAID_LATE, False, NOW_US + 90)


async def test_a_late_success_without_a_start_keeps_the_one_that_was_known(api, commit):
    late = late_row(1, 0, 1, adopted=True)._replace(started_us=None)
    await commit(first_hop(), Writes(done=[done_row(1, 0, 1, LOST)]), Writes(late=[late]))
    [ended] = (await api.api.run_task_rows(DAY, 1)).ended
    assert (ended.state, ended.started_us) == (AttemptState.SUCCEEDED, NOW_US + 10)


async def test_a_run_is_read_with_its_waits_of_every_kind(api, commit):
    await commit(first_hop())
    await commit(Writes(waits=[wait_row(1, 0), approval_row(1, 1), mark_row(1, 2)]))
    approval = WaitRecord(1, 1, 0, WaitKind.APPROVAL, NOW_US + 40, 1, "its outcome is unknown")
    mark = WaitRecord(1, 2, 0, WaitKind.MARK, NOW_US + 70, 1, "rejected")
    rows = await api.api.run_task_rows(DAY, 1)
    assert [row.kind for row in rows.waits] == [WaitKind.BACKOFF, WaitKind.APPROVAL, WaitKind.MARK]
    assert rows.waits[1:] == (approval, mark)


async def test_a_final_run_is_read_with_its_marks(api, commit):
    await commit(first_hop(), Writes(done=[done_row(1, 0, 1, UNKNOWN)], waits=[mark_row(1, 0)]))
    await commit(Writes(run_changes=[change_row(1, RunState.FAILED)], sealed=[sealed_row(1)]))
    rows = await api.api.run_task_rows(DAY, 1)
    assert [row.reason for row in rows.waits] == ["rejected"]


async def test_an_approval_says_whose_it_is_and_since_when_it_waits(api, commit):
    await commit(Writes(runs=[run_row(1)], waits=[approval_row(1, 3, NOW_US + 7, number=2)]))
    reason = "its outcome is unknown"
    expected = ApprovalItem(run_id(1), KEY.dag, DIGEST, DAY, 1, 3, 0, 2, NOW_US + 7, reason)
    assert await api.api.list_approvals(TENANT, None, ApprovalKey(), 9) == [expected]
    run = await api.api.find_run(TENANT, run_id(1))
    assert await api.api.list_approvals(TENANT, run, ApprovalKey(), 9) == [expected]


@pytest.fixture
async def waiting(commit):
    """Runs 1 and 2 of one DAG, 3 of another, 4 of another tenant; other waits as well."""
    runs = [run_row(number) for number in range(1, 5)]
    runs[2] = runs[2]._replace(dag="another")
    runs[3] = runs[3]._replace(tenant="other")
    approvals = [
        approval_row(2, 0, NOW_US + 1),
        approval_row(4, 0, NOW_US + 2),
        *(approval_row(1, task, NOW_US + 3) for task in (0, 1, 2)),
        approval_row(3, 0, NOW_US + 4),
        approval_row(1, 4, NOW_US),
    ]
    await commit(Writes(runs=runs, waits=[*approvals, wait_row(1, 0), mark_row(1, 5)]))


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_approvals_are_listed_the_oldest_first_in_pages(api, waiting, limit):
    of_dag = [(1, 4), (2, 0), (1, 0), (1, 1), (1, 2)]
    assert await listed(api, limit=limit) == [*of_dag, (3, 0)]
    assert await listed(api, KEY.dag, limit=limit) == of_dag
    assert await listed(api, "another", limit=limit) == [(3, 0)]
    run = await api.api.find_run(TENANT, run_id(1))
    assert await listed(api, run, limit=limit) == [(1, 4), (1, 0), (1, 1), (1, 2)]


async def test_approvals_of_other_tenants_are_not_listed(api, waiting):
    assert await listed(api, tenant="other") == [(4, 0)]
    assert await listed(api, tenant="nobody") == []


async def test_what_was_decided_is_not_listed(api, commit, waiting):
    await commit(Writes(waits_gone=[wait_gone_row(3, 0, WaitKind.APPROVAL)]))
    assert await listed(api, "another") == []


async def test_an_agent_is_listed_with_its_containment(api):
    row = AgentRow(AGENT, INCARNATION, "boot", "0.1", 4_000, 2**30, 10)
    await api.api.put_agent(row)
    [item] = await api.api.list_agents("", 10)
    assert item.containment == ""
    await api.api.put_agent(row._replace(containment="namespace"))
    [item] = await api.api.list_agents("", 10)
    assert item.containment == "namespace"
