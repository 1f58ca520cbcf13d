"""Each invariant is seen to be broken: rows of a real history are changed, one way a test."""

from __future__ import annotations

import pytest

from controlplane.verify.findings import Invariant as Inv
from tests.contract.verify.conftest import change, verify

# Runs of the story, in its order; in a statement `{retried}` stands for the key of such a run.
RUNS = {
    "retried": ("etl", 6),
    "given_up": ("etl", 5),
    "doubted": ("etl", 6),
    "first_tick": ("tick", 5),
    "last_tick": ("tick", 5),
    "cancelled": ("etl", 7),
    "cancelled_queued": ("etl", 7),
    "timed_out": ("etl", 6),
    "unfinished": ("etl", 3),
    "one": ("one", 3),
    "queued": ("one", 2),
}
OF_B = "run = {retried} AND task = 1"
COALESCED = "(SELECT max(instant_us) FROM schedule_instant WHERE outcome = 3)"
LIVE_OF_FINAL = """
INSERT INTO attempt_live (run, assigned_us, epoch, batch, shard, day, task, expansion, number,
    attempt_id, incarnation, agent)
SELECT run, 1, 3, 1, 0, day, 1, 0, 1, substr(sha256('x'), 1, 16), '', 'ant'
FROM run WHERE run = {timed_out}
"""
BACKOFF_OF_FINAL = """
INSERT INTO task_wait (run, due_us, shard, day, task, expansion, number, kind, reason)
SELECT run, 1, 0, day, 1, 0, 3, 1, '' FROM run WHERE run = {retried}
"""

BROKEN = {
    "a shard without a takeover": (
        {Inv.I1: 1},
        "its last takeover was of epoch 0",
        "UPDATE shard SET epoch = 1, holder = 'x' WHERE shard = 1",
    ),
    "two holders of an epoch": (
        {Inv.I1: 1},
        "has two holders",
        "UPDATE shard SET holder = 'x' WHERE shard = 0",
    ),
    "one takeover twice": (
        {Inv.I1: 1},
        "3 takeovers were made by 2 holders",
        (
            "UPDATE shard_epoch SET holder = (SELECT holder FROM shard_epoch WHERE epoch = 2)"
            " WHERE epoch = 1"
        ),
    ),
    "an epoch that nobody took over": (
        {Inv.I2: 1},
        "epoch 77 of its shard was never taken over",
        "UPDATE attempt SET ended_epoch = 77 WHERE run = {retried} AND task = 4",
    ),
    "a batch that never was": (
        {Inv.I2: 1},
        "but epoch 3 had",
        "UPDATE attempt SET ended_epoch = 3, ended_batch = 9999 WHERE run = {retried} AND task = 4",
    ),
    "a batch after the takeover of the next epoch": (
        {Inv.I2: 1},
        "but epoch 1 had",
        "UPDATE attempt SET ended_batch = 9999 WHERE run = {retried} AND task = 4",
    ),
    "a late result after the takeover of the next epoch": (
        {Inv.I2: 1},
        "a late result: batch 1:9999",
        "UPDATE attempt_late SET batch = 9999 WHERE NOT adopted",
    ),
    "two attempts at a time": (
        {Inv.I3: 1},
        "had ended",
        (
            "UPDATE attempt SET ended_batch = (SELECT batch + 1 FROM attempt WHERE {OF_B}"
            " AND number = 2) WHERE {OF_B} AND number = 1"
        ),
    ),
    "a live attempt in two shards": (
        {Inv.I3: 1},
        "outside the run's own shard 0",
        "UPDATE attempt_live SET shard = 1 WHERE run = {unfinished} AND task = 0",
    ),
    "a child before its parent's end": (
        {Inv.I6: 1},
        "parent 'b' ended later",
        (
            "UPDATE attempt SET batch = (SELECT max(ended_batch) - 1 FROM attempt"
            " WHERE run = {given_up} AND task = 1) WHERE run = {given_up} AND task = 2"
        ),
    ),
    "a child of a parent that did not succeed": (
        {Inv.I6: 1, Inv.I11: 2},
        "parent 'b' is FAILED",
        (
            "UPDATE attempt SET state = 4, exit_code = 1 WHERE run = {given_up} AND task = 1"
            " AND state = 3"
        ),
    ),
    "an instant left out": (
        {Inv.I7: 1},
        "is missing",
        "DELETE FROM schedule_instant WHERE instant_us = {COALESCED}",
    ),
    "a run of an instant that was skipped": (
        {Inv.I7: 2},
        "its instant ended as SKIPPED",
        (
            "UPDATE schedule_instant SET outcome = 2 WHERE instant_us = (SELECT logical_us FROM run"
            " WHERE run = {first_tick})"
        ),
    ),
    "two runs of an instant": (
        {Inv.I7: 2},
        "its instant ended as RUN (run ",
        (
            "UPDATE run SET logical_us = (SELECT logical_us FROM run WHERE run = {first_tick})"
            " WHERE run = {last_tick}"
        ),
    ),
    "an instant that is to come once more": (
        {Inv.I7: 1},
        "the schedule waits for another",
        "UPDATE schedule SET next_us = next_us - 60000000",
    ),
    "a run that is gone": (
        {Inv.I8: 1},
        "was made, and does not exist",
        "DELETE FROM run WHERE run = {retried}",
    ),
    "a request that leads nowhere": (
        {Inv.I8: 1},
        "its command does not exist",
        "DELETE FROM inbox WHERE command = (SELECT max(command) FROM inbox)",
    ),
    "a version that is gone": (
        {Inv.I8: 2},
        "is not stored",
        "DELETE FROM dag_version WHERE digest = (SELECT digest FROM run WHERE run = {retried})",
    ),
    "a definition that was changed": (
        {Inv.I8: 1},
        "is not the one of its digest",
        (
            "UPDATE dag_version SET spec = spec || '\\x1200'::bytea WHERE digest ="
            " (SELECT digest FROM dag_version_use WHERE dag = 'one')"
        ),
    ),
    "a live attempt of a final run": (
        {Inv.I10: 1, Inv.I6: 1, Inv.I11: 0},
        "a live attempt of a run that is FAILED",
        LIVE_OF_FINAL,
    ),
    "a number left out": (
        {Inv.I11: 1},
        "number 3 follows number 1 (FAILED)",
        "UPDATE attempt SET number = 3 WHERE {OF_B} AND number = 2",
    ),
    "another state sealed than its attempts say": (
        {Inv.I11: 1},
        "FAILED is sealed, its attempts say SUCCEEDED",
        "UPDATE sealed_run SET states = set_byte(states, 1, 7) WHERE run = {retried}",
    ),
    "a final run that is not sealed": (
        {Inv.I11: 1},
        "it is not sealed",
        "DELETE FROM sealed_run WHERE run = {given_up}",
    ),
    "a run that failed though all succeeded": (
        {Inv.I11: 1},
        "but all tasks succeeded",
        "UPDATE run SET state = 6 WHERE run = {given_up}",
    ),
    "a final task that waits": (
        {Inv.I11: 2},
        "is SUCCEEDED for good",
        BACKOFF_OF_FINAL,
    ),
    "an attempt after the end": (
        {Inv.I11: 1},
        "after one that ended as SUCCEEDED for good",
        "UPDATE attempt SET state = 3, exit_code = 0 WHERE {OF_B} AND number = 1",
    ),
    "a result before its assignment": (
        {Inv.I12: 1},
        "its assignment of batch",
        "UPDATE attempt SET ended_batch = batch - 1 WHERE run = {retried} AND task = 4",
    ),
    "one id twice": (
        {Inv.I12: 1},
        "is recorded twice",
        (
            "UPDATE attempt SET attempt_id = (SELECT attempt_id FROM attempt WHERE run = {retried}"
            " AND task = 4) WHERE {OF_B} AND number = 1"
        ),
    ),
    "a late result of what was not given up": (
        {Inv.I12: 1, Inv.I11: 0},
        "which was not given up",
        "UPDATE attempt SET state = 7 WHERE run = {given_up} AND task = 1 AND state = 8",
    ),
    "a late success that came too late and decided": (
        {Inv.I12: 1},
        "a late success decided the task, though attempt",
        "UPDATE attempt_late SET adopted = true WHERE NOT adopted",
    ),
    "a late result before the end": (
        {Inv.I12: 1},
        "is older than its end",
        "UPDATE attempt_late SET batch = 1 WHERE NOT adopted",
    ),
    "a cancelled run that goes on": (
        {Inv.I14: 1},
        "was acknowledged, it is FAILED",
        "UPDATE run SET state = 6 WHERE run = {cancelled}",
    ),
    "another state sealed than the rule says": (
        {Inv.I15: 1},
        "CANCELLED is sealed, its parents say UPSTREAM_FAILED",
        "UPDATE sealed_run SET states = set_byte(states, 3, 9) WHERE run = {retried}",
    ),
    "a wrong count of tasks": (
        {Inv.I15: 1},
        "it has 1 tasks, and 1, 2 are counted",
        "UPDATE dag SET task_count = 2 WHERE dag = 'tick'",
    ),
    "a success with another exit status": (
        {Inv.I18: 1},
        "it succeeded with exit status 1",
        "UPDATE attempt SET exit_code = 1 WHERE {OF_B} AND state = 3",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_broken_is_seen_and_nothing_else(copy, story, name):
    expected, words, statement = BROKEN[name]
    keys = dict(zip(RUNS, runs_of(story), strict=True))
    of_b = OF_B.format(**keys)
    await change(copy, statement.format(OF_B=of_b, COALESCED=COALESCED, **keys))
    findings = await verify(copy)
    assert +findings.found == {each: count for each, count in expected.items() if count}
    assert any(words in each.detail for each in findings.violations), findings.violations


def test_every_invariant_is_broken_once():
    assert {each for expected, _, _ in BROKEN.values() for each in expected} == set(Inv)


def runs_of(day):
    """The keys of the runs that RUNS names: of the ticks the first and the last."""
    keys = sorted(day.store.runs)
    ticks = [key for key in keys if day.store.runs[key].dag == "tick"]
    return [key for key in keys if key not in ticks[1:-1]]


def test_the_runs_are_those_of_the_story(story):
    found = [(story.store.runs[key].dag, story.store.runs[key].state) for key in runs_of(story)]
    assert found == list(RUNS.values())
