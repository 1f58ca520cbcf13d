"""Judges all rows about one run, as they are in one snapshot.

Decides what each row must agree with. Positions (epoch, batch) say what came before what; where a
row has none (a person's refusal) nothing is concluded from it. Promises to find nothing in any
state that a shard can commit, so it may be asked of live runs. Does not know where rows come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controlplane.core.effects import InstantOutcome, WaitKind
from controlplane.core.run.derive import SEMANTICS_VERSION, derive
from controlplane.core.states import RunState, TaskState
from controlplane.core.types import DagVersion, RunCause, TriggerRule, uuid_text
from controlplane.store.evidence_rows import AttemptEvidence, Position, RunEvidence
from controlplane.verify.findings import Fact, Invariant, Violation
from controlplane.verify.instances import (
    Instance,
    both,
    describe,
    instances_of,
    judge_instance,
    text_of,
)

End = tuple[TaskState, Position]

_STOPPED = (RunState.CANCELLING, RunState.CANCELLED, RunState.TIMING_OUT, RunState.FAILED)
_ADMITTED = (
    RunState.RUNNING,
    RunState.CANCELLING,
    RunState.SUCCEEDED,
    RunState.FAILED,
    RunState.TIMING_OUT,
)
_BLOCKING = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)


def name_of(rows: RunEvidence) -> str:
    """A run as people call it."""
    return f"{rows.run.dag}/{uuid_text(rows.run.run_id)}"


def judge_run(rows: RunEvidence, version: DagVersion) -> Iterator[Violation]:
    """Everything that must hold of a run whose version is known."""
    strangers = _strangers(rows, len(version.tasks))
    yield from strangers
    if strangers:
        return
    yield from _positions(rows)
    yield from _ids(rows)
    instances = instances_of(rows, version)
    for instance in instances:
        yield from judge_instance(instance)
    by_task = {each.task: each for each in instances}
    yield from _starts(rows, version, _ends(version, by_task))
    yield from _head(rows)
    yield from _instant(rows)
    yield from _sealed(rows, version, by_task)


def _strangers(rows: RunEvidence, tasks: int) -> list[Violation]:
    """Rows of tasks that the version does not have."""
    numbers = {each.task for each in rows.attempts}
    numbers |= {each.task for each in rows.late} | {each.task for each in rows.waits}
    wrong = sorted(number for number in numbers if not 0 <= number < tasks)
    detail = f"it has rows of task number {wrong[:5]}, its version has {tasks} tasks"
    return [Violation(Invariant.I8, name_of(rows), detail)] if wrong else []


def _positions(rows: RunEvidence) -> Iterator[Violation]:
    """I2: every row was written by an epoch that was taken over, up to its last batch."""
    for attempt in rows.attempts:
        for position in (attempt.assigned, attempt.ended):
            if position is not None and (detail := _impossible(rows, position)):
                yield Violation(Invariant.I2, name_of(rows), detail, describe(attempt))
    for late in rows.late:
        if detail := _impossible(rows, late.recorded):
            evidence: tuple[tuple[str, Fact], ...] = (("attempt", late.attempt_id.hex()),)
            yield Violation(Invariant.I2, name_of(rows), f"a late result: {detail}", evidence)


def _impossible(rows: RunEvidence, position: Position) -> str:
    """Why nothing can have been written there; empty: it can."""
    epoch, batch = position
    if epoch not in rows.epochs:
        return f"epoch {epoch} of its shard was never taken over"
    last = rows.epochs[epoch]
    if last is not None and batch > last:
        return f"batch {text_of(position)}, but epoch {epoch} had {last} batches only"
    return ""


def _ids(rows: RunEvidence) -> Iterator[Violation]:
    """I12: an id is that of one attempt."""
    seen: dict[bytes, AttemptEvidence] = {}
    for attempt in rows.attempts:
        if (other := seen.setdefault(attempt.attempt_id, attempt)) is not attempt:
            detail = f"attempt {attempt.attempt_id.hex()} is recorded twice"
            yield Violation(Invariant.I12, name_of(rows), detail, both(other, attempt))


def _ends(version: DagVersion, instances: Mapping[int, Instance]) -> dict[int, End]:
    """Final tasks with the position since which they are: by their own rows, else by the rule that
    a failed parent blocks. The earliest blocking parent decides.
    """
    ends: dict[int, End] = {}
    edges, tasks = version.edges, version.tasks
    for task in edges.order:
        instance = instances.get(task)
        own = instance.end() if instance is not None else None
        if own is not None:
            ends[task] = own
        if task not in ends or ends[task][0] not in _BLOCKING:
            continue
        since = ends[task][1]
        for child in edges.children[edges.starts[task] : edges.starts[task + 1]]:
            if tasks[child].rule is not TriggerRule.ALL_SUCCESS or _has_own(instances.get(child)):
                continue
            known = ends.get(child)
            if known is None or since < known[1]:
                ends[child] = (TaskState.UPSTREAM_FAILED, since)
    return ends


def _has_own(instance: Instance | None) -> bool:
    return instance is not None and bool(instance.attempts or instance.waits)


def _starts(rows: RunEvidence, version: DagVersion, ends: Mapping[int, End]) -> Iterator[Violation]:
    """I6: at every assignment the parents were final, and the trigger rule held."""
    first: dict[int, AttemptEvidence] = {}
    for attempt in rows.attempts:
        known = first.setdefault(attempt.task, attempt)
        if attempt.assigned < known.assigned:
            first[attempt.task] = attempt
    edges, tasks = version.edges, version.tasks
    for parent in range(len(tasks)):
        for child in edges.children[edges.starts[parent] : edges.starts[parent + 1]]:
            attempt_of_child = first.get(child)
            if attempt_of_child is None:
                continue
            reason = _too_early(tasks[child].rule, ends.get(parent), attempt_of_child.assigned)
            if reason:
                subject = f"{name_of(rows)}/{tasks[child].task}"
                detail = f"it was assigned though its parent {tasks[parent].task!r} {reason}"
                yield Violation(Invariant.I6, subject, detail, describe(attempt_of_child))


def _too_early(rule: TriggerRule, parent: End | None, assigned: Position) -> str:
    """What the parent lacked at the assignment of its child; empty: nothing."""
    if parent is None:
        return "is not final"
    state, since = parent
    fits = state is TaskState.SUCCEEDED or (rule is TriggerRule.ALL_DONE and state in _BLOCKING)
    if not fits:
        return f"is {state.name}"
    if since > assigned:
        return f"ended later, in batch {text_of(since)}"
    return ""


def _head(rows: RunEvidence) -> Iterator[Violation]:
    """I11: the run's own row, and what may be beside it."""
    run, state = rows.run, RunState(rows.run.state)
    wrong = []
    if state in _ADMITTED and run.started_us is None:
        wrong.append("it was never admitted")
    if state is RunState.QUEUED and run.started_us is not None:
        wrong.append("it was admitted before")
    if run.started_us is None and rows.attempts:
        wrong.append(f"it has {len(rows.attempts)} attempts and was never admitted")
    open_waits = [wait for wait in rows.waits if wait.kind != WaitKind.MARK]
    if open_waits and state is not RunState.RUNNING:
        wrong.append(f"{len(open_waits)} of its tasks wait")
    if (rows.states is not None) != state.final:
        wrong.append("it is sealed" if rows.states is not None else "it is not sealed")
    facts: tuple[tuple[str, Fact], ...] = (("state", state.name),)
    for detail in wrong:
        sentence = f"the run is {state.name}, but {detail}"
        yield Violation(Invariant.I11, name_of(rows), sentence, facts)


def _instant(rows: RunEvidence) -> Iterator[Violation]:
    """I7: a run of a schedule is the one run of its instant."""
    run = rows.run
    if run.cause != RunCause.SCHEDULE:
        return
    facts: tuple[tuple[str, Fact], ...] = (
        ("schedule", run.schedule),
        ("logical_us", run.logical_us),
    )
    if rows.instant is None:
        detail = "the ledger does not have its instant"
    elif rows.instant != (InstantOutcome.RUN, run.run_id):
        outcome, other = rows.instant
        by = f" (run {uuid_text(other)})" if other else ""
        detail = f"its instant ended as {InstantOutcome(outcome).name}{by} in the ledger"
    else:
        return
    yield Violation(Invariant.I7, name_of(rows), detail, facts)


def _sealed(
    rows: RunEvidence, version: DagVersion, instances: Mapping[int, Instance]
) -> Iterator[Violation]:
    """I11 for tasks that have rows of their own, I15 for those that follow by rule."""
    state, states, subject = RunState(rows.run.state), rows.states, name_of(rows)
    if states is None or not state.final or rows.run.semantics_version != SEMANTICS_VERSION:
        return
    if len(states) != len(version.tasks):
        detail = f"{len(states)} states are sealed, its version has {len(version.tasks)} tasks"
        yield Violation(Invariant.I15, subject, detail)
        return
    recount = _recount(version, instances, state)
    for task, sealed in enumerate(states):
        if sealed == recount[task]:
            continue
        own = _has_own(instances.get(task))
        words = "its attempts" if own else "its parents"
        detail = (
            f"{_word(sealed)} is sealed, {words} say {TaskState(recount[task]).name}"
            f" (the run is {state.name})"
        )
        invariant = Invariant.I11 if own else Invariant.I15
        yield Violation(invariant, f"{subject}/{version.tasks[task].task}", detail)
    yield from _outcome(rows, recount)


def _word(state: int) -> str:
    return TaskState(state).name if state in set(TaskState) else f"state {state}"


def _recount(version: DagVersion, instances: Mapping[int, Instance], state: RunState) -> bytes:
    """The states of all tasks by the rows: own ends first, then the rule of the version."""
    own: dict[int, TaskState] = {}
    for task, instance in instances.items():
        ended = instance.end()
        if ended is not None:
            own[task] = ended[0]
        elif instance.attempts:
            own[task] = TaskState.CANCELLED if state in _STOPPED else TaskState.READY
    return bytes(derive(version, own, state))


def _outcome(rows: RunEvidence, recount: bytes) -> Iterator[Violation]:
    """I11: the run's own end follows from those of its tasks. One that ran into its timeout (it has
    a reason) failed whatever they did.
    """
    state = RunState(rows.run.state)
    good = all(each == TaskState.SUCCEEDED for each in recount)
    wrong = (state is RunState.SUCCEEDED and not good) or (
        state is RunState.FAILED and good and not rows.run.reason
    )
    if wrong:
        detail = f"the run is {state.name}, but {'all' if good else 'not all'} tasks succeeded"
        yield Violation(Invariant.I11, name_of(rows), detail)
