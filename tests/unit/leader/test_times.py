import pytest

from controlplane.leader.times import LeaderTimes


def test_the_defaults_are_consistent():
    assert LeaderTimes().authority_ms < LeaderTimes().lease_ttl_ms


def test_all_broken_relations_are_reported_at_once():
    with pytest.raises(ValueError) as caught:
        LeaderTimes(authority_ms=9_000, idle_fence_ms=8_000, retry_min_ms=0, stuck_ms=100)
    for words in ("authority_ms must be", "2 * idle_fence_ms", "retry_min_ms must be", "stuck_ms"):
        assert words in str(caught.value)
