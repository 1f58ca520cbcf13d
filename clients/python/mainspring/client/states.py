"""Which states of runs and attempts are final, for callers that wait.

Decides nothing: the contract (proto/mainspring/v1/run.proto) does, and a test holds this to it.
"""

from __future__ import annotations

from mainspring.v1 import run_pb2

FINAL_RUN_STATES = frozenset(
    {
        run_pb2.RUN_STATE_SUCCEEDED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_CANCELLED,
    }
)
FINAL_TASK_STATES = frozenset(
    {
        run_pb2.TASK_STATE_SUCCEEDED,
        run_pb2.TASK_STATE_FAILED,
        run_pb2.TASK_STATE_UPSTREAM_FAILED,
        run_pb2.TASK_STATE_CANCELLED,
    }
)
