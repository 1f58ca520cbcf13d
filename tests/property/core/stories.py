"""Random DAGs and random days in the life of a shard.

A `Move` names no ids: it is a verb and a number, and a `Player` takes the number modulo what there
is to choose from. So one story can be played on two benches and compared.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from controlplane.core.events import CancelRun, Finished, Rejected
from controlplane.core.shard.admission import REFUSAL_PAUSE_MS
from controlplane.core.states import AttemptState, TaskState
from controlplane.core.types import DagKey, DagVersion, TriggerRule
from tests.unit.core.bench import ShardBench, cores, dag, finished, retries

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
)
# Ends that say nothing about the task.
RETURNED = (AttemptState.REJECTED, AttemptState.LOST)


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
    return dag(
        {task: parents[task] for task in order},
        retry=retries(draw(st.integers(1, 3)), backoff_ms=1_000),
        after_all=draw(st.sets(st.sampled_from(order))),
        priorities={task: draw(st.integers(0, 2)) for task in order},
        run_timeout_ms=draw(st.sampled_from([0, 0, 7_000])),
        max_active_runs=draw(st.integers(0, 2)),
    )


class Player:
    """Plays moves on a bench with two agents."""

    def __init__(self, version: DagVersion, size_cores: int = 64) -> None:
        self.bench = ShardBench()
        self.version = version
        self.size = cores(size_cores)
        self.plugged = {"ant": True, "bee": True}
        for agent in self.plugged:
            self.bench.agent(agent, self.size)
        self.bench.start(version)
        self.reported: list[Finished] = []

    def play(self, move: Move) -> None:
        """One move; what there is nothing for does nothing."""
        if move.verb in ENDS:
            self._end(move.choice, ENDS[move.verb])
        else:
            getattr(self, "_" + move.verb.replace(" ", "_"))(move.choice)
        self.expect_order()

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
        self.bench.wait((1, 500, 1_000, 2_000, 4_000)[choice % 5])

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
    for row in store.history:
        if row.run == run and row.state not in RETURNED:
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
