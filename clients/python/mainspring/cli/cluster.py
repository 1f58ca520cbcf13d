"""`mainspring agent list` and `mainspring shard list`: what runs where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainspring.cli import text
from mainspring.cli.flags import ANYWHERE, AS_TABLE, Connect, Limit, Print
from mainspring.cli.output import Table, say, show
from mainspring.client.names import last_segment

if TYPE_CHECKING:
    from mainspring.v1 import admin_pb2


def list_agents(
    *, limit: Limit = 1_000, connection: Connect = ANYWHERE, output: Print = AS_TABLE
) -> None:
    """Lists agents."""
    with connection.client() as client:
        answer = client.admin.agents(limit)
    show(output.format, [answer], lambda: [_agents(answer.agents)])
    if answer.next_page_token:
        say(f"there are more than {limit}: --limit shows more")


def list_shards(*, connection: Connect = ANYWHERE, output: Print = AS_TABLE) -> None:
    """Lists shards."""
    with connection.client() as client:
        answer = client.admin.shards()
    show(output.format, [answer], lambda: [_shards(answer.shards)])


def _agents(agents: Iterable[admin_pb2.Agent]) -> Table:
    table = Table(
        ("AGENT", "CONNECTED", "CPU", "MEMORY", "GRANTED", "LIVE", "CONTAINMENT", "SINCE")
    )
    for agent in agents:
        table.add(
            last_segment(agent.name),
            "yes" if agent.connected else "no",
            f"{agent.cpu:g}",
            text.size(agent.memory_bytes),
            f"{agent.granted_cpu:g}",
            agent.live_attempts,
            agent.containment or text.NOTHING,
            text.moment(agent.connect_time, known=agent.HasField("connect_time")),
        )
    return table


def _shards(shards: Iterable[admin_pb2.Shard]) -> Table:
    table = Table(
        (
            *("SHARD", "NODE", "ADDRESS", "EPOCH", "RUNS", "ATTEMPTS", "QUARANTINED", "LED SINCE"),
            "STATE",
        )
    )
    for shard in shards:
        table.add(
            last_segment(shard.name),
            shard.node or text.NOTHING,
            shard.address or text.NOTHING,
            shard.epoch,
            shard.live_runs,
            shard.live_attempts,
            shard.quarantined,
            text.moment(shard.takeover_time, known=shard.HasField("takeover_time")),
            _state(shard),
        )
    return table


def _state(shard: admin_pb2.Shard) -> str:
    if not shard.HasField("recovering_until"):
        return "ok" if shard.node else text.NOTHING
    return f"recovering until {text.moment(shard.recovering_until, known=True)}"
