"""Every named query is used, valid, and where it is hot, planned as it must be."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import asyncpg
import pytest

from controlplane.store.connections import StoreSettings, leader_parameters
from controlplane.store.queries import all_queries, query

USE = re.compile(r"\bquery\(\"(\w+)\"\)")
# Sent as simple messages, with numbers put in; they are run instead of prepared.
MESSAGES = {"prepare_fence", "open_batch", "empty_batch"}
HOT = {
    "end_attempts": ["attempt_live"],
    "turn_attempts": ["attempt_live"],
    "note_starts": ["attempt_live"],
    "change_runs": ["run"],
    "change_and_seal_runs": ["run"],
    "drop_waits": ["task_wait"],
    "answer_commands": ["inbox"],
    "read_commands": ["inbox"],
    "recover_runs": ["run"],
    "recover_live": ["attempt_live"],
    "recover_ended": ["run", "attempt", "attempt_late"],
    "recover_waits": ["run", "task_wait"],
    "list_approvals": ["run", "task_wait"],
    "list_approvals_of_run": ["task_wait"],
    "list_attempts": ["attempt", "attempt_late", "attempt_live"],
}


@pytest.fixture
async def leader(dsn):
    made = await asyncpg.connect(dsn, server_settings=leader_parameters(StoreSettings()))
    yield made
    await made.close()


def used() -> set[str]:
    folder = files("controlplane.store")
    modules = [*folder.iterdir(), folder / "migrations" / "__init__.py"]
    texts = [path.read_text() for path in modules if path.name.endswith(".py")]
    return {name for text in texts for name in USE.findall(text)}


def test_every_query_is_used_and_every_use_is_known():
    assert used() == set(all_queries())


@pytest.mark.parametrize("name", sorted(set(all_queries()) - MESSAGES))
async def test_a_query_can_be_prepared(leader, name):
    await leader.prepare(query(name))


async def test_the_messages_of_the_fence_run(leader):
    await leader.execute(query("prepare_fence"))
    numbers = {"shard": 0, "epoch": 0, "batch": 1}
    assert await leader.execute(query("open_batch").format(**numbers)) == "UPDATE 1"
    await leader.execute("ROLLBACK")
    assert await leader.execute(query("empty_batch").format(**numbers)) == "UPDATE 1"
    assert await leader.execute(query("empty_batch").format(**numbers)) == "UPDATE 0"


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def plan_of(connection, sql, *, analysed=True):
    """The plan that a leader's session keeps for a query, whatever its arguments are."""
    if analysed:
        await connection.execute(
            "VACUUM ANALYZE attempt_live, attempt_late, task_wait, run, attempt, inbox"
        )
    prepared = await connection.prepare(sql)
    nulls = ", ".join("NULL" for _ in prepared.get_parameters())
    await connection.execute(f"PREPARE planned AS {sql}")
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned ({nulls})")
    return list(nodes(json.loads(found)[0]["Plan"]))


@pytest.mark.parametrize("analysed", [False, True], ids=["no statistics", "statistics of empty"])
@pytest.mark.parametrize("name", HOT)
async def test_a_hot_query_reads_by_index(leader, name, analysed):
    plan = await plan_of(leader, query(name), analysed=analysed)
    scans = [
        node
        for node in plan
        if node["Node Type"].endswith("Scan")
        and any(node.get("Relation Name", "").startswith(table) for table in HOT[name])
    ]
    assert {node["Node Type"] for node in scans} - {"Tid Scan"}
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan", "Tid Scan"}


LIVE_KEY = ("shard", "run", "task", "expansion")
WHOLE_KEYS = {
    "turn_attempts": ("attempt_live_pkey", LIVE_KEY),
    "end_attempts": ("attempt_live_pkey", LIVE_KEY),
    "note_starts": ("attempt_live_pkey", LIVE_KEY),
    "drop_waits": ("task_wait_pkey", (*LIVE_KEY, "kind")),
    "change_runs": ("run_20500_pkey", ("day", "run")),
    "change_and_seal_runs": ("run_20500_pkey", ("day", "run")),
    "answer_commands": ("inbox_pkey", ("command",)),
    "read_commands": ("inbox_open", ("shard",)),
    "recover_ended": ("attempt_20500_pkey", ("day", "run")),
    "recover_waits": ("task_wait_pkey", ("shard", "run")),
}
LATE_KEY = ("day", "run", "task", "expansion", "attempt_id")


@pytest.mark.parametrize("analysed", [False, True], ids=["no statistics", "statistics of empty"])
@pytest.mark.parametrize("name", WHOLE_KEYS)
async def test_a_row_is_found_by_its_whole_key(leader, name, analysed):
    """Without that, a batch costs (rows given) x (rows live)."""
    index, columns = WHOLE_KEYS[name]
    plan = await plan_of(leader, query(name), analysed=analysed)
    [scan] = [node for node in plan if node.get("Index Name") == index]
    assert all(f"{column} = " in scan["Index Cond"] for column in columns)


async def test_late_results_are_looked_up_by_their_whole_key_and_only_of_the_given_up(leader):
    plan = await plan_of(leader, query("recover_ended"))
    [scan] = [node for node in plan if node.get("Index Name") == "attempt_late_20500_pkey"]
    assert all(f"{column} = " in scan["Index Cond"] for column in LATE_KEY)
    assert any("state" in node.get("One-Time Filter", "") for node in plan)


async def test_approvals_come_from_the_partial_index_in_their_order(leader):
    plan = await plan_of(leader, query("list_approvals"))
    names = {node.get("Index Name", "") for node in plan}
    assert "task_wait_approvals" in names
    assert "Sort" not in {node["Node Type"] for node in plan}


async def test_live_runs_come_from_the_partial_index(leader):
    names = {node.get("Index Name", "") for node in await plan_of(leader, query("recover_runs"))}
    assert {name for name in names if name} == {
        "run_20500_shard_run_idx",
        "run_default_shard_run_idx",
    }


async def test_the_fence_is_a_hot_update_of_one_row_in_one_page(leader):
    await leader.execute(query("prepare_fence"))
    await leader.execute("VACUUM FULL shard")
    explain = "EXPLAIN (FORMAT JSON) EXECUTE fence(0, 0, 1)"
    plan = list(nodes(json.loads(await leader.fetchval(explain))[0]["Plan"]))
    assert [node.get("Index Name") for node in plan] == [None, "shard_pkey"]
    before = await leader.fetchval("SELECT pg_stat_get_xact_tuples_hot_updated('shard'::regclass)")
    async with leader.transaction():
        for batch in range(1, 301):
            await leader.execute(f"EXECUTE fence(0, 0, {batch})")
        sql = "SELECT pg_stat_get_xact_tuples_updated($1::regclass), "
        sql += "pg_stat_get_xact_tuples_hot_updated($1::regclass)"
        updated, hot = await leader.fetchrow(sql, "shard")
    assert before == 0
    assert updated == 300
    assert hot > 200


async def test_the_table_of_shards_stays_small(leader):
    await leader.execute("VACUUM FULL shard")
    await leader.execute(query("prepare_fence"))
    for batch in range(1, 1_001):
        await leader.execute(f"EXECUTE fence(0, 0, {batch})")
    assert await leader.fetchval("SELECT pg_relation_size('shard')") == 8_192
