"""Each check of a campaign finds what it is for, in evidence that is forged in one place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.core.types import Outcome
from controlplane.core.shard.outcomes import SILENT
from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import OnDisconnect
from controlplane.verify.findings import Invariant, Violation
from tests.campaign.checks import JUDGED
from tests.campaign.recorded import StoredRun, Told, read_files
from tests.unit.campaign.forged import CANCELLED, CHAIN, KILLED, RETRIED, Forged, attempt, clean

LOST = AttemptState.LOST


@pytest.fixture
def forged(tmp_path):
    return clean(tmp_path)


def test_a_campaign_in_which_nothing_is_wrong(forged):
    findings = forged.findings()
    assert list(map(str, findings.violations)) == []
    assert findings.clean
    assert all(findings.judged[name] for name in JUDGED)
    assert not findings.open


def two_at_a_time(forged: Forged) -> None:
    forged.works(20, CHAIN, "a", 2.9, 5)


def alive_beside_the_next_one(forged: Forged) -> None:
    """Whatever anybody says of it."""
    forged.lives(5, KILLED, "a", 11, 20.5)
    forged.stores(5, KILLED, "a", LOST, None, message="killed at the end of its attempt lease")


def killed_too_late(forged: Forged) -> None:
    """By its agent's own word it lived for 11 s; the next one started 10 s after it."""
    late = Told(LOST, 1_000_000, 12_000_000, -1, 9)
    forged.stores(5, KILLED, "a", LOST, None, message=SILENT, late=late)


def started_twice(forged: Forged) -> None:
    forged.starts(1, CHAIN, "a", 2.2, pid=8)


def unknown_to_the_store(forged: Forged) -> None:
    del forged.attempts[attempt(9)]


def a_lost_run(forged: Forged) -> None:
    del forged.runs[CANCELLED]


def one_request_two_runs(forged: Forged) -> None:
    forged.call("trigger", f"key of {CHAIN}", "ok", 5, run=RETRIED, dag="etl")


def a_run_that_nobody_asked_for(forged: Forged) -> None:
    forged.runs["run-8"] = StoredRun("run-8", "etl", RunState.SUCCEEDED, True, True)


def an_attempt_without_an_end(forged: Forged) -> None:
    forged.stores(9, CANCELLED, "a", AttemptState.RUNNING, None)


def a_run_without_an_end(forged: Forged) -> None:
    forged.runs[CHAIN] = forged.runs[CHAIN]._replace(state=RunState.RUNNING, final=False)


def another_status(forged: Forged) -> None:
    forged.stores(3, RETRIED, "a", AttemptState.FAILED, 4)


def another_late_status(forged: Forged) -> None:
    late = Told(AttemptState.FAILED, 1, 2, 4, 0)
    forged.stores(3, RETRIED, "a", LOST, None, message="the agent was stopped", late=late)


def refused_and_ran(forged: Forged) -> None:
    forged.stores(9, CANCELLED, "a", AttemptState.REJECTED, None)


def a_start_after_the_cancellation(forged: Forged) -> None:
    forged.starts(21, CANCELLED, "b", 12.5)
    forged.stores(21, CANCELLED, "b", AttemptState.CANCELLED, -1, signal=15)


def a_success_without_an_end(forged: Forged) -> None:
    forged.stores(9, CANCELLED, "a")


def a_success_that_was_not_journalled(forged: Forged) -> None:
    forged.starts(22, CHAIN, "c", 5)
    forged.ends(22, CHAIN, "c", 6)
    forged.stores(22, CHAIN, "c")
    forged.journal(22, None)


def a_success_that_was_journalled_as_a_failure(forged: Forged) -> None:
    forged.journal(2, Outcome.FAILED, 0)


def rows_that_verify_does_not_like(forged: Forged) -> None:
    forged.recorded.verified.add([Violation(Invariant.I11, "run", "a number left out")])


BROKEN: dict[str, tuple[Callable[[Forged], None], str]] = {
    "I3": (two_at_a_time, "while " + attempt(1) + " lived until 3000000000 ns"),
    "I3 alive": (alive_beside_the_next_one, "lived until 20500000000 ns (its last line)"),
    "I3 killed": (killed_too_late, "its agent said so later"),
    "I4": (started_twice, "it started 2 times, as processes [7, 8]"),
    "I5": (unknown_to_the_store, "unknown here"),
    "I8 lost": (a_lost_run, "does not exist"),
    "I8 twice": (one_request_two_runs, "it made 2 runs"),
    "I8 more": (a_run_that_nobody_asked_for, "2 runs that nobody was told of, by 1"),
    "I10 attempt": (an_attempt_without_an_end, "it has not ended"),
    "I10 run": (a_run_without_an_end, "RUNNING after the drain"),
    "I11": (rows_that_verify_does_not_like, "a number left out"),
    "I12": (another_status, "exit status 4 is recorded, it ended with 3"),
    "I12 late": (another_late_status, "exit status 4 is recorded, it ended with 3"),
    "I12 refused": (refused_and_ran, "it was refused, and ran"),
    "I14": (a_start_after_the_cancellation, "500.0 ms after it was seen to be cancelled"),
    "I18": (a_success_without_an_end, "the ledger has no end"),
    "I18 journal": (a_success_that_was_not_journalled, "the journal of ant has no end"),
    "I18 failed": (a_success_that_was_journalled_as_a_failure, "the journal of ant has FAILED"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_forged_is_found_and_nothing_else(forged, name):
    forge, words = BROKEN[name]
    forge(forged)
    found = forged.findings().violations
    assert [each.invariant for each in found] == [name.split()[0]]
    assert words in found[0].detail


def test_every_check_is_broken_once():
    assert {name.split()[0] for name in BROKEN} >= set(JUDGED)


class TestDeathsThatNobodyWroteDown:
    """A second attempt of the killed one's task instance starts at 20 s; it wrote until 19 s."""

    def judged(self, forged, *, late=None, message=SILENT):
        forged.lives(5, KILLED, "a", 18, 19)
        forged.stores(5, KILLED, "a", LOST, None, message=message, late=late)
        findings = forged.findings()
        return len(findings.violations), sum(findings.open.values())

    def test_without_a_word_it_is_open(self, forged):
        assert self.judged(forged) == (0, 1)

    def test_a_long_silence_proves_it(self, forged):
        forged.stores(5, KILLED, "a", LOST, None, message=SILENT)
        forged.lives(5, KILLED, "a", 17.9)
        findings = forged.findings()
        assert (findings.clean, sum(findings.open.values())) == (True, 0)

    def test_a_report_before_the_next_assignment_proves_it(self, forged):
        assert self.judged(forged, message="killed at the end of its attempt lease") == (0, 0)

    def test_the_death_of_its_supervisor_proves_it(self, forged):
        forged.fault("supervisor-kill", "ant", 12, 12.1)
        assert self.judged(forged) == (0, 0)

    def test_that_of_another_proves_nothing(self, forged):
        forged.fault("supervisor-kill", "bee", 12, 12.1)
        forged.fault("agent-and-supervisor-kill", "ant", 22, 25)
        assert self.judged(forged) == (0, 1)

    def test_a_clock_that_was_set_meanwhile_proves_nothing(self, forged):
        forged.fault("clock-step", "ant", 12, 14)
        late = Told(LOST, 1_000_000, 90_000_000, -1, 9)
        assert self.judged(forged, late=late) == (0, 1)

    def test_a_clock_that_was_set_elsewhere_changes_nothing(self, forged):
        forged.fault("clock-step", "node-1", 12, 14)
        late = Told(LOST, 1_000_000, 90_000_000, -1, 9)
        assert self.judged(forged, late=late) == (1, 0)


def test_continue_is_held_to_the_same(forged):
    two_at_a_time(forged)
    forged.stores(1, CHAIN, "a", policy=OnDisconnect.CONTINUE)
    assert [each.invariant for each in forged.findings().violations] == ["I3"]


def test_a_line_that_is_cut_off_was_never_written(forged, tmp_path):
    forged.write()
    ledger = tmp_path / "ledger.tsv"
    whole = ledger.read_text()
    ledger.write_text(whole + "00ff\tta")
    assert len(read_files(tmp_path).lines) == len(forged.lines)
