"""Random DAGs and random days in the life of a shard.

A `Move` names no ids: it is a verb and a number, and a `Player` takes the number modulo what there
is to choose from. So one story can be played on two benches and compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from controlplane.core.effects import AssignMessage, WaitKind
from controlplane.core.events import CancelRun, DecideApproval, Finished, Rejected
from controlplane.core.fleet.placement import Fleet
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS
from controlplane.core.shard.shard import Shard
from controlplane.core.states import FINAL_TASK, AttemptState, TaskState
from controlplane.core.types import DagKey, DagVersion, OnDisconnect, TriggerRule
from tests.unit.core.bench import LEASES, LOST_MS, ShardBench, cores, dag, finished, retries

MOST_TASKS = 8
KEY = DagKey("acme", "etl")
ENDS = {
    "succeed": AttemptState.SUCCEEDED,
    "fail": AttemptState.FAILED,
    "time out": AttemptState.TIMED_OUT,
    "stop": AttemptState.CANCELLED,
}
VERBS = (
    *ENDS,
    "start",
    "reject",
    "lose",
    "repeat",
    "cancel",
    "trigger",
    "pass time",
    "unplug",
    "plug",
    "beat",
    "silence",
    "succeed late",
    "fail late",
    "approve",
    "deny",
)
GIVEN_UP = (AttemptState.LOST, AttemptState.UNKNOWN)
# Ends that say nothing about the task.
RETURNED = (AttemptState.REJECTED, *GIVEN_UP)
OVERTIME_MS = 20_000
POLICIES = (
    (OnDisconnect.FENCE, 0),
    (OnDisconnect.CONTINUE, OVERTIME_MS),
    (OnDisconnect.RETRY, OVERTIME_MS),
)
# Clocks drift apart in an overtime, too.
DRIFT_MS = -(-LEASES.drift_ms * OVERTIME_MS // LEASES.lease_ms)
# After it everything is given up that was live before, also after a takeover in between.
SILENCE_MS = LOST_MS + OVERTIME_MS + DRIFT_MS + LEASES.authority_ms + 1


class Move(NamedTuple):
    """Something that happens, to the `choice`-th of what it can happen to."""

    verb: str
    choice: int


moves = st.lists(
    st.builds(Move, st.sampled_from(VERBS), st.integers(0, 1_000)), min_size=1, max_size=40
)


@st.composite
def versions(draw: st.DrawFn) -> DagVersion:
    """Any DAG of a few tasks, with any trigger rules, retries and limits."""
    size = draw(st.integers(1, MOST_TASKS))
    parents = {}
    for number in range(size):
        mine = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        parents[f"t{number}"] = " ".join(f"t{parent}" for parent in sorted(mine))
    order = draw(st.permutations(list(parents)))
    once = draw(st.sets(st.sampled_from(order)))
    return dag(
        {task: parents[task] for task in order},
        retry=retries(draw(st.integers(1, 3)), backoff_ms=1_000),
        after_all=draw(st.sets(st.sampled_from(order))),
        priorities={task: draw(st.integers(0, 2)) for task in order},
        run_timeout_ms=draw(st.sampled_from([0, 0, 7_000])),
        max_active_runs=draw(st.integers(0, 2)),
        once=once,
        disconnect={task: draw(st.sampled_from(POLICIES)) for task in order if task not in once},
    )


class Moves:
    """All that can happen, on a bench with two agents."""

    def __init__(self, version: DagVersion, size_cores: int = 64) -> None:
        self.bench = ShardBench()
        self.version = version
        self.size = cores(size_cores)
        self.plugged = {"ant": True, "bee": True}
        for agent in self.plugged:
            self.bench.agent(agent, self.size)
        self.bench.start(version)
        self.reported: list[Finished] = []
        self.final: dict[tuple[int, int], int] = {}

    def _chosen(self, choice: int) -> tuple[str, bytes] | None:
        """A live attempt of an agent that is there to speak of it."""
        rows = [row for _, row in sorted(self.bench.store.live.items()) if self.plugged[row.agent]]
        if not rows:
            return None
        row = rows[choice % len(rows)]
        return row.agent, row.attempt_id

    def _end(self, choice: int, state: AttemptState) -> None:
        if chosen := self._chosen(choice):
            self.bench.held[chosen[0]].pop(chosen[1], None)
            event = finished(*chosen, state, self.bench.now.wall_us)
            self.reported.append(event)
            self.bench.step(event)

    def _start(self, choice: int) -> None:
        if chosen := self._chosen(choice):
            self.bench.spawned(*chosen)

    def _reject(self, choice: int) -> None:
        if chosen := self._chosen(choice):
            self.bench.held[chosen[0]].pop(chosen[1], None)
            self.bench.step(Rejected(*chosen, "full"))
            self.bench.wait(REFUSAL_PAUSE_MS)

    def _lose(self, choice: int) -> None:
        """The agent stops and has to kill the attempt."""
        self._end(choice, AttemptState.LOST)
        self.bench.wait(REFUSAL_PAUSE_MS)

    def _repeat(self, choice: int) -> None:
        """An old report arrives once more, with another outcome: nothing may change."""
        if self.reported:
            event = self.reported[choice % len(self.reported)]
            effects = self.bench.step(event._replace(state=AttemptState.FAILED))
            assert not effects.writes.done
            assert self.bench.acknowledged == [event.attempt_id]

    def _cancel(self, choice: int) -> None:
        runs = sorted(self.bench.store.runs)
        row = self.bench.store.runs[runs[choice % len(runs)]]
        self.bench.command(CancelRun(0, KEY, row.run_id, "by hand"))

    def _trigger(self, choice: int) -> None:
        del choice
        if len(self.bench.store.runs) < 4:
            self.bench.trigger()

    def _pass_time(self, choice: int) -> None:
        """So little that nothing is given up within a story but by a silence."""
        self.bench.wait((1, 500, 1_000, 2_000)[choice % 4])

    def _unplug(self, choice: int) -> None:
        agent = ("ant", "bee")[choice % 2]
        if self.plugged[agent]:
            self.plugged[agent] = False
            self.bench.gone(agent)

    def _plug(self, choice: int) -> None:
        agent = ("ant", "bee")[choice % 2]
        if not self.plugged[agent]:
            self.plugged[agent] = True
            self.bench.agent(agent, self.size)

    def _beat(self, choice: int) -> None:
        agent = ("ant", "bee")[choice % 2]
        self.bench.beat(agent)
        live = any(row.agent == agent for row in self.bench.store.live.values())
        assert self.bench.extended == [agent] * (live and self.plugged[agent])

    def _silence(self, choice: int) -> None:
        """Nobody is heard of: everything that was live before is given up."""
        del choice
        before = {row.attempt_id for row in self.bench.store.live.values()}
        self.bench.wait(SILENCE_MS)
        assert not before & {row.attempt_id for row in self.bench.store.live.values()}
        self.bench.wait(REFUSAL_PAUSE_MS)

    def _succeed_late(self, choice: int) -> None:
        self._end_late(choice, AttemptState.SUCCEEDED)

    def _fail_late(self, choice: int) -> None:
        self._end_late(choice, AttemptState.FAILED)

    def _end_late(self, choice: int, state: AttemptState) -> None:
        """An attempt that was given up has ended after all; its agent says so once."""
        told = {event.attempt_id for event in self.reported}
        ids = [
            row.attempt_id
            for row in self.bench.store.history
            if row.state in GIVEN_UP and row.attempt_id not in told
        ]
        if ids:
            attempt_id = sorted(ids)[choice % len(ids)]
            event = finished(self._agent_of(attempt_id), attempt_id, state, self.bench.now.wall_us)
            self.reported.append(event)
            self.bench.held[event.agent].pop(attempt_id, None)
            self.bench.step(event)
            assert self.bench.acknowledged == [attempt_id]
            assert not self.bench.effects.writes.done

    def _agent_of(self, attempt_id: bytes) -> str:
        return next(
            message.agent
            for message in self.bench.messages
            if isinstance(message, AssignMessage) and message.attempt_id == attempt_id
        )

    def _approve(self, choice: int) -> None:
        self._decide(choice, approved=True)

    def _deny(self, choice: int) -> None:
        self._decide(choice, approved=False)

    def _decide(self, choice: int, *, approved: bool) -> None:
        """What a person says of a task; most often one that waits for it."""
        store = self.bench.store
        waits = sorted(place for place, row in store.waits.items() if row.kind == WaitKind.APPROVAL)
        run, task = waits[choice % len(waits)] if waits else (min(store.runs), 0)
        name = self.version.tasks[task].task
        run_id = store.runs[run].run_id
        row = self.bench.command(DecideApproval(0, KEY, run_id, name, approved, "looked"))
        assert (row.detail == "") == bool(waits)


class Player(Moves):
    """Plays moves and checks what holds after each."""

    def play(self, move: Move) -> None:
        """One move; what there is nothing for does nothing."""
        if move.verb in ENDS:
            self._end(move.choice, ENDS[move.verb])
        else:
            getattr(self, "_" + move.verb.replace(" ", "_"))(move.choice)
        self.expect_order()
        self.expect_final()

    def recover(self) -> None:
        """Another leader takes over, and the agents that are there report."""
        self.bench.recover()
        for agent, plugged in self.plugged.items():
            if plugged:
                self.bench.inventory(agent)

    def finish_everything(self) -> None:
        """Agents come back, every attempt succeeds, and time passes while something waits."""
        for choice in (0, 1):
            self._plug(choice)
        for _ in range(1_000):
            if not self.bench.shard.live_runs:
                return
            self._approve(0)
            if self.bench.store.live:
                self._end(0, AttemptState.SUCCEEDED)
                self.expect_order()
            else:
                self.bench.wait(1_000)
        raise AssertionError(self.bench.tasks())

    def expect_order(self) -> None:
        """Every attempt that the last step assigned had the right to start."""
        for row in self.bench.effects.writes.live:
            final = _final_tasks(self, row.run)
            for parent in _parents(self.version, row.task):
                rule = self.version.tasks[row.task].rule
                wanted = {TaskState.SUCCEEDED}
                if rule is TriggerRule.ALL_DONE:
                    wanted |= {TaskState.FAILED, TaskState.UPSTREAM_FAILED}
                assert final[parent] in wanted

    def expect_final(self) -> None:
        """What was final before is what it was."""
        book: Any = self.bench.shard._book
        known = {run: kept.tasks for run, kept in book.runs_by_number.items()}
        known.update(self.bench.store.sealed)
        for run, states in known.items():
            for task, state in enumerate(states):
                before = self.final.get((run, task), state)
                assert before == state
                if FINAL_TASK[state]:
                    self.final[run, task] = state

    def expect_same_memory(self) -> None:
        """A leader that takes over now knows what this one knows."""
        bench = self.bench
        other = Shard(bench.number, Fleet(), bench.now)
        other.recover(bench.store.recovered(), bench.now)
        assert _memory(other) == _memory(bench.shard)

    def outcome(self) -> list[object]:
        """Everything that a reader could see in the end, without ids and times."""
        store = self.bench.store
        places = {run: place for place, run in enumerate(sorted(store.runs))}
        attempts = [
            (places[row.run], row.task, store.numbers[row.attempt_id], row.state)
            for row in store.history
        ]
        runs = [(store.runs[run].state, store.sealed.get(run)) for run in sorted(store.runs)]
        return [sorted(attempts), runs]


def _memory(shard: Shard) -> dict[bytes, Any]:
    """What a shard knows of its live runs, without what the store need not know."""
    book: Any = shard._book
    entries = [entry for heap in book.queue._shapes.values() for entry in heap]
    ready = {(run.run_id, task) for *_, run, task in entries if run.tasks[task] == TaskState.READY}
    return {run_id: _run_memory(run, ready) for run_id, run in book.runs.items()}


def _run_memory(run: Any, ready: set[tuple[bytes, int]]) -> list[object]:
    live = {
        task: (attempt.attempt_id, attempt.agent, attempt.incarnation, attempt.number)
        for task, attempt in run.live.items()
    }
    head = [run.state, run.reason, run.started_us, live]
    if not run.state.starts_tasks:
        return head
    waiting = [
        task
        for task, state in enumerate(run.tasks)
        if state in (TaskState.READY, TaskState.BACKOFF, TaskState.AWAITING_APPROVAL)
    ]
    return [
        *head,
        {task: run.next_number(task) for task in waiting},
        {task: due_us for task, (_, due_us) in run.waits.items()},
        {task: run.lost.get(task) for task in waiting},
        {task for task in waiting if (run.run_id, task) in ready and task not in run.waits},
        (run.open_tasks, run.failed, list(run.pending)),
    ]


def _parents(version: DagVersion, task: int) -> list[int]:
    edges = version.edges
    return [
        parent
        for parent in range(len(version.tasks))
        if task in edges.children[edges.starts[parent] : edges.starts[parent + 1]]
    ]


def _final_tasks(player: Player, run: int) -> dict[int, TaskState]:
    """A naive reading of the rules: walks the DAG from its roots, over the history alone."""
    store, version = player.bench.store, player.version
    own = {}
    adopted = {late.attempt_id for late in store.late.values() if late.adopted}
    for (owner, task), wait in store.waits.items():
        if owner == run and wait.kind == WaitKind.MARK:
            own[task] = TaskState.FAILED
    for row in store.history:
        if row.run == run and row.attempt_id in adopted:
            own[row.task] = TaskState.SUCCEEDED
        elif row.run == run and row.state not in RETURNED:
            spent = store.numbers[row.attempt_id] >= version.tasks[row.task].retry.max_attempts
            if row.state is AttemptState.SUCCEEDED:
                own[row.task] = TaskState.SUCCEEDED
            elif spent:
                own[row.task] = TaskState.FAILED
    for task in version.edges.order:
        above = [own.get(parent) for parent in _parents(version, task)]
        blocked = TaskState.FAILED in above or TaskState.UPSTREAM_FAILED in above
        if blocked and version.tasks[task].rule is TriggerRule.ALL_SUCCESS:
            own[task] = TaskState.UPSTREAM_FAILED
    return own
