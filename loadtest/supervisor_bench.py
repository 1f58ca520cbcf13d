"""Measures the supervisor alone: processes a second, their cost, and its memory.

Decides only the load: no-op processes, so many at a time, each in a fresh folder with output files
of its own; then some that run. A supervisor of its own in a temporary folder, spoken to over its
socket, with no agent between. Run with `python -m loadtest.supervisor_bench`.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from pathlib import Path

from agent.supervisor import proc, start
from agent.supervisor.door import short_path
from agent.supervisor.protocol import PROTOCOL, FrameReader, frame

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
LEASE_MS = 600_000
DEADLINE_S = 10.0


class Bench:
    """One supervisor, and the connection to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX)
        with short_path(str(folder / "supervisor")) as path:
            self._socket.connect(path)
        self._pid = start.peer_pid(self._socket)
        self._reader = FrameReader()
        self._socket.sendall(frame("hello", {"version": PROTOCOL}))
        while not any(kind == "listed" for kind, _ in self._hear()):
            pass

    def spawns(self, count: int, window: int) -> None:
        """Runs `count` no-op processes, at most `window` at a time."""
        began, spent = time.perf_counter(), self._processor_s()
        sent = ended = 0
        frames: list[bytes] = []
        while ended < count:
            wanted = min(count, ended + window)
            frames += [self._spawn("true") for _ in range(sent, wanted)]
            sent = max(sent, wanted)
            self._socket.sendall(b"".join(frames))
            frames = []
            for kind, content in self._hear():
                if kind == "ended":
                    ended += 1
                    frames.append(frame("forget", {"id": content["id"]}))
        self._socket.sendall(b"".join(frames))
        took, spent = time.perf_counter() - began, self._processor_s() - spent
        cost_us = spent / count * 1e6
        print(
            f"{window:4} at a time: {count / took:6.0f} processes/s, {cost_us:4.0f} us of its own"
        )

    def memory(self, running: int) -> None:
        """Its resident memory with so many tasks."""
        self._socket.sendall(b"".join(self._spawn("sleep", "600") for _ in range(running)))
        spawned = 0
        while spawned < running:
            spawned += sum(kind == "spawned" for kind, _ in self._hear())
        status = (proc.read(f"/proc/{self._pid}/status", 1 << 16) or b"").decode("ascii")
        resident_kb = int(status.partition("VmRSS:")[2].split()[0])
        print(f"{running:4} running: {resident_kb / 1024:.1f} MB resident")

    def _spawn(self, *argv: str) -> bytes:
        attempt_id = os.urandom(16).hex()
        log = str(self._folder / attempt_id)
        env = {"PATH": os.defpath, "MAINSPRING_ATTEMPT_ID": attempt_id}
        limits = {"timeout_ms": 0, "grace_ms": 0, "overtime_ms": 0, "shard": 0}
        request = {"id": attempt_id, "argv": argv, "env": env, "cwd": "", **limits}
        request |= {"stdout": f"{log}.stdout", "stderr": f"{log}.stderr"}
        return frame("spawn", {**request, "until_ms": proc.boottime_ms() + LEASE_MS})

    def _hear(self) -> list[tuple[str, object]]:
        data = self._socket.recv(1 << 18)
        assert data, "the supervisor is gone"
        return self._reader.feed(data)

    def _processor_s(self) -> float:
        fields = (proc.read(f"/proc/{self._pid}/stat", 4096) or b"").rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--work", help="where to work (default: the folder for temporary files)")
    parser.add_argument("--containment", choices=("namespace", "process"), default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        supervisor = f"{folder}/supervisor"
        if start.start(supervisor, arguments.containment, idle_ms=60_000) == 0:
            bench = Bench(Path(folder))
            for window in (1, 8, 64):
                bench.spawns(arguments.count, window)
            bench.memory(100)
            start.end(supervisor, DEADLINE_S)


if __name__ == "__main__":
    main()
