"""The local files that attempts write their output to.

Decides: where the files are and when they may go: after their attempt is over, every byte is in the
object store, and nobody reads them live.

Promises: what was not uploaded is never removed, not even by a later start of the agent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.logkeys import STREAMS, log_prefix

from agent.core.entries import Assign

STDOUT, STDERR = range(len(STREAMS))
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class SpooledLog:
    """The two files of an attempt. `uploaded`: bytes of each that are in the object store."""

    prefix: str
    paths: tuple[Path, Path]
    uploaded: list[int] = field(default_factory=lambda: [0, 0])
    ended: bool = False
    readers: int = 0
    queued: bool = False
    uploaded_at_s: float = 0.0

    @contextlib.contextmanager
    def files(self) -> Iterator[tuple[int, int]]:
        """Creates both files and lends their descriptors."""
        stdout = os.open(self.paths[STDOUT], FILE_FLAGS, 0o600)
        try:
            stderr = os.open(self.paths[STDERR], FILE_FLAGS, 0o600)
            try:
                yield stdout, stderr
            finally:
                os.close(stderr)
        finally:
            os.close(stdout)

    def size(self, stream: int) -> int:
        """Bytes written so far; a file that could not be created has none."""
        try:
            return self.paths[stream].stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, stream: int, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on; fewer at the end."""
        try:
            descriptor = os.open(self.paths[stream], os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, limit, offset)
        finally:
            os.close(descriptor)

    def waiting(self) -> int:
        """Bytes that are not in the object store yet."""
        return sum(max(0, self.size(s) - self.uploaded[s]) for s in (STDOUT, STDERR))


class Spool:
    """The logs of all attempts whose files are still here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[bytes, SpooledLog] = {}

    def create(self, assign: Assign) -> SpooledLog:
        name = assign.attempt_id.hex()
        prefix = log_prefix(assign.tenant, assign.dag, assign.run, assign.task, assign.attempt_id)
        log = SpooledLog(prefix, (self._folder / f"{name}.stdout", self._folder / f"{name}.stderr"))
        self._logs[assign.attempt_id] = log
        return log

    def find(self, attempt_id: bytes) -> SpooledLog | None:
        return self._logs.get(attempt_id)

    def live(self) -> list[SpooledLog]:
        return [log for log in self._logs.values() if not log.ended]

    def unfinished(self) -> bool:
        """Whether the log of an attempt that is over waits for its upload."""
        return any(log.ended and log.waiting() for log in self._logs.values())

    def release(self, attempt_id: bytes) -> bool:
        """Removes the files of an attempt if nobody needs them any more."""
        log = self._logs.get(attempt_id)
        if log is None or not log.ended or log.readers or log.waiting():
            return False
        del self._logs[attempt_id]
        for path in log.paths:
            path.unlink(missing_ok=True)
        return True
