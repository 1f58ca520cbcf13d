"""The disk of a simulated host: the journal of its agent and the claims of its supervisors.

What was written survives the death of the process that wrote it; what was not written dies with
it. A crash of the host keeps what was synced, and of the rest as much as the seed says. Records
pass through the production codec of the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from agent.core.entries import Leadership
from agent.core.events import Claimed, ProcessExited, ProcessSpawned, SpawnFailed, Supervised
from agent.core.records import JournalState, Record, StartOfAgent
from agent.journal.codec import decode_record, encode_record


class JournalWiped(Exception):  # noqa: N818  (a state of the disk)
    """The file of an open journal is gone."""


@dataclass
class JournalFile:
    """A journal as it is on the disk; the first `synced` records survive everything."""

    incarnation: bytes
    records: list[bytes] = field(default_factory=list)
    synced: int = 0


@dataclass
class Claim:
    """What a supervisor has written of an attempt."""

    claimed: Claimed
    boot: int
    spawned: ProcessSpawned | None = None
    failed: SpawnFailed | None = None
    ended: ProcessExited | None = None

    def read(self) -> Supervised:
        """What a later supervisor knows by it: what it did not see end has ended."""
        if self.ended is not None:
            return Supervised(self.claimed, self.spawned, self.ended)
        return Supervised(self.claimed, failed=self.failed)


class SimDisk:
    """One disk."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.journal: JournalFile | None = None
        self.claims: dict[bytes, Claim] = {}

    def open_journal(self, boot_id: str, at_us: int) -> tuple[OpenJournal, JournalState]:
        """The journal for a start of an agent, in which this start is recorded."""
        found = self.journal
        if found is None:
            found = self.journal = JournalFile(self.random.randbytes(16))
        state = JournalState(found.incarnation)
        state.read(map(decode_record, found.records))
        if self.random.random() < 0.3:
            found.records = [encode_record(record) for record in state.snapshot()]
        start = StartOfAgent(state.start.number + 1, boot_id, at_us)
        found.records.append(encode_record(start))
        found.synced = len(found.records)
        state.read([start])
        return OpenJournal(self, found), state

    def wipe(self) -> None:
        """Everything is gone; who has a file open notices when it writes."""
        self.journal = None
        self.claims = {}

    def cut(self, count: int) -> None:
        """The last records of the journal are not readable, nor were they ever promised to be."""
        if self.journal is not None:
            keep = max(self.journal.synced, len(self.journal.records) - count)
            del self.journal.records[keep:]

    def crash(self) -> None:
        """The host goes down: of what was not synced some is lost."""
        random, journal = self.random, self.journal
        if journal is not None:
            del journal.records[random.randint(journal.synced, len(journal.records)) :]
        for attempt_id, claim in list(self.claims.items()):
            lines = random.choice((0, 1, 2, 3, 3, 3))
            if lines < 3:
                claim.ended = None
            if lines < 2:
                claim.spawned = claim.failed = None
            if lines == 0:
                del self.claims[attempt_id]


class OpenJournal:
    """A journal as one agent process has it open; what was appended waits in its memory."""

    def __init__(self, disk: SimDisk, file: JournalFile) -> None:
        self._disk = disk
        self._file = file
        self._buffer: list[bytes] = []
        self.open = True
        # What `epoch` has read so far.
        self._read = 0
        self._epochs: dict[int, int] = {}

    def append(self, records: Iterable[Record]) -> None:
        """Takes records in; they are written by the next flush."""
        self._buffer += map(encode_record, records)

    def flush(self) -> int:
        """Writes; returns up to which record. Raises JournalWiped."""
        if self.open and self._disk.journal is not self._file:
            raise JournalWiped
        if self.open:
            self._file.records += self._buffer
            self._buffer.clear()
        return len(self._file.records)

    def sync(self) -> int:
        """Writes; it is not on disk before `synced` says so."""
        return self.flush()

    def synced(self, count: int) -> None:
        """The disk has the first `count` records for good."""
        if self.open:
            self._file.synced = max(self._file.synced, count)

    def has_durably(self, record: Record) -> bool:
        """Whether a record survives a crash of the host; only the latest ones are looked at."""
        durable = self._file.records[: self._file.synced]
        return encode_record(record) in durable[-200:]

    def epoch(self, shard: int) -> int:
        """The highest epoch of a shard that survives a crash of the host; 0: none."""
        for encoded in self._file.records[self._read : self._file.synced]:
            record = decode_record(encoded)
            if isinstance(record, Leadership):
                known = self._epochs.get(record.shard, 0)
                self._epochs[record.shard] = max(known, record.epoch)
        self._read = self._file.synced
        return self._epochs.get(shard, 0)

    def close(self) -> None:
        """Its process is gone, perhaps in the middle of a write."""
        if self.open and self._disk.journal is self._file:
            self._file.records += self._buffer[: self._disk.random.randint(0, len(self._buffer))]
        self.open = False
