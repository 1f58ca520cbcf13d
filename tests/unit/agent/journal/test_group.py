from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.records import AckedRecord
from agent.journal.file import Journal, open_journal
from agent.journal.group import GroupCommit
from agent.journal.reading import read_journal
from tests.unit.agent.journal.samples import acked

DEADLINE_S = 5


class SlowDisk:
    """A journal whose writes to disk wait until a test lets them go, and fail when told to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.syncs = 0
        self.asked = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.error: Exception | None = None
        self.append, self.close = journal.append, journal.close

    def sync(self) -> None:
        self.syncs += 1
        self.asked.release()
        assert self.gate.acquire(timeout=DEADLINE_S)
        if self.error is not None:
            raise self.error
        self._journal.sync()

    def flush(self) -> None:
        self._journal.flush()


class Writer:
    """A group commit and what it has told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        journal, _ = open_journal(path, "boot", 1)
        self.disk = SlowDisk(journal)
        self.told: list[int] = []
        self.errors: list[BaseException] = []
        self.news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.group = GroupCommit(loop, self.disk, self._durable, self._broken)

    def _durable(self) -> None:
        self.told.append(self.group.durable)
        self.news.set()

    def _broken(self, error: BaseException) -> None:
        self.errors.append(error)
        self.news.set()

    async def let_go(self) -> None:
        """Lets one write to disk end, and waits for what is told of it."""
        self.news.clear()
        self.disk.gate.release()
        async with asyncio.timeout(DEADLINE_S):
            await self.news.wait()

    async def until_asked(self) -> None:
        assert await asyncio.to_thread(self.disk.asked.acquire, timeout=DEADLINE_S)

    def written(self) -> list[AckedRecord]:
        return [record for _, record in read_journal(self.path.read_bytes()).records[1:]]


@pytest.fixture
async def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "journal")


async def test_all_that_comes_during_a_write_shares_the_next(writer: Writer):
    writer.group.want(writer.group.append(acked(0)))
    await writer.until_asked()
    for number in range(1, 100):
        writer.group.want(writer.group.append(acked(number)))
    assert writer.group.durable == 0
    await writer.let_go()
    await writer.until_asked()
    await writer.let_go()
    assert writer.disk.syncs == 2
    assert writer.told == [1, 100]
    assert writer.written() == [acked(number) for number in range(100)]
    await writer.group.close()


async def test_a_record_that_came_after_a_write_began_waits_for_the_next(writer: Writer):
    writer.group.want(writer.group.append(acked(0)))
    await writer.until_asked()
    second = writer.group.append(acked(1))
    await writer.let_go()
    assert writer.group.durable == 1
    writer.group.want(second)
    await writer.until_asked()
    await writer.let_go()
    assert writer.group.durable == 2
    await writer.group.close()


class Clock:
    """Timers of a loop that fire when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: list[Callable[[], None]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, _delay: float, call: Callable[[], None]) -> asyncio.Handle:
        self.due.append(call)
        return asyncio.Handle(call, (), asyncio.get_running_loop())

    def fire(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


async def test_what_nothing_waits_for_is_written_a_little_later(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        clock = Clock(patch)
        writer.group.append(acked(0))
        writer.group.append(acked(1))
        assert (len(clock.due), writer.written()) == (1, [])
        clock.fire()
        wanted = writer.group.append(acked(2))
        writer.group.want(wanted)
        clock.fire()
    await writer.until_asked()
    assert writer.written() == [acked(0), acked(1)]
    await writer.let_go()
    assert (writer.group.durable, writer.disk.syncs) == (3, 1)
    await writer.group.close()


async def test_closing_writes_what_is_left(writer: Writer):
    writer.group.append(acked(0))
    await writer.group.close()
    assert writer.written() == [acked(0)]
    assert writer.disk.syncs == 0


async def test_closing_waits_for_the_write_that_is_going_on(writer: Writer):
    writer.group.want(writer.group.append(acked(0)))
    await writer.until_asked()
    closing = asyncio.create_task(writer.group.close())
    await writer.let_go()
    await closing
    assert writer.told == [1]


async def test_after_a_failure_nothing_is_called_durable(writer: Writer):
    writer.disk.error = OSError(errno.EIO, "Input/output error")
    writer.group.want(writer.group.append(acked(0)))
    await writer.let_go()
    assert writer.errors == [writer.disk.error]
    writer.group.want(writer.group.append(acked(1)))
    await writer.group.close()
    assert (writer.told, writer.group.durable, writer.disk.syncs) == ([], 0, 1)


async def test_an_end_that_cannot_be_written_does_not_keep_an_agent_from_ending(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
):
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer.disk, "flush", full)
    writer.group.append(acked(0))
    await writer.group.close()
    assert writer.errors == []
