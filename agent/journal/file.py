"""The file of a journal.

Decides: when a found file is this agent's journal. A last record whose writing did not finish is
cut off: nothing followed from it. Anything else that cannot be read, a header of another file (a
copy) or damage in the middle, may hide what the agent once promised: the file is put aside and the
agent begins anew, as another incarnation. Decides also when the file is written anew, shorter.

Promises: what was appended before a call of `sync` is on disk when that returns. A writing that
failed is never followed by another.

Does not know: what follows from a record. `append` and `sync` may run in two threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from agent.core.records import JournalState, Record, StartOfAgent
from agent.journal.codec import Header, encode_header, encode_record
from agent.journal.frames import frame
from agent.journal.reading import NotAJournal, Reading, read_journal

INCARNATION_BYTES = 16
PRUNE_BYTES = 1 << 20
PRUNE_FACTOR = 4
READ_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC

log_lines = structlog.get_logger(__name__)


class JournalLost(Exception):  # noqa: N818  # it says what happened
    """The file was deleted while the agent lived: what is written is written nowhere."""


class Journal:
    """An open journal. `prune_bytes`: the size below which it is never written anew."""

    def __init__(
        self, path: Path, descriptor: int, state: JournalState, prune_bytes: int = PRUNE_BYTES
    ) -> None:
        self._path = path
        self._descriptor = descriptor
        self._state = state
        self._size = os.fstat(descriptor).st_size
        self._prune_bytes = prune_bytes
        self._prune_at = prune_bytes
        self._pending: deque[Record] = deque()
        self._broken = False

    @property
    def incarnation(self) -> bytes:
        return self._state.incarnation

    def append(self, records: Iterable[Record]) -> None:
        """Adds records, in order; they are written by the next `flush` or `sync`."""
        self._pending.extend(records)

    def flush(self) -> None:
        """Hands what was appended to the system: it survives the agent, not the machine. Raises
        OSError.
        """
        assert not self._broken, "a journal whose writing failed is not written any more"
        taken = self._take()
        data = b"".join(frame(encode_record(record)) for record in taken)
        self._broken = True
        _write_all(self._descriptor, data)
        self._broken = False
        self._size += len(data)
        self._state.read(taken)

    def sync(self) -> None:
        """Writes what was appended, and returns when it is on disk. Raises OSError, JournalLost."""
        self.flush()
        self._broken = True
        os.fdatasync(self._descriptor)
        if os.fstat(self._descriptor).st_nlink == 0:
            raise JournalLost(f"{self._path} was deleted")
        if self._size > self._prune_at:
            self._prune()
        self._broken = False

    def close(self) -> None:
        os.close(self._descriptor)

    def _take(self) -> list[Record]:
        taken: list[Record] = []
        with suppress(IndexError):
            while True:
                taken.append(self._pending.popleft())
        return taken

    def _prune(self) -> None:
        """Writes the journal anew if most of it is history."""
        data = b"".join(frame(encode_record(record)) for record in self._state.snapshot())
        if self._size > PRUNE_FACTOR * len(data):
            pruned = _replace(self._path, self.incarnation, data)
            os.close(self._descriptor)
            self._descriptor = pruned
            self._size = os.fstat(pruned).st_size
        self._prune_at = max(self._prune_bytes, PRUNE_FACTOR * len(data))


def open_journal(
    path: Path, boot_id: str, wall_us: int, prune_bytes: int = PRUNE_BYTES
) -> tuple[Journal, JournalState]:
    """Opens the journal at `path`, or makes one, and records this start of the agent on disk.

    Returns the journal and what it says, this start included. Raises OSError.
    """
    reading, descriptor = _find(path)
    if reading is None or descriptor is None:
        incarnation = os.urandom(INCARNATION_BYTES)
        descriptor = _replace(path, incarnation, b"")
        records: list[Record] = []
    else:
        incarnation = reading.header.incarnation
        records = [record for _, record in reading.records]
    mine, theirs = JournalState(incarnation), JournalState(incarnation)
    mine.read(records)
    theirs.read(records)
    start = StartOfAgent(mine.start.number + 1, boot_id, wall_us)
    theirs.read([start])
    journal = Journal(path, descriptor, mine, prune_bytes)
    journal.append([start])
    journal.sync()
    return journal, theirs


def read_file(descriptor: int) -> bytes:
    """All bytes of a file."""
    parts: list[bytes] = []
    while part := os.read(descriptor, READ_BYTES):
        parts.append(part)
    return b"".join(parts)


def _find(path: Path) -> tuple[Reading | None, int | None]:
    """The journal at `path`, cut to what is readable; nothing if there is none to go on with."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        log_lines.info("no journal yet: a new incarnation", path=str(path))
        return None, None
    try:
        reading = read_journal(read_file(descriptor))
        _judge(reading, _inode(descriptor))
    except NotAJournal as error:
        os.close(descriptor)
        _put_aside(path, str(error))
        return None, None
    if reading.end < reading.size:
        log_lines.warning(
            "the last record of the journal was not finished and is cut off",
            path=str(path),
            offset=reading.end,
            bytes=reading.size - reading.end,
        )
        os.ftruncate(descriptor, reading.end)
    return reading, descriptor


def _judge(reading: Reading, inode: int) -> None:
    if reading.header.inode != inode:
        raise NotAJournal("it is a copy of a journal")
    if reading.damaged:
        raise NotAJournal(f"it is damaged at byte {reading.end}, in the middle")


def _inode(descriptor: int) -> int:
    """The number of a file's inode, in the 63 bits that the header has for it."""
    return os.fstat(descriptor).st_ino & (1 << 63) - 1


def _put_aside(path: Path, reason: str) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.lost-{number}")).exists():
        number += 1
    path.rename(aside)
    log_lines.error(
        "the journal cannot be used: this agent begins anew; what it held is given up",
        path=str(path),
        reason=reason,
        kept_as=str(aside),
    )


def _replace(path: Path, incarnation: bytes, data: bytes) -> int:
    """Puts a new file with these frames in the place of a journal, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
    header = Header(incarnation, _inode(descriptor))
    _write_all(descriptor, frame(encode_header(header)) + data)
    os.fsync(descriptor)
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
