"""Judges the attempts of one task instance: their order, their numbers, their results.

Attempts are ordered by the (epoch, batch) of their assignment, never by a clock. Decides also what
the rows alone make of the task instance, and since when: independently of the function that the
leader and the reads use, so that the two check each other. Does not know parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from controlplane.core.effects import WaitKind
from controlplane.core.states import AttemptState, TaskState
from controlplane.core.types import DagVersion, uuid_text
from controlplane.store.evidence_rows import (
    AttemptEvidence,
    LateEvidence,
    Position,
    RunEvidence,
    WaitEvidence,
)
from controlplane.verify.findings import Fact, Invariant, Violation

NOWHERE: Position = (0, 0)
_RETURNED = (AttemptState.REJECTED, AttemptState.LOST, AttemptState.UNKNOWN)
_FAILED = (AttemptState.FAILED, AttemptState.TIMED_OUT)
_GIVEN_UP = (AttemptState.LOST, AttemptState.UNKNOWN)


@dataclass(slots=True)
class Instance:
    """All rows of one task instance; `attempts` in the order of assignment."""

    task: int
    subject: str
    most_attempts: int
    # After the store went back in time, attempts that it had forgotten keep their numbers.
    restored_epoch: int = 0
    attempts: list[AttemptEvidence] = field(default_factory=list)
    late: list[LateEvidence] = field(default_factory=list)
    waits: list[WaitEvidence] = field(default_factory=list)

    @property
    def live(self) -> AttemptEvidence | None:
        return next((each for each in self.attempts if each.ended is None), None)

    def has(self, kind: WaitKind) -> bool:
        """Whether a row of this kind waits."""
        return any(wait.kind == kind for wait in self.waits)

    def late_of(self, attempt: AttemptEvidence) -> LateEvidence | None:
        """What was said late of an attempt."""
        return next((each for each in self.late if each.attempt_id == attempt.attempt_id), None)

    def end(self) -> tuple[TaskState, Position] | None:
        """The final state that its own rows give it, and since which position; None: it is open.

        A refusal by a person has no position of its own: it came after the attempt it is about.
        """
        last = self.attempts[-1] if self.attempts else None
        if self.has(WaitKind.MARK):
            return TaskState.FAILED, (last.ended or NOWHERE) if last else NOWHERE
        if last is None or last.ended is None:
            return None
        state, late = AttemptState(last.state), self.late_of(last)
        if late is not None and late.adopted:
            return TaskState.SUCCEEDED, late.recorded
        if state is AttemptState.SUCCEEDED:
            return TaskState.SUCCEEDED, last.ended
        if state is AttemptState.CANCELLED:
            return TaskState.CANCELLED, last.ended
        if state in _FAILED and last.number >= self.most_attempts:
            return TaskState.FAILED, last.ended
        return None


def instances_of(rows: RunEvidence, version: DagVersion) -> list[Instance]:
    """The task instances that have rows."""
    run = f"{rows.run.dag}/{uuid_text(rows.run.run_id)}"
    found: dict[tuple[int, int], Instance] = {}

    def of(task: int, expansion: int) -> Instance:
        if (task, expansion) not in found:
            definition = version.tasks[task]
            name = definition.task + (f"[{expansion}]" if expansion else "")
            most = definition.retry.max_attempts
            found[task, expansion] = Instance(task, f"{run}/{name}", most, rows.restored_epoch)
        return found[task, expansion]

    for attempt in sorted(rows.attempts, key=lambda each: (each.assigned, each.ended is None)):
        of(attempt.task, attempt.expansion).attempts.append(attempt)
    for late in rows.late:
        of(late.task, late.expansion).late.append(late)
    for wait in rows.waits:
        of(wait.task, wait.expansion).waits.append(wait)
    return list(found.values())


def describe(attempt: AttemptEvidence) -> tuple[tuple[str, Fact], ...]:
    """An attempt as evidence."""
    return (
        ("attempt", attempt.attempt_id.hex()),
        ("number", attempt.number),
        ("state", AttemptState(attempt.state).name),
        ("agent", attempt.agent),
        ("assigned", text_of(attempt.assigned)),
        ("ended", text_of(attempt.ended)),
    )


def text_of(position: Position | None) -> str | None:
    """A position for people: epoch, colon, batch."""
    return None if position is None else f"{position[0]}:{position[1]}"


def judge_instance(instance: Instance) -> Iterator[Violation]:
    """What must hold of the attempts of one task instance, whatever its run is."""
    yield from _overlaps(instance)
    yield from _order(instance)
    yield from _results(instance)
    yield from _late(instance)
    yield from _waits(instance)


def _overlaps(instance: Instance) -> Iterator[Violation]:
    """I3: an attempt is assigned only when the one before it has ended, in that batch or before."""
    for before, after in zip(instance.attempts, instance.attempts[1:], strict=False):
        if before.ended is None or before.ended > after.assigned:
            detail = (
                f"attempt {after.attempt_id.hex()} was assigned in batch {text_of(after.assigned)},"
                f" before attempt {before.attempt_id.hex()} had ended"
                f" ({text_of(before.ended) or 'it is live'})"
            )
            yield Violation(Invariant.I3, instance.subject, detail, both(before, after))


def _order(instance: Instance) -> Iterator[Violation]:
    """I11: numbers and states follow each other as the tables allow."""
    first = instance.attempts[0] if instance.attempts else None
    if first is not None and not _numbered(instance, first, 1):
        detail = f"its first attempt has number {first.number}"
        yield Violation(Invariant.I11, instance.subject, detail, describe(first))
    for before, after in zip(instance.attempts, instance.attempts[1:], strict=False):
        if before.ended is None:
            continue
        if reason := _refusal(instance, before, after):
            yield Violation(Invariant.I11, instance.subject, reason, both(before, after))


def _refusal(instance: Instance, before: AttemptEvidence, after: AttemptEvidence) -> str:
    """Why an attempt must not follow another; empty: it may."""
    state, late = AttemptState(before.state), instance.late_of(before)
    if late is not None and late.adopted and late.recorded <= after.assigned:
        return "an attempt was assigned after a late success had decided the task"
    if state in _RETURNED:
        wanted = before.number
    elif state in _FAILED and before.number < instance.most_attempts:
        wanted = before.number + 1
    else:
        return f"an attempt was assigned after one that ended as {state.name} for good"
    if _numbered(instance, after, wanted):
        return ""
    return f"number {after.number} follows number {before.number} ({state.name})"


def _numbered(instance: Instance, attempt: AttemptEvidence, wanted: int) -> bool:
    """Whether an attempt may have its number, where `wanted` comes next."""
    restored = 0 < instance.restored_epoch <= attempt.epoch
    return attempt.number == wanted or (restored and attempt.number > wanted)


def _results(instance: Instance) -> Iterator[Violation]:
    """I12: a result comes after its assignment. I18: success is exit status 0."""
    for attempt in instance.attempts:
        if attempt.ended is not None and attempt.ended <= attempt.assigned:
            detail = (
                f"the result of attempt {attempt.attempt_id.hex()} is of batch"
                f" {text_of(attempt.ended)}, its assignment of batch {text_of(attempt.assigned)}"
            )
            yield Violation(Invariant.I12, instance.subject, detail, describe(attempt))
        status = (attempt.exit_code, attempt.signal)
        if attempt.state == AttemptState.SUCCEEDED and status != (0, 0):
            detail = f"it succeeded with exit status {attempt.exit_code}, signal {attempt.signal}"
            yield Violation(Invariant.I18, instance.subject, detail, describe(attempt))


def _late(instance: Instance) -> Iterator[Violation]:
    """I12: something is said late only of what was given up, and after that."""
    by_id = {each.attempt_id: each for each in instance.attempts}
    for late in instance.late:
        attempt = by_id.get(late.attempt_id)
        evidence: tuple[tuple[str, Fact], ...] = (
            ("attempt", late.attempt_id.hex()),
            ("late state", AttemptState(late.state).name),
            ("recorded", text_of(late.recorded)),
        )
        if attempt is None:
            detail = f"a late result of attempt {late.attempt_id.hex()}, which is in no history"
        elif attempt.ended is None or attempt.state not in _GIVEN_UP:
            detail = f"a late result of attempt {late.attempt_id.hex()}, which was not given up"
        elif late.recorded < attempt.ended:
            detail = f"the late result of attempt {late.attempt_id.hex()} is older than its end"
        elif late.adopted and attempt is not instance.attempts[-1]:
            detail = f"a late success decided the task, though attempt {_newest(instance)} is newer"
        else:
            continue
        yield Violation(Invariant.I12, instance.subject, detail, evidence)


def _newest(instance: Instance) -> str:
    return instance.attempts[-1].attempt_id.hex()


def _waits(instance: Instance) -> Iterator[Violation]:
    """I11: what waits has no live attempt and no end; a backoff follows a failure."""
    live, ended = instance.live, instance.end()
    for wait in instance.waits:
        kind = WaitKind(wait.kind)
        evidence: tuple[tuple[str, Fact], ...] = (("wait", kind.name), ("number", wait.number))
        if live is not None:
            detail = f"it waits ({kind.name}) and has a live attempt"
            yield Violation(Invariant.I11, instance.subject, detail, evidence + describe(live))
        elif kind is not WaitKind.MARK and ended is not None:
            detail = f"it waits ({kind.name}) and is {ended[0].name} for good"
            yield Violation(Invariant.I11, instance.subject, detail, evidence)
        elif kind is WaitKind.BACKOFF and not _follows_failure(instance, wait.number):
            detail = f"it waits for attempt number {wait.number} without a failure before it"
            yield Violation(Invariant.I11, instance.subject, detail, evidence)


def _follows_failure(instance: Instance, number: int) -> bool:
    failed = [each.number for each in instance.attempts if each.state in _FAILED]
    return bool(failed) and max(failed) + 1 == number


def both(before: AttemptEvidence, after: AttemptEvidence) -> tuple[tuple[str, Fact], ...]:
    """Two attempts as evidence."""
    return (
        *((f"first {name}", fact) for name, fact in describe(before)),
        *((f"second {name}", fact) for name, fact in describe(after)),
    )
