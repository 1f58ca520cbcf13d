"""Use cases that follow a run until it is final: watch and wait.

A run that is led on this node is looked at when its leader has news of it. Of another, the store is
asked again after a pause that grows while nothing happens. No pause is shorter than ten times what
the last look cost: a watched run of many tasks does not wear the node down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Self

from mainspring.v1 import run_pb2

from controlplane.codec.runs import RunView, TaskView, run_message, task_instance
from controlplane.core.states import RunState
from controlplane.leader.news import RunNews
from controlplane.services.names import RunName, parse_run
from controlplane.services.pictures import Pictures
from controlplane.services.requests import check_range
from controlplane.services.runs import RunService, picture_message
from controlplane.store.records import RunItem
from controlplane.telemetry.clock import Clock

FIRST_PAUSE_MS = 20
LONGEST_PAUSE_MS = 200
MOST_PAUSE_MS = 2_000
COST_FACTOR = 10
DEFAULT_WAIT_MS, MOST_WAIT_MS = 30_000, 60_000


class Pace:
    """How long to pause before the next look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pause_ms = FIRST_PAUSE_MS
        self._looked_ms = clock.now().mono_ms

    def begin(self) -> None:
        """A look begins."""
        self._looked_ms = self._clock.now().mono_ms

    async def pause(self, *, changed: bool, news: asyncio.Event | None = None) -> None:
        """Waits until the next look is due; with news, until there are some."""
        cost_ms = self._clock.now().mono_ms - self._looked_ms
        if news is not None:
            await self._hear(news, cost_ms)
            return
        self._pause_ms = FIRST_PAUSE_MS if changed else min(self._pause_ms * 2, LONGEST_PAUSE_MS)
        pause_ms = min(max(self._pause_ms, cost_ms * COST_FACTOR), MOST_PAUSE_MS)
        await asyncio.sleep(pause_ms / 1_000)

    async def _hear(self, news: asyncio.Event, cost_ms: int) -> None:
        """Waits for news, but not for ever: a look now and then finds what was not said."""
        await asyncio.sleep(min(cost_ms * COST_FACTOR, MOST_PAUSE_MS) / 1_000)
        try:
            async with asyncio.timeout(MOST_PAUSE_MS / 1_000):
                await news.wait()
        except TimeoutError:
            return
        news.clear()


class Following:
    """The news of one run, once it has a row and while it is led on this node."""

    def __init__(
        self, news: RunNews, follow: Callable[[int], AbstractContextManager[asyncio.Event]]
    ) -> None:
        self._news = news
        self._follow = follow
        self._stack = ExitStack()
        self._event: asyncio.Event | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, found: RunItem | RunView) -> asyncio.Event | None:
        """What to wait for after a look that found this.

        Set at first: the look was before the registration, so what was said meanwhile was missed.
        """
        if isinstance(found, RunView) or not self._news.leads(found.shard):
            return None
        if self._event is None:
            self._event = self._stack.enter_context(self._follow(found.run))
            self._event.set()
        return self._event


class WatchService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(self, pictures: Pictures, runs: RunService, news: RunNews, clock: Clock) -> None:
        self._pictures = pictures
        self._runs = runs
        self._news = news
        self._clock = clock

    async def watch(
        self, tenant: str, request: run_pb2.WatchRunRequest
    ) -> AsyncGenerator[run_pb2.WatchRunResponse, None]:
        """The run with all its task instances, then what changes, until the run is final."""
        name = parse_run("name", request.name)
        pace = Pace(self._clock)
        before = run_pb2.Run()
        seen: list[TaskView] = []
        with Following(self._news, self._news.changes) as following:
            while True:
                pace.begin()
                found = await self._pictures.read(tenant, name)
                row: RunItem | RunView
                if isinstance(found, RunView):
                    row, run, tasks = found, run_message(found), []
                else:
                    row, run, tasks = found.run, picture_message(found), found.tasks()
                news = _news(run, seen, tasks)
                changed = bool(news) or run != before
                if changed:
                    yield run_pb2.WatchRunResponse(run=run, task_instances=news)
                if _is_final(row):
                    return
                before, seen = run, tasks
                await pace.pause(changed=changed, news=following.of(row))

    async def wait(self, tenant: str, request: run_pb2.WaitRunRequest) -> run_pb2.Run:
        """The run once it is final, or as it is when the wait is over."""
        name = parse_run("name", request.name)
        wait_ms = check_range("wait_ms", request.wait_ms, 0, MOST_WAIT_MS) or DEFAULT_WAIT_MS
        try:
            async with asyncio.timeout(wait_ms / 1_000):
                await self._ended(tenant, name)
        except TimeoutError:
            pass
        return await self._runs.get(tenant, run_pb2.GetRunRequest(name=request.name))

    async def _ended(self, tenant: str, name: RunName) -> None:
        """Returns when the run is final."""
        pace = Pace(self._clock)
        with Following(self._news, self._news.ends) as following:
            while not _is_final(found := await self._pictures.find(tenant, name)):
                await pace.pause(changed=False, news=following.of(found))
                pace.begin()


def _is_final(found: RunItem | RunView) -> bool:
    return not isinstance(found, RunView) and RunState(found.state).final


def _news(
    run: run_pb2.Run, seen: list[TaskView], tasks: list[TaskView]
) -> list[run_pb2.TaskInstance]:
    """The task instances that are not as they were."""
    if not seen:
        return [task_instance(run.name, task) for task in tasks]
    return [
        task_instance(run.name, task)
        for task, before in zip(tasks, seen, strict=True)
        if task != before
    ]
