"""When an attempt must end: every deadline, and what moves it."""

from __future__ import annotations

import signal

import pytest

from agent.supervisor.attempts import (
    AGENT_STOPPED,
    FAR_MS,
    LEASE,
    LEASE_GRACE_MS,
    NONE,
    TIMED_OUT,
    Attempt,
)

TERM, KILL = signal.SIGTERM, signal.SIGKILL


@pytest.fixture
def attempt() -> Attempt:
    """Leased until 10,000, without a timeout."""
    made = Attempt("aa", shard=1, until_ms=10_000, overtime_ms=0)
    made.began(1_000, timeout_ms=0, grace_ms=500)
    return made


def test_it_runs_for_as_long_as_its_lease(attempt: Attempt):
    assert attempt.next_ms(0) == 10_000
    assert attempt.due(9_999, 0) == 0
    assert attempt.due(10_000, 0) == TERM
    assert (attempt.cause, attempt.next_ms(0)) == (LEASE, 10_000 + LEASE_GRACE_MS)
    assert attempt.due(10_999, 0) == 0
    assert attempt.due(11_000, 0) == KILL
    assert (attempt.next_ms(0), attempt.due(99_000, 0)) == (FAR_MS, 0)


def test_its_shard_may_extend_the_lease_and_its_task_has_overtime(attempt: Attempt):
    attempt.overtime_ms = 300
    assert attempt.next_ms(20_000) == 20_300
    assert attempt.next_ms(5_000) == 10_300


def test_an_extension_does_not_take_back_an_end(attempt: Attempt):
    assert attempt.due(10_000, 0) == TERM
    assert attempt.due(11_000, 50_000) == KILL


def test_who_slept_past_the_lease_kills_at_once(attempt: Attempt):
    assert attempt.due(11_000, 0) == KILL
    assert attempt.cause == LEASE


def test_a_timeout_with_grace(attempt: Attempt):
    attempt.began(1_000, timeout_ms=2_000, grace_ms=500)
    assert attempt.due(2_999, 0) == 0
    assert attempt.due(3_000, 0) == TERM
    assert attempt.cause == TIMED_OUT
    assert attempt.due(3_500, 0) == KILL


def test_a_timeout_without_grace(attempt: Attempt):
    attempt.began(1_000, timeout_ms=2_000, grace_ms=0)
    assert attempt.due(3_000, 0) == KILL


def test_a_stop_keeps_its_cause_and_can_only_be_hurried(attempt: Attempt):
    assert attempt.stop("cancelled", 5_000, 2_000) == TERM
    assert attempt.stop(AGENT_STOPPED, 9_000, 2_000) == 0
    assert attempt.next_ms(0) == 7_000
    assert attempt.stop(AGENT_STOPPED, 1_000, 2_000) == 0
    assert (attempt.cause, attempt.next_ms(0)) == ("cancelled", 3_000)
    assert attempt.stop(AGENT_STOPPED, 0, 2_500) == KILL
    assert attempt.stop(AGENT_STOPPED, 0, 2_600) == 0


def test_a_long_grace_ends_with_the_lease(attempt: Attempt):
    assert attempt.stop("cancelled", 60_000, 2_000) == TERM
    assert attempt.next_ms(0) == 10_000 + LEASE_GRACE_MS
    assert attempt.due(11_000, 0) == KILL
    assert attempt.cause == "cancelled"


def test_nothing_is_due_to_one_that_was_never_stopped(attempt: Attempt):
    assert (attempt.due(0, 0), attempt.cause) == (0, NONE)
