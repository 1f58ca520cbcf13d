"""The shell of the agent: feeds the core, performs its actions, keeps its one timer.

Decides: the order of things inside one turn of the loop. A few processes are spawned at a time, so
that a burst of assignments does not hold up the news of what is running.

Promises: the duties that the core states; events are handled one after the other, also those that
an action causes. A broken assertion ends the agent, loudly.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog
from obstore.store import LocalStore, ObjectStore, from_url

from agent.core import actions, events
from agent.core.agent import AgentConfig, AgentCore
from agent.core.entries import Assign
from agent.core.types import NOTHING, Amount, Now
from agent.logs.spool import Spool
from agent.logs.tail import TailReader
from agent.logs.upload import Uploader
from agent.runtime.environment import base_environment
from agent.runtime.process import ProcessEvent, ProcessRuntime
from agent.settings import AgentSettings
from agent.stream.streams import Streams

EXIT_REFUSED = 3
EXIT_BROKEN = 70
SPAWNS_A_TURN = 4
DRAIN_S = 0.7
LOAD_AGE_MS = 1_000

log_lines = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What distinguishes this start of the agent from all others."""

    incarnation: bytes
    boot_id: str
    first_session: int


def new_identity() -> Identity:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return Identity(os.urandom(16), boot_id, time.time_ns() // 1_000_000)


def open_store(url: str) -> ObjectStore:
    """The object store of a URL; a local folder is made where it is missing."""
    if url.startswith("file://"):
        return LocalStore(prefix=url.removeprefix("file://"), mkdir=True)
    return from_url(url)


def read_clocks() -> Now:
    return Now(time.time_ns() // 1_000, time.monotonic_ns() // 1_000_000)


class AgentShell:
    """One agent in this process. `run` returns its exit code."""

    def __init__(self, settings: AgentSettings, identity: Identity, version: str) -> None:
        config = AgentConfig(
            settings.name,
            identity.incarnation,
            identity.boot_id,
            settings.capacity,
            settings.nodes,
            version,
            settings.labels,
            identity.first_session,
        )
        self._settings = settings
        self._core = AgentCore(config, read_clocks())
        self._incarnation = identity.incarnation.hex()
        self._events: deque[events.Event] = deque()
        self._busy = False
        self._spawns: deque[Assign] = deque()
        self._spawned_now = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._ended: asyncio.Future[int]
        self._load, self._load_ms = NOTHING, -LOAD_AGE_MS
        self._performers: dict[type[object], Callable[[Any], None]] = {}

    async def run(self) -> int:
        """Lives until the core ends it, or something is broken."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._ended = loop.create_future()
        async with asyncio.TaskGroup() as group:
            uploading = self._set_up(loop, group)
            self.feed(events.Tick(self._measure()))
            code = await self._ended
            await self._wind_up()
            uploading.cancel()
        return code

    def stop(self) -> None:
        """Asks for a clean end."""
        self.feed(events.StopRequested())

    def feed(self, event: events.Event) -> None:
        """Takes an event in; may be called from inside an action."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for action in self._core.handle(self._events.popleft(), read_clocks()):
                    self._performers[type(action)](action)
        except Exception:
            log_lines.exception("the agent is broken and ends; its tasks go on")
            self._end(EXIT_BROKEN)
        finally:
            self._busy = False
        self._arm()

    def _set_up(
        self, loop: asyncio.AbstractEventLoop, group: asyncio.TaskGroup
    ) -> asyncio.Task[None]:
        settings = self._settings
        folders = settings.work / "attempts" / self._incarnation
        spool_folder = settings.work / "spool" / self._incarnation
        for folder in (folders, spool_folder):
            folder.mkdir(parents=True, mode=0o700)
        for left in spool_folder.parent.iterdir():
            if left != spool_folder:
                log_lines.warning("output of an earlier start was not uploaded", folder=str(left))
        self._own_folders = (folders, spool_folder)
        self._spool = Spool(spool_folder)
        self._uploader = Uploader(self._spool, open_store(settings.objects_url))
        self._streams = Streams(group, settings.token, self.feed)
        base = base_environment(os.environ, settings.task_env)
        self._runtime = ProcessRuntime(loop, folders, base, self._on_process)
        self._tails = TailReader(loop, self._spool, self.feed, self._streams.has_room)
        self._performers = self._perform_by()
        return group.create_task(self._uploader.run(), name="upload logs")

    def _perform_by(self) -> dict[type[object], Callable[[Any], None]]:
        streams, tails = self._streams, self._tails
        return {
            actions.Send: lambda a: streams.send(a.address, a.session, a.entries),
            actions.Spawn: self._spawn,
            actions.Kill: lambda a: self._runtime.signal(a.attempt_id, a.signal),
            actions.OpenSession: lambda a: streams.open(a.address, a.session),
            actions.CloseSession: lambda a: streams.close(a.address, a.session),
            actions.StartTail: tails.start,
            actions.StopTail: lambda a: tails.stop((a.address, a.session, a.tail)),
            actions.Note: self._note,
            actions.Refused: self._refused,
            actions.Exit: lambda _: self._end(0),
        }

    async def _wind_up(self) -> None:
        """Ends the sessions, gives uploads a moment, and removes what is empty."""
        if self._timer is not None:
            self._timer.cancel()
        self._streams.close_all()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._uploader.drain()
        except TimeoutError:
            log_lines.warning("output is left in the spool", folder=str(self._own_folders[1]))
        for folder in self._own_folders:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _end(self, code: int) -> None:
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
        wait_ms = max(0, deadline_ms - read_clocks().mono_ms)
        self._timer_ms = deadline_ms
        self._timer = self._loop.call_later(wait_ms / 1_000, self._tick)

    def _tick(self) -> None:
        self._timer = None
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

    def _spawn(self, spawn: actions.Spawn) -> None:
        self._spawns.append(spawn.assign)
        if self._spawned_now < SPAWNS_A_TURN:
            self._spawn_next()

    def _spawn_next(self) -> None:
        if self._spawned_now == 0:
            self._loop.call_soon(self._next_turn)
        self._spawned_now += 1
        assign = self._spawns.popleft()
        log = self._spool.create(assign)
        self._uploader.watch(assign.attempt_id, log)
        self._runtime.spawn(assign, log)

    def _next_turn(self) -> None:
        self._spawned_now = 0
        while self._spawns and self._spawned_now < SPAWNS_A_TURN:
            self._spawn_next()

    def _on_process(self, event: ProcessEvent) -> None:
        """News of a process; when it is over, its result goes first and its output after it."""
        self.feed(event)
        if not isinstance(event, events.ProcessSpawned):
            self._uploader.finish(event.attempt_id)
            self._tails.poke()

    def _note(self, note: actions.Note) -> None:
        shard = {} if note.shard < 0 else {"shard": note.shard}
        log_lines.info(note.text, node=note.address, **shard)

    def _refused(self, refused: actions.Refused) -> None:
        reason = refused.reason.name.lower()
        log_lines.error("refused", node=refused.address, reason=reason, message=refused.message)
        self._end(EXIT_REFUSED)
