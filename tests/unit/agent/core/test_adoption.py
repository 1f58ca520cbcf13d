from __future__ import annotations

import pytest

from agent.core import adoption, events
from agent.core.adoption import Ended, Lost, NeverClaimed
from agent.core.attempts import Attempt, Origin, State
from agent.core.entries import Result
from agent.core.records import AcceptedRecord, StartedRecord
from agent.core.types import Outcome
from tests.unit.agent.core.driver import (
    BOOT,
    WALL_US,
    assignment,
    attempt_id,
    claimed,
    ended,
    failed,
    journal,
    spawned,
)

NOW_US = WALL_US + 10_000_000
ACCEPTED = AcceptedRecord(assignment(1), 5_000)
STARTED = StartedRecord(attempt_id(1), 101, WALL_US + 1, 7, BOOT)
FINISHED = Result(0, attempt_id(1), Outcome.SUCCEEDED, 0, 0, WALL_US + 1, WALL_US + 2)

CLAIMED = events.Supervised(claimed(1))
RUNS = events.Supervised(claimed(1), spawned(1))
ENDED = events.Supervised(claimed(1), spawned(1), ended(1))
FAILED = events.Supervised(claimed(1), failed=failed(1))


def restored(*records, boot_id: str = BOOT) -> Attempt:
    (attempt,) = adoption.restore(journal(*records, number=2, boot_id=boot_id))
    return attempt


@pytest.mark.parametrize(
    ("records", "state", "started_at_us"),
    [
        ((ACCEPTED,), State.SPAWNING, 0),
        ((ACCEPTED, STARTED), State.STARTED, WALL_US + 1),
        ((ACCEPTED, STARTED, FINISHED), State.FINISHED, WALL_US + 1),
    ],
)
def test_a_journal_says_what_is_held(records, state, started_at_us):
    attempt = restored(*records)
    assert (attempt.state, attempt.started_at_us) == (state, started_at_us)
    assert (attempt.assign, attempt.node) == (assignment(1), adoption.NOBODY)
    assert attempt.lease_until_ms == 5_000
    assert attempt.origin is Origin.EARLIER_START
    assert (attempt.result is None) == (state is not State.FINISHED)


def test_what_was_accepted_before_a_reboot_is_told_apart():
    assert restored(ACCEPTED, boot_id="boot-2").origin is Origin.EARLIER_BOOT


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (None, NeverClaimed()),
        (RUNS, spawned(1)),
        (ENDED, Ended(WALL_US + 1, ended(1))),
        (FAILED, failed(1)),
        (CLAIMED, Lost(WALL_US + 1, adoption.CLAIMED_ONLY)),
    ],
)
def test_what_was_accepted_is_what_the_supervisor_says(known, verdict):
    assert adoption.judge(restored(ACCEPTED), known, NOW_US) == verdict


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (None, Lost(WALL_US + 1, adoption.SUPERVISOR_ENDED)),
        (RUNS, spawned(1)),
        (ENDED, Ended(WALL_US + 1, ended(1))),
        (FAILED, failed(1)),
        (CLAIMED, Lost(WALL_US + 1, adoption.SUPERVISOR_ENDED)),
    ],
)
def test_what_was_started_is_never_started_again(known, verdict):
    assert adoption.judge(restored(ACCEPTED, STARTED), known, NOW_US) == verdict


@pytest.mark.parametrize(
    ("records", "known", "verdict"),
    [
        ((ACCEPTED,), None, Lost(NOW_US, adoption.PERHAPS_REBOOTED)),
        ((ACCEPTED,), CLAIMED, Lost(WALL_US + 1, adoption.REBOOTED)),
        ((ACCEPTED,), RUNS, Lost(WALL_US + 1, adoption.REBOOTED)),
        ((ACCEPTED, STARTED), None, Lost(WALL_US + 1, adoption.REBOOTED)),
        ((ACCEPTED, STARTED), ENDED, Ended(WALL_US + 1, ended(1))),
        ((ACCEPTED,), FAILED, failed(1)),
    ],
)
def test_after_a_reboot_all_is_lost_whose_end_is_not_written(records, known, verdict):
    attempt = restored(*records, boot_id="boot-2")
    assert adoption.judge(attempt, known, NOW_US) == verdict


@pytest.mark.parametrize(
    ("known", "there"),
    [(None, False), (CLAIMED, False), (RUNS, True), (ENDED, False), (FAILED, False)],
)
def test_only_what_was_spawned_and_did_not_end_runs(known, there):
    assert adoption.runs(known) is there


def test_what_was_spawned_and_failed_does_not_run():
    assert not adoption.runs(events.Supervised(claimed(1), spawned(1), failed=failed(1)))
