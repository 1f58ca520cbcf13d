"""Decides whose turn a room is when several shards of one node have ready tasks without a place.

A shard claims, for every shape of request that it has parked, since when the task that is next is
ready. Room goes to the oldest claim that fits it: a shard with a younger task yields, and waits
until the oldest has looked. Promises that this ends: the oldest of all claims yields to nobody.
Costs nothing while no other shard has parked tasks. Does not know tasks or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

# Processor and memory of a request.
Shape: TypeAlias = tuple[int, int]


class Claims:
    """What the shards of one node wait for."""

    def __init__(self) -> None:
        self._since: dict[int, dict[Shape, int]] = {}
        # Shards that others have left room to and that have not looked for places since.
        self._awaited: set[int] = set()

    def contested(self, shard: int) -> bool:
        """Whether another shard claims anything."""
        return len(self._since) > (shard in self._since)

    def oldest(self, shard: int, since_us: int, free: Shape, admitted: set[int]) -> int:
        """Which shard's turn free room is, when `shard` has a task since `since_us` for it."""
        first, oldest_us = shard, since_us
        cpu, memory = free
        for other, claims in self._since.items():
            if other in admitted:
                for (other_cpu, other_memory), other_us in claims.items():
                    if other_us < oldest_us and other_cpu <= cpu and other_memory <= memory:
                        first, oldest_us = other, other_us
        return first

    def served(self, shard: int, shape: Shape, since_us: int) -> None:
        """The claim of a shard for a shape is met by a place for a task as old or older."""
        claims = self._since.get(shard)
        if claims is not None and claims.get(shape, since_us - 1) >= since_us:
            del claims[shape]
            if not claims:
                del self._since[shard]

    def wait_for(self, shard: int) -> bool:
        """Room is left to a shard; whether it has to be told."""
        if shard in self._awaited:
            return False
        self._awaited.add(shard)
        return True

    def publish(self, shard: int, claims: Mapping[Shape, int], *, yielded: bool) -> bool:
        """What a shard claims after it has looked for places; whether others may look now.

        A shard that has left room to a third one is not through yet, and stays awaited.
        """
        if claims:
            self._since[shard] = dict(claims)
        else:
            self._since.pop(shard, None)
        if yielded or shard not in self._awaited:
            return False
        self._awaited.remove(shard)
        return True
