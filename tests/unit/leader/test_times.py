import pytest

from controlplane.leader.times import LeaderTimes


def test_the_defaults_are_consistent():
    assert LeaderTimes().authority_ms < LeaderTimes().lease_ttl_ms


def test_all_broken_relations_are_reported_at_once():
    with pytest.raises(ValueError) as caught:
        LeaderTimes(authority_ms=9_000, idle_fence_ms=8_000, retry_min_ms=0, stuck_ms=100)
    for words in ("authority_ms must be", "2 * idle_fence_ms", "retry_min_ms must be", "stuck_ms"):
        assert words in str(caught.value)


def test_the_relations_of_attempt_leases_are_checked_too():
    with pytest.raises(ValueError) as caught:
        LeaderTimes(attempt_lease_ms=19_999, lease_grace_ms=1_999, lease_drift_ms=19)
    for words in ("4 * heartbeat_ms", "lease_grace_ms must", "1,000 * lease_drift_ms"):
        assert words in str(caught.value)
    with pytest.raises(ValueError, match="attempt_lease_ms must not exceed"):
        LeaderTimes(attempt_lease_ms=100_000_000, lease_drift_ms=100_000)


def test_the_core_is_told_its_part():
    leases = LeaderTimes(heartbeat_ms=1_000, attempt_lease_ms=6_000).leases
    assert (leases.lease_ms, leases.grace_ms) == (6_000, 10_000)
    assert (leases.drift_ms, leases.authority_ms) == (2_000, 4_000)


@pytest.mark.parametrize("seconds", range(1, 61))
def test_times_fit_any_leader_lease(seconds):
    times = LeaderTimes.of_leader_lease(1_000 * seconds, heartbeat_ms=2_000)
    assert (times.lease_ttl_ms, times.heartbeat_ms) == (1_000 * seconds, 2_000)
    if seconds == 5:
        assert times == LeaderTimes(heartbeat_ms=2_000)
