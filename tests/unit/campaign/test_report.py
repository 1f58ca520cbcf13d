"""The report of a campaign tells what was recorded; its figures are those of the forged one."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from tests.campaign import measures, report
from tests.campaign.checks import Violation
from tests.campaign.drawing import distribution, series
from tests.unit.campaign.forged import S, clean


@pytest.fixture
def findings(tmp_path):
    return clean(tmp_path).findings()


def test_a_report_is_written(findings, tmp_path):
    path = report.write(tmp_path, findings)
    text = path.read_text()
    assert "## Violations\n\nNone." in text
    for line in (
        "| rounds (of them void) | 1 (0) |",
        "| faults | 1 |",
        "| attempts | 9 |",
        "| attempts that were killed | 2 |",
        "| attempts that started twice | 0 |",
        "| acknowledged runs | 5 |",
        "| node-kill | 1 |",
        "| LOST | 2 |",
        "| trigger | 5 | 0 | 1 |",
        "| every part serves | 1: p50 2.00 s, p99 2.00 s, max 2.00 s |",
    ):
        assert line in text
    for name in ("throughput.svg", "failover.svg"):
        assert f"]({name})" in text
        ET.fromstring((tmp_path / name).read_text())
    document = json.loads((tmp_path / "report.json").read_text())
    assert (document["kind"], document["seed"], document["minutes"]) == ("campaign", 7, 0.7)
    assert (document["attempts"], document["violations"]) == (9, 0)


def test_violations_come_first_and_are_bounded(findings, tmp_path):
    findings.violations += [Violation("I4", f"attempt {n}", "twice") for n in range(60)]
    findings.open["not known"] += 3
    text = report.write(tmp_path, findings).read_text()
    assert text.index("**I4** attempt 0: twice") < text.index("## What happened")
    assert "attempt 49" in text
    assert "attempt 50" not in text
    assert "* and 10 more" in text
    assert "* open, 3 times: not known" in text


def test_failover_is_measured_from_the_fault_to_the_next_leader_and_to_work(findings):
    [found] = measures.failovers(findings.recorded)
    assert (found.shard, found.kind) == (0, "node-kill")
    assert (found.takeover_s, found.progress_s) == (3.0, 6.0)


def test_a_fault_of_another_node_is_no_failover(findings):
    findings.recorded.faults[0]["target"] = "node-3"
    assert list(measures.failovers(findings.recorded)) == []
    findings.recorded.faults[0] |= {"target": "node-1", "kind": "agent-kill"}
    assert list(measures.failovers(findings.recorded)) == []


def test_a_takeover_long_after_a_fault_does_not_follow_from_it(findings):
    findings.recorded.epochs[1]["at_ns"] = 40 * S
    assert list(measures.failovers(findings.recorded)) == []


def test_spreads_are_by_the_nearest_rank():
    assert measures.spread([]) == (0, 0.0, 0.0, 0.0)
    assert measures.spread(range(1, 101)) == (100, 50, 99, 100)
    assert str(measures.spread([])) == "none"


def test_throughput_counts_starts_by_the_second(findings):
    counted = measures.throughput(findings.recorded)
    assert sum(counted) == 9
    assert counted[:4] == [2, 1, 0, 1]


def test_plots_of_nothing_are_plots():
    for drawn in (series("a < b", []), distribution("a & b", [])):
        ET.fromstring(drawn)


def test_a_plot_shades_spans_within_its_bounds():
    root = ET.fromstring(series("t", [1, 2, 3], [(-5, 1), (1, 99)]))
    shaded = [each for each in root.iter() if each.get("fill-opacity")]
    edges = [float(each.get("x")) + float(each.get("width")) for each in shaded]
    assert len(edges) == 2
    assert max(edges) <= 960
