"""What the shards of a node would use together, and when agents hear of it.

Decides when a demand has changed enough to be said again: to the next power of two of its size, and
by a second of its age. Exact numbers would change with every step and help nobody. Does not know
sessions.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.codec.agents import capacity
from controlplane.core.shard.queue import Want
from controlplane.core.types import Resources

_AGE_STEP_US = 1_000_000


def demand_of(wants: Iterable[Want], whole: Resources) -> pb.Demand:
    """The demand of all shards on one agent, whose whole capacity is given.

    Only requests that the agent could hold count: a task that fits nowhere, or only on a larger
    agent, must not keep the others from being granted room.
    """
    fitting = [shape for want in wants for shape in want if shape.request.fits(whole)]
    if not fitting:
        return pb.Demand()
    cpu = sum(shape.request.cpu_millis * shape.tasks for shape in fitting)
    memory = sum(shape.request.memory_bytes * shape.tasks for shape in fitting)
    largest = Resources(
        max(shape.request.cpu_millis for shape in fitting),
        max(shape.request.memory_bytes for shape in fitting),
    )
    amount = Resources(min(cpu, whole.cpu_millis), min(memory, whole.memory_bytes))
    return pb.Demand(
        amount=capacity(amount),
        largest=capacity(largest),
        count=sum(shape.tasks for shape in fitting),
        oldest_ready_us=min(shape.oldest_us for shape in fitting),
    )


def differs(told: pb.Demand, demand: pb.Demand, *, regranted: bool) -> bool:
    """Whether an agent that was told of one demand should hear of another.

    `regranted`: its grant changed since. It takes what it grants off the demand that it knows, so
    what is still wanted is said again.
    """
    return _rounded(told) != _rounded(demand) or (regranted and demand.count > 0)


def _rounded(demand: pb.Demand) -> tuple[int, ...]:
    return (
        demand.count > 0,
        demand.amount.cpu_millis.bit_length(),
        demand.amount.memory_bytes.bit_length(),
        demand.largest.cpu_millis,
        demand.largest.memory_bytes,
        demand.oldest_ready_us // _AGE_STEP_US,
    )
