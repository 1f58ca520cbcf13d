"""Decides which agent gets an attempt.

Agents stand in levels by the size of their free processor grant (powers of two), so that a search
begins where a request can just fit: filter (the shard may speak to the agent, the request fits),
score (least room left on the dominant resource: best fit among the first of the level that fit),
reserve. One fleet serves all shards of a node, in one thread, so no two shards can reserve the same
room. What an attempt occupies is charged to its shard until it is over, whether or not its agent is
connected; it takes room only from the incarnation of the agent that it was assigned to. What is
neither connected nor charged is forgotten.

Does not know sessions, clocks or why a task is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.core.fleet.claims import Claims, Shape
from controlplane.core.types import Resources

NOTHING = Resources()
# Fitting rooms that one search compares: a thousand idle agents are as good as these.
CANDIDATES = 16


@dataclass(slots=True, eq=False)
class Room:
    """What one agent grants to this node, and what is charged against it.

    `charges`: processor, memory and number of the attempts, by incarnation and shard. `used_cpu`
    and `used_memory` are those of the present incarnation.
    """

    agent: str
    incarnation: bytes = b""
    connected: bool = False
    capacity: Resources = NOTHING
    grant_cpu: int = 0
    grant_memory: int = 0
    used_cpu: int = 0
    used_memory: int = 0
    shards: set[int] = field(default_factory=set)
    charges: dict[tuple[bytes, int], list[int]] = field(default_factory=dict)
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
        self._levels: list[dict[str, Room]] = []
        # One bit for each level that has a room.
        self._occupied = 0
        # The last answer. Charging a best fit makes it fit better still: it stays the answer for
        # the same question until it is full or something else changes.
        self._last: Room | None = None
        self._last_asked = (-1, NOTHING)
        self.claims = Claims()
        # Grows whenever there may be more room than before: who found none may look again.
        self.growth = 0

    def room(self, agent: str) -> Room:
        """The room of an agent; an unknown agent has none granted."""
        return self._rooms.get(agent) or Room(agent)

    def _kept(self, agent: str) -> Room:
        room = self._rooms.get(agent)
        if room is None:
            room = self._rooms[agent] = Room(agent)
        return room

    def connect(self, agent: str, incarnation: bytes, capacity: Resources) -> None:
        """A session of an agent began; its grant comes later."""
        room = self._kept(agent)
        room.incarnation, room.capacity, room.connected = incarnation, capacity, True
        room.shards.clear()
        mine = [held for (life, _), held in room.charges.items() if life == incarnation]
        room.used_cpu = sum(held[0] for held in mine)
        room.used_memory = sum(held[1] for held in mine)
        self._set_grant(room, NOTHING)

    def disconnect(self, agent: str) -> None:
        """The session ended: nothing more is assigned to the agent."""
        room = self.room(agent)
        room.connected = False
        room.shards.clear()
        self._set_grant(room, NOTHING)
        self._sweep(room)

    def grant(self, agent: str, amount: Resources) -> None:
        """The agent's grant to this node is now `amount`."""
        self._set_grant(self.room(agent), amount)

    def release(self, agent: str, wanted: Resources) -> Resources:
        """Gives up to `wanted` of the grant back and returns how much that was.

        It may be in use: then nothing more is placed there until as many attempts have ended. So
        who asks for what better-ranked tasks of other nodes need gets it, however busy this one is.
        """
        room = self.room(agent)
        granted = room.granted
        given = Resources(
            min(wanted.cpu_millis, granted.cpu_millis),
            min(wanted.memory_bytes, granted.memory_bytes),
        )
        self._set_grant(room, granted - given)
        return given

    def admit(self, shard: int, agent: str) -> None:
        """The shard has the agent's inventory and may assign to it, while it is connected."""
        room = self.room(agent)
        if room.connected:
            room.shards.add(shard)
            self._grow()

    def expel(self, shard: int, agent: str) -> None:
        """The shard may no longer assign to the agent."""
        self.room(agent).shards.discard(shard)
        self._last = None

    def admitted(self, shard: int, agent: str) -> bool:
        """Whether the shard may assign to the agent."""
        return shard in self.room(agent).shards

    def charge(self, shard: int, agent: str, incarnation: bytes, request: Resources) -> None:
        """An attempt of the shard occupies an incarnation of the agent."""
        room = self._kept(agent)
        cpu, memory = request.cpu_millis, request.memory_bytes
        charges = room.charges.get((incarnation, shard))
        if charges is None:
            charges = room.charges[incarnation, shard] = [0, 0, 0]
        charges[0] += cpu
        charges[1] += memory
        charges[2] += 1
        if incarnation != room.incarnation:
            return
        room.used_cpu += cpu
        room.used_memory += memory
        if room is not self._last:
            self._last = None
        self._file(room)

    def discharge(self, shard: int, agent: str, incarnation: bytes, request: Resources) -> None:
        """An attempt of the shard no longer occupies that incarnation of the agent."""
        room = self._rooms[agent]
        charges = room.charges[incarnation, shard]
        charges[0] -= request.cpu_millis
        charges[1] -= request.memory_bytes
        charges[2] -= 1
        if not charges[2]:
            del room.charges[incarnation, shard]
        if incarnation == room.incarnation:
            self._return(room, request.cpu_millis, request.memory_bytes)
        self._sweep(room)

    def charged_shards(self, agent: str, incarnation: bytes) -> tuple[int, ...]:
        """The shards that have attempts with that incarnation of the agent, in no order."""
        charges = self.room(agent).charges
        return tuple(shard for life, shard in charges if life == incarnation)

    def forget(self, shard: int) -> None:
        """The shard's memory is gone (deposed, or to be recovered): so are its charges."""
        self.claims.publish(shard, {}, yielded=False)
        self._grow()
        for room in list(self._rooms.values()):
            room.shards.discard(shard)
            for life, holder in [key for key in room.charges if key[1] == shard]:
                cpu, memory, _ = room.charges.pop((life, holder))
                if life == room.incarnation:
                    self._return(room, cpu, memory)
            self._sweep(room)

    def place(self, shard: int, request: Resources) -> Room | None:
        """The best fitting room for an attempt of the shard, or None when none fits now.

        The caller charges it. Best fit: the least dominant share of the agent's capacity is left.
        """
        last = self._last
        if (
            last is not None
            and self._last_asked == (shard, request)
            and last.grant_cpu - last.used_cpu >= request.cpu_millis
            and last.grant_memory - last.used_memory >= request.memory_bytes
        ):
            return last
        level = request.cpu_millis.bit_length()
        occupied = self._occupied >> level << level
        while occupied:
            lowest = occupied & -occupied
            rooms = self._levels[lowest.bit_length() - 1].values()
            best = _best_fit(rooms, shard, request)
            if best is not None:
                self._last, self._last_asked = best, (shard, request)
                return best
            occupied ^= lowest
        return None

    def yields(self, shard: int, room: Room, request: Resources, since_us: int) -> bool:
        """Whether a shard leaves room that it found to an older task of another shard.

        The other one is to look at once. Not leaving it, the shard takes it.
        """
        free = room.grant_cpu - room.used_cpu, room.grant_memory - room.used_memory
        turn = self.claims.oldest(shard, since_us, free, room.shards)
        if turn == shard:
            self.claims.served(shard, (request.cpu_millis, request.memory_bytes), since_us)
            return False
        if self.claims.wait_for(turn):
            self._grow()
        return True

    def claim(self, shard: int, claims: Mapping[Shape, int], *, yielded: bool) -> None:
        """What a shard that has looked for places still waits for: shape → since when.

        Shards that left room to it may look again, unless it has left room to a third one itself:
        then all look again after that one.
        """
        if self.claims.publish(shard, claims, yielded=yielded):
            self._grow()

    def could_ever_fit(self, request: Resources) -> bool:
        """Whether the whole capacity of some connected agent would hold the request."""
        return any(room.connected and request.fits(room.capacity) for room in self._rooms.values())

    def rooms(self) -> tuple[Room, ...]:
        """All rooms, connected or not, in no order."""
        return tuple(self._rooms.values())

    def _set_grant(self, room: Room, amount: Resources) -> None:
        room.grant_cpu, room.grant_memory = amount.cpu_millis, amount.memory_bytes
        self._grow()
        self._file(room)

    def _return(self, room: Room, cpu: int, memory: int) -> None:
        room.used_cpu -= cpu
        room.used_memory -= memory
        self._grow()
        self._file(room)

    def _sweep(self, room: Room) -> None:
        """Forgets an agent that is neither connected nor charged."""
        if not room.connected and not room.charges:
            self._rooms.pop(room.agent, None)

    def _grow(self) -> None:
        self.growth += 1
        self._last = None

    def _file(self, room: Room) -> None:
        """Puts a room on the level of its free processor grant."""
        free = room.grant_cpu - room.used_cpu
        level = free.bit_length() if room.connected and free >= 0 else -1
        if level == room.level:
            return
        if room.level >= 0:
            left = self._levels[room.level]
            del left[room.agent]
            if not left:
                self._occupied ^= 1 << room.level
        while level >= len(self._levels):
            self._levels.append({})
        if level >= 0:
            self._levels[level][room.agent] = room
            self._occupied |= 1 << level
        room.level = level


def _best_fit(rooms: Iterable[Room], shard: int, request: Resources) -> Room | None:
    cpu, memory = request.cpu_millis, request.memory_bytes
    best: Room | None = None
    best_left, compared = 0.0, 0
    for room in rooms:
        cpu_left = room.grant_cpu - room.used_cpu - cpu
        memory_left = room.grant_memory - room.used_memory - memory
        if cpu_left < 0 or memory_left < 0 or shard not in room.shards:
            continue
        capacity = room.capacity
        cpu_share = cpu_left / (capacity.cpu_millis or 1)
        memory_share = memory_left / (capacity.memory_bytes or 1)
        if best is None or (cpu_share < best_left and memory_share < best_left):
            best, best_left = room, max(cpu_share, memory_share)
        compared += 1
        if compared == CANDIDATES:
            break
    return best
