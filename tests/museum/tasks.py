"""Bugs about attempts: called dead too late, too often or on old evidence, or started again."""

from __future__ import annotations

from typing import Any

from controlplane.core.events import Finished
from controlplane.core.run.run import LiveAttempt
from controlplane.core.shard import outcomes
from controlplane.core.shard.late import LateMemory
from controlplane.core.shard.leases import Lane, Leases, Watch
from controlplane.core.shard.outcomes import Outcomes
from controlplane.core.states import AttemptState, RunState, TaskState
from controlplane.core.time.wheel import MAX_DEADLINE_MS
from tests.museum.exhibits import Exhibit, Patch, applies, chain
from tests.sim.hosts import SimHost
from tests.sim.network import LOST, Link
from tests.sim.processes import Plan
from tests.sim.stories import DAG, LEASE_S, Story
from tests.sim.violation import hold
from tests.sim.virtual import pass_time

SUCCEEDED, FAILED, THE_LOST = AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST
SHORT, LONG = Plan(0.5), Plan(12.0)
NEVER = Plan(1_000.0)


def first_host(story: Story) -> SimHost:
    """Where the task was first."""
    return story.hosts[story.places[0]]


def ended_as(story: Story, *states: AttemptState) -> None:
    """How the attempts of the task ended, in order."""
    hold(story.states == list(states), "museum", f"its attempts ended as {story.states}")


# What happened there


async def a_report_on_the_old_try_comes_during_the_new_one(story: Story) -> None:
    """The job of a first try had stopped beating. When it was found out, the task was running for a
    new job already, and it was the new try that was failed for it.
    """
    await story.starts(NEVER, LONG)
    await story.runs()
    story.cuts_off(first_host(story))
    await story.runs(2)
    story.joins(first_host(story))
    await story.until(lambda: story.late)
    hold(story.late == [(THE_LOST, False)], "museum", story.late)
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the new try was failed")
    ended_as(story, THE_LOST, SUCCEEDED)


async def a_worker_dies_before_its_first_heartbeat(story: Story) -> None:
    """A task was looked for by the age of its last heartbeat. One whose worker died before the
    first had none, was never older than anything, and stayed running.
    """

    def dies(link: Link, _: Any) -> float:
        story.hosts[link.agent].go_down()
        return LOST

    story.on("assigns", dies)
    await story.starts(SHORT)
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the run does not succeed")
    ended_as(story, THE_LOST, SUCCEEDED)
    hold(len(story.ids) == 1, "museum", "the dead worker ran something")


async def the_dead_are_cleaned_up_twice(story: Story) -> None:
    """The clean-up of a dead task was ordered twice. The first had it retried, and it succeeded;
    the second found a task that had succeeded, and sent it back to be retried.
    """
    applies(story, chain(DAG, "t", "u"), t=SHORT, u=Plan(6.0))
    story.plans["t"] = [NEVER, SHORT]
    await story.until(lambda: all(host.agent.core.sessions.welcomed() for host in story.up()))
    story.people.trigger(DAG)
    await story.runs()
    # The shard gives it up, and the agent says later that it is dead.
    story.cuts_off(first_host(story))
    await story.until(lambda: "u" in story.spawns)
    story.joins(first_host(story))
    await story.until(lambda: story.late)
    await pass_time(2.0)
    hold(len(story.ids) == 2, "museum", "the task ran again after its success")
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the run does not succeed")
    ended_as(story, THE_LOST, SUCCEEDED, SUCCEEDED)


async def a_death_is_found_three_times(story: Story) -> None:
    """The end of one worker was found several times before anybody acted on it. Each time counted
    as a failed try, and the task failed without ever having been retried.
    """
    spec = chain(DAG, "t")
    spec.tasks[0].retry.max_attempts = 2
    applies(story, spec)
    story.plans["t"] = [NEVER, Plan(0.5, code=1), SHORT]
    await story.until(lambda: all(host.agent.core.sessions.welcomed() for host in story.up()))
    story.people.trigger(DAG)
    await story.runs()
    # Both nodes lead in turn while it is dead, and each looks for itself.
    first_host(story).go_down()
    await pass_time(LEASE_S)
    story.kill_node(story.leader)
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "it was not retried")
    ended_as(story, THE_LOST, FAILED, SUCCEEDED)
    numbers = [row["number"] for row in story.database.tables["attempt"].values()]
    hold(numbers == [1, 1, 2], "museum", f"the tries were counted as {numbers}")


async def a_task_takes_longer_than_the_timeout_of_the_queue(story: Story) -> None:
    """A task that was not acknowledged within the visibility timeout was put on the queue again,
    while its worker was well and still at it: it was done once an hour until it was through.
    """
    await story.starts(Plan(6 * LEASE_S))
    await pass_time(4 * LEASE_S)
    hold(len(story.ids) == 1, "museum", f"the task ran {len(story.ids)} times")
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the run does not succeed")
    ended_as(story, SUCCEEDED)


async def what_was_over_ends_again(story: Story) -> None:
    """A run was given up as crashed, which is final, and people acted on it. Then its process came
    up after all, and the run was completed.
    """
    await story.starts(Plan(2.0))
    await story.runs()
    story.cuts_off(story.host)
    story.people.cancel(*story.people.runs[0])
    hold(await story.ends() is RunState.CANCELLED, "museum", "the run was not cancelled")
    story.joins(story.host)
    await story.until(lambda: story.late)
    [row] = story.database.tables["run"].values()
    hold(story.late == [(SUCCEEDED, False)], "museum", story.late)
    hold(RunState(row["state"]) is RunState.CANCELLED, "museum", "the run ended again")


async def a_worker_goes_down_and_its_slot_stays_taken(story: Story) -> None:
    """What a worker ran when it was shut down stayed running for ever, and kept its slot of the
    concurrency limit: nothing else of the pool was started again.
    """
    spec = chain(DAG, "t")
    spec.max_active_runs = 1
    applies(story, spec)
    story.plans["t"] = [NEVER, SHORT]
    await story.until(lambda: all(host.agent.core.sessions.welcomed() for host in story.up()))
    for _ in range(3):
        story.people.trigger(DAG)
    await story.runs()
    first_host(story).go_down()
    hold(await story.ends() is RunState.SUCCEEDED, "museum", "the other runs did not come")
    ended_as(story, THE_LOST, SUCCEEDED, SUCCEEDED, SUCCEEDED)


# The same bugs, here


def reports_are_of_the_task(patch: Patch) -> None:
    """Whatever is told of an attempt that was given up is taken for the one that runs now."""

    def of_the_task(self: Outcomes, event: Finished) -> None:
        known = self._book.late.take(event.attempt_id)
        if known is not None and known.run is not None and known.task in known.run.live:
            live = known.run.live[known.task]
            self._fail(live, event._replace(state=FAILED, attempt_id=live.attempt_id))

    patch.setattr(Outcomes, "_late", of_the_task)


def the_never_heard_are_not_looked_at(patch: Patch) -> None:
    look = Leases._look

    def of_the_heard(self: Leases, watch: Watch, lane: Lane, over: list[LiveAttempt]) -> int | None:
        if not watch.answered_ms:
            return MAX_DEADLINE_MS - 1
        return look(self, watch, lane, over)

    patch.setattr(Leases, "_look", of_the_heard)


def a_death_is_acted_on_whatever_came_since(patch: Patch) -> None:
    late = Outcomes._late

    def again(self: Outcomes, event: Finished) -> None:
        known = self._book.late._of.get(event.attempt_id)
        late(self, event)
        if known is not None and known.run is not None and event.state is THE_LOST:
            known.run.tasks[known.task] = TaskState.READY
            self._book.queue.push(known.run, known.task, 0)

    patch.setattr(Outcomes, "_late", again)


def a_death_counts_as_a_failure(patch: Patch) -> None:
    come_back = Outcomes._return

    def counted(self: Outcomes, attempt: LiveAttempt) -> None:
        come_back(self, attempt)
        attempt.run.numbers[attempt.task] = attempt.number + 1

    patch.setattr(Outcomes, "_return", counted)


def leases_count_from_the_assignment(patch: Patch) -> None:
    patch.setattr(Leases, "answer", lambda *_: None)


def the_final_is_not_final(patch: Patch) -> None:
    patch.setattr(outcomes, "_decides", lambda *_: True)
    patch.setattr(LateMemory, "close", lambda *_: None)


def nobody_is_given_up(patch: Patch) -> None:
    patch.setattr(Leases, "_look", lambda *_: MAX_DEADLINE_MS - 1)


EXHIBITS = [
    Exhibit(
        "Airflow #17846, #63726",
        a_report_on_the_old_try_comes_during_the_new_one,
        reports_are_of_the_task,
        "I12",
        agents=2,
    ),
    Exhibit(
        "Airflow #66773, #46777",
        a_worker_dies_before_its_first_heartbeat,
        the_never_heard_are_not_looked_at,
        "it does not come to pass",
        agents=2,
    ),
    Exhibit(
        "Airflow #32289",
        the_dead_are_cleaned_up_twice,
        a_death_is_acted_on_whatever_came_since,
        "I11",
        agents=2,
    ),
    Exhibit(
        "Airflow #31212, #42553",
        a_death_is_found_three_times,
        a_death_counts_as_a_failure,
        "I11",
        agents=2,
    ),
    Exhibit(
        "Celery #5935, Kombu #337",
        a_task_takes_longer_than_the_timeout_of_the_queue,
        leases_count_from_the_assignment,
        "the task ran",
    ),
    Exhibit(
        "Prefect #16429",
        what_was_over_ends_again,
        the_final_is_not_final,
        "it does not come to pass",
    ),
    Exhibit(
        "Prefect #16746",
        a_worker_goes_down_and_its_slot_stays_taken,
        nobody_is_given_up,
        "it does not come to pass",
        agents=2,
    ),
]
