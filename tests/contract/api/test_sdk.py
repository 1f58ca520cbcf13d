"""The SDK against the real server: what one sends the other understands."""

from __future__ import annotations

import asyncio

import pytest
from mainspring.client import errors
from mainspring.client.client import Client
from mainspring.v1 import dag_pb2, run_pb2

from tests.contract.api.harness import TOKEN, spec_of


async def test_a_dag_and_a_run_through_the_sdk(world) -> None:
    await world.add_agent()

    def begin(client: Client) -> str:
        assert client.dags.apply(spec_of("a")).created
        return client.runs.trigger("d").name

    with Client.at(world.address, TOKEN) as client:
        name = await asyncio.to_thread(begin, client)
        await world.leader.poke([0, 1], (), 0)
        shard = (await asyncio.to_thread(client.runs.get, name)).shard
        await world.leader.end(world.leader.take("a"), shard)
        done = await asyncio.to_thread(client.runs.wait, name, timeout_s=10)
        assert done.state == run_pb2.RUN_STATE_SUCCEEDED
        steps = await asyncio.to_thread(lambda: list(client.runs.watch(name)))
        assert [len(step.task_instances) for step in steps] == [1]


async def test_all_problems_of_a_definition_reach_the_sdk(world) -> None:
    spec = dag_pb2.DagSpec(dag="d")
    for number in range(1_200):
        spec.tasks.add(task=f"task-{number}")
    with (
        Client.at(world.address, TOKEN) as client,
        pytest.raises(errors.InvalidArgumentError) as caught,
    ):
        await asyncio.to_thread(client.dags.apply, spec)
    assert len(caught.value.violations) == 1_001
    assert caught.value.violations[-1].description == "and 200 more problems"
    assert caught.value.reason == "DAG_SPEC"


async def test_a_wrong_token_is_told_as_such(world) -> None:
    with (
        Client.at(world.address, "wrong") as client,
        pytest.raises(errors.UnauthenticatedError, match="not known"),
    ):
        await asyncio.to_thread(client.admin.shards)
