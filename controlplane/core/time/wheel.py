"""Holds any number of timers and says which are due; it does not know the clock.

A hierarchical timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels",
SOSP 1987): six levels of 64 slots over ticks of one millisecond, together two years and two
months; later deadlines wait in a heap. A timer's level is the highest group of six bits in
which its deadline differs from the wheel's time, so on every level all occupied slots lie
ahead of the present one, and whatever is on a lower level is due before whatever is on a
higher one. One 64-bit occupancy bitmap a level therefore finds the next slot without a scan:
the lowest bit of the lowest level that has any.

Promises: `advance` returns payloads in the order of their deadlines, equal ones in the order
of insertion; a deadline that has passed comes out at the next `advance`; an id is never valid
again once its timer has fired or was cancelled. Insert and cancel cost O(1) below the heap,
and a timer moves down at most five times in its life. Everything lies in flat arrays, 26 bytes
a timer beside the reference to its payload: a slot is an array of timer indices, and a timer
knows its position there, so that cancelling puts the slot's last timer in its place.
"""

from __future__ import annotations

from array import array
from heapq import heapify, heappop, heappush
from typing import Generic, TypeAlias, TypeVar

Payload = TypeVar("Payload")
TimerId: TypeAlias = int

LEVELS = 6
SLOT_BITS = 6
SLOTS = 1 << SLOT_BITS
HORIZON_BITS = LEVELS * SLOT_BITS
MAX_DEADLINE_MS = (1 << 62) - 1

_OVERFLOW = LEVELS * SLOTS
_INDEX_BITS = 32
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_FIRST_ENTRIES = 64
# The level of a timer, by the bit length of (wheel's time XOR deadline).
_LEVEL_OF = (0, *(width // SLOT_BITS for width in range(HORIZON_BITS)))


class Wheel(Generic[Payload]):
    """Timers by deadline, in milliseconds of one clock that never goes back."""

    __slots__ = (
        "_deadline",
        "_free",
        "_now_ms",
        "_occupied",
        "_overflow",
        "_payload",
        "_place",
        "_position",
        "_sequence",
        "_sequences",
        "_slots",
        "_stale",
    )

    def __init__(self, now_ms: int) -> None:
        assert 0 <= now_ms <= MAX_DEADLINE_MS, now_ms
        self._now_ms = now_ms
        self._sequences = 0
        self._occupied = [0] * LEVELS
        self._slots = [array("i") for _ in range(_OVERFLOW)]
        self._overflow: list[tuple[int, int, int]] = []
        self._stale = 0
        # One entry a timer; `_sequence` is 0 where the entry is free.
        self._deadline = array("q")
        self._sequence = array("q")
        self._place = array("h")
        self._position = array("i")
        self._payload: list[Payload | None] = []
        self._free = array("i")

    def __len__(self) -> int:
        return len(self._payload) - len(self._free)

    def insert(self, deadline_ms: int, payload: Payload) -> TimerId:
        """Arms a timer; a deadline not later than the wheel's time is due at once."""
        assert deadline_ms <= MAX_DEADLINE_MS, deadline_ms
        if not self._free:
            self._grow()
        index = self._free.pop()
        self._sequences = sequence = self._sequences + 1
        self._deadline[index] = deadline_ms
        self._sequence[index] = sequence
        self._payload[index] = payload
        self._link(index, deadline_ms)
        return sequence << _INDEX_BITS | index

    def cancel(self, timer_id: TimerId) -> bool:
        """Whether the timer was still armed; it will not fire."""
        index = timer_id & _INDEX_MASK
        if index >= len(self._sequence) or self._sequence[index] != timer_id >> _INDEX_BITS:
            return False
        self._release(index)
        if self._place[index] == _OVERFLOW:
            self._stale += 1
            self._prune_overflow()
        else:
            self._unlink(index)
        return True

    def next_deadline(self) -> int | None:
        """When to call `advance` next, or None for an empty wheel.

        Exact for deadlines in the present run of 64 ms, else a lower bound: the first tick of
        the slot. Advancing to it makes progress (the slot is split among lower levels), so a
        caller that asks again meets every deadline after at most five early calls.
        """
        slot = self._first_slot()
        if slot is not None:
            return self._start_of(slot)
        return self._overflow[0][0] if self._overflow else None

    def advance(self, now_ms: int) -> list[Payload]:
        """Moves the wheel's time to `now_ms` (never back) and returns what is due."""
        now_ms = max(now_ms, self._now_ms)
        fired: list[Payload] = []
        while True:
            slot = self._first_slot()
            if slot is None:
                if self._draw_overflow(now_ms):
                    continue
                break
            start = self._start_of(slot)
            if start > now_ms:
                break
            self._now_ms = start
            if start + (1 << SLOT_BITS * (slot // SLOTS)) - 1 <= now_ms:
                self._fire(self._take(slot), fired)
            else:
                for index in self._take(slot):
                    self._link(index, self._deadline[index])
        self._now_ms = now_ms
        return fired

    def _grow(self) -> None:
        """Doubles the entries; they are never given back."""
        old = len(self._payload)
        more = max(old, _FIRST_ENTRIES)
        for numbers in (self._deadline, self._sequence, self._place, self._position):
            numbers.extend([0] * more)
        self._payload.extend([None] * more)
        self._free.extend(range(old + more - 1, old - 1, -1))

    def _first_slot(self) -> int | None:
        """The occupied slot, as level * 64 + slot, that is due first."""
        for level, occupied in enumerate(self._occupied):
            if occupied:
                return level * SLOTS + (occupied & -occupied).bit_length() - 1
        return None

    def _start_of(self, slot: int) -> int:
        """The first tick of a slot: the wheel's time with the bits of its level replaced."""
        shift = slot // SLOTS * SLOT_BITS
        return (self._now_ms >> shift + SLOT_BITS << SLOT_BITS | slot % SLOTS) << shift

    def _link(self, index: int, deadline_ms: int) -> None:
        now_ms = self._now_ms
        deadline_ms = max(deadline_ms, now_ms)
        width = (now_ms ^ deadline_ms).bit_length()
        if width > HORIZON_BITS:
            self._place[index] = _OVERFLOW
            heappush(self._overflow, (deadline_ms, self._sequence[index], index))
            return
        level = _LEVEL_OF[width]
        slot = level * SLOTS + (deadline_ms >> level * SLOT_BITS & SLOTS - 1)
        entries = self._slots[slot]
        if not entries:
            self._occupied[level] |= 1 << slot % SLOTS
        self._place[index] = slot
        self._position[index] = len(entries)
        entries.append(index)

    def _unlink(self, index: int) -> None:
        slot = self._place[index]
        entries = self._slots[slot]
        last = entries.pop()
        if last != index:
            position = self._position[index]
            entries[position] = last
            self._position[last] = position
        elif not entries:
            self._occupied[slot // SLOTS] ^= 1 << slot % SLOTS

    def _release(self, index: int) -> None:
        self._sequence[index] = 0
        self._payload[index] = None
        self._free.append(index)

    def _take(self, slot: int) -> array[int]:
        """Empties a slot."""
        taken = self._slots[slot]
        self._slots[slot] = array("i")
        self._occupied[slot // SLOTS] ^= 1 << slot % SLOTS
        return taken

    def _fire(self, due: array[int], fired: list[Payload]) -> None:
        order = list(due)
        if len(order) > 1:
            order.sort(key=self._sequence.__getitem__)
            order.sort(key=self._deadline.__getitem__)
        for index in order:
            fired.append(self._payload[index])  # type: ignore[arg-type]  # armed: it has one
            self._release(index)

    def _draw_overflow(self, now_ms: int) -> bool:
        """With all levels empty, takes in the heap's first horizon if it has begun."""
        if not self._overflow:
            return False
        horizon = self._overflow[0][0] >> HORIZON_BITS
        if horizon << HORIZON_BITS > now_ms:
            return False
        self._now_ms = horizon << HORIZON_BITS
        while self._overflow and self._overflow[0][0] >> HORIZON_BITS == horizon:
            deadline_ms, _, index = heappop(self._overflow)
            self._link(index, deadline_ms)
            self._drop_stale_top()
        return True

    def _drop_stale_top(self) -> None:
        """Keeps the first entry of the heap a live one."""
        while self._overflow and self._sequence[self._overflow[0][2]] != self._overflow[0][1]:
            heappop(self._overflow)
            self._stale -= 1

    def _prune_overflow(self) -> None:
        """Bounds the memory of cancelled entries to that of the live ones."""
        if self._stale * 2 > len(self._overflow):
            self._overflow = [e for e in self._overflow if self._sequence[e[2]] == e[1]]
            heapify(self._overflow)
            self._stale = 0
        self._drop_stale_top()
