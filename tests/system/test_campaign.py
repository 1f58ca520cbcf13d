"""A campaign of one round on real processes: it breaks what it says, and finds nothing broken."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.campaign import campaign, checks
from tests.campaign.campaign import Outcome, Plan
from tests.campaign.checks import Violation
from tests.campaign.evidence import Evidence, read_lines
from tests.campaign.faults import KINDS
from tests.campaign.site import Size
from tests.system.up import command_line, eventually

KINDS_OF_ROUND = ("node-kill", "agent-kill", "supervisor-kill", "postgres-terminate", "link-reset")


def processes_of(folder: Path) -> Sequence[str]:
    """The command lines of all processes that name a folder."""
    found = (" ".join(command_line(each)) for each in psutil.process_iter())
    return [line for line in found if str(folder) in line]


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path)


def plan() -> Plan:
    kinds = [KINDS[name] for name in KINDS_OF_ROUND]
    size = Size(nodes=2, shards=2, agents=2, capacity="4,1TiB", clocks=False)
    return Plan(0, 3, kinds, size, enduring_runs=0, faults_of_round=5, faults_within_s=5.0)


def test_one_round_counts_and_breaks_no_promise(evidence: Evidence) -> None:
    told: list[Outcome] = []

    def judge(seen: Sequence[Violation]) -> Sequence[Violation]:
        findings = checks.check(evidence.folder)
        assert findings.judged["I4"] > 0
        return [*seen, *findings.violations]

    outcome = campaign.run(evidence, plan(), judge, told.append)
    assert (outcome.rounds, outcome.void, outcome.violations) == (1, {}, [])
    assert told == [outcome]
    faults = list(read_lines(evidence.faults))
    assert {fault["kind"] for fault in faults} == set(KINDS_OF_ROUND)
    assert all(fault["began_ns"] <= fault["healed_ns"] for fault in faults)
    phases = [line["phase"] for line in read_lines(evidence.rounds)]
    assert phases == ["warm-up", "faults", "heal", "drain"]
    assert {call["outcome"] for call in read_lines(evidence.clients)} >= {"invoke", "ok"}
    assert {line["shard"] for line in read_lines(evidence.epochs)} == {0, 1}
    assert json.loads(evidence.cluster.read_text())["seed"] == 3
    assert processes_of(evidence.folder) == []


def test_a_campaign_that_is_told_to_end_leaves_no_process(evidence: Evidence) -> None:
    """In the middle of its load, when everything runs."""

    def tell() -> None:
        eventually(lambda: evidence.ledger.exists() and evidence.ledger.stat().st_size > 0, 60.0)
        assert processes_of(evidence.folder) != []
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        told = pool.submit(tell)
        with pytest.raises(KeyboardInterrupt):
            campaign.run(evidence, plan(), lambda _: [], lambda _: None)
        told.result()
    assert processes_of(evidence.folder) == []
