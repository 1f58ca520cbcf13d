"""The folder of evidence of a campaign.

Decides the names of its files and how a line is written. Promises that lines of several threads
never mix, and that what was written before a process died is there. All times in it are nanoseconds
since the boot of the machine: nobody sets that clock, and all processes share it.

    ledger.tsv      what attempts wrote: attempt id, task, run, kind (start, alive, end), pid, time,
                    exit status (at the end)
    clients.jsonl   every call of a client: when it was made and how it ended
    faults.jsonl    what was broken, from when to when
    rounds.jsonl    the phases of every round, and why a round is void
    epochs.jsonl    when another epoch of a shard was first seen
    cluster.json    what ran where
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def boot_ns() -> int:
    """Nanoseconds since the boot of the machine."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where everything of a campaign is."""

    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.tsv"

    @property
    def clients(self) -> Path:
        return self.folder / "clients.jsonl"

    @property
    def faults(self) -> Path:
        return self.folder / "faults.jsonl"

    @property
    def rounds(self) -> Path:
        return self.folder / "rounds.jsonl"

    @property
    def epochs(self) -> Path:
        return self.folder / "epochs.jsonl"

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster.json"


class Lines:
    """Appends objects to a file, one a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, **fields: Any) -> None:
        line = json.dumps(fields) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of such a file; nothing where it is not there."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


class Ledger:
    """Follows the ledger while attempts write it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self._started = 0
        self._running: dict[bytes, int] = {}
        self._spans: list[tuple[int, int]] = []

    def started(self) -> int:
        """How many attempts have started so far."""
        self._look()
        return self._started

    def spans(self, since_ns: int) -> list[tuple[int, int]]:
        """(start, end) of the attempts that ended by themselves and started since then."""
        self._look()
        return [span for span in self._spans if span[0] >= since_ns]

    def _look(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            attempt, _task, _run, kind, _pid, at, _exit = line.split(b"\t")
            if kind == b"start":
                self._started += 1
                self._running[attempt] = int(at)
            elif kind == b"end" and attempt in self._running:
                self._spans.append((self._running.pop(attempt), int(at)))

    def close(self) -> None:
        self._file.close()
