"""A real supervisor with real tasks: what it starts, what it ends, and what survives whom."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import psutil
import pytest

from agent.core.events import (
    ProcessExited,
    ProcessSpawned,
    SpawnFailed,
    SupervisorGone,
    SupervisorReady,
)
from agent.core.types import Containment, EndCause
from agent.runtime import link as link_module
from agent.runtime.link import SupervisorRefusedError
from agent.supervisor import proc, start
from agent.supervisor.protocol import FrameReader, frame
from tests.servers.until import until
from tests.system.links import (
    DEADLINE_S,
    ID,
    LONG_MS,
    OTHER_ID,
    THIRD_ID,
    Linked,
    Pipe,
    end,
    gone,
    kill,
    raw_connection,
)

KINDS = {"namespace": Containment.NAMESPACE, "process": Containment.PROCESS}


@pytest.fixture
async def work(tmp_path):
    yield tmp_path
    await end(tmp_path)


@pytest.fixture
async def agent(work):
    linked = Linked(work)
    await linked.ready()
    yield linked
    await linked.leave()


@pytest.fixture(params=["", "process"], ids=["best", "without a namespace"])
async def any_agent(work, request):
    """Of both kinds: what is best here, and what is possible everywhere."""
    linked = Linked(work, request.param)
    await linked.ready()
    yield linked
    await linked.leave()


@pytest.fixture
def pipe(tmp_path):
    made = Pipe(tmp_path / "pipe")
    yield made
    made.close()


async def returned(work, **kind) -> tuple[Linked, dict]:
    """An agent that came back, and what it was told."""
    linked = Linked(work, **kind)
    return linked, await linked.ready()


# What runs


async def test_an_attempt_runs_and_its_end_is_told_and_on_file(any_agent):
    any_agent.spawn(ID, "echo out; echo error >&2; exit 3")
    spawned = await any_agent.next(ProcessSpawned, ID)
    ended = await any_agent.next(ProcessExited, ID)
    assert (ended.exit_code, ended.signal, ended.cause) == (3, 0, EndCause.NONE)
    assert (ended.stdout_bytes, ended.stderr_bytes) == (4, 6)
    assert 0 < spawned.started_at_us <= ended.finished_at_us
    assert spawned.pid > 0
    assert spawned.start_ticks > 0
    lines = [json.loads(line) for line in any_agent.claim(ID).read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["claimed", "spawned", "ended"]
    any_agent.link.forget(ID)
    await until(lambda: not any_agent.claim(ID).exists())


async def test_a_signal_is_told_apart_from_an_exit_code(agent):
    agent.spawn(ID, "kill -9 $$")
    ended = await agent.next(ProcessExited, ID)
    assert (ended.exit_code, ended.signal) == (-1, signal.SIGKILL)


async def test_a_task_gets_default_signals_and_three_descriptors(any_agent):
    any_agent.spawn(ID, "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; cat")
    assert (await any_agent.next(ProcessExited, ID)).exit_code == 0
    _, blocked, _, ignored, descriptors = any_agent.output(ID).split()
    # 32 and 33 are the C library's own: nobody can set them.
    assert (int(blocked, 16), int(ignored, 16) & ~(3 << 31)) == (0, 0)
    assert int(descriptors) == 4, "the fourth is that of ls itself"


async def test_a_fresh_folder_is_empty_also_when_it_served_before(agent):
    for number in range(1, 4):
        of = number.to_bytes(16, "big")
        agent.spawn(of, "pwd; ls -A; test $(stat -c %a .) = 700 && touch left-$$")
        assert (await agent.next(ProcessExited, of)).exit_code == 0
        assert agent.output(of) == f"{agent.work}/attempts/{of.hex()}\n"
        agent.spawn((number + 10).to_bytes(16, "big"), "true")
    await until(
        lambda: all(p.name.startswith("spare") for p in (agent.work / "attempts").iterdir())
    )


async def test_a_folder_and_variables_of_the_task_itself(agent, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    program = own / "say"
    program.write_text("#!/bin/sh\necho $WHAT in $(pwd)\n")
    program.chmod(0o700)
    env = (("WHAT", "this"), ("PATH", f"{own}:/usr/bin:/bin"))
    agent.spawn_argv(ID, ("say",), env=env, cwd=str(own))
    assert (await agent.next(ProcessExited, ID)).exit_code == 0
    assert agent.output(ID) == f"this in {own}\n"
    assert own.exists()


@pytest.mark.parametrize(
    ("argv", "spec", "message"),
    [
        (("no-such-program",), {}, "cannot execute 'no-such-program': No such file"),
        (("/etc/passwd",), {}, "cannot execute '/etc/passwd': Permission denied"),
        (("true",), {"cwd": "/no/such"}, "cannot enter the working folder '/no/such': No such"),
        (("true", "x" * 200_000), {}, "cannot execute 'true': Argument list too long"),
        (("true", "\0"), {}, "cannot execute: embedded null byte"),
        (("true",), {"env": (("A=B", "x"),)}, "cannot execute: illegal environment variable name"),
    ],
)
async def test_a_spawn_that_fails_says_why(any_agent, argv, spec, message):
    any_agent.spawn_argv(ID, argv, **spec)
    failed = await any_agent.next(SpawnFailed, ID)
    assert failed.message.startswith(message)
    assert (failed.cause, failed.at_us > 0) == (EndCause.NONE, True)


async def test_output_that_cannot_be_written_is_no_start(agent):
    agent.log(ID).paths[1].mkdir()
    agent.spawn(ID, "true")
    message = (await agent.next(SpawnFailed, ID)).message
    assert message == f"cannot prepare '{agent.log(ID).paths[1]}': Is a directory"


async def test_a_burst_is_started_whole(agent):
    ids = [(100 + n).to_bytes(16, "big") for n in range(100)]
    for of in ids:
        agent.spawn_argv(of, ("true",))
    for of in ids:
        assert (await agent.next(ProcessExited, of)).exit_code == 0


# What ends


async def test_what_is_stopped_gets_a_signal_then_no_choice(agent, pipe):
    agent.spawn(ID, "sleep 600")
    stubborn = (
        f"exec 9>{pipe.path}; trap 'echo asked >&9' TERM; echo up >&9; while :; do sleep 1; done"
    )
    agent.spawn(OTHER_ID, stubborn)
    assert await pipe.word() == "up"
    agent.link.stop(ID, EndCause.CANCELLED, LONG_MS)
    gentle = await agent.next(ProcessExited, ID)
    assert (gentle.signal, gentle.cause) == (signal.SIGTERM, EndCause.CANCELLED)
    agent.link.stop(OTHER_ID, EndCause.CANCELLED, 3_000)
    assert await pipe.word() == "asked"
    forced = await agent.next(ProcessExited, OTHER_ID)
    assert (forced.signal, forced.cause) == (signal.SIGKILL, EndCause.CANCELLED)


async def test_a_timeout_ends_an_attempt(agent):
    agent.spawn(ID, "sleep 600", timeout_ms=100, grace_ms=LONG_MS)
    ended = await agent.next(ProcessExited, ID)
    assert (ended.signal, ended.cause) == (signal.SIGTERM, EndCause.TIMED_OUT)


async def test_a_timeout_without_grace_kills_the_group(agent, pipe):
    script = f"trap '' TERM; exec 9>{pipe.path}; sleep 600 & sleep 600"
    agent.spawn(ID, script, timeout_ms=200)
    ended = await agent.next(ProcessExited, ID)
    assert (ended.signal, ended.cause) == (signal.SIGKILL, EndCause.TIMED_OUT)
    await pipe.over()


async def test_what_an_attempt_leaves_behind_ends_with_it(any_agent, pipe):
    daemon = f"setsid sh -c 'exec 9>{pipe.path}; (sleep 600; true) & echo daemon >&9' &"
    any_agent.spawn(ID, f"{daemon} read word < /dev/null; sleep 600 & wait $!")
    assert await pipe.word() == "daemon"
    any_agent.link.stop(ID, EndCause.CANCELLED, 0)
    await any_agent.next(ProcessExited, ID)
    await pipe.over()


async def test_a_daemon_without_a_trace_ends_with_the_last_attempt(any_agent, pipe):
    hidden = f"exec 9>{pipe.path}; echo daemon >&9; exec sleep 600"
    any_agent.spawn(ID, f"(env -i setsid sh -c '{hidden}' &) ; sleep 600")
    assert await pipe.word() == "daemon"
    any_agent.link.stop(ID, EndCause.CANCELLED, 0)
    await pipe.over()


async def test_a_daemon_of_one_attempt_leaves_another_alone(agent, pipe):
    agent.spawn(OTHER_ID, "sleep 600")
    agent.spawn(ID, f"exec 9>{pipe.path}; (setsid sleep 600 &) ; true")
    await agent.next(ProcessExited, ID)
    await pipe.over()
    assert agent.seen(ProcessExited) == []
    agent.link.stop(OTHER_ID, EndCause.CANCELLED, 0)
    assert (await agent.next(ProcessExited, OTHER_ID)).cause == EndCause.CANCELLED


# Leases


async def test_supervisor_told_nothing_for_3_x_lease_kills_without_an_agent(agent, pipe):
    agent.spawn(ID, f"trap '' TERM; exec 9>{pipe.path}; echo up >&9; sleep 600", lease_ms=400)
    assert await pipe.word() == "up"
    await agent.leave()
    await pipe.over()
    again, told = await returned(agent.work)
    ended = told[ID].ended or await again.next(ProcessExited, ID)
    assert (ended.cause, ended.signal) == (EndCause.LEASE, signal.SIGKILL)
    await again.leave()


async def test_an_extension_moves_only_the_attempts_of_its_shard(agent):
    agent.spawn(ID, "sleep 600", lease_ms=600, shard=1)
    agent.spawn(OTHER_ID, "sleep 600", lease_ms=600, shard=2)
    agent.link.extend(1, proc.boottime_ms() + LONG_MS)
    agent.link.extend(1, proc.boottime_ms())
    ended = await agent.next(ProcessExited)
    assert (ended.attempt_id, ended.cause) == (OTHER_ID, EndCause.LEASE)
    agent.link.stop(ID, EndCause.CANCELLED, 0)
    assert (await agent.next(ProcessExited, ID)).cause == EndCause.CANCELLED


async def test_a_task_may_run_on_for_its_overtime(agent):
    agent.spawn(ID, "sleep 600", lease_ms=200, overtime_ms=LONG_MS)
    agent.spawn(OTHER_ID, "sleep 600", lease_ms=400)
    assert (await agent.next(ProcessExited)).attempt_id == OTHER_ID
    agent.spawn(THIRD_ID, "true")
    assert (await agent.next(ProcessExited)).attempt_id == THIRD_ID


async def test_what_is_over_before_it_began_is_not_started(agent, tmp_path):
    ledger = tmp_path / "ledger"
    agent.spawn(ID, f"echo started >> {ledger}", lease_ms=0)
    failed = await agent.next(SpawnFailed, ID)
    assert failed.cause == EndCause.LEASE
    assert not agent.claim(ID).exists()
    assert not ledger.exists()


# Who survives whom


async def test_an_attempt_outlives_its_agent_and_is_found_under_the_same_pid(any_agent, pipe):
    gate = any_agent.work / "gate"
    os.mkfifo(gate)
    any_agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; cat {gate}; exit 7")
    spawned = await any_agent.next(ProcessSpawned, ID)
    assert await pipe.word() == "up"
    await any_agent.leave()
    again, told = await returned(any_agent.work)
    assert told[ID].spawned == spawned
    assert told[ID].ended is None
    await asyncio.to_thread(gate.write_text, "")
    assert (await again.next(ProcessExited, ID)).exit_code == 7
    await again.leave()


async def test_an_end_that_no_agent_saw_is_found(agent, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    agent.spawn(ID, f"cat {gate}; exit 5")
    spawned = await agent.next(ProcessSpawned, ID)
    await agent.leave()
    await asyncio.to_thread(gate.write_text, "go\n")
    await until(lambda: '"ended"' in agent.claim(ID).read_text())
    again, told = await returned(agent.work)
    assert (told[ID].spawned, told[ID].ended.exit_code) == (spawned, 5)
    await again.leave()


async def test_supervisor_killed_takes_every_process_along(any_agent, pipe):
    grandchild = "(sleep 600; true) & setsid sh -c '(sleep 600; true) & sleep 600' &"
    any_agent.spawn(ID, f"exec 9>{pipe.path}; {grandchild} echo up >&9; sleep 600")
    assert await pipe.word() == "up"
    first = any_agent.supervisor()
    await kill(first)
    await any_agent.next(SupervisorGone)
    told = await any_agent.ready()
    async with asyncio.timeout(1):
        await pipe.over()
    assert any_agent.supervisor() != first
    assert (told[ID].claimed.claimed_at_us > 0, told[ID].spawned, told[ID].ended) == (
        True,
        None,
        None,
    )


async def test_agent_and_supervisor_killed_leave_what_is_on_file(agent):
    agent.spawn(ID, "exit 4")
    agent.spawn(OTHER_ID, "sleep 600")
    agent.spawn_argv(THIRD_ID, ("no-such-program",))
    spawned = await agent.next(ProcessSpawned, ID)
    ended = await agent.next(ProcessExited, ID)
    failed = await agent.next(SpawnFailed, THIRD_ID)
    await agent.leave()
    await kill(agent.supervisor())
    again, told = await returned(agent.work)
    assert (told[ID].spawned, told[ID].ended) == (spawned, ended)
    assert (told[OTHER_ID].spawned, told[OTHER_ID].failed) == (None, None)
    assert told[THIRD_ID].failed == failed
    assert not (agent.work / "attempts" / OTHER_ID.hex()).exists()
    await again.leave()


async def test_a_claimed_attempt_is_never_spawned_again(agent, tmp_path):
    ledger = tmp_path / "ledger"
    script = f"echo started >> {ledger}; sleep 600"
    agent.spawn(ID, script)
    spawned = await agent.next(ProcessSpawned, ID)
    agent.spawn(ID, script)
    assert await agent.next(ProcessSpawned, ID) == spawned
    await until(ledger.exists)
    await kill(agent.supervisor())
    assert list(await agent.ready()) == [ID]
    agent.spawn(ID, script)
    assert (await agent.next(SpawnFailed, ID)).cause == EndCause.LEASE
    agent.claim(OTHER_ID).write_text("")
    agent.spawn(OTHER_ID, script)
    assert "File exists" in (await agent.next(SpawnFailed, OTHER_ID)).message
    assert ledger.read_text() == "started\n"


async def test_a_line_that_was_cut_counts_as_not_written(agent):
    agent.spawn(ID, "exit 4")
    await agent.next(ProcessExited, ID)
    await kill(agent.supervisor())
    await agent.next(SupervisorGone)
    await agent.ready()
    text = agent.claim(ID).read_bytes()
    await kill(agent.supervisor())
    agent.claim(ID).write_bytes(text[:-5])
    told = await agent.ready()
    assert (told[ID].claimed.claimed_at_us > 0, told[ID].ended) == (True, None)


async def test_without_agent_and_attempts_it_ends_by_itself(work):
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "agent.supervisor", "--idle-ms", "200"),
        str(work / "supervisor"),
    )
    assert await started.wait() == 0
    linked, _ = await returned(work)
    pid = linked.supervisor()
    await linked.leave()
    await gone(pid)


async def test_asked_to_end_it_takes_everything_along(any_agent, pipe):
    any_agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; trap '' TERM; setsid sleep 600")
    assert await pipe.word() == "up"
    pid = any_agent.supervisor()
    await any_agent.link.end()
    await gone(pid)
    await pipe.over()
    assert any_agent.seen(SupervisorGone) == []
    assert '"ended"' in any_agent.claim(ID).read_text()


async def test_the_command_line_ends_one(agent, pipe):
    agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; sleep 600")
    assert await pipe.word() == "up"
    await agent.leave()
    command = (sys.executable, "-P", "-m", "agent.supervisor", "--end", str(agent.folder))
    ending = await asyncio.create_subprocess_exec(*command)
    assert await ending.wait() == 0
    await gone(agent.supervisor())
    await pipe.over()


async def test_one_that_hangs_is_ended_all_the_same(agent, pipe):
    agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; sleep 600")
    assert await pipe.word() == "up"
    await agent.leave()
    os.kill(agent.supervisor(), signal.SIGSTOP)
    assert await asyncio.to_thread(start.end, str(agent.folder), 0.3)
    await gone(agent.supervisor())
    await pipe.over()


async def test_what_was_orphaned_is_reaped(any_agent):
    any_agent.spawn(ID, "(sleep 0.01 &); (setsid sh -c 'true' &); sleep 0.1; (true &); true")
    assert (await any_agent.next(ProcessExited, ID)).exit_code == 0
    supervisor = psutil.Process(any_agent.supervisor())
    await until(lambda: not supervisor.children())


# The link


async def test_one_that_does_not_say_hello_is_killed_and_replaced(agent, pipe, monkeypatch):
    agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; sleep 600")
    assert await pipe.word() == "up"
    await agent.leave()
    first = agent.supervisor()
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(link_module, "HELLO_S", 0.3)
    again, told = await returned(agent.work)
    assert list(told) == [ID]
    assert again.supervisor() != first
    await pipe.over()
    await again.leave()


async def test_one_that_stands_still_is_killed_with_its_tasks_and_replaced(
    agent, pipe, monkeypatch
):
    monkeypatch.setattr(link_module, "LOOK_S", 0.05)
    agent.spawn(ID, f"exec 9>{pipe.path}; echo up >&9; sleep 600")
    assert await pipe.word() == "up"
    first = agent.supervisor()
    os.kill(first, signal.SIGSTOP)
    gone = await agent.next(SupervisorGone)
    assert "does not answer" in gone.reason
    assert list(await agent.ready()) == [ID]
    assert agent.supervisor() != first
    await pipe.over()


async def test_one_that_answers_is_left_alone(agent, monkeypatch):
    monkeypatch.setattr(link_module, "LOOK_S", 0.002)
    agent.spawn(ID, "sleep 0.2")
    assert (await agent.next(ProcessExited, ID)).exit_code == 0
    assert agent.seen(SupervisorGone) == []


async def test_the_newest_connection_wins(agent):
    second, _ = await returned(agent.work)
    await agent.next(SupervisorGone)
    agent.running.cancel()
    second.spawn(ID, "true")
    assert (await second.next(ProcessExited, ID)).exit_code == 0
    await second.leave()


async def test_only_one_lives_in_a_folder(agent):
    command = (sys.executable, "-P", "-m", "agent.supervisor", str(agent.folder))
    second = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await second.communicate()
    assert (second.returncode, b"another supervisor lives" in said) == (4, True)


async def answer_to(agent, said: bytes) -> list:
    """What is answered to some bytes until the connection is closed."""
    reader, writer = await raw_connection(agent.folder)
    writer.write(said)
    async with asyncio.timeout(DEADLINE_S):
        heard = FrameReader().feed(await reader.read())
    writer.close()
    return heard


async def test_another_protocol_is_refused_with_both_versions(agent):
    (answer,) = await answer_to(agent, frame("hello", {"version": 7}))
    text = "the supervisor speaks protocol 1, not protocol 7"
    assert answer == ("refused", {"version": 1, "message": text})
    (answer,) = await answer_to(agent, frame("spawn", {"id": "00"}))
    assert answer[1]["message"].endswith("not 'spawn' before hello")
    agent.spawn(ID, "true")
    assert (await agent.next(ProcessExited, ID)).exit_code == 0


async def test_an_agent_of_another_protocol_ends_with_the_reason(agent, monkeypatch):
    await agent.leave()
    monkeypatch.setattr(link_module, "PROTOCOL", 7)
    other = Linked(agent.work)
    with pytest.raises(SupervisorRefusedError, match="speaks protocol 1, not protocol 7"):
        async with asyncio.timeout(DEADLINE_S):
            await other.running


async def test_nonsense_costs_its_sender_the_connection_and_no_task(agent):
    agent.spawn(ID, "sleep 600")
    spawned = await agent.next(ProcessSpawned, ID)
    await agent.leave()
    hello = frame("hello", {"version": 1})
    for nonsense in (b"\xff" * 8, b"\0\0\0\2[]", frame("spawn", {}), frame("sing", {"id": 1})):
        heard = await answer_to(agent, hello + nonsense)
        assert heard[-1][0] == "refused"
    _, writer = await raw_connection(agent.folder)
    writer.write(hello + frame("stop", {})[:-3])
    await writer.drain()
    writer.close()
    again, told = await returned(agent.work)
    assert (told[ID].spawned, told[ID].ended) == (spawned, None)
    await again.leave()


async def test_what_is_asked_while_nobody_listens_is_dropped(work):
    linked = Linked(work)
    linked.spawn(ID, "true")
    assert await linked.ready() == {}
    linked.spawn(OTHER_ID, "true")
    await linked.next(ProcessExited, OTHER_ID)
    assert not linked.claim(ID).exists()
    await linked.leave()


async def test_the_kind_that_was_asked_for_is_what_is_told(work):
    linked = Linked(work, "process")
    await linked.ready()
    assert linked.containment is KINDS["process"]
    assert linked.seen(SupervisorReady) == []
    await linked.leave()
