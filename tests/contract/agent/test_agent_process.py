"""A real agent against a scripted node: what it does, what it says, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.logkeys import chunk_key, log_prefix

from tests.contract.agent.scripted import (
    CORE,
    AgentProcess,
    ScriptedNode,
    Session,
    capacity,
)
from tests.servers.until import until

ID = b"attempt-00000001"
OTHER_ID = b"attempt-00000002"


def shell(script: str, **fields) -> pb.ExecSpec:
    return pb.ExecSpec(argv=["sh", "-c", script], request=CORE, **fields)


def log_file(agent: AgentProcess, attempt_id: bytes, stream: str, offset: int = 0) -> Path:
    return agent.objects / chunk_key(log_prefix("acme", "d", "r", "t", attempt_id), stream, offset)


def processes_of(attempt_id: bytes) -> list[int]:
    """The processes of an attempt, in whatever namespace; zombies have ended."""
    mark, found = attempt_id.hex(), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("MAINSPRING_ATTEMPT_ID") == mark:
                found.append(process.pid)
    return found


async def test_introduces_itself_and_is_granted_nothing_it_must_ask_for(
    node: ScriptedNode, agent: AgentProcess
):
    session = await node.session()
    hello = session.hello
    assert (hello.agent, hello.protocol_version) == ("a-1", 2)
    assert len(hello.incarnation) == 16
    assert hello.boot_id
    assert hello.capacity == capacity(4)
    assert dict(hello.labels) == {"zone": "z1"}
    session.welcome("n1", {0: 1, 3: 7})
    inventories = [await session.next("inventories"), await session.next("inventories")]
    assert [(i.shard, i.epoch) for i in inventories] == [(0, 1), (3, 7)]
    grant = await session.next("grant")
    assert (grant.number, grant.amount) == (1, capacity(4))
    beat = await session.next("heartbeat")
    assert beat.beat == 1
    assert beat.memory_used_bytes > 0


async def test_runs_an_attempt_from_assignment_to_acknowledgement(
    session: Session, agent: AgentProcess
):
    session.assign(ID, shell("echo out; echo err >&2"))
    assert (await session.next("accepted")).attempt_id == ID
    started = await session.next("started")
    result = await session.next("results")
    assert (result.outcome, result.exit_code) == (pb.OUTCOME_SUCCEEDED, 0)
    assert result.started_at_us == started.started_at_us <= result.finished_at_us
    assert (result.stdout_bytes, result.stderr_bytes) == (4, 4)
    session.acknowledge(ID)
    await until(log_file(agent, ID, "stdout").exists)
    await until(log_file(agent, ID, "stderr").exists)
    assert log_file(agent, ID, "stdout").read_bytes() == b"out\n"
    assert log_file(agent, ID, "stderr").read_bytes() == b"err\n"
    spool = agent.work / "spool"
    await until(lambda: not list(spool.iterdir()))


async def test_a_task_sees_a_scrubbed_environment_and_a_fresh_folder(
    session: Session, agent: AgentProcess
):
    spec = shell("env; echo cwd=$(pwd); touch left-behind", env={"OWN": "1"})
    session.assign(ID, spec, number=2, logical_time_us=1_500_000)
    await session.next("results", outcome=pb.OUTCOME_SUCCEEDED)
    await until(log_file(agent, ID, "stdout").exists)
    lines = log_file(agent, ID, "stdout").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    told = {k: v for k, v in seen.items() if k.startswith("MAINSPRING_")}
    assert told == {
        "MAINSPRING_ATTEMPT_ID": ID.hex(),
        "MAINSPRING_ATTEMPT_NUMBER": "2",
        "MAINSPRING_TENANT": "acme",
        "MAINSPRING_DAG": "d",
        "MAINSPRING_RUN": "r",
        "MAINSPRING_TASK": "t",
        "MAINSPRING_LOGICAL_TIME": "1970-01-01T00:00:01.500000Z",
    }
    assert (seen["OWN"], seen["PASSED"]) == ("1", "on")
    assert "SECRET_OF_THE_AGENT" not in seen
    assert seen["cwd"].endswith(ID.hex())
    await until(lambda: not Path(seen["cwd"]).exists())


async def test_an_assignment_seen_again_is_answered_and_not_started_again(
    session: Session, tmp_path: Path
):
    ledger = tmp_path / "ledger"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    spec = shell(f"echo start >> {ledger}; cat {gate}")
    session.assign(ID, spec)
    await session.next("started")
    session.assign(ID, spec)
    await session.next("accepted")
    await session.next("started")
    await asyncio.to_thread(gate.write_text, "")
    await session.next("results")
    session.assign(ID, spec)
    await session.next("results")
    session.acknowledge(ID)
    session.assign(ID, spec)
    assert (await session.next("results")).outcome == pb.OUTCOME_SUCCEEDED
    assert ledger.read_text() == "start\n"


async def test_refuses_what_is_not_meant_for_it(session: Session):
    session.assign(ID, shell("true"), epoch=0)
    session.assign(ID, shell("true"), shard=5)
    session.assign(OTHER_ID, shell("true"), incarnation=b"other")
    rejected = await session.next("rejected")
    assert (rejected.attempt_id, rejected.reason) == (OTHER_ID, pb.REJECT_REASON_INCARNATION)
    spec = pb.ExecSpec(argv=["true"], request=capacity(5))
    session.assign(ID, spec)
    assert (await session.next("rejected")).reason == pb.REJECT_REASON_CAPACITY


async def test_an_old_leader_is_not_answered_when_a_newer_one_was_seen(
    node: ScriptedNode, other_node: ScriptedNode, session: Session
):
    session.welcome("n1", {0: 1}, peers=[node.address, other_node.address])
    newer = await other_node.session()
    newer.welcome("n2", {0: 2})
    assert (await newer.next("inventories")).epoch == 2
    session.assign(ID, shell("true"), epoch=1)
    session.send(log_tails=[pb.LogTail(tail=1, attempt_id=ID)])
    assert (await session.next("log_data")).eof
    assert session.seen("accepted") + session.seen("rejected") == []


async def test_cancel_ends_an_attempt(session: Session):
    session.assign(ID, shell("sleep 60", grace_ms=5000))
    await session.next("started")
    session.send(cancels=[pb.Cancel(shard=0, epoch=1, attempt_id=ID)])
    result = await session.next("results")
    assert (result.outcome, result.signal, result.exit_code) == (
        pb.OUTCOME_CANCELLED,
        signal.SIGTERM,
        -1,
    )


async def test_cancel_before_the_assignment_keeps_it_from_starting(session: Session):
    session.send(cancels=[pb.Cancel(shard=0, epoch=1, attempt_id=ID)])
    result = await session.next("results")
    assert (result.outcome, result.started_at_us) == (pb.OUTCOME_CANCELLED, 0)
    session.assign(ID, shell("true"))
    assert (await session.next("results")).outcome == pb.OUTCOME_CANCELLED


async def test_at_its_timeout_the_whole_group_is_killed(session: Session, tmp_path: Path):
    deaf = tmp_path / "deaf"
    grandchild = f"(trap '' TERM; touch {deaf}; sleep 60) &"
    stubborn = f"trap '' TERM; {grandchild} wait; sleep 60"
    session.assign(ID, shell(stubborn, timeout_ms=1_000, grace_ms=200))
    await until(deaf.exists)
    assert len(processes_of(ID)) >= 2
    result = await session.next("results")
    assert (result.outcome, result.signal) == (pb.OUTCOME_TIMED_OUT, signal.SIGKILL)
    assert result.message == "killed at its timeout of 1000 ms"
    await until(lambda: not processes_of(ID))


async def test_what_a_task_leaves_behind_ends_with_it(session: Session, tmp_path: Path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    session.assign(ID, shell(f"sleep 60 & setsid sleep 60 & cat {gate}"))
    await session.next("started")
    await until(lambda: len(processes_of(ID)) == 4)
    await asyncio.to_thread(gate.write_text, "")
    assert (await session.next("results")).outcome == pb.OUTCOME_SUCCEEDED
    await until(lambda: not processes_of(ID))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (pb.ExecSpec(argv=["no-such-program"]), "cannot execute 'no-such-program': No such file"),
        (pb.ExecSpec(argv=["/etc/passwd"]), "cannot execute '/etc/passwd': Permission denied"),
        (pb.ExecSpec(argv=["true"], cwd="/no/such"), "cannot enter the working folder '/no/such'"),
        (pb.ExecSpec(argv=["true", "x" * 200_000]), "cannot execute 'true': Argument list too"),
        (pb.ExecSpec(argv=["true", "\0"]), "cannot execute: embedded null byte"),
        (pb.ExecSpec(), "the specification of the task names no program"),
    ],
)
async def test_a_spawn_that_fails_is_a_result_that_says_why(
    session: Session, spec: pb.ExecSpec, message: str
):
    session.assign(ID, spec)
    result = await session.next("results")
    assert (result.outcome, result.exit_code, result.started_at_us) == (pb.OUTCOME_FAILED, -1, 0)
    assert result.message.startswith(message)


async def test_a_new_session_brings_unacknowledged_results_and_running_attempts(
    node: ScriptedNode, session: Session, tmp_path: Path
):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    session.assign(ID, shell("exit 3"))
    session.assign(OTHER_ID, shell(f"cat {gate}"))
    await session.next("results", attempt_id=ID)
    await session.next("started", attempt_id=OTHER_ID)
    session.end()
    again = await node.session()
    assert again.hello.incarnation == session.hello.incarnation
    assert again.hello.session > session.hello.session
    again.welcome("n1", {0: 1})
    inventory = await again.next("inventories")
    assert [live.attempt_id for live in inventory.live] == [OTHER_ID]
    assert [(r.attempt_id, r.exit_code) for r in inventory.finished] == [(ID, 3)]
    again.acknowledge(ID)
    await asyncio.to_thread(gate.write_text, "")
    assert (await again.next("results")).attempt_id == OTHER_ID


async def test_a_node_that_falls_silent_is_given_up(node: ScriptedNode, agent: AgentProcess):
    session = await node.session()
    session.welcome("n1", {0: 1}, heartbeat_ms=100)
    await session.next("heartbeat")
    async with asyncio.timeout(5):
        await session.ended.wait()
    assert (await node.session()).hello.session > session.hello.session


async def test_two_nodes_share_by_demand_and_recall(
    node: ScriptedNode, other_node: ScriptedNode, session: Session
):
    assert (await session.next("grant")).amount == capacity(4)
    session.welcome("n1", {0: 1}, peers=[node.address, other_node.address])
    second = await other_node.session()
    second.welcome("n2", {1: 1})
    assert (await second.next("grant")).amount == pb.Capacity()
    rank = pb.Rank(priority_class=1, oldest_ready_us=1)
    shape = pb.ShapeDemand(request=CORE, count=2, rank=rank)
    second.send(demand=pb.Demand(shapes=[shape], grant_number=1))
    recall = await session.next("recall")
    assert (recall.number, recall.amount) == (1, capacity(2))
    session.send(release=pb.Release(number=1, amount=capacity(2)))
    assert (await second.next("grant")).amount == capacity(2)
    second.assign(ID, shell("true"), shard=1)
    assert (await second.next("results")).outcome == pb.OUTCOME_SUCCEEDED


async def test_the_grant_of_a_dead_node_goes_to_the_one_that_adopts_its_attempts(
    node: ScriptedNode, other_node: ScriptedNode, session: Session
):
    await session.next("grant")
    session.welcome("n1", {0: 1}, peers=[node.address, other_node.address])
    second = await other_node.session()
    second.welcome("n2", {1: 1})
    session.assign(ID, shell("sleep 60"))
    await session.next("started")
    await second.next("grant", number=1)
    session.end()
    assert (await second.next("grant")).amount == capacity(3)
    second.welcome("n2", {0: 2, 1: 1})
    inventory = await second.next("inventories", shard=0)
    assert [live.attempt_id for live in inventory.live] == [ID]
    assert (await second.next("grant")).amount == capacity(4)
    second.send(cancels=[pb.Cancel(shard=0, epoch=2, attempt_id=ID)])
    assert (await second.next("results")).outcome == pb.OUTCOME_CANCELLED


async def test_a_log_is_read_live_to_its_end(session: Session, tmp_path: Path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    session.assign(ID, shell(f"echo one; cat {gate}; echo two; echo wrong >&2"))
    await session.next("started")
    session.send(log_tails=[pb.LogTail(tail=9, attempt_id=ID, stdout_offset=1)])
    piece = await session.next("log_data")
    assert (piece.tail, piece.offset, piece.data, piece.is_stderr) == (9, 1, b"ne\n", False)
    await asyncio.to_thread(gate.write_text, "")
    last = await session.next("log_data", eof=True)
    assert last.tail == 9
    assert [(d.is_stderr, d.offset, d.data) for d in session.seen("log_data")] == [
        (False, 4, b"two\n"),
        (True, 0, b"wrong\n"),
    ]


async def test_a_log_that_the_agent_does_not_hold_ends_at_once(session: Session):
    session.send(log_tails=[pb.LogTail(tail=1, attempt_id=OTHER_ID)])
    piece = await session.next("log_data")
    assert (piece.tail, piece.eof, piece.data) == (1, True, b"")


async def test_a_large_output_is_uploaded_in_chunks_that_join(
    session: Session, agent: AgentProcess
):
    session.assign(ID, shell("head -c 3000000 /dev/zero"))
    result = await session.next("results")
    assert result.stdout_bytes == 3_000_000
    folder = log_file(agent, ID, "stdout").parent

    def complete() -> bool:
        return sum(chunk.stat().st_size for chunk in folder.glob("*")) == 3_000_000

    await until(complete)
    offset = 0
    for chunk in sorted(folder.iterdir()):
        assert int(chunk.name) == offset
        offset += chunk.stat().st_size


async def test_output_of_a_running_attempt_is_uploaded(session: Session, agent: AgentProcess):
    session.assign(ID, shell("echo early; sleep 60"))
    await session.next("started")
    await until(log_file(agent, ID, "stdout").exists)


async def test_a_stop_ends_what_runs_and_reports_it(
    session: Session, agent: AgentProcess, tmp_path: Path
):
    stubborn = tmp_path / "stubborn"
    script = f"trap '' TERM; touch {stubborn}; sleep 60"
    session.assign(ID, shell(script, grace_ms=60_000))
    await session.next("started")
    await until(stubborn.exists)
    agent.terminate()
    await session.next("grant", number=2, amount=pb.Capacity())
    session.assign(OTHER_ID, shell("true"))
    rejected = await session.next("rejected")
    assert (rejected.attempt_id, rejected.reason) == (OTHER_ID, pb.REJECT_REASON_STOPPING)
    result = await session.next("results", attempt_id=ID)
    assert (result.outcome, result.signal) == (pb.OUTCOME_LOST, signal.SIGKILL)
    assert result.message == "its agent was stopped"
    session.acknowledge(ID)
    assert await agent.exit_code(4) == 0


async def test_an_idle_agent_refuses_what_was_on_its_way_before_it_stops(
    session: Session, agent: AgentProcess
):
    agent.terminate()
    await session.next("grant", number=2, amount=pb.Capacity())
    session.assign(ID, shell("true"))
    assert (await session.next("rejected")).reason == pb.REJECT_REASON_STOPPING
    assert await agent.exit_code(2) == 0


async def test_a_refusal_ends_the_agent_with_the_reason(node: ScriptedNode, agent: AgentProcess):
    session = await node.session()
    refusal = pb.Refusal(reason=pb.REFUSAL_REASON_NAME_TAKEN, message="a-1 has a session")
    session.send(refusal=refusal)
    assert await agent.exit_code() == 3
    assert "a-1 has a session" in agent.errors.read_text()


async def test_a_wrong_token_ends_the_agent(node: ScriptedNode, tmp_path: Path):
    agent = AgentProcess(tmp_path, [node.address], token="some-other-secret")
    assert await agent.exit_code() == 3
    assert "unknown token" in agent.errors.read_text()
    assert "some-other-secret" not in agent.errors.read_text()


async def test_wrong_settings_are_all_named(tmp_path: Path):
    agent = AgentProcess(tmp_path, ["example.org:1"], "--capacity", "none", "--label", "x")
    assert await agent.exit_code() == 2
    lines = agent.errors.read_text().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["--nodes", "--capacity", "--label"]


async def test_an_agent_waits_for_its_nodes(node: ScriptedNode, tmp_path: Path):
    await node.stop()
    agent = AgentProcess(tmp_path, [node.address])
    await until(lambda: "session ended" in agent.errors.read_text())
    agent.terminate()
    assert await agent.exit_code(2) == 0
