"""Scripted nodes, an agent that knows one of them, and a session between the two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.agent.scripted import AgentProcess, ScriptedNode, Session


@pytest.fixture
async def node() -> AsyncIterator[ScriptedNode]:
    scripted = await ScriptedNode().start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def other_node() -> AsyncIterator[ScriptedNode]:
    scripted = await ScriptedNode().start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def agent(node: ScriptedNode, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    process = AgentProcess(tmp_path, [node.address], "--task-env", "PASSED", "--label", "zone=z1")
    yield process
    process.kill()


@pytest.fixture
async def session(node: ScriptedNode, agent: AgentProcess) -> Session:
    """A session in which the node leads shard 0 in epoch 1."""
    opened = await node.session()
    opened.welcome("n1", {0: 1})
    await opened.next("inventories")
    return opened
