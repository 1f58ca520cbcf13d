"""A round counts only if work was there to be hurt."""

import json

import pytest

from tests.campaign.evidence import Evidence
from tests.campaign.rounds import acknowledged_runs, void_reason


@pytest.mark.parametrize(
    ("loaded", "begins", "spans", "reason"),
    [
        (True, [150], [(100, 200)], ""),
        (True, [50, 100], [(100, 200)], ""),
        (False, [150], [(100, 200)], "no load before the faults"),
        (True, [], [(100, 200)], "no attempt ran when a fault began"),
        (True, [50, 200], [(100, 200)], "no attempt ran when a fault began"),
        (True, [150], [], "no attempt ran when a fault began"),
    ],
    ids=["counts", "one of two", "no load", "no fault", "beside the work", "no work"],
)
def test_a_round_without_load_or_without_a_fault_during_work_is_void(loaded, begins, spans, reason):
    assert void_reason(loaded, begins, spans) == reason


def test_runs_are_acknowledged_by_answered_triggers_only(tmp_path):
    calls = [
        {"call": "trigger", "outcome": "invoke", "key": "a"},
        {"call": "trigger", "outcome": "unknown", "key": "a"},
        {"call": "trigger", "outcome": "ok", "key": "b", "run": "run-b"},
        {"call": "cancel", "outcome": "ok", "key": "run-c", "run": "run-c"},
    ]
    evidence = Evidence(tmp_path)
    evidence.clients.write_text("".join(json.dumps(call) + "\n" for call in calls))
    assert list(acknowledged_runs(evidence)) == ["run-b"]
