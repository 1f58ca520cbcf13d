"""The failure table: what may go wrong between a commit and the end of an attempt, row by row.

Each story says what became of the attempts and how many processes there were; that no invariant is
broken is checked in all of them.
"""

from __future__ import annotations

from typing import Any

import pytest
from mainspring.v1 import dag_pb2 as pb

from controlplane.core.states import AttemptState, RunState
from tests.sim.hosts import SimHost
from tests.sim.memory_store import Point
from tests.sim.network import LOST, Link
from tests.sim.nodes import TIMES, SimNode
from tests.sim.processes import Plan
from tests.sim.stories import LEASE_S, Story, tell
from tests.sim.virtual import pass_time

SUCCEEDED, CANCELLED = AttemptState.SUCCEEDED, AttemptState.CANCELLED
REJECTED, THE_LOST, UNKNOWN = AttemptState.REJECTED, AttemptState.LOST, AttemptState.UNKNOWN
SHORT, LONG = Plan(0.5), Plan(10.0)
AUTHORITY_S = TIMES.authority_ms / 1_000
NEVER = Plan(1_000.0)


async def once(story: Story) -> None:
    """One attempt, one process, success."""
    assert await story.ends() is RunState.SUCCEEDED
    assert story.states == [SUCCEEDED]
    assert len(story.ids) == 1


async def lost_once(story: Story) -> None:
    """The first attempt was lost, the second one succeeded."""
    assert await story.ends() is RunState.SUCCEEDED
    assert story.states == [THE_LOST, SUCCEEDED]
    assert len(story.ids) == 2


def after(delay_s: float, story: Story, do: Any) -> None:
    story.loop.call_outside(delay_s, do)


# Messages


def test_crash_after_commit_before_send():
    async def script(story: Story) -> None:
        def crash(link: Link, _: Any) -> float:
            story.kill_node(story.nodes[link.node])
            return LOST

        story.on("assigns", crash)
        await story.starts(SHORT)
        await once(story)
        assert story.epoch == 2

    tell(script)


def test_assign_lost():
    async def script(story: Story) -> None:
        story.loses("assigns")
        await story.starts(SHORT)
        await once(story)
        assert story.count("assigns") == 2
        assert story.epoch == 1

    tell(script, nodes=1)


def test_assign_lost_where_another_node_was_granted_the_room_meanwhile():
    """The second sending is refused, which proves that the attempt never ran."""

    async def script(story: Story) -> None:
        story.loses("assigns")
        await story.starts(SHORT)
        assert await story.ends() is RunState.SUCCEEDED
        assert story.states == [REJECTED, SUCCEEDED]
        assert len(story.ids) == 1

    tell(script)


def test_accepted_lost():
    async def script(story: Story) -> None:
        story.loses("accepted")
        await story.starts(LONG)
        await once(story)
        assert story.count("inventories") == 2

    tell(script)


def test_assign_delayed_beyond_its_lease():
    """It waits in the socket of an agent that stands still."""

    async def script(story: Story) -> None:
        def freeze(_link: Link, _: Any) -> float:
            story.host.agent.stop()
            after(LEASE_S + 1.0, story, story.host.agent.go_on)
            return 0.0

        sent: list[int] = []
        story.on("assigns", freeze)
        story.at("Spawn", lambda _: sent.append(story.count("assigns")))
        await story.starts(SHORT)
        await pass_time(LEASE_S)
        assert not story.ids
        await once(story)
        # Spawned when it was sent once more, and not before.
        assert sent == [2]

    tell(script, nodes=1)


def test_paused_leader_sends_with_an_old_epoch():
    """It is stopped when its commit is done and not answered, and goes on when another leads."""

    async def script(story: Story) -> None:
        paused: list[SimNode] = []

        def pause(point: Point, node: str) -> bool:
            if point is Point.ANSWER and not paused and story.database.tables["attempt_live"]:
                paused.append(story.nodes[node])
                paused[0].stop()
            return False

        story.in_store(pause)
        await story.starts(Plan(20.0))
        await story.runs()
        assert story.epoch == 2
        assert story.leader is not paused[0]
        await pass_time(AUTHORITY_S)
        paused[0].go_on()
        await once(story)
        assert story.count("assigns", paused[0].name) == 0

    tell(script)


@pytest.mark.parametrize("lands", [True, False])
def test_commit_outcome_unknown(lands: bool):
    async def script(story: Story) -> None:
        lost: list[Point] = []

        def lose(point: Point, _: str) -> bool:
            if point is not Point.COMMIT or lost or not story.committing_attempt():
                return False
            lost.append(point)
            if lands:
                story.database.land(0)
            return True

        story.in_store(lose)
        await story.starts(SHORT)
        await once(story)
        assert lost
        assert story.epoch == 1

    tell(script)


def test_result_lost():
    async def script(story: Story) -> None:
        story.loses("results")
        await story.starts(SHORT)
        await once(story)
        finished = [f for _, _, f in story.frames if any(i.finished for i in inventories(f))]
        assert len(finished) == 1

    tell(script)


def inventories(frame: Any) -> Any:
    return getattr(frame, "inventories", ())


def test_result_ack_lost():
    async def script(story: Story) -> None:
        story.loses("result_acks")
        await story.starts(SHORT)
        await once(story)
        await story.until(lambda: not len(story.host.agent.core.work.attempts))
        assert story.count("result_acks") == 2
        assert not story.host.disk.claims

    tell(script)


def test_rejected_of_a_first_send_arriving_after_the_second_was_accepted():
    """The first sending meets an agent that stops; its next start takes the second one over."""

    async def script(story: Story) -> None:
        said: list[tuple[Any, Any]] = []

        def stop(_link: Link, _: Any) -> float:
            story.host.agent.ask_to_end(handing_over=False)
            return 0.0

        def withhold(link: Link, frame: Any) -> float:
            said.append((link.to_node, frame))
            return LOST

        story.on("assigns", stop)
        story.on("rejected", withhold)
        await story.starts(LONG)
        await story.runs()
        [(to_node, refusal)] = said
        assert refusal.rejected[0].attempt_id == story.ids[0]
        to_node(refusal)
        await once(story)

    tell(script, nodes=1)


def test_inventory_taken_while_an_assign_is_in_flight():
    """The next leader has the inventory, and sends anew, before the first sending arrives."""

    async def script(story: Story) -> None:
        def take_key_away(link: Link, _: Any) -> float:
            story.nodes[link.node].election.sees_etcd = False
            story.keys.remove(0)
            return 2.5

        story.on("assigns", take_key_away)
        await story.starts(LONG)
        await story.runs()
        assert story.epoch == 2
        assert story.count("assigns") == 2
        await once(story)

    tell(script)


# Nodes


def test_failover_mid_run():
    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        story.kill_node(story.leader)
        await once(story)
        assert story.epoch == 2

    tell(script)


def test_takeover_committed_but_its_answer_lost():
    async def script(story: Story) -> None:
        lost: list[Point] = []

        def lose(point: Point, _: str) -> bool:
            first = point is Point.ANSWER and not lost
            if first:
                lost.append(point)
            return first

        story.in_store(lose)
        await story.starts(SHORT)
        await once(story)
        assert lost
        assert story.epoch == 1

    tell(script)


# Agents and supervisors


def crash_agent(host: SimHost) -> None:
    host.crash_agent()
    host.loop.call_outside(0.3, host.start_agent)


@pytest.mark.parametrize("point", ["Spawn", "Send"])
def test_agent_restart_between_accepted_and_spawn(point: str):
    async def script(story: Story) -> None:
        await story.starts(SHORT)
        story.on("assigns", lambda *_: story.at(point, crash_agent) or 0.0)
        await once(story)
        assert story.host.agent.core.sessions.welcomed()

    tell(script)


@pytest.mark.parametrize("point", ["claimed", "spawned"])
def test_agent_restart_between_spawn_and_started(point: str):
    async def script(story: Story) -> None:
        story.at(point, crash_agent)
        await story.starts(LONG)
        await once(story)

    tell(script)


def test_agent_restart_while_running():
    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        for _ in range(5):
            await pass_time(1.0)
            crash_agent(story.host)
        await once(story)

    tell(script)


def test_agent_restart_after_finished_before_report():
    async def script(story: Story) -> None:
        def crash(_link: Link, _: Any) -> float:
            crash_agent(story.host)
            return LOST

        story.on("results", crash)
        await story.starts(SHORT)
        await once(story)

    tell(script)


def test_supervisor_killed():
    async def script(story: Story) -> None:
        await story.starts(LONG, SHORT)
        await story.runs()
        await pass_time(1.0)
        story.host.crash_supervisor()
        await pass_time(0.01)
        assert not story.alive
        await lost_once(story)
        assert "supervisor ended" in story.messages[0]

    tell(script)


def test_supervisor_killed_between_claim_and_spawn():
    async def script(story: Story) -> None:
        story.at("claimed", SimHost.crash_supervisor)
        await story.starts(SHORT)
        assert await story.ends() is RunState.SUCCEEDED
        assert story.states == [THE_LOST, SUCCEEDED]
        assert len(story.ids) == 1

    tell(script)


def test_agent_and_supervisor_killed():
    async def script(story: Story) -> None:
        await story.starts(LONG, SHORT)
        await story.runs()
        story.host.crash_supervisor()
        crash_agent(story.host)
        await lost_once(story)

    tell(script)


def test_agent_dead_for_three_leases():
    """Its task would run on for long: the supervisor ends it with its lease, the shard waits."""

    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT)
        await story.runs()
        host = story.hosts[story.places[0]]
        dead_s = story.loop.time()
        host.crash_agent()
        after(3 * LEASE_S, story, host.start_agent)
        await story.until(lambda: not story.alive, within_s=LEASE_S + 1.5)
        await story.runs(2)
        assert story.loop.time() - dead_s > LEASE_S + 2.0
        await lost_once(story)
        assert story.places[0] != story.places[1]
        await story.until(lambda: story.late)
        assert story.late == [(THE_LOST, False)]

    tell(script, agents=2)


def test_agent_dead_for_three_leases_with_a_task_that_must_not_be_done_twice():
    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT, idempotent=False)
        await story.runs()
        host = story.hosts[story.places[0]]
        host.crash_agent()
        after(3 * LEASE_S, story, host.start_agent)
        await story.until(story.people.waits)
        await pass_time(LEASE_S)
        assert len(story.ids) == 1
        story.people.decide(story.people.waits()[0], approved=True)
        assert await story.ends() is RunState.SUCCEEDED
        assert story.states == [UNKNOWN, SUCCEEDED]

    tell(script, agents=2)


def test_host_reboot():
    async def script(story: Story) -> None:
        await story.starts(LONG, SHORT)
        await story.runs()
        await pass_time(1.0)
        story.host.go_down()
        after(5.0, story, story.host.come_up)
        await lost_once(story)
        assert "rebooted" in story.messages[0]

    tell(script)


def test_host_reboot_before_anything_was_spawned():
    """A claim may have been lost with the boot, so whether it ran is not known."""

    async def script(story: Story) -> None:
        def reboot(host: SimHost) -> None:
            host.go_down()
            after(1.0, story, host.come_up)

        story.at("Spawn", reboot)
        await story.starts(SHORT)
        assert await story.ends() is RunState.SUCCEEDED
        assert story.states == [THE_LOST, SUCCEEDED]
        assert len(story.ids) == 1

    tell(script)


def test_journal_lost():
    """The new incarnation proves nothing about the old one: its time has to pass."""

    async def script(story: Story) -> None:
        await story.starts(LONG, SHORT)
        await story.runs()
        lost_s = story.loop.time()
        story.host.crash_supervisor()
        story.host.crash_agent()
        story.host.wipe()
        story.host.start_agent()
        await lost_once(story)
        assert story.loop.time() - lost_s > LEASE_S + 2.0
        assert "said nothing of it" in story.messages[0]

    tell(script)


def test_journal_cut():
    """What was cut off was never promised: the claim says the rest."""

    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        await pass_time(1.0)
        story.host.crash_agent()
        story.host.disk.cut(5)
        story.host.start_agent()
        await once(story)

    tell(script)


def test_agent_partitioned_longer_than_the_lease_and_returning():
    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT)
        await story.runs()
        host = story.hosts[story.places[0]]
        story.cuts_off(host)
        await story.runs(2)
        assert story.places[1] != host.host
        await pass_time(LEASE_S)
        story.joins(host)
        await lost_once(story)
        await story.until(lambda: story.late)
        assert story.late == [(THE_LOST, False)]

    tell(script, agents=2)


@pytest.mark.parametrize(
    ("promise", "together"),
    [(pb.ON_DISCONNECT_CONTINUE, False), (pb.ON_DISCONNECT_RETRY, True)],
)
def test_agent_partitioned_with_a_task_that_runs_on(promise: int, together: bool):
    """Continue waits for the one that may run on; retry does not."""

    async def script(story: Story) -> None:
        plans = (NEVER, SHORT)
        await story.starts(*plans, on_disconnect=promise, disconnect_limit_s=5.0)
        await story.runs()
        story.cuts_off(story.hosts[story.places[0]])
        await story.runs(2)
        assert (len(story.alive) == 2) is together
        await lost_once(story)

    tell(script, agents=2)


@pytest.mark.parametrize("rate", [0.991, 1.009])
def test_clocks_drift_apart_in_a_long_overtime(rate: float):
    """The longer a task may run on, the further apart are the clocks that end it and wait for it:
    by as much as between two lease-long times one after the other.
    """

    async def script(story: Story) -> None:
        for host in story.hosts.values():
            host.drifts(rate)
        promise = {"on_disconnect": pb.ON_DISCONNECT_CONTINUE, "disconnect_limit_s": 600.0}
        await story.starts(Plan(10_000.0), SHORT, **promise)
        await story.runs()
        story.cuts_off(story.hosts[story.places[0]])
        await story.until(lambda: len(story.ids) == 2, within_s=650.0)
        await lost_once(story)

    tell(script, agents=2)


def test_two_connections_of_one_agent():
    """The node has not noticed that the first one is gone: the newest counts."""

    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        for link in story.network.links:
            link.node_ended = None
        crash_agent(story.host)
        await once(story)
        assert story.count("inventories", "agent-0") == 2

    tell(script)


def test_two_agents_with_one_name():
    async def script(story: Story) -> None:
        await story.starts(LONG)
        story.start_host("agent-0", host="twin")
        await once(story)
        assert story.places == ["agent-0"]
        assert story.count("refusal") > 0
        assert story.count("assigns") == 1
        story.hosts["twin"].go_down()

    tell(script)


@pytest.mark.parametrize("late_s", [0.0, 0.2])
def test_cancel_racing_with_finish(late_s: float):
    async def script(story: Story) -> None:
        def cancel(_link: Link, _: Any) -> float:
            story.people.cancel(*story.people.runs[0])
            return late_s

        story.on("results", cancel)
        await story.starts(SHORT)
        state = await story.ends()
        assert story.states == [SUCCEEDED]
        assert state in (RunState.SUCCEEDED, RunState.CANCELLED)
        assert len(story.ids) == 1

    tell(script)


def test_late_success_after_lost():
    async def script(story: Story) -> None:
        await story.starts(Plan(3.0))
        await story.runs()
        story.cuts_off(story.host)
        await story.until(lambda: story.states == [THE_LOST])
        story.joins(story.host)
        assert await story.ends() is RunState.SUCCEEDED
        assert story.states == [THE_LOST]
        assert story.late == [(SUCCEEDED, True)]
        assert len(story.ids) == 1

    tell(script)


def test_supervisor_told_nothing_for_three_leases():
    """The agent stands still, and nobody extends anything: the supervisor ends what runs."""

    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT)
        await story.runs()
        agent = story.hosts[story.places[0]].agent
        agent.stop()
        after(3 * LEASE_S, story, agent.go_on)
        await story.until(lambda: not story.alive, within_s=LEASE_S + 1.5)
        await lost_once(story)
        await story.until(lambda: story.late)
        assert story.late == [(THE_LOST, False)]

    tell(script, agents=2)


def test_disk_wiped_while_the_old_process_lives():
    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT)
        await story.runs()
        before = story.host.agent
        story.host.wipe()
        story.kill_node(story.leader)
        await story.until(lambda: story.host.agent not in (None, before))
        assert story.host.agent.incarnation != before.incarnation
        assert len(story.alive) == 1
        await lost_once(story)

    tell(script)


# etcd and PostgreSQL


def test_etcd_down_for_three_leases():
    async def script(story: Story) -> None:
        await story.starts(Plan(2 * LEASE_S))
        await story.runs()
        story.hide_etcd(hidden=True)
        await pass_time(3 * LEASE_S)
        await once(story)
        assert story.epoch == 1
        story.people.trigger("story")
        assert await story.ends() is RunState.SUCCEEDED

    tell(script)


@pytest.mark.parametrize("late_s", [0.0, 0.3, 0.6])
def test_etcd_down_in_the_middle_of_a_handover(late_s: float):
    """The shard is led by the one or by the other at any time: no lease of an attempt runs out."""

    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        story.leader.hand_over(0)
        await pass_time(late_s)
        story.hide_etcd(hidden=True)
        await pass_time(3 * LEASE_S)
        await once(story)

    tell(script)


def test_etcd_lying():
    """The key is lost while its leader lives: another one deposes it, and adopts what runs."""

    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        deposed = story.leader
        deposed.election.sees_etcd = False
        story.keys.remove(0)
        await story.until(lambda: story.leader is not deposed)
        await once(story)

    tell(script)


def test_postgresql_down_for_half_a_lease():
    async def script(story: Story) -> None:
        await story.starts(LONG)
        await story.runs()
        story.database_down = True
        await pass_time(LEASE_S / 2)
        story.database_down = False
        await once(story)

    tell(script)


def test_postgresql_down_for_two_leases():
    """Nobody may extend a lease: the tasks are fenced, and done again when it is back."""

    async def script(story: Story) -> None:
        await story.starts(NEVER, SHORT)
        await story.runs()
        story.database_down = True
        await story.until(lambda: not story.alive, within_s=LEASE_S + AUTHORITY_S + 1.5)
        await pass_time(2 * LEASE_S - AUTHORITY_S)
        story.database_down = False
        await lost_once(story)

    tell(script)
