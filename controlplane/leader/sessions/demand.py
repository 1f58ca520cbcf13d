"""What the shards of a node would use together, and when agents hear of it.

Decides when a demand has changed enough to be said again: to the next power of two of its size, and
by a second of its age. Exact numbers would change with every step and help nobody. Does not know
sessions.
"""

from __future__ import annotations

from collections.abc import Iterable

from mainspring.agent.v1 import session_pb2 as pb

from controlplane.codec.agents import capacity
from controlplane.core.shard.queue import NO_WANT, Want
from controlplane.core.types import Resources

_AGE_STEP_US = 1_000_000


def merged(wants: Iterable[Want]) -> Want:
    """The sum of what shards want, the largest single request and the oldest."""
    real = [want for want in wants if want.tasks]
    if not real:
        return NO_WANT
    largest = Resources(
        max(want.largest.cpu_millis for want in real),
        max(want.largest.memory_bytes for want in real),
    )
    amount = sum((want.amount for want in real), Resources())
    oldest_us = min(want.oldest_us for want in real)
    return Want(amount, largest, sum(want.tasks for want in real), oldest_us)


def demand_of(want: Want, whole: Resources) -> pb.Demand:
    """The demand on one agent, whose whole capacity is given; none if it could not fit any."""
    if not want.tasks or not want.largest.fits(whole):
        return pb.Demand()
    amount = Resources(
        min(want.amount.cpu_millis, whole.cpu_millis),
        min(want.amount.memory_bytes, whole.memory_bytes),
    )
    return pb.Demand(
        amount=capacity(amount),
        largest=capacity(want.largest),
        count=want.tasks,
        oldest_ready_us=want.oldest_us,
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
