"""Decides which agent gets an attempt.

Agents stand in levels by the size of their free processor grant (powers of two), so that a search
begins where a request can just fit: filter (the shard may speak to the agent, the request fits),
score (least room left on the dominant resource: best fit), reserve. One fleet serves all shards of
a node, in one thread, so no two shards can reserve the same room. What an attempt occupies is
charged to its shard until it is over, whether or not its agent is connected.

Does not know sessions, clocks or why a task is ready.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.core.types import Resources

NOTHING = Resources()


@dataclass(slots=True)
class Room:
    """What one agent grants to this node, and what is charged against it."""

    agent: str
    incarnation: bytes = b""
    connected: bool = False
    capacity: Resources = NOTHING
    grant_cpu: int = 0
    grant_memory: int = 0
    used_cpu: int = 0
    used_memory: int = 0
    shards: set[int] = field(default_factory=set)
    level: int = -1

    @property
    def free(self) -> Resources:
        """The unused part of the grant; never negative."""
        return Resources(
            max(0, self.grant_cpu - self.used_cpu), max(0, self.grant_memory - self.used_memory)
        )

    @property
    def granted(self) -> Resources:
        """The whole grant."""
        return Resources(self.grant_cpu, self.grant_memory)


class Fleet:
    """All agents as one node sees them."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        self._levels: dict[int, dict[str, Room]] = {}
        self._charges: dict[int, dict[str, Resources]] = {}
        # Grows whenever there may be more room than before: who found none may look again.
        self.growth = 0

    def room(self, agent: str) -> Room:
        """The room of an agent; an unknown agent has none granted."""
        room = self._rooms.get(agent)
        if room is None:
            room = self._rooms[agent] = Room(agent)
        return room

    def connect(self, agent: str, incarnation: bytes, capacity: Resources) -> None:
        """A session of an agent began; its grant comes later."""
        room = self.room(agent)
        room.incarnation, room.capacity, room.connected = incarnation, capacity, True
        room.shards.clear()
        self._set_grant(room, NOTHING)

    def disconnect(self, agent: str) -> None:
        """The session ended: nothing more is assigned to the agent."""
        room = self.room(agent)
        room.connected = False
        room.shards.clear()
        self._set_grant(room, NOTHING)

    def grant(self, agent: str, amount: Resources) -> None:
        """The agent's grant to this node is now `amount`."""
        self._set_grant(self.room(agent), amount)

    def release(self, agent: str, wanted: Resources) -> Resources:
        """Gives up to `wanted` of the unused grant back and returns how much that was."""
        room = self.room(agent)
        free = room.free
        given = Resources(
            min(wanted.cpu_millis, free.cpu_millis), min(wanted.memory_bytes, free.memory_bytes)
        )
        self._set_grant(room, room.granted - given)
        return given

    def admit(self, shard: int, agent: str) -> None:
        """The shard has the agent's inventory and may assign to it."""
        self.room(agent).shards.add(shard)
        self.growth += 1

    def expel(self, shard: int, agent: str) -> None:
        """The shard may no longer assign to the agent."""
        self.room(agent).shards.discard(shard)

    def admitted(self, shard: int, agent: str) -> bool:
        """Whether the shard may assign to the agent."""
        return shard in self.room(agent).shards

    def charge(self, shard: int, agent: str, request: Resources) -> None:
        """An attempt of the shard occupies the agent."""
        charges = self._charges.setdefault(shard, {})
        charges[agent] = charges.get(agent, NOTHING) + request
        room = self.room(agent)
        room.used_cpu += request.cpu_millis
        room.used_memory += request.memory_bytes
        self._file(room)

    def discharge(self, shard: int, agent: str, request: Resources) -> None:
        """An attempt of the shard no longer occupies the agent."""
        charges = self._charges[shard]
        charges[agent] = charges[agent] - request
        self._return(self.room(agent), request)

    def forget(self, shard: int) -> None:
        """The shard's memory is gone (deposed, or to be recovered): so are its charges."""
        for agent, charged in self._charges.pop(shard, {}).items():
            self._return(self.room(agent), charged)
        for room in self._rooms.values():
            room.shards.discard(shard)

    def place(self, shard: int, request: Resources) -> Room | None:
        """The best fitting room for an attempt of the shard, or None when none fits now.

        The caller charges it. Best fit: the least dominant share of the agent's capacity is left.
        """
        level = request.cpu_millis.bit_length()
        for size in sorted(size for size in self._levels if size >= level):
            best = self._best_of(self._levels[size].values(), shard, request)
            if best is not None:
                return best
        return None

    def could_ever_fit(self, request: Resources) -> bool:
        """Whether the whole capacity of some connected agent would hold the request."""
        return any(room.connected and request.fits(room.capacity) for room in self._rooms.values())

    def rooms(self) -> tuple[Room, ...]:
        """All rooms, connected or not, in no order."""
        return tuple(self._rooms.values())

    def _best_of(self, rooms: Iterable[Room], shard: int, request: Resources) -> Room | None:
        best: Room | None = None
        best_left = 0.0
        for room in rooms:
            cpu_left = room.grant_cpu - room.used_cpu - request.cpu_millis
            memory_left = room.grant_memory - room.used_memory - request.memory_bytes
            if cpu_left < 0 or memory_left < 0 or shard not in room.shards:
                continue
            left = max(
                cpu_left / (room.capacity.cpu_millis or 1),
                memory_left / (room.capacity.memory_bytes or 1),
            )
            if best is None or left < best_left:
                best, best_left = room, left
        return best

    def _set_grant(self, room: Room, amount: Resources) -> None:
        room.grant_cpu, room.grant_memory = amount.cpu_millis, amount.memory_bytes
        self.growth += 1
        self._file(room)

    def _return(self, room: Room, amount: Resources) -> None:
        room.used_cpu -= amount.cpu_millis
        room.used_memory -= amount.memory_bytes
        self.growth += 1
        self._file(room)

    def _file(self, room: Room) -> None:
        """Puts a room on the level of its free processor grant."""
        free = room.grant_cpu - room.used_cpu
        level = free.bit_length() if room.connected and free >= 0 else -1
        if level == room.level:
            return
        if room.level >= 0:
            self._levels[room.level].pop(room.agent)
        if level >= 0:
            self._levels.setdefault(level, {})[room.agent] = room
        room.level = level
