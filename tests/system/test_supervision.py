"""Real processes under supervision: an end is noticed and told, and the process starts again."""

from __future__ import annotations

import asyncio
import signal
import sys

from controlplane.embedded.process import Command
from controlplane.embedded.supervision import Supervised


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
