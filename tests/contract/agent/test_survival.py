"""A real agent that dies, in every way that it can, and the one that is started after it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mainspring.agent.v1 import session_pb2 as pb
from mainspring.logkeys import log_prefix

from tests.contract.agent.scripted import CORE, ROOT, AgentProcess, ScriptedNode, Session
from tests.servers.until import until

ID = b"attempt-00000001"
OTHER_ID = b"attempt-00000002"


def shell(script: str, **fields) -> pb.ExecSpec:
    return pb.ExecSpec(argv=["sh", "-c", script], request=CORE, **fields)


def make_gate(tmp_path: Path) -> Path:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    return gate


async def open_gate(gate: Path) -> None:
    await asyncio.to_thread(gate.write_text, "")


async def next_session(node: ScriptedNode) -> tuple[Session, pb.Inventory]:
    session = await node.session()
    session.welcome("n1", {0: 1})
    return session, await session.next("inventories")


def show(work: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "agent.main", "journal", "show", str(work), *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )


def end_by_kill(agent: AgentProcess) -> None:
    agent.die()


def hand_over(agent: AgentProcess) -> None:
    agent.process.send_signal(signal.SIGUSR2)
    assert agent.process.wait(10) == 0


@pytest.mark.parametrize("end", [end_by_kill, hand_over])
async def test_a_running_attempt_is_adopted_and_the_same_process_finishes(
    node: ScriptedNode, agent: AgentProcess, session: Session, tmp_path: Path, end
):
    gate, pids = make_gate(tmp_path), tmp_path / "pids"
    script = f"echo before; echo $$ >> {pids}; cat {gate}; echo $$ >> {pids}; echo after"
    session.assign(ID, shell(script))
    started = await session.next("started")
    await until(pids.exists)
    await asyncio.to_thread(end, agent)
    agent.start()
    again, inventory = await next_session(node)
    assert again.hello.incarnation == session.hello.incarnation
    assert again.hello.session >= session.hello.session + 100_000
    assert [(m.shard, m.epoch) for m in again.hello.memories] == [(0, 1)]
    assert [(a.attempt_id, a.started_at_us) for a in inventory.live] == [
        (ID, started.started_at_us)
    ]
    await open_gate(gate)
    result = await again.next("results")
    assert (result.outcome, result.started_at_us) == (pb.OUTCOME_SUCCEEDED, started.started_at_us)
    first, last = pids.read_text().split()
    assert first == last
    folder = agent.objects / log_prefix("acme", "d", "r", "t", ID) / "stdout"

    def uploaded() -> bytes:
        return b"".join(chunk.read_bytes() for chunk in sorted(folder.glob("*")))

    await until(lambda: uploaded() == b"before\nafter\n")
    again.acknowledge(ID)
    await until(lambda: not list((agent.work / "spool").iterdir()))


async def test_an_end_while_the_agent_was_dead_is_told_by_the_next(
    node: ScriptedNode, agent: AgentProcess, session: Session, tmp_path: Path
):
    gate, done = make_gate(tmp_path), tmp_path / "done"
    session.assign(ID, shell(f"cat {gate}; touch {done}; exit 7"))
    await session.next("started")
    agent.die()
    await open_gate(gate)
    await until(done.exists)
    agent.start()
    again = await node.session()
    again.welcome("n1", {0: 1})
    inventory = await again.next("inventories")
    results = list(inventory.finished) or [await again.next("results")]
    assert [(r.attempt_id, r.outcome, r.exit_code) for r in results] == [(ID, pb.OUTCOME_FAILED, 7)]


async def test_a_result_is_told_until_it_is_acknowledged_over_all_starts(
    node: ScriptedNode, agent: AgentProcess, session: Session
):
    session.assign(ID, shell("echo out"))
    result = await session.next("results")
    for _ in range(2):
        agent.die()
        agent.start()
        session, inventory = await next_session(node)
        assert list(inventory.finished) == [result]
    session.acknowledge(ID)
    await until(lambda: '"acked"' in show(agent.work, "--json").stdout)
    agent.die()
    agent.start()
    session, inventory = await next_session(node)
    assert not inventory.finished


async def test_an_assignment_that_an_earlier_start_took_over_is_not_started_again(
    node: ScriptedNode, agent: AgentProcess, session: Session, tmp_path: Path
):
    gate, starts = make_gate(tmp_path), tmp_path / "starts"
    spec = shell(f"echo one >> {starts}; cat {gate}")
    session.assign(ID, spec)
    await session.next("started")
    await until(starts.exists)
    agent.die()
    agent.start()
    again, _ = await next_session(node)
    again.assign(ID, spec)
    assert (await again.next("accepted")).attempt_id == ID
    await open_gate(gate)
    assert (await again.next("results")).outcome == pb.OUTCOME_SUCCEEDED
    assert starts.read_text() == "one\n"


async def test_a_lost_journal_is_another_incarnation_and_nothing_runs_on(
    node: ScriptedNode, agent: AgentProcess, session: Session
):
    session.assign(ID, shell("sleep 60"))
    await session.next("started")
    agent.die()
    (agent.work / "journal").unlink()
    agent.start()
    again, inventory = await next_session(node)
    assert again.hello.incarnation != session.hello.incarnation
    assert not inventory.live
    claims = agent.work / "supervisor" / "attempts"
    await until(lambda: not list(claims.iterdir()))


async def test_a_journal_that_was_cut_is_gone_on_with(
    node: ScriptedNode, agent: AgentProcess, session: Session
):
    session.assign(ID, shell("sleep 60"))
    await session.next("started")
    agent.die()
    journal = agent.work / "journal"
    with journal.open("ab") as file:
        file.write(b"\x40\x00\x00\x00half a record")
    size = journal.stat().st_size
    lines = [json.loads(line) for line in show(agent.work, "--json").stdout.splitlines()]
    assert lines[-1] == {"offset": size - 17, "kind": "cut", "bytes": 17}
    agent.start()
    again, inventory = await next_session(node)
    assert again.hello.incarnation == session.hello.incarnation
    assert [live.attempt_id for live in inventory.live] == [ID]
    assert "cut off" in agent.errors.read_text()


async def test_an_agent_whose_journal_is_deleted_ends_and_its_tasks_go_on(
    agent: AgentProcess, session: Session, tmp_path: Path
):
    gate, done = make_gate(tmp_path), tmp_path / "done"
    session.assign(ID, shell(f"cat {gate}; touch {done}"))
    await session.next("started")
    (agent.work / "journal").unlink()
    session.assign(OTHER_ID, shell("true"))
    assert await agent.exit_code() == 70
    assert session.seen("accepted") == [pb.Accepted(shard=0, attempt_id=ID)]
    text = agent.errors.read_text()
    assert "the journal was deleted under the living agent" in text
    assert "its tasks run on until their attempt leases end" in text
    await open_gate(gate)
    await until(done.exists)


async def test_a_second_agent_of_a_folder_ends_at_once(
    node: ScriptedNode, agent: AgentProcess, session: Session, tmp_path: Path
):
    second = AgentProcess(tmp_path, [node.address])
    assert await second.exit_code() == 2
    expected = f"another agent works in {agent.work}: process {agent.process.pid}"
    assert expected in agent.errors.read_text()
    assert agent.process.poll() is None


async def test_an_assignment_that_comes_after_its_lease_is_refused(
    node: ScriptedNode, agent: AgentProcess
):
    session = await node.session()
    session.welcome("n1", {0: 1}, attempt_lease_ms=1)
    await session.next("inventories")
    session.assign(ID, shell("true"))
    assert (await session.next("rejected")).reason == pb.REJECT_REASON_LEASE


async def test_an_attempt_is_killed_at_the_end_of_its_lease(
    node: ScriptedNode, agent: AgentProcess
):
    session = await node.session()
    session.welcome("n1", {0: 1}, attempt_lease_ms=2_000)
    await session.next("inventories")
    session.assign(ID, shell("sleep 60"))
    session.assign(OTHER_ID, shell("sleep 60", overtime_ms=60_000))
    result = await session.next("results")
    assert (result.attempt_id, result.outcome) == (ID, pb.OUTCOME_LOST)
    assert result.message == "killed at the end of its attempt lease"
    assert not session.seen("results")


async def test_an_extended_lease_lets_an_attempt_run_on(
    node: ScriptedNode, agent: AgentProcess, tmp_path: Path
):
    gate = make_gate(tmp_path)
    session = await node.session()
    session.welcome("n1", {0: 1, 1: 1}, attempt_lease_ms=2_000, heartbeat_ms=300)
    await session.next("inventories", shard=0)
    session.assign(ID, shell(f"cat {gate}"))
    session.assign(OTHER_ID, shell("sleep 60"), shard=1)
    for _ in range(12):
        beat = (await session.next("heartbeat")).beat
        session.send(
            heartbeat_ack=pb.HeartbeatAck(beat=beat),
            lease_extensions=[pb.LeaseExtension(shard=0, epoch=1, beat=beat)],
        )
    other = await session.next("results")
    assert (other.attempt_id, other.outcome) == (OTHER_ID, pb.OUTCOME_LOST)
    await open_gate(gate)
    mine = await session.next("results")
    assert (mine.attempt_id, mine.outcome) == (ID, pb.OUTCOME_SUCCEEDED)


async def test_the_journal_can_be_read_while_the_agent_works(agent: AgentProcess, session: Session):
    session.assign(ID, shell("true"))
    await session.next("results")
    session.acknowledge(ID)
    await until(lambda: " acked " in show(agent.work).stdout)
    shown = show(agent.work, "--json")
    kinds = [json.loads(line)["kind"] for line in shown.stdout.splitlines()]
    assert kinds == ["header", "start", "epoch", "accepted", "started", "finished", "acked"]
    named = await asyncio.to_thread(show, agent.work / "journal", "--json")
    assert named.stdout == shown.stdout
    nothing = await asyncio.to_thread(show, agent.work / "no")
    assert nothing.returncode == 1
    assert f"no journal to show at {agent.work}/no: No such file" in nothing.stderr


async def test_a_journal_that_cannot_be_written_ends_the_agent_before_it_tells(
    node: ScriptedNode, agent: AgentProcess, session: Session
):
    long = "#" * 20_000
    session.assign(ID, shell(f"sleep 60 {long}"))
    await session.next("started")
    size = (agent.work / "journal").stat().st_size + 20
    psutil.Process(agent.process.pid).rlimit(psutil.RLIMIT_FSIZE, (size, size))
    session.assign(OTHER_ID, shell("true"))
    assert await agent.exit_code() == 70
    assert [entry.attempt_id for entry in session.seen("accepted")] == [ID]
    assert "the journal cannot be written: File too large" in agent.errors.read_text()
    agent.start()
    again, inventory = await next_session(node)
    assert again.hello.incarnation == session.hello.incarnation
    assert [live.attempt_id for live in inventory.live] == [ID]


async def test_a_killed_supervisor_takes_its_tasks_with_it_and_another_is_started(
    agent: AgentProcess, session: Session
):
    session.assign(ID, shell("setsid sleep 60 & sleep 60"))
    started = await session.next("started")
    supervisor = int((agent.work / "supervisor" / "pid").read_text().split()[0])
    os.kill(supervisor, signal.SIGKILL)
    result = await session.next("results")
    assert (result.outcome, result.started_at_us) == (pb.OUTCOME_LOST, started.started_at_us)
    session.assign(OTHER_ID, shell("true"))
    assert (await session.next("results")).outcome == pb.OUTCOME_SUCCEEDED


async def test_agent_and_supervisor_killed_lose_the_attempt_and_say_so(
    node: ScriptedNode, agent: AgentProcess, session: Session
):
    session.assign(ID, shell("sleep 60"))
    await session.next("started")
    await asyncio.to_thread(agent.kill)
    agent.start()
    _, inventory = await next_session(node)
    assert not inventory.live
    assert [(r.attempt_id, r.outcome) for r in inventory.finished] == [(ID, pb.OUTCOME_LOST)]
