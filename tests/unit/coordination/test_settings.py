import dataclasses

import pytest

from controlplane.coordination.settings import Backoff, CoordinationSettings

VALID = CoordinationSettings(cluster="main", endpoints=("127.0.0.1:2379",))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cluster": ""}, "cluster"),
        ({"cluster": "a/b"}, "cluster"),
        ({"endpoints": ()}, "endpoints"),
        ({"endpoints": ("h:1", "ftp://h:2")}, "'ftp://h:2' is not host:port"),
        ({"poll_ms": 0}, "poll_ms must be above 0"),
        ({"lease_ttl_ms": 5_500}, "whole seconds"),
        ({"renew_ms": 4_000}, "renew_ms"),
        ({"max_stall_ms": 5_000}, "max_stall_ms must be below"),
        ({"tick_ms": 600}, "tick_ms"),
        ({"backoff_min_ms": 2_000}, "backoff_min_ms"),
    ],
)
def test_each_broken_relation_is_named(changes, fault):
    with pytest.raises(ValueError, match=fault):
        dataclasses.replace(VALID, **changes)


def test_all_faults_are_reported_together():
    with pytest.raises(ValueError, match=r"cluster.*poll_ms.*whole seconds"):
        dataclasses.replace(VALID, cluster="", poll_ms=0, lease_ttl_ms=5_500)


@pytest.mark.parametrize("seconds", range(1, 61))
def test_times_fit_any_lease(seconds):
    settings = CoordinationSettings.of_lease("main", VALID.endpoints, 1_000 * seconds)
    assert settings.lease_ttl_ms == 1_000 * seconds
    assert (settings == VALID) == (seconds == 5)


def test_backoff_doubles_up_to_its_most_and_starts_over():
    backoff = Backoff(100, 400)
    for ceiling_ms in (100, 200, 400, 400):
        assert ceiling_ms / 2_000 <= backoff.next_s() <= ceiling_ms / 1_000
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_a_fresh_backoff_has_its_own_count():
    backoff = Backoff(100, 400)
    backoff.next_s()
    assert backoff.fresh().next_s() <= 0.1
