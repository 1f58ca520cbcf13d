"""Judges the evidence of a campaign: what really happened against what was promised and recorded.

Witnesses that do not depend on each other: the ledger, which only the attempts themselves write, on
the clock since boot, which nobody sets; the clients' log; the agents' journals; the store, and what
`mainspring verify` finds in it. A finding is a violation only if it is certain. Where the witnesses
leave something open (when an attempt died that was killed without a word) it is counted as open,
never as good: see `lives`. To be called when a round has drained.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.core.states import AttemptState, RunState
from controlplane.core.types import OnDisconnect
from tests.campaign.lives import Life, alive_together, lives
from tests.campaign.recorded import Line, Recorded, Stored, Told, gather

# Invariants that the evidence outside the store tells of, with how each is judged.
JUDGED = {
    "I3": "pairs of attempts of one task instance, by the clock since boot",
    "I4": "attempts that started, over all agents",
    "I5": "attempts that started, in the store",
    "I8": "calls that trigger a run",
    "I10": "attempts and acknowledged runs, after the drain",
    "I12": "recorded results, against the ledger",
    "I14": "runs that were seen to be cancelled",
    "I18": "recorded successes, against ledger and journals",
}
_LIVE = (AttemptState.ASSIGNED, AttemptState.RUNNING)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was certainly broken, with what shows it."""

    invariant: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.detail}"


@dataclass(slots=True)
class Findings:
    """What the checks found. `judged`: how many of each; `open`: what could not be decided."""

    violations: list[Violation] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    recorded: Recorded = field(default_factory=Recorded)

    @property
    def clean(self) -> bool:
        return not self.violations


def check(evidence: Path) -> Findings:
    """Judges a folder of evidence, its store and its journals."""
    return judge(gather(evidence))


def judge(recorded: Recorded) -> Findings:
    """Judges what was recorded."""
    findings = Findings(recorded=recorded)
    for part in (_store, _together, _starts, _calls, _ends, _results, _successes, _cancelled):
        findings.violations += part(recorded, findings)
    return findings


def _store(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """What `mainspring verify` says."""
    for invariant, count in recorded.verified.judged.items():
        findings.judged[f"{invariant.name} by rows"] += count
    for found in recorded.verified.violations:
        yield Violation(found.invariant.name, found.subject, f"{found.detail} {found.evidence}")


def _together(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I3: under fence and continue no two processes of a task instance live at a time."""
    of_instance: dict[tuple[str, str], list[Life]] = defaultdict(list)
    for life in lives(recorded):
        if life.on_disconnect is not OnDisconnect.RETRY:
            of_instance[life.run, life.task].append(life)
    for (run, task), found in of_instance.items():
        for before, after, certain in alive_together(found):
            findings.judged["I3"] += 1
            if certain is None:
                findings.open["I3: when an attempt died is not known"] += 1
            elif certain:
                until_ns = max(before.end_ns or 0, before.seen_ns)
                detail = (
                    f"{after.attempt} started at {after.start_ns} ns, while {before.attempt} lived"
                    f" until {until_ns} ns ({before.how or 'its last line'})"
                )
                yield Violation("I3", f"{run}/{task}", detail)


def _starts(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I4 and I5: an id starts once, and only if it was committed."""
    starts = [line for line in recorded.lines if line.kind == "start"]
    counts = Counter(line.attempt for line in starts)
    findings.judged["I4"] += len(counts)
    findings.judged["I5"] += len(counts)
    for attempt, count in counts.items():
        if count > 1:
            pids = [line.pid for line in starts if line.attempt == attempt]
            yield Violation("I4", attempt, f"it started {count} times, as processes {pids}")
    for line in starts:
        if line.attempt not in recorded.attempts:
            yield Violation("I5", line.attempt, f"it ran ({line.run}/{line.task}), unknown here")


def _calls(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I8: a run whose trigger was answered exists; a request makes one run, whatever was heard."""
    answers: dict[str, set[str]] = defaultdict(set)
    asked: set[str] = set()
    for call in recorded.calls:
        if call["call"] == "trigger":
            asked.add(call["key"])
            if call["outcome"] == "ok":
                answers[call["key"]].add(call["run"])
    findings.judged["I8"] += len(asked)
    for key, runs in answers.items():
        if len(runs) > 1:
            yield Violation("I8", f"request {key}", f"it made {len(runs)} runs: {sorted(runs)}")
        for run in sorted(runs - set(recorded.runs)):
            yield Violation("I8", f"request {key}", f"its run {run} does not exist")
    told = set().union(*answers.values())
    untold = [run for run in recorded.runs.values() if run.triggered and run.run not in told]
    if len(untold) > len(asked) - len(answers):
        detail = f"{len(untold)} runs that nobody was told of, by {len(asked) - len(answers)}"
        yield Violation("I8", "requests without an answer", detail)


def _ends(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I10: after the drain every attempt has ended, and every acknowledged run is final."""
    acknowledged = {
        call["run"]
        for call in recorded.calls
        if call["call"] == "trigger" and call["outcome"] == "ok"
    }
    findings.judged["I10"] += len(recorded.attempts) + len(acknowledged)
    for stored in recorded.attempts.values():
        if stored.told.state in _LIVE:
            detail = f"it has not ended ({stored.run}/{stored.task} at {stored.agent})"
            yield Violation("I10", stored.attempt, detail)
    for run in sorted(acknowledged & set(recorded.runs)):
        if not recorded.runs[run].final:
            state = RunState(recorded.runs[run].state).name
            yield Violation("I10", run, f"the run is {state} after the drain")


def _results(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I12: the recorded exit status is the one that the attempt said that it ends with."""
    started = {line.attempt for line in recorded.lines if line.kind == "start"}
    ends = _last_ends(recorded.lines)
    for stored in recorded.attempts.values():
        if stored.told.state == AttemptState.REJECTED:
            findings.judged["I12"] += 1
            if stored.attempt in started:
                yield Violation("I12", stored.attempt, "it was refused, and ran")
        for told in (stored.told, stored.late):
            end = ends.get(stored.attempt)
            if told is None or end is None or not _by_itself(told):
                continue
            findings.judged["I12"] += 1
            if told.exit_code != end.exit:
                detail = f"exit status {told.exit_code} is recorded, it ended with {end.exit}"
                yield Violation("I12", stored.attempt, detail)


def _last_ends(lines: Iterable[Line]) -> dict[str, Line]:
    return {line.attempt: line for line in lines if line.kind == "end"}


def _by_itself(told: Told) -> bool:
    """Whether an end was that of a process that nobody killed."""
    exited = told.exit_code is not None and told.exit_code >= 0 and not told.signal
    return exited and told.state in (AttemptState.SUCCEEDED, AttemptState.FAILED)


def _successes(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I18: what is recorded as a success wrote that it ends with 0, and was journalled so."""
    ends = _last_ends(recorded.lines)
    journals = {(each.agent, each.attempt): each for each in recorded.journals}
    for stored in recorded.attempts.values():
        told = _success(stored)
        if told is None:
            continue
        findings.judged["I18"] += 1
        end = ends.get(stored.attempt)
        if end is None or end.exit != 0:
            said = "no end" if end is None else f"exit status {end.exit}"
            yield Violation("I18", stored.attempt, f"it succeeded; the ledger has {said}")
        kept = journals.get((stored.agent, stored.attempt))
        if kept is not None and (kept.outcome, kept.exit_code) != ("SUCCEEDED", 0):
            said = f"{kept.outcome or 'no end'}, exit status {kept.exit_code}"
            detail = f"it succeeded; the journal of {stored.agent} has {said}"
            yield Violation("I18", stored.attempt, detail)


def _success(stored: Stored) -> Told | None:
    for told in (stored.told, stored.late):
        if told is not None and told.state == AttemptState.SUCCEEDED:
            return told
    return None


def _cancelled(recorded: Recorded, findings: Findings) -> Iterator[Violation]:
    """I14: nothing starts in a run after somebody was told that it is cancelled."""
    seen: dict[str, int] = {}
    for call in recorded.calls:
        if call["outcome"] == "ok" and call.get("state") == "CANCELLED":
            seen.setdefault(call["run"], call["at_ns"])
    findings.judged["I14"] += len(seen)
    for line in recorded.lines:
        if line.kind == "start" and line.at_ns > seen.get(line.run, line.at_ns):
            late_ms = (line.at_ns - seen[line.run]) / 1e6
            detail = f"{line.attempt} started {late_ms:.1f} ms after it was seen to be cancelled"
            yield Violation("I14", f"{line.run}/{line.task}", detail)
