"""How the flags of a node become the times that it keeps."""

from __future__ import annotations

import pytest

from controlplane.cli.node import times_of, vars_of
from controlplane.leader.times import LeaderTimes
from controlplane.settings.node import NodeSettings


def settings(**times_ms: int) -> NodeSettings:
    flags = {name.replace("_", "-"): time_ms for name, time_ms in times_ms.items()}
    return NodeSettings(
        "n1", "main", "h:1", "h:1", ("h:2",), "file:///o", "dsn", "token", times_ms=flags
    )


def test_without_flags_the_times_are_the_defaults() -> None:
    coordination, times = times_of(settings())
    assert times == LeaderTimes()
    assert coordination.lease_ttl_ms == times.lease_ttl_ms


def test_flags_become_times() -> None:
    coordination, times = times_of(
        settings(
            heartbeat=1_000,
            attempt_lease=6_000,
            lease_grace=2_000,
            lease_drift=100,
            leader_lease=3_000,
        )
    )
    assert (times.heartbeat_ms, times.attempt_lease_ms) == (1_000, 6_000)
    assert (times.lease_grace_ms, times.lease_drift_ms) == (2_000, 100)
    assert times.lease_ttl_ms == coordination.lease_ttl_ms == 3_000
    assert times.authority_ms < 3_000


def test_times_that_do_not_fit_are_all_named_by_their_flags() -> None:
    with pytest.raises(ValueError, match="--attempt-lease") as caught:
        times_of(settings(heartbeat=5_000, attempt_lease=19_999, lease_grace=1, leader_lease=2_500))
    for words in (
        "4 * --heartbeat must not exceed --attempt-lease",
        "--lease-grace must be at least",
        "--leader-lease must be whole seconds",
    ):
        assert words in str(caught.value)


def test_flags_are_taken_by_name() -> None:
    found = vars_of(["--heartbeat", "1s", "--leader-lease", "3s"])
    assert (found["heartbeat"], found["leader-lease"], found["attempt-lease"]) == ("1s", "3s", "")
