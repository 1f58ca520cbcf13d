"""The checks of the tables repeat the states of the core, and nothing else."""

from __future__ import annotations

import re

import asyncpg
import pytest

from controlplane.core.effects import CommandOutcome, InstantOutcome, WaitKind
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import BUCKETS, RunCause

CHECK = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = $1::regclass AND contype = 'c'
"""
STORED = {
    ("run", "state"): set(RunState),
    ("run", "cause"): set(RunCause),
    ("attempt", "state"): {state for state in AttemptState if state.final},
    ("attempt_late", "state"): {state for state in AttemptState if state.final},
    ("task_wait", "kind"): set(WaitKind),
    ("inbox", "outcome"): set(CommandOutcome),
    ("schedule_instant", "outcome"): set(InstantOutcome),
}
FINAL = {state for state in RunState if state.final}


def numbers(check: str) -> set[int]:
    return {int(number) for number in re.findall(r"\b(\d+)\b", check)}


@pytest.fixture
async def connection(dsn):
    made = await asyncpg.connect(dsn)
    yield made
    await made.close()


async def checks(connection, table):
    return [row[0] for row in await connection.fetch(CHECK, table)]


@pytest.mark.parametrize(("table", "column"), STORED)
async def test_a_check_names_every_state(connection, table, column):
    found = [
        check
        for check in await checks(connection, table)
        if f"(({column} = " in check and "finished_us" not in check
    ]
    assert [numbers(check) for check in found] == [STORED[table, column]]


async def test_final_runs_and_only_they_have_an_end(connection):
    [check] = [item for item in await checks(connection, "run") if "finished_us" in item]
    assert numbers(check) == FINAL


async def test_buckets_are_those_of_the_core(connection):
    [check] = await checks(connection, "bucket")
    assert max(numbers(check)) == BUCKETS - 1
    assert await connection.fetchval("SELECT count(*) FROM bucket") == BUCKETS
