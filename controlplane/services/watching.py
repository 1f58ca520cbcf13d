"""Use cases that follow a run until it is final: watch and wait.

The store is asked again after a pause that grows while nothing happens, and that is never shorter
than ten times what the last look cost: a watched run of many tasks does not wear the node down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from mainspring.v1 import run_pb2

from controlplane.codec.runs import RunView, TaskView, run_message, task_instance
from controlplane.core.states import RunState
from controlplane.services.names import RunName, parse_run
from controlplane.services.pictures import Picture, Pictures
from controlplane.services.requests import check_range
from controlplane.services.runs import RunService, picture_message
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

    async def pause(self, *, changed: bool) -> None:
        """Waits until the next look is due."""
        cost_ms = self._clock.now().mono_ms - self._looked_ms
        self._pause_ms = FIRST_PAUSE_MS if changed else min(self._pause_ms * 2, LONGEST_PAUSE_MS)
        pause_ms = min(max(self._pause_ms, cost_ms * COST_FACTOR), MOST_PAUSE_MS)
        await asyncio.sleep(pause_ms / 1_000)


class WatchService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(self, pictures: Pictures, runs: RunService, clock: Clock) -> None:
        self._pictures = pictures
        self._runs = runs
        self._clock = clock

    async def watch(
        self, tenant: str, request: run_pb2.WatchRunRequest
    ) -> AsyncGenerator[run_pb2.WatchRunResponse, None]:
        """The run with all its task instances, then what changes, until the run is final."""
        name = parse_run("name", request.name)
        pace = Pace(self._clock)
        before = run_pb2.Run()
        seen: list[TaskView] = []
        while True:
            pace.begin()
            found = await self._pictures.read(tenant, name)
            if isinstance(found, RunView):
                run, tasks = run_message(found), []
            else:
                run, tasks = picture_message(found), found.tasks()
            news = _news(run, seen, tasks)
            changed = bool(news) or run != before
            if changed:
                yield run_pb2.WatchRunResponse(run=run, task_instances=news)
            if _is_final(found):
                return
            before, seen = run, tasks
            await pace.pause(changed=changed)

    async def wait(self, tenant: str, request: run_pb2.WaitRunRequest) -> run_pb2.Run:
        """The run once it is final, or as it is when the wait is over."""
        name = parse_run("name", request.name)
        wait_ms = check_range("wait_ms", request.wait_ms, 0, MOST_WAIT_MS) or DEFAULT_WAIT_MS
        end_ms = self._clock.now().mono_ms + wait_ms
        pace = Pace(self._clock)
        while not await self._ended(tenant, name):
            if self._clock.now().mono_ms >= end_ms:
                break
            await pace.pause(changed=False)
            pace.begin()
        return await self._runs.get(tenant, run_pb2.GetRunRequest(name=request.name))

    async def _ended(self, tenant: str, name: RunName) -> bool:
        found = await self._pictures.find(tenant, name)
        return not isinstance(found, RunView) and RunState(found.state).final


def _is_final(found: Picture | RunView) -> bool:
    return isinstance(found, Picture) and RunState(found.run.state).final


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
