"""The commands of one shard in one epoch: from rows of the store to events, and back to callers.

Decides when to look: at the start, when poked, and every so often. Promises that commands come in
the order of their numbers and each once, and that a caller who waits for one hears when it is done
with. A command that cannot be read is set aside. Does not know what a command does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

import structlog

from controlplane.codec.commands import command_event, parse_command, wanted_version
from controlplane.codec.errors import CodecError
from controlplane.core.events import Event
from controlplane.core.types import DagKey, DagVersion
from controlplane.leader.mailbox import Delivery, Mailbox
from controlplane.leader.recovery import compiled
from controlplane.leader.times import LeaderTimes
from controlplane.store.errors import StoreError
from controlplane.store.ports import ShardStore
from controlplane.store.records import CommandRow

_log = structlog.get_logger(__name__)

# Of one look; the next follows at once when there are more.
ROWS_A_LOOK = 500
# More are not held in memory at a time.
IN_FLIGHT_MOST = 4_000

Version = tuple[DagKey, bytes]


class _Waiter:
    """A caller that waits for some commands."""

    __slots__ = ("done", "open")

    def __init__(self, commands: Iterable[int], done: asyncio.Future[bool]) -> None:
        self.open = set(commands)
        self.done = done


class Inbox:
    """`run` for as long as the epoch is led."""

    def __init__(
        self,
        shard: int,
        store: ShardStore,
        mailbox: Mailbox,
        times: LeaderTimes,
    ) -> None:
        self._shard = shard
        self._store = store
        self._mailbox = mailbox
        self._times = times
        self._poked = asyncio.Event()
        self._in_flight: set[int] = set()
        self._done: set[int] = set()
        self._waiters: list[_Waiter] = []
        self._broken: list[tuple[int, str]] = []

    async def run(self) -> None:
        """Looks for commands until cancelled; callers who wait then are told that it is over."""
        try:
            while True:
                self._poked.clear()
                if not await self._look():
                    await self._pause()
        finally:
            for waiter in self._waiters:
                _tell(waiter, applied=False)

    def poke(self) -> None:
        """There may be new commands."""
        self._poked.set()

    def take_broken(self) -> list[tuple[int, str]]:
        """Commands that cannot be read, with the reason; the loop sets them aside."""
        broken, self._broken = self._broken, []
        return broken

    def done(self, commands: Iterable[int]) -> None:
        """These are done with, and it is committed."""
        finished = set(commands)
        was_full = self._full
        self._in_flight -= finished
        if was_full and not self._full:
            self.poke()
        self._done |= finished
        self._answer(finished)

    async def wait_applied(self, commands: Collection[int], at_most_s: float) -> bool:
        """Whether all commands are done with; False: the time is up, or the epoch is over."""
        waiter = _Waiter(commands, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self.poke()
        try:
            async with asyncio.timeout(at_most_s):
                return await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)

    @property
    def _full(self) -> bool:
        return len(self._in_flight) > IN_FLIGHT_MOST

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._times.sweep_ms / 1_000):
                await self._poked.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """Takes new commands in; True: there are more."""
        if self._full:
            return False
        # What was done with before the look cannot be in a later one: it need not be kept.
        settled = frozenset(self._done)
        asked_before = {command for waiter in self._waiters for command in waiter.open}
        try:
            rows = await self._store.read_commands(
                self._shard, ROWS_A_LOOK, settled.union(self._in_flight)
            )
            versions = await self._versions(rows)
        except StoreError as error:
            _log.info("inbox_not_read", shard=self._shard, error=str(error))
            return False
        self._done -= settled
        if not self._deliver(rows, versions):
            return False
        if len(rows) < ROWS_A_LOOK:
            self._answer(asked_before - self._in_flight)
        return len(rows) == ROWS_A_LOOK

    async def _versions(self, rows: Sequence[CommandRow]) -> dict[int, DagVersion]:
        """The compiled versions that commands apply, by command."""
        wanted: dict[int, Version] = {}
        for row in rows:
            version = _version_of(row)
            if version is not None:
                wanted[row.command] = version
        if not wanted:
            return {}
        found: dict[Version, DagVersion] = {}
        for stored in await self._store.read_versions(list(set(wanted.values()))):
            key = (DagKey(stored.tenant, stored.dag), stored.digest)
            try:
                found[key] = await compiled(stored)
            except CodecError as error:
                _log.warning("version_not_readable", dag=stored.dag, error=str(error))
        return {command: found[key] for command, key in wanted.items() if key in found}

    def _deliver(self, rows: Sequence[CommandRow], versions: dict[int, DagVersion]) -> bool:
        """Puts commands into the mailbox; False: it is full, they are found again later."""
        events: list[Event] = []
        broken: list[tuple[int, str]] = []
        for row in rows:
            try:
                command = parse_command(row.body)
                version = versions.get(row.command)
                events.append(command_event(row.command, row.tenant, command, version))
            except CodecError as error:
                broken.append((row.command, str(error)))
        if events and not self._mailbox.put(Delivery(events)):
            return False
        self._in_flight.update(row.command for row in rows)
        if broken:
            self._broken += broken
            self._mailbox.nudge()
        return True

    def _answer(self, finished: set[int]) -> None:
        if not finished:
            return
        for waiter in self._waiters:
            waiter.open -= finished
            if not waiter.open:
                _tell(waiter, applied=True)


def _tell(waiter: _Waiter, *, applied: bool) -> None:
    if not waiter.done.done():
        waiter.done.set_result(applied)


def _version_of(row: CommandRow) -> Version | None:
    try:
        wanted = wanted_version(row.tenant, parse_command(row.body))
    except CodecError:
        return None
    return None if wanted is None else (DagKey(wanted.tenant, wanted.dag), wanted.digest)
