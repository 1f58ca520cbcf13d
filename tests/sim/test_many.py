"""Many seeds: sums, and seeds that fail, crash or hang without stopping the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.sim.many import Job, Outcome, Totals, jobs_of, run_many, run_seed
from tests.sim.swarm import FAULTS, Options, drawn, planned
from tests.sim.worker_lives import CRASHING, crash_once, never_answer
from tests.sim.world import simulate

TINY = Options(seconds=2.0, nodes=1, shards=1, agents=1, dags=1, mix="small", faults=())


def test_a_seed_that_kills_its_process_is_told_and_the_others_go_on():
    jobs = [Job(seed, TINY) for seed in (1, CRASHING, 3)]
    outcomes = {each.seed: each for each in run_many(jobs, 1, life=crash_once)}
    assert sorted(outcomes) == [1, 2, 3]
    assert (outcomes[2].kind, outcomes[2].violation) == ("crash", "its process died: exit code 3")
    assert outcomes[1].report
    assert outcomes[3].report == simulate(3, TINY)


def test_a_seed_that_hangs_is_told():
    (outcome,) = run_many([Job(1, TINY)], 1, limit_s=0.0, life=never_answer)
    assert outcome.kind == "hang"


def test_a_violation_is_told_by_its_invariant(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.sim.invariants.BEHIND_US", -(10**12))
    outcome = run_seed(Job(1, replace(TINY, seconds=8.0, dags=4, mix="timed")))
    assert outcome.report is None
    assert outcome.kind == "I13"
    assert "I13" in outcome.violation


def test_totals_add_up():
    totals = Totals()
    outcomes = [run_seed(Job(seed, Options(seconds=4.0, agents=2))) for seed in (1, 2)]
    for outcome in (*outcomes, Outcome(3, "", None, 1.0, "I4", "again")):
        totals.add(outcome)
    reports = [outcome.report for outcome in outcomes if outcome.report]
    assert totals.seeds == 3
    assert totals.counts["attempts"] == sum(report.attempts for report in reports) > 0
    assert totals.faults == reports[0].faults + reports[1].faults
    told = json.loads(totals.json())
    assert told["violated"] == [{"seed": 3, "kind": "I4"}]
    assert told["virtual_s"] == round(sum(report.virtual_s for report in reports))
    assert "\n" not in totals.json()


def digest_elsewhere(seed: int, hash_seed: str) -> str:
    """Of the history that another process has of a seed."""
    words = [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--seconds", "6"]
    asked = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    found = re.search(r"digest='(\w+)'", asked.stdout)
    assert found, asked.stdout
    return found.group(1)


def test_the_same_seed_gives_the_same_history_in_every_process():
    here = simulate(8, drawn(8, Options(seconds=6.0))).digest
    assert digest_elsewhere(8, "1") == digest_elsewhere(8, "2") == here


def test_seeds_draw_worlds_of_different_kinds():
    jobs = list(jobs_of(range(1, 200), Options(), sizes=None))
    assert {job.options.net for job in jobs} == {"lan", "jittery", "wan"}
    assert any(not job.options.faults for job in jobs)
    assert {kind for job in jobs for kind in job.options.faults} == set(FAULTS)
    assert {job.options.nodes for job in jobs} == {1, 2, 3, 4}


def test_a_fault_that_is_left_out_moves_no_other():
    options = Options(seconds=60.0)
    all_of_them = planned(7, options)
    some = planned(7, Options(seconds=60.0, only=frozenset({0, 5, 6})))
    assert [fault[:3] for fault in some] == [all_of_them[index][:3] for index in (0, 5, 6)]
    assert some[1].random.random() == all_of_them[5].random.random()
    shorter = planned(7, Options(seconds=30.0))
    assert [fault[:3] for fault in shorter] == [
        fault[:3] for fault in all_of_them if fault.at_s < 30.0
    ]
