"""The SDK's final states are those that the contract calls final."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mainspring.client.states import FINAL_RUN_STATES, FINAL_TASK_STATES
from mainspring.v1 import run_pb2

CONTRACT = Path(__file__).resolve().parents[3] / "proto/mainspring/v1/run.proto"


@pytest.mark.parametrize(
    ("enum", "prefix", "final"),
    [
        (run_pb2.RunState, "RUN_STATE_", FINAL_RUN_STATES),
        (run_pb2.TaskState, "TASK_STATE_", FINAL_TASK_STATES),
    ],
)
def test_final_states_are_those_of_the_contract(enum, prefix: str, final: frozenset[int]) -> None:
    called_final = re.findall(rf"// Final:[^\n]*\n\s*({prefix}\w+) =", CONTRACT.read_text())
    assert {enum.Value(name) for name in called_final} == final
    assert final
