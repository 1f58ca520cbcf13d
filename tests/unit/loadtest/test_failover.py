import pytest

from loadtest.failover import first_assigned


def test_what_the_last_leader_assigned_does_not_count():
    assert first_assigned([1.0, 9.5, 5.0, 7.0], taken_over=4.0) == 5.0


def test_a_failover_without_an_assignment_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        first_assigned([1.0], taken_over=4.0)
