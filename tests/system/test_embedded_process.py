"""Real child processes: their end is noticed, their group goes with them, nobody is left."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.embedded import process
from controlplane.embedded.errors import (
    NotStoppedError,
    ProgramMissingError,
    ServerStartError,
    StillRunningError,
)
from controlplane.embedded.process import (
    ChildProcess,
    Command,
    ask,
    kill_all_in,
    log_tail,
    processes_in,
    run_to_end,
    wait_until_left,
)
from tests.servers.until import until

DEADLINE_S = 10.0


def command(tmp_path: Path, *argv: str, **more) -> Command:
    return Command(
        name="child",
        argv=argv,
        env={"PATH": os.environ["PATH"], "ONLY": "this"},
        cwd=tmp_path,
        log_file=tmp_path / "child.log",
        **more,
    )


def sh(tmp_path: Path, script: str) -> Command:
    return command(tmp_path, "sh", "-c", script)


async def said(path: Path, word: str) -> str:
    """The text of a file once `word` is in it."""
    await until(lambda: word in log_tail(path))
    return log_tail(path)


async def ended(pid: int) -> None:
    """Return when the process `pid`, which need not be our child, has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, gone.set)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await gone.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def test_exit_status_environment_and_private_log(tmp_path):
    child = ChildProcess(sh(tmp_path, "env; pwd; exit 7"))
    assert await child.wait() == 7
    assert child.exit_status == 7
    log = (tmp_path / "child.log").read_text()
    assert "ONLY=this" in log
    assert "HOME=" not in log
    assert str(tmp_path) in log
    assert stat.S_IMODE((tmp_path / "child.log").stat().st_mode) == 0o600


async def test_it_leads_a_session_and_a_group_of_its_own(tmp_path):
    child = ChildProcess(sh(tmp_path, "sleep 60"))
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert child.exit_status is None
    assert await child.stop(DEADLINE_S) == -signal.SIGTERM


async def test_one_that_ignores_the_request_is_killed(tmp_path):
    child = ChildProcess(sh(tmp_path, "trap '' TERM; echo ready; while :; do sleep 60; done"))
    await said(tmp_path / "child.log", "ready")
    assert await child.stop(0.05) == -signal.SIGKILL


async def test_its_group_ends_with_it(tmp_path):
    child = ChildProcess(sh(tmp_path, "sleep 60 & echo left $!."))
    left = int((await said(tmp_path / "child.log", ".")).strip(".\n").split()[1])
    assert await child.wait() == 0
    await ended(left)


async def test_stop_and_signal_after_the_end_are_harmless(tmp_path):
    child = ChildProcess(sh(tmp_path, "exit 3"))
    await child.wait()
    child.send_signal(signal.SIGTERM)
    child.kill()
    assert await child.stop(DEADLINE_S) == 3


async def test_cancelling_a_wait_leaves_the_child_alone(tmp_path):
    child = ChildProcess(sh(tmp_path, "sleep 60"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(child.wait(), 0.01)
    assert child.exit_status is None
    await child.stop_by(())


async def test_one_that_the_kernel_holds_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "KILL_DEADLINE_S", 0.01)
    child = ChildProcess(sh(tmp_path, "sleep 60"))
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda: None)
        with pytest.raises(NotStoppedError, match="stuck in the kernel"):
            await child.stop_by(())
    monkeypatch.undo()
    await child.stop_by(())


async def test_a_missing_program_is_told_before_anything_starts(tmp_path):
    with pytest.raises(ProgramMissingError, match="no-such-program"):
        ChildProcess(command(tmp_path, "no-such-program"))
    assert list(tmp_path.iterdir()) == []


async def test_a_short_command_ends_at_its_deadline_with_its_last_words(tmp_path):
    assert await run_to_end(sh(tmp_path, "exit 4"), DEADLINE_S) == 4
    with pytest.raises(ServerStartError, match=r"within 0\.3 s") as refused:
        await run_to_end(sh(tmp_path, "echo stuck here; sleep 60"), 0.3)
    assert refused.value.log_tail == "stuck here"


def test_a_program_that_cannot_answer_is_told(monkeypatch):
    assert ask("sh", "-c", "echo hello").stdout == "hello\n"
    with pytest.raises(ProgramMissingError, match="No such file"):
        ask("no-such-program")
    monkeypatch.setattr(process, "_ASK_DEADLINE_S", 0.01)
    with pytest.raises(ProgramMissingError, match="did not answer"):
        ask("sleep", "60")


async def test_a_long_log_is_set_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 4)
    await run_to_end(sh(tmp_path, "echo first"), DEADLINE_S)
    await run_to_end(sh(tmp_path, "echo second"), DEADLINE_S)
    assert (tmp_path / "child.log").read_text() == "second\n"
    assert (tmp_path / "child.log.1").read_text() == "first\n"


async def test_processes_are_found_by_folder_and_program(tmp_path):
    child = ChildProcess(command(tmp_path, "sleep", "60"))
    await until(lambda: processes_in(tmp_path, "sleep") == (child.pid,))
    assert processes_in(tmp_path, "postgres") == ()
    with pytest.raises(StillRunningError, match=f"kill -INT {child.pid}"):
        await wait_until_left(tmp_path, "sleep", 0.0)
    await child.stop(DEADLINE_S)
    await wait_until_left(tmp_path, "sleep", DEADLINE_S)


async def test_processes_are_told_apart_by_their_words(tmp_path):
    child = ChildProcess(command(tmp_path, "sleep", "60", "0.5"))
    await until(lambda: processes_in(tmp_path, "sleep", "60", "0.5") == (child.pid,))
    assert processes_in(tmp_path, "sleep", "6") == ()
    await wait_until_left(tmp_path, "sleep", 0.0, "60", "6")
    await child.stop(DEADLINE_S)


async def test_all_of_a_program_in_a_folder_are_killed_and_no_others(tmp_path):
    (tmp_path / "other").mkdir()
    children = [ChildProcess(command(tmp_path, "sleep", "60")) for _ in range(2)]
    other = ChildProcess(replace(children[0].command, cwd=tmp_path / "other"))
    await until(lambda: len(processes_in(tmp_path, "sleep")) == 2)
    await until(lambda: processes_in(tmp_path / "other", "sleep") == (other.pid,))
    kill_all_in(tmp_path, "sleep")
    assert [await child.wait() for child in children] == [-signal.SIGKILL] * 2
    assert other.exit_status is None
    await other.stop(DEADLINE_S)


PARENT = """
import asyncio, os, sys
from pathlib import Path
from controlplane.embedded.process import ChildProcess, Command

async def main():
    here = Path(sys.argv[1])
    child = ChildProcess(
        Command("c", ("sleep", "60"), {"PATH": os.environ["PATH"]}, here, here / "child.log")
    )
    print(child.pid, ".", flush=True)
    await child.wait()

asyncio.run(main())
"""


async def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    parent = ChildProcess(command(tmp_path, sys.executable, "-P", "-c", PARENT, str(tmp_path)))
    pid = int((await said(tmp_path / "child.log", ".")).split()[0])
    await until(lambda: processes_in(tmp_path, "sleep") == (pid,))  # setpriv has made room
    os.kill(parent.pid, signal.SIGKILL)
    await ended(pid)
    assert await parent.wait() == -signal.SIGKILL


async def test_without_setpriv_children_start_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_setpriv", lambda: None)
    assert await run_to_end(sh(tmp_path, "exit 0"), DEADLINE_S) == 0
