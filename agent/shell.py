"""The shell of the agent: feeds the core, performs its actions, keeps its one timer.

Decides: the order of things. Actions are performed in the order in which the core returned them; a
record that must be on disk holds back all that follows, while the core goes on taking events in, so
that the next write to disk serves everything that came meanwhile.

Promises: the duties that the core states; events are handled one after the other, also those that
an action causes. An agent whose journal cannot be written, and one with a broken assertion, ends
loudly and says nothing more: its tasks run on until their attempt leases end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import structlog
from obstore.store import LocalStore, ObjectStore, from_url

from agent.core import actions, events
from agent.core.agent import AgentConfig, AgentCore
from agent.core.entries import Result
from agent.core.records import JournalState
from agent.core.types import NOTHING, Amount, Now
from agent.journal.file import Journal, JournalLost
from agent.journal.group import GroupCommit
from agent.journal.order import InOrder
from agent.logs.spool import Spool
from agent.logs.tail import TailReader
from agent.logs.upload import Uploader
from agent.runtime.environment import base_environment
from agent.runtime.link import SupervisorLink
from agent.settings import AgentSettings
from agent.stream.streams import Streams

EXIT_REFUSED = 3
EXIT_BROKEN = 70
DRAIN_S = 0.7
LOAD_AGE_MS = 1_000
# The timer of the loop stands still while the machine sleeps, the clock of the core does not.
LOOK_S = 1.0
BROKEN = "the agent ends; its tasks run on until their attempt leases end"

log_lines = structlog.get_logger(__name__)


def open_store(url: str) -> ObjectStore:
    """The object store of a URL; a local folder is made where it is missing."""
    if url.startswith("file://"):
        return LocalStore(prefix=url.removeprefix("file://"), mkdir=True)
    return from_url(url)


def read_clocks() -> Now:
    since_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return Now(time.time_ns() // 1_000, since_boot_ns // 1_000_000)


class AgentShell:
    """One agent in this process. `run` returns its exit code."""

    def __init__(
        self, settings: AgentSettings, journal: Journal, state: JournalState, version: str
    ) -> None:
        config = AgentConfig(
            settings.name, settings.capacity, settings.nodes, state, version, settings.labels
        )
        self._settings = settings
        self._journal = journal
        self._held = frozenset(state.held)
        self._core = AgentCore(config, read_clocks())
        self._events: deque[events.Event] = deque()
        self._busy = False
        # How many supervisors have answered; the link talks to the last.
        self._supervisors = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._ended: asyncio.Future[int]
        self._ending: asyncio.Task[None] | None = None
        self._load, self._load_ms = NOTHING, -LOAD_AGE_MS
        self._performers: dict[type[object], Callable[[Any], None]] = {}

    async def run(self) -> int:
        """Lives until the core ends it, or something is broken."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._ended = loop.create_future()
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = self._set_up(loop, group)
            self.feed(events.Tick(self._measure()))
            code = await self._ended
            await self._wind_up()
            for task in tasks:
                task.cancel()
        return code

    def stop(self) -> None:
        """Asks for a clean end, of the tasks too."""
        self.feed(events.StopRequested())

    def hand_over(self) -> None:
        """Asks for an end that leaves the tasks to the supervisor."""
        self.feed(events.StopRequested(handing_over=True))

    def feed(self, event: events.Event) -> None:
        """Takes an event in; may be called from inside an action."""
        if isinstance(event, events.SupervisorReady):
            self._supervisors += 1
        self._events.append(event)
        self._go_on()

    def _set_up(
        self, loop: asyncio.AbstractEventLoop, group: asyncio.TaskGroup
    ) -> list[asyncio.Task[None]]:
        settings = self._settings
        self._spool_folder = settings.work / "spool"
        self._spool_folder.mkdir(mode=0o700, exist_ok=True)
        self._spool = Spool(self._spool_folder)
        self._uploader = Uploader(self._spool, open_store(settings.objects_url))
        for attempt_id, log in self._spool.recover(self._held).items():
            self._uploader.complete(attempt_id, log)
        self._records = GroupCommit(loop, self._journal, self._go_on, self._journal_broken)
        self._order = InOrder(self._records, self._perform)
        self._streams = Streams(group, settings.token, self.feed)
        base = base_environment(os.environ, settings.task_env)
        self._link = SupervisorLink(loop, settings.work / "supervisor", base, self.feed)
        self._tails = TailReader(loop, self._spool, self.feed, self._streams.has_room)
        self._performers = self._perform_by()
        return [
            group.create_task(self._live(self._uploader.run()), name="upload logs"),
            group.create_task(self._live(self._link.run()), name="supervisor"),
        ]

    def _perform_by(self) -> dict[type[object], Callable[[Any], None]]:
        streams, tails, link = self._streams, self._tails, self._link
        return {
            actions.Record: self._recorded,
            actions.Send: lambda a: streams.send(a.address, a.session, a.entries),
            actions.Spawn: self._spawn,
            actions.ExtendLeases: lambda a: link.extend(a.shard, a.until_ms),
            actions.Stop: lambda a: link.stop(a.attempt_id, a.cause, a.grace_ms),
            actions.Forget: lambda a: link.forget(a.attempt_id),
            actions.Adopted: self._adopted,
            actions.EndSupervisor: self._end_supervisor,
            actions.OpenSession: lambda a: streams.open(a.address, a.session),
            actions.CloseSession: lambda a: streams.close(a.address, a.session),
            actions.StartTail: tails.start,
            actions.StopTail: lambda a: tails.stop((a.address, a.session, a.tail)),
            actions.Note: self._note,
            actions.Refused: self._refused,
            actions.Exit: lambda _: self._end(0),
        }

    async def _live(self, task: Coroutine[Any, Any, None]) -> None:
        """A part of the agent that nothing may end but the agent."""
        try:
            await task
        except Exception:
            self._end(EXIT_BROKEN)
            log_lines.exception(BROKEN, reason="a fault of the agent")

    async def _wind_up(self) -> None:
        """Ends the sessions, gives supervisor and uploads a moment, and closes the journal."""
        if self._timer is not None:
            self._timer.cancel()
        self._streams.close_all()
        if self._ending is not None:
            await self._ending
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._uploader.drain()
        except TimeoutError:
            log_lines.warning("output is left in the spool", folder=str(self._spool_folder))
        await self._records.close()

    # What happened, and what is to be done

    def _go_on(self) -> None:
        """Performs what may be performed and takes in what has happened, until neither is left."""
        if self._busy:
            return
        self._busy = True
        try:
            self._order.perform()
            while self._events and not self._ended.done():
                self._order.add(self._core.handle(self._events.popleft(), read_clocks()))
                self._order.perform()
        except Exception:
            self._end(EXIT_BROKEN)
            log_lines.exception(BROKEN, reason="a fault of the agent")
        finally:
            self._busy = False
        self._arm()

    def _perform(self, action: actions.Action) -> None:
        self._performers[type(action)](action)

    def _journal_broken(self, error: BaseException) -> None:
        """Nothing that waited for the journal is done any more."""
        reason = "the journal is broken"
        if isinstance(error, JournalLost):
            reason = "the journal was deleted under the living agent"
        elif isinstance(error, OSError):
            reason = f"the journal cannot be written: {error.strerror}"
        self._end(EXIT_BROKEN)
        log_lines.error(BROKEN, reason=reason, error=repr(error), work=str(self._settings.work))

    def _end(self, code: int) -> None:
        self._order.drop()
        if not self._ended.done():
            self._ended.set_result(code)

    # Time

    def _arm(self) -> None:
        """Keeps a timer that fires no later than the core's next deadline."""
        deadline_ms = self._core.next_deadline()
        if deadline_ms is None or self._ended.done():
            return
        if self._timer is not None:
            if self._timer_ms <= deadline_ms:
                return
            self._timer.cancel()
        wait_s = max(0, deadline_ms - read_clocks().mono_ms) / 1_000
        self._timer_ms = deadline_ms
        self._timer = self._loop.call_later(min(wait_s, LOOK_S), self._look)

    def _look(self) -> None:
        self._timer = None
        if read_clocks().mono_ms < self._timer_ms:
            self._arm()
        else:
            self.feed(events.Tick(self._measure()))

    def _measure(self) -> Amount:
        """The load of the machine, at most a second old."""
        now_ms = read_clocks().mono_ms
        if now_ms - self._load_ms >= LOAD_AGE_MS:
            cores = psutil.cpu_count() or 1
            cpu_millis = round(psutil.cpu_percent() * 10 * cores)
            memory = psutil.virtual_memory()
            self._load = Amount(cpu_millis, memory.total - memory.available)
            self._load_ms = now_ms
        return self._load

    # Actions

    def _recorded(self, action: actions.Record) -> None:
        """With the result of an attempt on disk, the rest of its output is uploaded."""
        if isinstance(action.record, Result):
            self._over(action.record.attempt_id)

    def _over(self, attempt_id: bytes) -> None:
        self._uploader.finish(attempt_id)
        self._tails.poke()

    def _spawn(self, spawn: actions.Spawn) -> None:
        if spawn.supervisor != self._supervisors:
            return
        log = self._spool.create(spawn.assign)
        self._uploader.watch(spawn.assign.attempt_id, log)
        self._link.spawn(spawn.assign, log, spawn.lease_until_ms)

    def _adopted(self, adopted: actions.Adopted) -> None:
        log = self._spool.adopt(adopted.assign)
        if not log.ended:
            self._uploader.watch(adopted.assign.attempt_id, log)
        if adopted.over:
            self._over(adopted.assign.attempt_id)

    def _end_supervisor(self, _: actions.EndSupervisor) -> None:
        self._ending = self._group.create_task(self._link.end(), name="end the supervisor")

    def _note(self, note: actions.Note) -> None:
        shard = {} if note.shard < 0 else {"shard": note.shard}
        log_lines.info(note.text, node=note.address, **shard)

    def _refused(self, refused: actions.Refused) -> None:
        reason = refused.reason.name.lower()
        log_lines.error("refused", node=refused.address, reason=reason, message=refused.message)
        self._end(EXIT_REFUSED)
