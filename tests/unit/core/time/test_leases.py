"""How long a silent agent's attempts are waited for, by what their task says."""

from __future__ import annotations

import pytest

from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import OnDisconnect, TaskDef

TIMES = LeaseTimes(lease_ms=6_000, grace_ms=2_000, drift_ms=100, authority_ms=1_000)


@pytest.mark.parametrize(
    ("policy", "overtime_ms", "after_ms"),
    [
        (OnDisconnect.FENCE, 0, 8_100),
        # The clocks come apart eleven times as far as in one lease.
        (OnDisconnect.CONTINUE, 60_000, 69_100),
        (OnDisconnect.CONTINUE, 1, 8_102),
        (OnDisconnect.RETRY, 60_000, 6_000),
    ],
)
def test_an_attempt_is_given_up_when_its_agent_must_have_ended_it(policy, overtime_ms, after_ms):
    task = TaskDef("a", on_disconnect=policy, overtime_ms=overtime_ms)
    assert TIMES.lost_after_ms(task) == after_ms
