"""Real processes under supervision: an end is noticed and told, and the process starts again."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from controlplane.embedded import supervision
from controlplane.embedded.errors import PortTakenError, ServerStartError
from controlplane.embedded.process import ChildProcess, Command
from controlplane.embedded.supervision import Supervised, keep


def command(tmp_path, script: str) -> Command:
    return Command(
        name="child",
        argv=(sys.executable, "-c", script),
        env={},
        cwd=tmp_path,
        log_file=tmp_path / "child.log",
    )


class Told:
    """What was said, and a way to wait for the next of it."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, line: str) -> None:
        self.lines.put_nowait(line)

    async def next(self) -> str:
        async with asyncio.timeout(20):
            return await self.lines.get()


async def test_a_killed_process_starts_again_until_it_is_kept_no_more(tmp_path):
    told = Told()
    child = Supervised(command(tmp_path, "import signal; signal.pause()"), told)
    assert child.pid is None
    child.start()
    first = child.pid
    keeping = asyncio.ensure_future(child.keep())
    signal.pidfd_send_signal(child._child._pidfd, signal.SIGKILL)
    ended, again = await told.next(), await told.next()
    assert "child ended (killed by SIGKILL); it starts again in 0.1 s" in ended
    assert f"child runs again as process {child.pid}" == again
    assert child.pid != first
    keeping.cancel()
    await asyncio.wait({keeping})
    await child.stop(5.0)
    assert child.pid is None
    assert told.lines.empty()


async def test_pauses_grow_for_one_that_keeps_ending(tmp_path):
    told = Told()
    child = Supervised(command(tmp_path, "raise SystemExit(7)"), told)
    child.start()
    keeping = asyncio.ensure_future(child.keep())
    first, _, second = [await told.next() for _ in range(3)]
    keeping.cancel()
    await asyncio.wait({keeping})
    await child.stop(5.0)
    assert "exit status 7" in first
    assert "in 0.1 s" in first
    assert "in 0.2 s" in second


async def test_an_end_during_boot_is_an_error_with_the_last_lines(tmp_path):
    child = Supervised(command(tmp_path, "import sys; sys.exit('no such setting')"), print)
    child.start()
    error = await child.first_end()
    assert "child did not start: exit status 1" in str(error)
    assert "no such setting" in str(error)


async def test_one_that_was_never_started_stops_at_once(tmp_path):
    await Supervised(command(tmp_path, ""), print).stop(1.0)


class Server:
    """A server whose starts fail as often as there are errors for it."""

    name = "the server"
    pid = 4711

    def __init__(self, log_file, *errors: Exception) -> None:
        self.log_file = log_file
        self.errors = list(errors)
        self.ends: asyncio.Queue[int] = asyncio.Queue()

    async def wait(self) -> int:
        return await self.ends.get()

    async def restart(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


async def test_a_server_that_does_not_start_is_tried_again_and_says_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "FIRST_PAUSE_S", 0.001)
    told, log = Told(), tmp_path / "server.log"
    errors = (
        ServerStartError("the server", "it ended with status 1", log, "long\nlog"),
        PortTakenError(7070),
        BlockingIOError("no process can be made"),
    )
    server = Server(log, *errors)
    keeping = asyncio.ensure_future(keep(server, told))
    for status in (-9, 0):
        server.ends.put_nowait(status)
    said = [await told.next() for _ in range(7)]
    keeping.cancel()
    await asyncio.wait({keeping})
    assert said[0].startswith("the server ended (killed by SIGKILL); it starts again in 0.001 s")
    assert said[1].startswith("the server did not start (it ended with status 1); it starts again")
    assert "port 7070 is in use" in said[2]
    assert "no process can be made" in said[3]
    assert said[4] == "the server runs again as process 4711"
    assert said[5].startswith("the server ended (exit status 0)")
    assert "0.016 s" in said[5]
    assert said[6] == said[4]
    assert all(str(log) in line for line in said if "runs again" not in line)


async def test_a_process_that_cannot_be_started_does_not_end_the_keeping(tmp_path, monkeypatch):
    told = Told()
    child = Supervised(command(tmp_path, "raise SystemExit(7)"), told)
    child.start()
    with monkeypatch.context() as patch:
        patch.setattr(supervision, "ChildProcess", no_more_processes)
        keeping = asyncio.ensure_future(child.keep())
        ended, refused = await told.next(), await told.next()
    assert "exit status 7" in ended
    assert "child did not start" in refused
    assert "runs again" in await told.next()
    keeping.cancel()
    await asyncio.wait({keeping})
    await child.stop(5.0)


def no_more_processes(_command: Command) -> ChildProcess:
    raise BlockingIOError("Resource temporarily unavailable")


async def test_one_that_lived_long_has_recovered(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "STEADY_S", 0.0)
    told = Told()
    server = Server(tmp_path)
    keeping = asyncio.ensure_future(keep(server, told))
    for _ in range(3):
        server.ends.put_nowait(1)
    said = [await told.next() for _ in range(6)]
    keeping.cancel()
    await asyncio.wait({keeping})
    assert all("in 0.1 s" in line for line in said[::2])


async def test_keeping_ends_only_by_a_cancellation(tmp_path):
    keeping = asyncio.ensure_future(keep(Server(tmp_path), print))
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
