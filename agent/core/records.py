"""What the journal of an agent holds, and what follows from reading it.

Decides which attempts an agent holds after a restart, and what a shorter journal with the same
meaning consists of. Promises that reading `snapshot()` gives the same state. Does not know bytes,
files or the supervisor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.core.entries import Assign, Leadership, Result


@dataclass(frozen=True, slots=True)
class StartOfAgent:
    """A start of the agent. `number` from 1."""

    number: int
    boot_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class AcceptedRecord:
    """An assignment was taken over. `lease_until_ms` on the clock since the boot."""

    assign: Assign
    lease_until_ms: int


@dataclass(frozen=True, slots=True)
class StartedRecord:
    """The process of an attempt was spawned; `start_ticks` and `boot_id` tell its pid from a later
    one.
    """

    attempt_id: bytes
    pid: int
    started_at_us: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class AckedRecord:
    """The result of an attempt is recorded by its shard."""

    attempt_id: bytes


# A Leadership is the latest word of a shard, a Result the end of an attempt.
Record = StartOfAgent | Leadership | AcceptedRecord | StartedRecord | Result | AckedRecord


@dataclass(slots=True)
class HeldAttempt:
    """An attempt that is not acknowledged. `boot_id`: of the boot in which it was accepted."""

    assign: Assign
    lease_until_ms: int
    boot_id: str
    started: StartedRecord | None = None
    result: Result | None = None


@dataclass(slots=True)
class JournalState:
    """What a journal says, record by record. An attempt's record without its AcceptedRecord is
    that of one whose result was acknowledged before, and is passed over.
    """

    incarnation: bytes
    start: StartOfAgent = StartOfAgent(0, "", 0)
    epochs: dict[int, Leadership] = field(default_factory=dict)
    held: dict[bytes, HeldAttempt] = field(default_factory=dict)

    def read(self, records: Iterable[Record]) -> None:
        """Takes records in, in their order."""
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        match record:
            case StartOfAgent():
                self.start = record
            case Leadership():
                self.epochs[record.shard] = record
            case AcceptedRecord():
                self._accept(record)
            case StartedRecord():
                if (held := self.held.get(record.attempt_id)) is not None:
                    held.started = record
            case Result():
                if (held := self.held.get(record.attempt_id)) is not None:
                    held.result = record
            case _:
                self.held.pop(record.attempt_id, None)

    def _accept(self, record: AcceptedRecord) -> None:
        assign = record.assign
        self.held[assign.attempt_id] = HeldAttempt(
            assign, record.lease_until_ms, self.start.boot_id
        )
        seen = self.epochs.get(assign.shard)
        if seen is not None and seen.epoch == assign.epoch and seen.batch < assign.batch:
            self.epochs[assign.shard] = Leadership(
                seen.shard, seen.epoch, seen.holder, assign.batch
            )

    def snapshot(self) -> Iterator[Record]:
        """The shortest journal that says the same. Attempts of an earlier boot come before the
        start that is in force, under a start of their own.
        """
        yield from self.epochs.values()
        number = self.start.number
        by_boot: dict[str, list[HeldAttempt]] = {}
        for held in self.held.values():
            by_boot.setdefault(held.boot_id, []).append(held)
        mine = by_boot.pop(self.start.boot_id, [])
        for boot_id, others in by_boot.items():
            yield StartOfAgent(number, boot_id, self.start.at_us)
            yield from _records_of(others)
        yield self.start
        yield from _records_of(mine)


def _records_of(attempts: Iterable[HeldAttempt]) -> Iterator[Record]:
    for held in attempts:
        yield AcceptedRecord(held.assign, held.lease_until_ms)
        if held.started is not None:
            yield held.started
        if held.result is not None:
            yield held.result
