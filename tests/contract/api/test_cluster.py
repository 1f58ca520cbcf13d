from __future__ import annotations

import asyncpg
import grpc
import pytest
from mainspring.internal.v1 import node_pb2
from mainspring.v1 import admin_pb2, run_pb2

from tests.contract.api.test_runs import applied, notices


async def test_shards_show_their_leaders_and_what_is_live(world) -> None:
    await world.add_agent()
    run = await applied(world, await world.apply("a"))
    shards = (await world.admin.ListShards(admin_pb2.ListShardsRequest())).shards
    assert [each.name for each in shards] == ["shards/0", "shards/1"]
    shard = shards[run.shard]
    assert (shard.epoch, shard.node, shard.live_runs, shard.live_attempts) == (1, "node-1", 1, 1)
    assert shard.HasField("takeover_time")


async def test_a_shard_that_recovers_says_so_and_so_do_its_runs(world) -> None:
    run = await applied(world, await world.apply("a", "b"))
    connection = await asyncpg.connect(world.dsn)
    sql = "UPDATE shard SET hold = 2, hold_until_us = $1, restored_reason = 'put back'"
    await connection.execute(sql, 1_800_000_000_000_000)
    await connection.close()
    shard = (await world.admin.ListShards(admin_pb2.ListShardsRequest())).shards[run.shard]
    assert shard.recovering_until.seconds == 1_800_000_000
    assert shard.recovering_reason == "put back"
    why = (
        "the store went back in time, and what it has forgotten may run until 2027-01-15 08:00:00Z"
    )
    assert why in await notices(world, run)
    asked = run_pb2.ListTaskInstancesRequest(parent=run.name)
    tasks = (await world.runs.ListTaskInstances(asked)).task_instances
    assert why in {task.reason for task in tasks}


async def test_nodes_are_the_members(world) -> None:
    [node] = (await world.admin.ListNodes(admin_pb2.ListNodesRequest())).nodes
    assert (node.name, node.address, node.start_time.seconds) == (
        "nodes/node-1",
        "127.0.0.1:1",
        1_700_000_000,
    )


async def test_agents_come_page_by_page_with_what_they_grant(world) -> None:
    for number in range(3):
        await world.add_agent(f"agent-{number}", 1_500)
    world.leader.fleet.disconnect("agent-0")
    request = admin_pb2.ListAgentsRequest(page_size=2)
    page = await world.admin.ListAgents(request)
    request.page_token = page.next_page_token
    rest = await world.admin.ListAgents(request)
    agents = [*page.agents, *rest.agents]
    assert [each.name for each in agents] == [f"agents/agent-{number}" for number in range(3)]
    assert [each.connected for each in agents] == [False, True, True]
    assert [each.granted_cpu for each in agents] == [0, 1.5, 1.5]
    assert (agents[0].cpu, agents[0].incarnation) == (1.5, (b"i" * 16).hex())
    assert {each.containment for each in agents} == {"process"}


async def test_the_server_says_who_it_is(world) -> None:
    info = await world.admin.GetServerInfo(admin_pb2.GetServerInfoRequest())
    assert (info.cluster, info.node, info.shards) == ("test", "node-1", 2)


async def test_a_poke_reaches_the_leaders_here(world) -> None:
    answer = await world.nodes.PokeShards(node_pb2.PokeShardsRequest(shards=[1, 0]))
    assert list(answer.led) == [0, 1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.nodes.PokeShards(node_pb2.PokeShardsRequest(wait_ms=10_001))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_counters_and_times_are_read_and_reset(world) -> None:
    world.stats.count("commits", 2)
    world.stats.time("commit_us", 100)
    answer = await world.nodes.GetNodeStats(node_pb2.GetNodeStatsRequest(reset=True))
    assert answer.counters["commits"] == 2
    assert answer.times["commit_us"].p50_us == 100
    again = await world.nodes.GetNodeStats(node_pb2.GetNodeStatsRequest())
    assert (dict(again.counters), dict(again.times)) == ({}, {})
