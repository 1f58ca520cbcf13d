"""A workbench for one shard: domain words in, domain words out.

`ShardBench` gives a shard its ids and its time, writes its rows into a `StoreModel`, keeps what
each agent was told, and after every step compares the shard's memory with what `derive` says of the
rows. Tasks are named by their ids; a run that is not named is the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from itertools import count
from typing import Any

from controlplane.core.effects import (
    AppliedRow,
    AssignMessage,
    CancelMessage,
    Effects,
    LeaseMessage,
    ResultAckMessage,
)
from controlplane.core.events import (
    AgentGone,
    ApplyDag,
    Beat,
    CancelRun,
    DecideApproval,
    Event,
    Finished,
    Inventory,
    PauseDag,
    Rejected,
    RestoredRecord,
    Started,
    Subject,
    TriggerRun,
    Unreadable,
)
from controlplane.core.fleet.placement import Fleet
from controlplane.core.graph.edges import TaskEdges, compile_edges
from controlplane.core.shard.book import SetAside
from controlplane.core.shard.shard import Shard
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.time.deadlines import Now
from controlplane.core.time.leases import LeaseTimes
from controlplane.core.types import (
    DagKey,
    DagVersion,
    OnDisconnect,
    Resources,
    RetryPolicy,
    ScheduleDef,
    TaskDef,
    TriggerRule,
    uuid7,
)
from tests.unit.core.store_model import StoreModel

NOON_US = 1_750_075_200_000_000  # 2025-06-16 12:00:00 UTC
GIB = 1 << 30
NO_RETRY = RetryPolicy()
OPEN = (
    TaskState.WAITING,
    TaskState.READY,
    TaskState.BACKOFF,
    TaskState.AWAITING_APPROVAL,
)
LEASES = LeaseTimes()
# An attempt whose agent is not heard of is given up after more than this.
LOST_MS = LEASES.lease_ms + LEASES.grace_ms + LEASES.drift_ms


def cores(number: float, gib: float = 0) -> Resources:
    return Resources(int(number * 1_000), int(gib * GIB))


def retries(attempts: int, backoff_ms: int = 1_000) -> RetryPolicy:
    return RetryPolicy(attempts, backoff_ms, 2.0, max(backoff_ms, 60_000), 0.0)


def dag(
    parents: Mapping[str, str],
    *,
    name: str = "etl",
    retry: RetryPolicy = NO_RETRY,
    after_all: Iterable[str] = (),
    requests: Mapping[str, Resources] | None = None,
    priorities: Mapping[str, int] | None = None,
    schedules: Mapping[str, str] | None = None,
    run_timeout_ms: int = 0,
    max_active_runs: int = 0,
    once: Iterable[str] = (),
    disconnect: Mapping[str, tuple[OnDisconnect, int]] | None = None,
) -> DagVersion:
    """A version from `{task: "parent parent …"}`. Edits change it.

    `after_all` are ALL_DONE, `once` not idempotent; `disconnect` gives policy and overtime.
    """
    requests, priorities, disconnect = requests or {}, priorities or {}, disconnect or {}
    edges, problems = compile_edges([TaskEdges(t, p.split()) for t, p in parents.items()])
    assert edges is not None, problems
    tasks = tuple(
        TaskDef(
            task,
            requests.get(task, cores(1)),
            TriggerRule.ALL_DONE if task in set(after_all) else TriggerRule.ALL_SUCCESS,
            retry,
            priorities.get(task, 0),
            f"run {task}".encode(),
            task not in set(once),
            *disconnect.get(task, (OnDisconnect.FENCE, 0)),
        )
        for task in parents
    )
    timetables = tuple(ScheduleDef(*item) for item in (schedules or {}).items())
    content = repr((tuple(parents.items()), tasks, timetables, run_timeout_ms, max_active_runs))
    digest = content.encode()
    key = DagKey("acme", name)
    return DagVersion(key, digest, tasks, edges, timetables, run_timeout_ms, max_active_runs)


class Steps:
    """One shard and its store: time, steps, recovery."""

    def __init__(self, shard: int = 0, fleet: Fleet | None = None) -> None:
        self.number = shard
        self.fleet = fleet or Fleet()
        self.store = StoreModel()
        self.now = Now(NOON_US, 1_000)
        self.serials = count(shard * 1_000_000 + 1)
        self.shard = Shard(shard, self.fleet, self.now)
        self.effects = Effects()
        self.messages: list[object] = []
        self.next_key = shard * 1_000_000 + 1
        # What each agent was told to run and has not reported: attempt id → its start, or 0.
        self.held: dict[str, dict[bytes, int]] = {}
        self.subjects: dict[bytes, Subject] = {}
        self.run_id = b""

    def serial(self) -> bytes:
        return next(self.serials).to_bytes(16, "big")

    def offer(self) -> None:
        """Fewer ids than the shard keeps: a bench makes many shards."""
        few = min(self.shard.attempt_ids_wanted, 64)
        self.shard.offer_attempt_ids([self.serial() for _ in range(few)])
        first, self.next_key = self.next_key, self.next_key + self.shard.run_keys_wanted
        self.shard.offer_run_keys(range(first, self.next_key))

    def step(self, *events: Event) -> Effects:
        """One step whose commit succeeds."""
        self.offer()
        missing = self.shard.missing_versions(events)
        self.shard.offer_versions([self.store.specs[item] for item in sorted(missing)])
        self.effects = effects = self.shard.step(events, self.now)
        self.store.apply(effects.writes)
        self.messages += effects.messages
        for message in effects.messages:
            self._deliver(message)
        self.check()
        return effects

    def _deliver(self, message: object) -> None:
        if isinstance(message, AssignMessage):
            self.held.setdefault(message.agent, {})[message.attempt_id] = 0
            said = (message.attempt_id, message.run_id, message.task, message.number)
            self.subjects[message.attempt_id] = Subject(*said)

    def wait(self, ms: int) -> Effects:
        """Time passes; then a step."""
        self.now = Now(self.now.wall_us + ms * 1_000, self.now.mono_ms + ms)
        return self.step()

    @property
    def timers(self) -> list[str]:
        """What timers are armed, by kind; one for the leases of each agent is always there."""
        armed = (type(item).__name__ for item in self.shard._book.wheel._payload if item)
        return sorted(name for name in armed if name != "LeaseDue")

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to do unless something happens."""
        deadline = self.shard.next_deadline()
        return not self.timers and (deadline is None or deadline > self.now.mono_ms)

    def settle(self) -> None:
        """Steps until no deadline is due."""
        while (deadline := self.shard.next_deadline()) is not None and deadline <= self.now.mono_ms:
            self.step()

    def recover(self, *unreadable: DagVersion) -> tuple[SetAside, ...]:
        """Another leader takes over: memory is lost, agents are yet to say what they hold. Some
        versions it cannot read.
        """
        self.fleet.forget(self.number)
        self.shard = Shard(self.number, self.fleet, self.now)
        stored = self.store.recovered()
        stored = stored._replace(
            versions=tuple(each for each in stored.versions if each not in unreadable),
            unreadable=tuple(Unreadable(each.key, each.digest, "torn") for each in unreadable),
        )
        aside = self.shard.recover(stored, self.now)
        self.check()
        return aside

    def put_back(self, backup: StoreModel) -> None:
        """The store is as it was once, which was found out, and another leader takes over."""
        epoch = self.store.epoch + 1_000
        self.store = deepcopy(backup)
        self.store.epoch = epoch
        self.store.restored = RestoredRecord(epoch, self.now.wall_us, 2, "put back")
        self.recover()

    def check(self) -> None:
        """Memory and rows tell the same of every run."""
        book = self.shard._book
        for number, row in self.store.runs.items():
            derived = self.store.derived(number)
            if row.state.final:
                assert self.store.sealed[number] == bytes(derived)
                assert row.run_id not in book.runs
            if row.state.final or row.run_id in book.runs_aside:
                continue
            run = book.runs[row.run_id]
            assert run.state is row.state
            seen = [_as_stored(run, task, stored) for task, stored in enumerate(derived)]
            assert [TaskState(s) for s in seen] == [TaskState(s) for s in derived]
            assert sorted(run.live) == sorted(t for r, t in self.store.live if r == number)
        live = {row.attempt_id for row in self.store.live.values()}
        assert set(book.attempts) == live - book.attempts_aside


class Views(Steps):
    """What is seen of a shard."""

    def row(self, run_id: bytes = b"") -> Any:
        wanted = run_id or self.run_id
        return next(row for row in self.store.runs.values() if row.run_id == wanted)

    def state(self, run_id: bytes = b"") -> RunState:
        return RunState(self.row(run_id).state)

    def reason(self, run_id: bytes = b"") -> str:
        return self.store.reasons.get(self.row(run_id).run, "")

    def tasks(self, run_id: bytes = b"") -> dict[str, str]:
        """State of every task: from memory while the run is live, then as it was sealed."""
        row = self.row(run_id)
        run = self.shard._book.runs.get(row.run_id)
        states = run.tasks if run is not None else self.store.sealed[row.run]
        names = (item.task for item in self.store.version_of(row).tasks)
        return {name: TaskState(state).name for name, state in zip(names, states, strict=True)}

    def of(self, kind: type[Any]) -> list[Any]:
        """Messages of a kind that the last step sent."""
        return [message for message in self.effects.messages if isinstance(message, kind)]

    @property
    def assigned(self) -> list[str]:
        """Tasks that the last step assigned, in order."""
        return [message.task for message in self.of(AssignMessage)]

    @property
    def cancelled(self) -> list[bytes]:
        """Attempts that the last step asked to stop."""
        return [message.attempt_id for message in self.of(CancelMessage)]

    @property
    def extended(self) -> list[str]:
        """Agents whose attempts the last step let run on."""
        return [message.agent for message in self.of(LeaseMessage)]

    @property
    def late(self) -> list[tuple[AttemptState, bool]]:
        """Late results that the last step recorded: state, and whether it was adopted."""
        return [(row.state, row.adopted) for row in self.effects.writes.late]

    @property
    def acknowledged(self) -> list[bytes]:
        """Attempts whose results the last step acknowledged."""
        return [message.attempt_id for message in self.of(ResultAckMessage)]

    def holder(self, task: str, run_id: bytes = b"") -> tuple[str, bytes]:
        """Agent and id of the live attempt of a task."""
        run = self.row(run_id)
        names = [item.task for item in self.store.version_of(run).tasks]
        live = self.store.live[run.run, names.index(task)]
        return live.agent, live.attempt_id


class ShardBench(Views):
    """One shard, its store, and its agents."""

    # Commands

    def command(self, event: Any) -> AppliedRow:
        """Gives a command (its number is set here) and returns what became of it."""
        number = next(self.serials)
        self.step(event._replace(command=number))
        return self.store.applied[number]

    def applying(self, version: DagVersion, etag: str = "") -> ApplyDag:
        self.store.specs[version.key, version.digest] = version
        return ApplyDag(next(self.serials), version, etag)

    def apply(self, version: DagVersion, etag: str = "") -> AppliedRow:
        return self.command(self.applying(version, etag))

    def triggering(self, name: str = "etl") -> TriggerRun:
        self.run_id = uuid7(self.now.wall_us, self.serial())
        key = DagKey("acme", name)
        return TriggerRun(next(self.serials), key, self.run_id, self.now.wall_us)

    def trigger(self, name: str = "etl") -> bytes:
        self.command(self.triggering(name))
        return self.run_id

    def start(self, version: DagVersion) -> bytes:
        """Applies a version and triggers a run of it."""
        self.apply(version)
        return self.trigger(version.key.dag)

    def cancelling(self, run_id: bytes = b"", reason: str = "no longer wanted") -> CancelRun:
        key = DagKey("acme", "etl")
        return CancelRun(next(self.serials), key, run_id or self.run_id, reason)

    def cancel(self, run_id: bytes = b"", reason: str = "no longer wanted") -> AppliedRow:
        return self.command(self.cancelling(run_id, reason))

    def deciding(self, task: str, *, approved: bool, reason: str = "looked") -> DecideApproval:
        key = DagKey("acme", "etl")
        return DecideApproval(next(self.serials), key, self.run_id, task, approved, reason)

    def decide(self, task: str, *, approved: bool, reason: str = "looked") -> AppliedRow:
        return self.command(self.deciding(task, approved=approved, reason=reason))

    def pause(self, *, paused: bool = True, name: str = "etl") -> AppliedRow:
        return self.command(PauseDag(0, DagKey("acme", name), paused, "maintenance"))

    # Agents

    def connect(
        self, agent: str = "ant", size: Resources | None = None, grant: bool = True
    ) -> None:
        """A session begins: the agent's capacity is known, and by default all is granted."""
        capacity = size or cores(4, 16)
        self.fleet.connect(agent, b"life-1-of-" + agent.encode(), capacity)
        if grant:
            self.fleet.grant(agent, capacity)

    def agent(self, agent: str = "ant", size: Resources | None = None) -> None:
        """An agent that holds nothing connects."""
        self.connect(agent, size)
        self.inventory(agent)

    def inventory(
        self,
        agent: str = "ant",
        *,
        live: Mapping[bytes, int] | None = None,
        finished: Iterable[Finished] = (),
        incarnation: bytes = b"",
    ) -> Effects:
        """The agent says what it holds: by default what it was told and has not reported."""
        if live is None:
            live = self.held.get(agent, {})
        life = incarnation or self.fleet.room(agent).incarnation
        ends = tuple(finished)
        ids = (*live, *(end.attempt_id for end in ends))
        subjects = tuple(self.subjects[each] for each in ids if each in self.subjects)
        return self.step(Inventory(agent, life, tuple(live.items()), ends, subjects))

    def gone(self, agent: str = "ant") -> None:
        self.fleet.disconnect(agent)
        self.step(AgentGone(agent))

    def beat(self, agent: str = "ant", incarnation: bytes = b"") -> Effects:
        return self.step(Beat(agent, incarnation or self.fleet.room(agent).incarnation))

    def live_on(self, ms: int, *agents: str) -> None:
        """Time passes, and agents beat at its end."""
        self.wait(ms)
        for agent in agents or ("ant",):
            self.beat(agent)

    def room(self) -> Effects:
        return self.step()

    # Attempts

    def result(
        self,
        task: str,
        state: AttemptState = AttemptState.SUCCEEDED,
        run_id: bytes = b"",
        message: str = "",
    ) -> Finished:
        """The report that the live attempt of a task has ended; the agent forgets it."""
        agent, attempt_id = self.holder(task, run_id)
        self.held.get(agent, {}).pop(attempt_id, None)
        return finished(agent, attempt_id, state, self.now.wall_us, message)

    def finish(self, *tasks: str, run_id: bytes = b"") -> Effects:
        return self.step(*(self.result(task, run_id=run_id) for task in tasks))

    def fail(self, *tasks: str, message: str = "") -> Effects:
        failed = AttemptState.FAILED
        return self.step(*(self.result(task, failed, message=message) for task in tasks))

    def stopped(self, *tasks: str) -> Effects:
        """The agent has stopped the tasks, as it was asked."""
        return self.step(*(self.result(task, AttemptState.CANCELLED) for task in tasks))

    def started(self, task: str) -> Effects:
        return self.spawned(*self.holder(task))

    def spawned(self, agent: str, attempt_id: bytes) -> Effects:
        self.held[agent][attempt_id] = self.now.wall_us
        return self.step(Started(agent, attempt_id, self.now.wall_us))

    def reject(self, task: str, message: str = "full") -> Effects:
        agent, attempt_id = self.holder(task)
        self.held.get(agent, {}).pop(attempt_id, None)
        return self.step(Rejected(agent, attempt_id, message))


def _as_stored(run: Any, task: int, stored: int) -> int:
    """The state in memory, with what the store need not know taken away."""
    state = run.tasks[task]
    if not run.state.starts_tasks and run.state is not RunState.QUEUED and state in OPEN:
        return TaskState.CANCELLED
    if state == TaskState.RUNNING and stored == TaskState.ASSIGNED:
        return TaskState.ASSIGNED  # the start of a short attempt is not stored
    if state == TaskState.READY and task in run.waits:
        return TaskState.BACKOFF  # the row stays until the next attempt is assigned
    return int(state)


def finished(
    agent: str, attempt_id: bytes, state: AttemptState, at_us: int, message: str = ""
) -> Finished:
    exit_code = 0 if state is AttemptState.SUCCEEDED else 1
    return Finished(agent, attempt_id, state, at_us - 500, at_us, exit_code, 0, 10, 20, message)


def running(parents: Mapping[str, str] | None = None, **options: Any) -> ShardBench:
    """A bench with one agent of four cores and a run that has begun."""
    bench = ShardBench()
    bench.agent()
    bench.start(dag(parents or {"a": ""}, **options))
    return bench
