"""Use cases of runs: trigger, read, list, cancel.

A triggered run is a name at once: the command is durable, and the run reads as PENDING until the
leader of its shard has applied it. Does not know how the leader works.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mainspring.v1 import run_pb2

from controlplane.codec import commands
from controlplane.codec.durations import instant_us, timestamp_problem
from controlplane.codec.runs import (
    PENDING,
    RunView,
    attempt,
    pending_run,
    run_message,
    run_name,
    task_counts,
    task_instance,
)
from controlplane.core.graph.names import shown
from controlplane.core.states import RunState, TaskState
from controlplane.core.types import DagKey
from controlplane.services.errors import FailedPrecondition, NotFound, refused
from controlplane.services.names import (
    RunName,
    TaskName,
    parse_dag,
    parse_dag_or_any,
    parse_run,
    parse_run_or_task,
)
from controlplane.services.notices import Notices
from controlplane.services.pictures import Picture, Pictures, attempt_view, no_task, run_view
from controlplane.services.requests import (
    MAX_REASON,
    check_text,
    page_key,
    page_size,
    page_token,
    question,
)
from controlplane.services.waiting import Commands, applied, request_key
from controlplane.store.api import ApiStore, RunPosition
from controlplane.store.records import AttemptKey, RunItem
from controlplane.telemetry.clock import Clock, Entropy

DEFAULT_PAGE, MOST_PAGE = 100, 1_000
DEFAULT_TASK_PAGE, MOST_TASK_PAGE = 1_000, 10_000


class RunService:
    """Every method raises a ServiceError or an error of the store."""

    def __init__(
        self,
        store: ApiStore,
        inbox: Commands,
        pictures: Pictures,
        notices: Notices,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._commands = inbox
        self._pictures = pictures
        self._notices = notices
        self._clock = clock
        self._entropy = entropy

    async def trigger(self, tenant: str, request: run_pb2.TriggerRunRequest) -> run_pb2.Run:
        """Makes a run of the current version of a DAG; it is PENDING at first."""
        key = DagKey(tenant, parse_dag("parent", request.parent))
        now_us = self._clock.now().wall_us
        logical_us = _logical(request, now_us)
        bare = run_pb2.TriggerRunRequest(parent=request.parent)
        if request.HasField("logical_time"):
            bare.logical_time.CopyFrom(request.logical_time)
        request_id = request_key("trigger", request.request_id, bare)
        known = await self._store.read_dag(*key) is not None
        run_id = self._entropy.run_id(now_us)
        body = commands.trigger_run(key.dag, run_id, logical_us)
        appended = await self._commands.append(key, body, request_id, run_id=run_id)
        if known:
            self._commands.tell(appended)
        else:
            # Its first version may be in the inbox, before this command: the leader knows.
            state = await self._commands.outcome(appended)
            if state is not None:
                applied(state, appended.shard)
        if appended.repeated and appended.run_id is not None:
            return await self._read(tenant, RunName(key.dag, appended.run_id))
        return run_message(pending_run(key.dag, run_id, logical_us, appended.shard))

    async def get(self, tenant: str, request: run_pb2.GetRunRequest) -> run_pb2.Run:
        """One run, with the notices that say why it does not go on."""
        return await self._read(tenant, parse_run("name", request.name))

    async def _read(self, tenant: str, name: RunName) -> run_pb2.Run:
        found = await self._pictures.read(tenant, name)
        if isinstance(found, RunView):
            run = run_message(found)
            run.notices.extend(await self._notices.of_pending(found))
        else:
            run = picture_message(found)
            run.notices.extend(await self._notices.of_run(found))
        return run

    async def list_runs(
        self, tenant: str, request: run_pb2.ListRunsRequest
    ) -> run_pb2.ListRunsResponse:
        """A page of runs, the newest first. Pending ones are no runs yet."""
        dag = parse_dag_or_any("parent", request.parent)
        size = page_size(request.page_size, DEFAULT_PAGE, MOST_PAGE)
        states = _run_states(request.states)
        asked = question("runs", tenant, dag, states)
        key = page_key(asked, request.page_token, (int, int))
        before = RunPosition(*map(int, key)) if key else RunPosition()
        items = await self._store.list_runs(tenant, dag, states, before, size + 1)
        if dag is not None and not items and await self._store.read_dag(tenant, dag) is None:
            raise NotFound("DAG", f"there is no DAG {shown(dag)}")
        last = items[size - 1] if len(items) > size else None
        return run_pb2.ListRunsResponse(
            runs=[run_message(run_view(item)) for item in items[:size]],
            next_page_token=page_token(asked, [last.created_us, last.run]) if last else "",
        )

    async def list_task_instances(
        self, tenant: str, request: run_pb2.ListTaskInstancesRequest
    ) -> run_pb2.ListTaskInstancesResponse:
        """A page of the task instances of a run; none while the run is pending."""
        name = parse_run("parent", request.parent)
        size = page_size(request.page_size, DEFAULT_TASK_PAGE, MOST_TASK_PAGE)
        states = _task_states(request.states)
        asked = question("tasks", tenant, name, states)
        key = page_key(asked, request.page_token, (int,))
        found = await self._pictures.read(tenant, name)
        if isinstance(found, RunView):
            return run_pb2.ListTaskInstancesResponse()
        first = max(int(key[0]), 0) if key else 0
        run = run_name(found.run.dag, found.run.run_id)
        matching = (
            (number, view)
            for number, view in enumerate(found.tasks())
            if number >= first and view.state in states
        )
        page = list(islice(matching, size + 1))
        delays = await self._notices.of_tasks(found, [number for number, _ in page[:size]])
        return run_pb2.ListTaskInstancesResponse(
            task_instances=[
                task_instance(run, view._replace(reason=view.reason or delays.get(number, "")))
                for number, view in page[:size]
            ],
            next_page_token=page_token(asked, [page[size][0]]) if len(page) > size else "",
        )

    async def list_attempts(
        self, tenant: str, request: run_pb2.ListAttemptsRequest
    ) -> run_pb2.ListAttemptsResponse:
        """A page of the attempts of a run or of one of its task instances."""
        name = parse_run_or_task("parent", request.parent)
        size = page_size(request.page_size, DEFAULT_TASK_PAGE, MOST_TASK_PAGE)
        asked = question("attempts", tenant, name)
        key = page_key(asked, request.page_token, (int, int, int, int, str))
        run = await self._pictures.find(tenant, name.run)
        if isinstance(run, RunView):
            return run_pb2.ListAttemptsResponse()
        tasks = (await self._pictures.version_of(run)).compiled.tasks
        number = await self._number(run, name)
        items = await self._store.list_attempts(run, number, _attempt_key(key), size + 1)
        last = items[size - 1] if len(items) > size else None
        place = (last.task, last.expansion, last.number, last.assigned_us) if last else ()
        named = run_name(run.dag, run.run_id)
        return run_pb2.ListAttemptsResponse(
            attempts=[
                attempt(named, attempt_view(tasks[item.task].task, item)) for item in items[:size]
            ],
            next_page_token=page_token(asked, [*place, last.attempt_id.hex()]) if last else "",
        )

    async def _number(self, run: RunItem, name: TaskName) -> int | None:
        """The number of the task that is named, None for all tasks."""
        if name.task is None:
            return None
        number = (await self._pictures.version_of(run)).numbers.get(name.task)
        if number is None:
            raise no_task(run, name.task)
        return number

    async def cancel(self, tenant: str, request: run_pb2.CancelRunRequest) -> run_pb2.Run:
        """Starts a cancellation; once it has returned, nothing new is assigned."""
        name = parse_run("name", request.name)
        reason = check_text("reason", request.reason, MAX_REASON)
        bare = run_pb2.CancelRunRequest(name=request.name, reason=reason)
        request_id = request_key("cancel", request.request_id, bare)
        run = await self._pictures.find(tenant, name)
        if not isinstance(run, RunView) and RunState(run.state).final:
            return await self._ended(tenant, name, run)
        key = DagKey(tenant, run.dag)
        body = commands.cancel_run(run.dag, name.run_id, reason)
        appended = await self._commands.append(key, body, request_id)
        state = await self._commands.outcome(appended)
        after = await self._pictures.find(tenant, name)
        if not isinstance(after, RunView) and after.state == RunState.CANCELLED:
            return await self._read(tenant, name)
        applied(state, appended.shard)
        return await self._read(tenant, name)

    async def _ended(self, tenant: str, name: RunName, run: RunItem) -> run_pb2.Run:
        """A cancelled run is what the caller wants; any other end is not."""
        if run.state != RunState.CANCELLED:
            ended = RunState(run.state).name
            raise FailedPrecondition("RUN_FINAL", f"the run is final already: {ended}")
        return await self._read(tenant, name)


def picture_message(picture: Picture) -> run_pb2.Run:
    """A run with the number of task instances in each state."""
    return run_message(run_view(picture.run), task_counts(picture.states))


def _logical(request: run_pb2.TriggerRunRequest, now_us: int) -> int:
    if not request.HasField("logical_time"):
        return now_us
    if reason := timestamp_problem(request.logical_time):
        raise refused("logical_time", reason)
    return instant_us(request.logical_time)


def _run_states(given: Sequence[int]) -> list[int]:
    """The asked states; all of them when none is asked."""
    known = {*map(int, RunState), PENDING}
    if wrong := set(given) - known:
        raise refused("states", f"{min(wrong)} is no state of a run")
    return sorted(set(given) or known)


def _task_states(given: Sequence[int]) -> list[int]:
    if wrong := set(given) - set(map(int, TaskState)):
        raise refused("states", f"{min(wrong)} is no state of a task instance")
    return sorted(set(given) or set(map(int, TaskState)))


def _attempt_key(key: object) -> AttemptKey:
    match key:
        case [int(task), int(expansion), int(number), int(assigned_us), str(attempt_id)]:
            if max(task, expansion, number) < 1 << 31 and min(task, expansion, number) >= 0:
                try:
                    raw = bytes.fromhex(attempt_id)
                except ValueError:
                    raw = b""
                return AttemptKey(task, expansion, number, assigned_us, raw)
            raise refused("page_token", "is no token of this list")
        case _:
            return AttemptKey()
