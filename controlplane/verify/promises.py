"""Judges what was acknowledged: commands, keys of requests, versions, takeovers, live rows.

Each row is judged with the rows that it names. Does not know where rows come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import NamedTuple

from controlplane.codec.commands import parse_command
from controlplane.codec.dag import parse_spec
from controlplane.codec.errors import CodecError
from controlplane.core.effects import CommandOutcome, WaitKind
from controlplane.core.states import RunState
from controlplane.core.types import uuid_text
from controlplane.store.evidence_rows import (
    CommandEvidence,
    LiveEvidence,
    RequestEvidence,
    ShardEvidence,
    VersionEvidence,
    WaitPlace,
)
from controlplane.verify.findings import Fact, Invariant, Violation

_RUN_ID_BYTES = 16
_CANCELLED = (RunState.CANCELLING, RunState.CANCELLED)

Use = tuple[str, str, bytes]


class Named(NamedTuple):
    """What an applied command must have left behind: a run, a cancelled run, a version."""

    made: bytes | None = None
    cancelled: bytes | None = None
    applied: Use | None = None


def named_by(row: CommandEvidence) -> Named:
    """What a command names, if it was applied."""
    if row.outcome != CommandOutcome.APPLIED:
        return Named()
    try:
        command = parse_command(row.body)
    except CodecError:
        return Named(made=row.run_id)
    match command.WhichOneof("kind"):
        case "trigger_run":
            return Named(made=_run_id(command.trigger_run.run_id))
        case "cancel_run":
            return Named(cancelled=_run_id(command.cancel_run.run_id))
        case "apply_dag":
            apply = command.apply_dag
            return Named(applied=(row.tenant, apply.dag, apply.digest))
        case _:
            return Named()


def _run_id(raw: bytes) -> bytes | None:
    return raw if len(raw) == _RUN_ID_BYTES else None


def judge_command(
    row: CommandEvidence, runs: Mapping[bytes, tuple[str, int]], uses: set[Use]
) -> Iterator[Violation]:
    """I8 and I14: an applied command has had its effect, one that was set aside is told of."""
    named, subject = named_by(row), f"command {row.command}"
    facts: tuple[tuple[str, Fact], ...] = (("shard", row.shard), ("tenant", row.tenant))
    if named.made is not None and runs.get(named.made, ("", 0))[0] != row.tenant:
        detail = f"run {uuid_text(named.made)} was made, and does not exist"
        yield Violation(Invariant.I8, subject, detail, facts)
    if named.applied is not None and named.applied not in uses:
        _, dag, digest = named.applied
        detail = f"version {digest.hex()} of {dag!r} was applied, and is not among its versions"
        yield Violation(Invariant.I8, subject, detail, facts)
    if named.cancelled is not None:
        found = runs.get(named.cancelled)
        run = uuid_text(named.cancelled)
        if found is None:
            detail = f"run {run} was cancelled, and does not exist"
            yield Violation(Invariant.I8, subject, detail, facts)
        elif RunState(found[1]) not in _CANCELLED:
            detail = f"the cancellation of run {run} was acknowledged, it is"
            detail += f" {RunState(found[1]).name}"
            yield Violation(Invariant.I14, subject, detail, facts)
    if row.outcome == CommandOutcome.QUARANTINED and not row.quarantined:
        detail = "it was set aside, and is not among what was"
        yield Violation(Invariant.I8, subject, detail, facts)


def judge_request(row: RequestEvidence) -> Iterator[Violation]:
    """I8: the key of a request leads to its command, and both name the same run."""
    subject = f"request {row.tenant}/{row.key_hash.hex()[:16]}"
    facts: tuple[tuple[str, Fact], ...] = (("command", row.command),)
    if row.command_tenant is None:
        yield Violation(Invariant.I8, subject, "its command does not exist", facts)
    elif (row.command_tenant, row.command_run_id) != (row.tenant, row.run_id):
        yield Violation(Invariant.I8, subject, "its command names another run or tenant", facts)


def judge_version(row: VersionEvidence) -> Iterator[Violation]:
    """I8: a definition is what its digest says. I15: its tasks were counted right."""
    subject = f"{row.tenant}/{row.dag} version {row.digest.hex()[:16]}"
    if row.spec is None:
        yield Violation(Invariant.I8, subject, "its definition is not stored")
        return
    if sha256(row.spec).digest() != row.digest:
        yield Violation(Invariant.I8, subject, "its definition is not the one of its digest")
        return
    try:
        tasks = len(parse_spec(row.spec).tasks)
    except CodecError as error:
        yield Violation(Invariant.I8, subject, str(error))
        return
    counts = {row.task_count, row.dag_task_count} if row.current else {row.task_count}
    if counts != {tasks}:
        detail = f"it has {tasks} tasks, and {', '.join(map(str, sorted(counts)))} are counted"
        yield Violation(Invariant.I15, subject, detail)


def judge_shard(row: ShardEvidence) -> Iterator[Violation]:
    """I1: the shard is in the last epoch of its book, and each takeover was another's.

    A shard whose leader was deposed on purpose is ahead of its book until the next takeover: then
    it has no holder, and no batch.
    """
    facts: tuple[tuple[str, Fact], ...] = (
        ("epoch", row.epoch),
        ("batch", row.batch),
        ("node", row.node),
        ("last epoch in the book", row.last_epoch),
        ("takeovers", row.takeovers),
    )
    subject = f"shard {row.shard}"
    deposed = row.epoch > row.last_epoch and not row.holder and row.batch == 0
    if row.last_epoch != row.epoch and not deposed:
        detail = f"it is in epoch {row.epoch}, its last takeover was of epoch {row.last_epoch}"
        yield Violation(Invariant.I1, subject, detail, facts)
    elif row.takeovers and row.last_holder != row.holder and not deposed:
        detail = f"epoch {row.epoch} has two holders"
        yield Violation(Invariant.I1, subject, detail, facts)
    if row.holders != row.takeovers:
        detail = f"{row.takeovers} takeovers were made by {row.holders} holders"
        yield Violation(Invariant.I1, subject, detail, facts)


def judge_live(row: LiveEvidence) -> Iterator[Violation]:
    """I3 and I10: a live attempt is of a run of its own shard that is not over."""
    subject = f"shard {row.shard} run {row.run} task {row.task}"
    facts: tuple[tuple[str, Fact], ...] = (
        ("attempt", row.attempt_id.hex()),
        ("assigned", f"{row.epoch}:{row.batch}"),
    )
    if row.run_shard is None or row.run_state is None:
        yield Violation(Invariant.I8, subject, "a live attempt of a run that is not there", facts)
    elif row.run_shard != row.shard:
        detail = f"a live attempt outside the run's own shard {row.run_shard}"
        yield Violation(Invariant.I3, subject, detail, facts)
    elif RunState(row.run_state).final or row.run_state == RunState.QUEUED:
        detail = f"a live attempt of a run that is {RunState(row.run_state).name}"
        yield Violation(Invariant.I10, subject, detail, facts)


def judge_wait(row: WaitPlace) -> Iterator[Violation]:
    """I11: what waits is of a run of its own shard."""
    subject = f"shard {row.shard} run {row.run} task {row.task}"
    if row.run_shard != row.shard:
        detail = f"a wait ({WaitKind(row.kind).name}) outside the run's own shard {row.run_shard}"
        yield Violation(Invariant.I11, subject, detail)
