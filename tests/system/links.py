"""An agent's end of the link, in the loop of a test, and processes that are known by a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace

from agent.core.entries import Assign
from agent.core.events import Event, SupervisorReady
from agent.core.types import ExecSpec
from agent.runtime.link import SupervisorLink
from agent.supervisor import proc, start
from agent.supervisor.door import short_path

DEADLINE_S = 10.0
LONG_MS = 600_000


def attempt_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


ID, OTHER_ID, THIRD_ID = attempt_id(1), attempt_id(2), attempt_id(3)


class Linked:
    """A link and what it told, in order."""

    def __init__(self, work: Path, containment: str = "") -> None:
        self.work = work
        self.folder = work / "supervisor"
        self._events: list[Event] = []
        self._fed = asyncio.Event()
        loop = asyncio.get_running_loop()
        base = {"PATH": os.environ["PATH"]}
        self.link = SupervisorLink(loop, self.folder, base, self._feed, containment)
        self.running = loop.create_task(self.link.run())

    def _feed(self, event: Event) -> None:
        self._events.append(event)
        self._fed.set()

    async def next(self, kind, of: bytes | None = None):
        """The first event of a kind (and an attempt); it is consumed."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for index, event in enumerate(self._events):
                    if isinstance(event, kind) and (of is None or event.attempt_id == of):
                        return self._events.pop(index)
                self._fed.clear()
                await self._fed.wait()

    def seen(self, kind) -> list:
        return [event for event in self._events if isinstance(event, kind)]

    async def ready(self) -> dict:
        """Waits until the supervisor told what it knows: by attempt."""
        told = await self.next(SupervisorReady)
        self.containment = told.containment
        return {known.claimed.attempt_id: known for known in told.attempts}

    def spawn(self, of: bytes, script: str, lease_ms: int = LONG_MS, shard: int = 0, **spec):
        """Runs a script of the shell."""
        self.spawn_argv(of, ("sh", "-c", script), lease_ms, shard, **spec)

    def spawn_argv(
        self, of: bytes, argv: tuple[str, ...], lease_ms: int = LONG_MS, shard: int = 0, **spec
    ):
        assign = Assign(shard, 1, 1, of, b"i", spec=ExecSpec(argv, **spec))
        self.link.spawn(assign, self.log(of), proc.boottime_ms() + lease_ms)

    def log(self, of: bytes) -> SimpleNamespace:
        paths = (self.work / f"{of.hex()}.stdout", self.work / f"{of.hex()}.stderr")
        return SimpleNamespace(paths=paths)

    def output(self, of: bytes) -> str:
        return self.log(of).paths[0].read_text()

    def claim(self, of: bytes) -> Path:
        return self.folder / "attempts" / of.hex()

    def supervisor(self) -> int:
        """The pid of the supervisor, as this machine sees it."""
        return int((self.folder / "pid").read_text().split()[0])

    async def leave(self) -> None:
        """Goes as an agent does that is killed: without a word."""
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running


class Pipe:
    """A FIFO that a process and all its descendants hold open: `over` when none of them lives."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._text = b""

    async def word(self) -> str:
        """The next line that one of them writes."""
        while b"\n" not in self._text:
            assert await self._more(), "all writers are gone"
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    async def over(self) -> None:
        while await self._more():
            pass

    async def _more(self) -> bool:
        await self._readable()
        piece = os.read(self._reader, 4096)
        self._text += piece
        return bool(piece)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        can_read = asyncio.Event()
        loop.add_reader(self._reader, can_read.set)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await can_read.wait()
        finally:
            loop.remove_reader(self._reader)

    def close(self) -> None:
        os.close(self._reader)


async def gone(pid: int) -> None:
    """Waits for the end of a process."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            assert await asyncio.to_thread(proc.wait_gone, descriptor, DEADLINE_S)
        finally:
            os.close(descriptor)


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await gone(pid)


async def raw_connection(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection without manners."""
    with short_path(str(folder)) as path:
        return await asyncio.open_unix_connection(path)


async def end(work: Path) -> None:
    """Ends the supervisor of a test, also one that hangs."""
    assert await asyncio.to_thread(start.end, str(work / "supervisor"), DEADLINE_S / 2)
