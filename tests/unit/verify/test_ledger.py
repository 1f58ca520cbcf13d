"""The ledger of instants is judged row by row, over pages, where the timetable is known."""

from __future__ import annotations

from controlplane.core.effects import InstantOutcome
from controlplane.store.evidence_rows import InstantEvidence
from controlplane.verify.ledger import LedgerJudge

MINUTE_US = 60_000_000
RUN = b"r" * 16
EVERY_MINUTE = "interval 60000"


def row(minute: int, **more) -> InstantEvidence:
    """An instant that became a run, of a schedule that has been the same since minute 0."""
    instant_us = minute * MINUTE_US
    owner = ("acme", "etl", more.pop("schedule", "often"))
    made = InstantEvidence(
        *(*owner, instant_us, InstantOutcome.RUN, RUN, ""),
        *(*owner, instant_us, EVERY_MINUTE, instant_us + MINUTE_US, 0),
    )
    return made._replace(**more)


def skipped(minute: int) -> InstantEvidence:
    nothing = dict.fromkeys(("run_tenant", "run_dag", "run_schedule", "run_logical_us"))
    return row(minute, outcome=InstantOutcome.SKIPPED, run_id=None, reason="paused", **nothing)


def found(*pages: list[InstantEvidence]) -> list[str]:
    judge, details = LedgerJudge(), []
    for page in pages:
        details += [each.detail for each in judge.page(page)]
    return details + [each.detail for each in judge.end(pages[-1])]


def test_instants_that_follow_each_other_are_right():
    assert found([row(1), skipped(2), row(3)]) == []
    assert found([row(1)], [skipped(2)], [row(3)]) == []


def test_a_missing_instant_is_found_within_a_page_and_between_two():
    words = f"instant {2 * MINUTE_US} before it is missing"
    assert found([row(1), row(3)]) == [words]
    assert found([row(1)], [row(3)]) == [words]


def test_before_the_dag_was_changed_nothing_is_known_to_be_missing():
    assert found([row(1, dag_updated_us=MINUTE_US), row(3)]) == [
        f"instant {2 * MINUTE_US} before it is missing"
    ]
    assert found([row(1), row(3, dag_updated_us=MINUTE_US)]) == []


def test_instants_of_another_timetable_are_no_part_of_it():
    assert found([row(1), row(3, definition="interval 7000")]) == []
    assert found([row(1, definition="cron UTC @once", next_us=None)]) == []


def test_nothing_is_concluded_from_a_timetable_that_cannot_be_read_here():
    for definition in ("cron Nowhere/Town * * * * *", "interval often", ""):
        assert found([row(1, definition=definition), row(3, definition=definition)]) == []


def test_a_schedule_that_is_gone_is_not_asked_for_more():
    assert found([row(1, definition=None), row(9, definition=None)]) == []


def test_a_schedule_goes_on_behind_its_last_instant():
    words = f"the next instant is {2 * MINUTE_US}, the schedule waits for another"
    assert found([row(1, next_us=MINUTE_US)]) == [words]
    assert found([row(1, next_us=None), row(5, schedule="other")]) == [words]


def test_a_last_row_of_a_page_is_not_known_to_be_the_last():
    stale = row(1, next_us=3 * MINUTE_US)
    assert found([stale], [row(2)]) == []


def test_what_a_row_says_is_held_against_its_run():
    gone = dict.fromkeys(("run_tenant", "run_dag", "run_schedule", "run_logical_us"))
    coalesced = InstantOutcome.COALESCED
    for wrong, words in (
        (row(1, **gone), "does not exist"),
        (row(1, run_dag="other"), "is of acme/other/often"),
        (row(1, run_logical_us=7), "is for instant 7"),
        (row(1, outcome=coalesced), "was coalesced into a run for instant 60000000"),
        (skipped(1)._replace(run_id=RUN), "was skipped, but has a run"),
        (skipped(1)._replace(reason=""), "was skipped, but has a run, or no reason"),
    ):
        [detail] = found([wrong])
        assert words in detail
    later = 5 * MINUTE_US
    assert found([row(1, outcome=coalesced, run_logical_us=later)]) == []
