"""What was acknowledged is held against the rows that it names."""

from __future__ import annotations

from hashlib import sha256

from mainspring.v1 import dag_pb2

from controlplane.codec import commands
from controlplane.codec.dag import canonical
from controlplane.core.effects import CommandOutcome
from controlplane.core.states import RunState
from controlplane.store.evidence_rows import CommandEvidence, ShardEvidence, VersionEvidence
from controlplane.verify.findings import Invariant
from controlplane.verify.promises import Named, judge_command, judge_shard, judge_version, named_by

RUN = b"r" * 16
DIGEST = b"d" * 32
APPLIED = CommandOutcome.APPLIED


def command(body: bytes, outcome: int | None = APPLIED, **more) -> CommandEvidence:
    made = CommandEvidence(7, 0, "acme", outcome, None, body, quarantined=False)
    return made._replace(**more)


TRIGGER = command(commands.trigger_run("etl", RUN, 1))
CANCEL = command(commands.cancel_run("etl", RUN, "enough"))
APPLY = command(commands.apply_dag("etl", DIGEST, ""))


def judged(row: CommandEvidence, runs=None, uses=frozenset()) -> list[str]:
    return [each.invariant.name for each in judge_command(row, runs or {}, set(uses))]


def test_a_command_names_what_it_must_have_left_behind():
    assert named_by(TRIGGER) == Named(made=RUN)
    assert named_by(CANCEL) == Named(cancelled=RUN)
    assert named_by(APPLY) == Named(applied=("acme", "etl", DIGEST))
    assert named_by(command(commands.pause_dag("etl", "", paused=True))) == Named()
    assert named_by(TRIGGER._replace(outcome=CommandOutcome.REFUSED)) == Named()
    assert named_by(TRIGGER._replace(outcome=None)) == Named()
    assert named_by(command(b"\xff", run_id=RUN)) == Named(made=RUN)


def test_its_effects_exist():
    running = {RUN: ("acme", RunState.RUNNING)}
    assert judged(TRIGGER, running) == []
    assert judged(TRIGGER) == ["I8"]
    assert judged(TRIGGER, {RUN: ("other", RunState.RUNNING)}) == ["I8"]
    assert judged(APPLY, uses={("acme", "etl", DIGEST)}) == []
    assert judged(APPLY, uses={("acme", "etl", RUN)}) == ["I8"]


def test_a_cancelled_run_is_cancelled():
    for state in RunState:
        expected = [] if state in (RunState.CANCELLING, RunState.CANCELLED) else ["I14"]
        assert judged(CANCEL, {RUN: ("acme", state)}) == expected
    assert judged(CANCEL) == ["I8"]


def test_what_was_set_aside_is_told_of():
    aside = command(b"", CommandOutcome.QUARANTINED)
    assert judged(aside) == ["I8"]
    assert judged(aside._replace(quarantined=True)) == []


def shard(**more) -> ShardEvidence:
    made = ShardEvidence(0, 3, 9, b"c", "node-1", 3, 3, 3, b"c")
    return made._replace(**more)


def test_a_shard_is_in_the_last_epoch_of_its_book():
    assert list(judge_shard(shard())) == []
    never = shard(epoch=0, batch=0, holder=b"", takeovers=0, holders=0, last_epoch=0)
    assert list(judge_shard(never._replace(last_holder=b""))) == []
    for wrong in ({"epoch": 2}, {"epoch": 4}, {"last_holder": b"x"}, {"holders": 2}):
        assert [each.invariant for each in judge_shard(shard(**wrong))] == [Invariant.I1]


def test_a_shard_whose_leader_was_deposed_on_purpose_is_ahead_of_its_book():
    assert list(judge_shard(shard(epoch=1_003, batch=0, holder=b""))) == []
    assert list(judge_shard(shard(epoch=1_003, batch=1, holder=b""))) != []


def test_a_definition_is_that_of_its_digest_and_counted():
    task = dag_pb2.TaskSpec(task="a", process=dag_pb2.ProcessSpec(argv=["true"]))
    stored, digest = canonical(dag_pb2.DagSpec(dag="etl", tasks=[task]))
    good = VersionEvidence("acme", "etl", digest, 1, stored, current=True, dag_task_count=1)
    assert list(judge_version(good)) == []
    assert list(judge_version(good._replace(current=False, dag_task_count=5))) == []
    for wrong, invariant in (
        (good._replace(spec=None), Invariant.I8),
        (good._replace(digest=sha256(b"").digest()), Invariant.I8),
        (good._replace(spec=b"\xff", digest=sha256(b"\xff").digest()), Invariant.I8),
        (good._replace(task_count=2), Invariant.I15),
        (good._replace(dag_task_count=2), Invariant.I15),
    ):
        assert [each.invariant for each in judge_version(wrong)] == [invariant]
