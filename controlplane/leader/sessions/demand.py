"""What the shards of a node would use together, and when agents hear of it.

Decides in which order shapes are named (by rank: the oldest first, as long as there are neither
priority classes nor shares of tenants), and when a demand has changed enough to be said again: to
the next power of two of its counts, and by a second of its age. Exact numbers would change with
every step and help nobody. Does not know sessions.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.codec.agents import capacity
from controlplane.core.shard.queue import SHAPES_WANTED, ShapeWant, Want
from controlplane.core.types import Resources

_AGE_STEP_US = 1_000_000


def demand_of(wants: Iterable[Want], whole: Resources) -> pb.Demand:
    """The demand of all shards on one agent, whose whole capacity is given.

    Only requests that the agent could hold count, and no more of each than it could hold at one
    time: a task that fits nowhere, or only on a larger agent, must not keep room from the others.
    """
    shapes: dict[Resources, ShapeWant] = {}
    for want in wants:
        for shape in want:
            if shape.request.fits(whole):
                shapes[shape.request] = _merged(shape, shapes.get(shape.request))
    oldest_first = sorted(shapes.values(), key=lambda shape: shape.oldest_us)
    return pb.Demand(shapes=[_entry(shape, whole) for shape in oldest_first[:SHAPES_WANTED]])


def differs(told: pb.Demand, demand: pb.Demand, *, regranted: bool) -> bool:
    """Whether an agent that was told of one demand should hear of another.

    `regranted`: its grant changed since. It takes what it grants off the demand that it knows, so
    what is still wanted is said again.
    """
    if not (told.shapes or demand.shapes):
        return False
    return _rounded(told) != _rounded(demand) or (regranted and len(demand.shapes) > 0)


def _merged(shape: ShapeWant, other: ShapeWant | None) -> ShapeWant:
    if other is None:
        return shape
    oldest_us = min(shape.oldest_us, other.oldest_us)
    return ShapeWant(shape.request, shape.tasks + other.tasks, oldest_us)


def _entry(shape: ShapeWant, whole: Resources) -> pb.ShapeDemand:
    request = shape.request
    count = shape.tasks
    if request.cpu_millis:
        count = min(count, whole.cpu_millis // request.cpu_millis)
    if request.memory_bytes:
        count = min(count, whole.memory_bytes // request.memory_bytes)
    return pb.ShapeDemand(
        request=capacity(request), count=count, rank=pb.Rank(oldest_ready_us=shape.oldest_us)
    )


def _rounded(demand: pb.Demand) -> list[tuple[int, ...]]:
    return [
        (
            shape.request.cpu_millis,
            shape.request.memory_bytes,
            shape.count.bit_length(),
            shape.rank.oldest_ready_us // _AGE_STEP_US,
        )
        for shape in demand.shapes
    ]
