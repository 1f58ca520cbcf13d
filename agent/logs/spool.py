"""The local files that attempts write their output to.

Decides: where the files are and when they may go: after their attempt is over, every byte is in the
object store, and nobody reads them live. An attempt that is over while its output waits leaves a
note with the name of its log, so that a later start knows where to upload the rest.

Promises: what was not uploaded is never removed, not even by a later start of the agent.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from mainspring.logkeys import STREAMS, log_prefix

from agent.core.entries import Assign

STDOUT, STDERR = range(len(STREAMS))
NOTE = "owed"
FILE_NAME = re.compile(rf"([0-9a-f]{{32}})\.({STREAMS[0]}|{STREAMS[1]}|{NOTE})")

log_lines = structlog.get_logger(__name__)


@dataclass(slots=True)
class SpooledLog:
    """The two files of an attempt. `uploaded`: bytes of each that are in the object store; of one
    that an earlier start began (`asked` is False) there may be more.
    """

    prefix: str
    paths: tuple[Path, Path]
    uploaded: list[int] = field(default_factory=lambda: [0, 0])
    asked: bool = True
    ended: bool = False
    # Bytes in each file once nothing is added to it any more.
    final: tuple[int, int] | None = None
    readers: int = 0
    noted: bool = False
    queued: bool = False
    uploaded_at_s: float = 0.0

    def size(self, stream: int) -> int:
        """Bytes written so far; a file that could not be created has none."""
        if self.final is not None:
            return self.final[stream]
        try:
            return self.paths[stream].stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, stream: int, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` on; fewer at the end."""
        data = b""
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.paths[stream], os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(descriptor, limit, offset)
            finally:
                os.close(descriptor)
        if not data:
            # Somebody may have deleted or cut the file: what is gone is not waited for.
            self.final = None
        return data

    def waiting(self) -> int:
        """Bytes that are not in the object store yet."""
        return sum(max(0, self.size(s) - self.uploaded[s]) for s in (STDOUT, STDERR))


class Spool:
    """The logs of all attempts whose files are still here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: dict[bytes, SpooledLog] = {}

    def create(self, assign: Assign) -> SpooledLog:
        """The log of an attempt that is about to be spawned."""
        found = self._logs.get(assign.attempt_id)
        if found is not None:
            return found
        log = self._log(assign.attempt_id, _prefix(assign))
        self._logs[assign.attempt_id] = log
        return log

    def adopt(self, assign: Assign) -> SpooledLog:
        """The log of an attempt that may have been spawned by an earlier start."""
        known = assign.attempt_id in self._logs
        log = self.create(assign)
        log.asked = log.asked and known
        return log

    def recover(self, held: Container[bytes]) -> dict[bytes, SpooledLog]:
        """What earlier starts left: the logs of attempts that are over and not held any more, whose
        output waits. Empty files go at once.
        """
        names = (FILE_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        for attempt_id in sorted({bytes.fromhex(found[1]) for found in names if found}):
            if attempt_id not in held:
                self._recover(attempt_id)
        return dict(self._logs)

    def _recover(self, attempt_id: bytes) -> None:
        try:
            prefix = self._note(attempt_id).read_text("utf-8")
        except FileNotFoundError:
            prefix = ""
        log = self._log(attempt_id, prefix.removesuffix("\n"))
        log.asked, log.ended, log.noted = False, True, True
        if not log.waiting():
            self._remove(attempt_id, log)
        elif prefix.endswith("\n"):
            self._logs[attempt_id] = log
        else:
            log_lines.warning("output of an attempt that nobody knows", path=str(log.paths[0]))

    def end(self, attempt_id: bytes) -> None:
        """The attempt is over."""
        log = self._logs[attempt_id]
        log.ended = True
        log.final = log.size(STDOUT), log.size(STDERR)
        if log.waiting():
            self._note(attempt_id).write_text(f"{log.prefix}\n", "utf-8")
            log.noted = True

    def find(self, attempt_id: bytes) -> SpooledLog | None:
        return self._logs.get(attempt_id)

    def unfinished(self) -> bool:
        """Whether the log of an attempt that is over waits for its upload."""
        return any(log.ended and log.waiting() for log in self._logs.values())

    def release(self, attempt_id: bytes) -> bool:
        """Removes the files of an attempt if nobody needs them any more."""
        log = self._logs.get(attempt_id)
        if log is None or not log.ended or log.readers or log.waiting():
            return False
        del self._logs[attempt_id]
        self._remove(attempt_id, log)
        return True

    def _log(self, attempt_id: bytes, prefix: str) -> SpooledLog:
        name = attempt_id.hex()
        paths = self._folder / f"{name}.stdout", self._folder / f"{name}.stderr"
        return SpooledLog(prefix, paths)

    def _note(self, attempt_id: bytes) -> Path:
        return self._folder / f"{attempt_id.hex()}.{NOTE}"

    def _remove(self, attempt_id: bytes, log: SpooledLog) -> None:
        """The note goes last: what is left by a kill in between is known to be owed."""
        for path in log.paths:
            path.unlink(missing_ok=True)
        if log.noted:
            self._note(attempt_id).unlink(missing_ok=True)


def _prefix(assign: Assign) -> str:
    return log_prefix(assign.tenant, assign.dag, assign.run, assign.task, assign.attempt_id)
