"""The claim files: what was begun and how it ended, for whoever comes after this supervisor.

Decides: the file of an attempt is made (O_EXCL) before its process, so no attempt is spawned twice,
not by any later supervisor either; its lines are messages of the protocol: claimed, then spawned
and ended, or failed. A last line that was cut, or makes no sense, counts as not written.

Promises nothing after a crash of the machine: lines are not synced, which costs milliseconds a
task; but then the boot id is another one, and nothing of an earlier boot is ever spawned again.
"""

from __future__ import annotations

import os

from agent.supervisor import proc
from agent.supervisor.protocol import BrokenFrame, body, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
FILE_MOST = 1 << 20
HEX = frozenset("0123456789abcdef")


def is_id(name: object) -> bool:
    """Whether this may be the id of an attempt, and so the name of a file."""
    return isinstance(name, str) and 0 < len(name) <= 64 and HEX.issuperset(name)


class Claims:
    """The claim files of one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def path(self, attempt_id: str) -> str:
        return f"{self._folder}/{attempt_id}"

    def make(self, attempt_id: str, claimed: dict[str, Any]) -> None:
        """Claims an attempt; raises FileExistsError for one that was claimed before."""
        path = self.path(attempt_id)
        descriptor = os.open(path, CREATE, 0o600)
        try:
            _write(descriptor, body("claimed", claimed))
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    def append(self, attempt_id: str, line: bytes) -> None:
        """Adds a line to a claim; raises OSError if that cannot be."""
        descriptor = os.open(self.path(attempt_id), APPEND)
        try:
            _write(descriptor, line)
        finally:
            os.close(descriptor)

    def forget(self, attempt_id: str) -> None:
        try:
            os.unlink(self.path(attempt_id))
        except OSError as error:
            proc.complain(f"cannot remove the claim of {attempt_id}: {error}")

    def read_all(self) -> dict[str, dict[str, Any]]:
        """What earlier supervisors wrote, in the form in which an agent is told it. What they did
        not see end ended with them: it is claimed, and no more is known.
        """
        names = [name for name in os.listdir(self._folder) if is_id(name)]
        return {name: self._known(name) for name in names}

    def spawned(self) -> dict[str, dict[str, Any]]:
        """The attempts of this boot whose end is not written: pid and start of the first process
        of each, if it was written, and by which kind of supervisor it was spawned.
        """
        boot = proc.boot_id()
        found = {}
        for name in filter(is_id, os.listdir(self._folder)):
            lines = self._lines(name)
            claimed = lines.get("claimed", {})
            if "ended" not in lines and claimed.get("boot_id", boot) == boot:
                found[name] = {**lines.get("spawned", {}), "by": claimed.get("by", "")}
        return found

    def _known(self, attempt_id: str) -> dict[str, Any]:
        lines = self._lines(attempt_id)
        claimed_at_us = lines.get("claimed", {}).get("at_us", 0)
        known = {"id": attempt_id, "claimed_at_us": claimed_at_us or self._made_at_us(attempt_id)}
        if "ended" in lines:
            known["ended"] = lines["ended"]
            known["spawned"] = lines.get("spawned")
        elif "failed" in lines:
            known["failed"] = lines["failed"]
        return {kind: content for kind, content in known.items() if content is not None}

    def _made_at_us(self, attempt_id: str) -> int:
        return os.stat(self.path(attempt_id)).st_mtime_ns // 1_000

    def _lines(self, attempt_id: str) -> dict[str, Any]:
        """The lines of a claim up to the first that is cut or makes no sense."""
        lines: dict[str, Any] = {}
        text = proc.read(self.path(attempt_id), FILE_MOST) or b""
        for line in text.split(b"\n")[:-1]:
            try:
                kind, content = parse(line)
            except BrokenFrame:
                break
            if not isinstance(content, dict):
                break
            lines[kind] = content
        return lines


def _write(descriptor: int, line: bytes) -> None:
    line += b"\n"
    if os.write(descriptor, line) != len(line):
        raise OSError(28, "No space left on device")
