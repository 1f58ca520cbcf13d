"""A node that leads, over a real PostgreSQL, a real etcd and real streams."""

from controlplane.core.states import RunState
from tests.contract.leader.harness import ScriptedAgent, chain, running_node


async def test_a_triggered_run_is_assigned_ended_and_recorded(dsn, cluster, etcd):
    async with (
        running_node("one", dsn, cluster, etcd) as node,
        ScriptedAgent(node.address) as agent,
    ):
        await node.leads(0)
        await agent.adopt()
        await node.apply(chain("line", 3))
        run_id = await node.trigger("line")
        done = await agent.work(3)
        assert [each.task for each in done] == ["t0", "t1", "t2"]
        await node.run_is(run_id, RunState.SUCCEEDED)
        assert node.stats.times()["result_to_assign"].count == 2
        assert node.stats.counters()["attempts_ended"] == 3
