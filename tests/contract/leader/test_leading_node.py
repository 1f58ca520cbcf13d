"""A node that leads, over a real PostgreSQL, a real etcd and real streams."""

import asyncio

import pytest
from mainspring.agent.v1 import session_pb2 as pb

from controlplane.core.effects import CommandOutcome
from controlplane.core.states import RunState
from tests.contract.leader.harness import ScriptedAgent, chain, result, running_node
from tests.servers.until import until


async def test_a_triggered_run_is_assigned_ended_and_recorded(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.adopt()
        state = await node.apply(chain("line", 3))
        assert (state.outcome, state.detail) == (CommandOutcome.APPLIED, "created")
        run_id = await node.trigger("line")
        done = await agent.work(3)
        assert [each.task for each in done] == ["t0", "t1", "t2"]
        await node.run_is(run_id, RunState.SUCCEEDED)
        assert node.stats.times()["result_to_assign"].count == 2
        assert node.stats.counters()["attempts_ended"] == 3
        [row] = await node.store.api.list_agents("", 10)
        assert (row.agent, row.incarnation) == ("agent-1", agent.incarnation)


async def test_all_shards_share_the_stream_and_the_peers_are_told(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd, 3) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.until(lambda agent: set(agent.shards) == {0, 1, 2})
        await agent.until(lambda agent: list(agent.welcome.peers) == [node.address])
        assert set(agent.shards.values()) == {1}


async def test_a_node_that_stops_hands_its_shards_over_at_once(dsn, cluster, etcd):
    async with running_node("one", dsn, cluster, etcd) as first:
        await first.leads(0)
        async with ScriptedAgent(first.address) as agent:
            await agent.adopt()
            await first.apply(chain("line", 2))
            run_id = await first.trigger("line")
            await agent.until(lambda agent: agent.assigns)
            incarnation, [held] = agent.incarnation, agent.assigns.values()
    async with running_node("two", dsn, cluster, etcd) as second:
        await second.leads(0)
        again = ScriptedAgent(second.address, incarnation=incarnation, session=2)
        async with again as agent:
            await agent.adopt(finished=[result(held)])
            await agent.until(lambda agent: held.attempt_id in agent.acks)
            [next_one] = await agent.work(1)
            assert (next_one.task, next_one.epoch) == ("t1", 2)
        await second.run_is(run_id, RunState.SUCCEEDED)


async def test_two_nodes_share_the_shards_and_one_alone_leads_them_all(dsn, cluster, etcd):
    async with running_node("south", dsn, cluster, etcd, 4) as second:
        async with running_node("north", dsn, cluster, etcd, 4, stop=False) as first:
            await until(lambda: first.leads_some and second.leads_some and both(first, second))
        await second.leads(0, 1, 2, 3)
        async with ScriptedAgent(second.address) as agent:
            await agent.until(lambda agent: set(agent.shards) == {0, 1, 2, 3})


def both(first, second):
    return first.leading.leaderships.led | second.leading.leaderships.led == {0, 1, 2, 3}


async def test_an_assignment_that_the_agent_never_saw_is_sent_again_under_the_new_epoch(
    dsn, cluster, etcd
):
    async with running_node("one", dsn, cluster, etcd) as node:
        async with ScriptedAgent(node.address) as agent:
            await agent.adopt()
            await node.apply(chain("line", 1))
            run_id = await node.trigger("line")
            await agent.until(lambda agent: agent.assigns)
            [first] = agent.assigns.values()
        again = ScriptedAgent(node.address, incarnation=agent.incarnation, session=2)
        async with again as agent:
            await agent.adopt()
            [second] = await agent.work(1)
        assert first.attempt_id == second.attempt_id
        await node.run_is(run_id, RunState.SUCCEEDED)


async def test_a_cancelled_run_asks_the_agent_to_stop(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.adopt()
        await node.apply(chain("line", 2))
        run_id = await node.trigger("line")
        await agent.until(lambda agent: agent.assigns)
        [held] = agent.assigns.values()
        await node.cancel("line", run_id)
        await agent.until(lambda agent: agent.cancels == {held.attempt_id})
        await agent.say(results=[result(held, pb.OUTCOME_CANCELLED)])
        await node.run_is(run_id, RunState.CANCELLED)


async def test_a_leader_that_was_deposed_says_nothing_more_and_leads_again_later(
    dsn, cluster, etcd
):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.until(lambda agent: agent.shards == {0: 1})
        await node.store.shards.take_over(0, 1, b"o" * 16, "other", "other:1")
        await agent.until(lambda agent: agent.shards == {0: 3})


async def test_a_connection_that_is_cut_costs_no_leadership(dsn, cluster, etcd, sql):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.adopt()
        await node.apply(chain("line", 2))
        await sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        run_id = await node.trigger("line")
        await agent.work(2)
        await node.run_is(run_id, RunState.SUCCEEDED)
        assert agent.shards == {0: 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol_version": 99}, pb.REFUSAL_REASON_VERSION),
        ({"agent": "no id"}, pb.REFUSAL_REASON_BAD_HELLO),
    ],
    ids=["version", "name"],
)
async def test_a_hello_that_is_not_well_formed_is_refused(dsn, cluster, etcd, changes, reason):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address, **changes) as agent,
    ):
        await agent.until(lambda agent: agent.ended)
        [frame] = agent.frames
        assert frame.refusal.reason == reason


async def test_a_second_agent_of_a_name_is_refused_and_a_newer_session_wins(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as first,
    ):
        await first.until(lambda agent: agent.frames)
        async with ScriptedAgent(node.address) as stranger:
            await stranger.until(lambda agent: agent.ended)
            assert stranger.frames[0].refusal.reason == pb.REFUSAL_REASON_NAME_TAKEN
        async with ScriptedAgent(node.address, incarnation=first.incarnation, session=2) as newer:
            await newer.until(lambda agent: agent.frames)
            await first.until(lambda agent: agent.ended)
            assert not newer.ended


async def test_a_log_is_read_through_the_stream(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await agent.until(lambda agent: agent.frames)
        reading = node.leading.hub.tails.tail("agent-1", b"t" * 16, (0, 5))
        first = asyncio.ensure_future(anext(reading))
        await agent.until(lambda agent: agent.tails)
        asked = agent.tails[0]
        assert asked.stderr_offset == 5
        piece = pb.LogData(tail=asked.tail, is_stderr=True, offset=5, data=b"oh", eof=True)
        await agent.say(log_data=[piece])
        assert await first == ("stderr", 5, b"oh")
        assert [each async for each in reading] == []
