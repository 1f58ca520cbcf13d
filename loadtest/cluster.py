"""A cluster of `mainspring up` for one measurement, and what its processes cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0


@dataclass
class Cluster:
    """A running cluster."""

    process: subprocess.Popen[bytes]
    data: Path
    addresses: list[str]
    token: str
    ready_s: float

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far by kind of process: node, postgres, etcd, agent."""
        spent: dict[str, float] = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                kind = kind_of(child.cmdline())
                # Ended children count for their parent: PostgreSQL starts and ends backends.
                own = times.user + times.system + times.children_user + times.children_system
                spent[kind] = spent.get(kind, 0.0) + own
        return spent

    def memory_mb(self, kind: str) -> float:
        """Largest resident memory of the processes of a kind, in MB (10^6 bytes)."""
        sizes = [0.0]
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if kind_of(child.cmdline()) == kind:
                    sizes.append(child.memory_info().rss / 1e6)
        return max(sizes)


def kind_of(argv: list[str]) -> str:
    """Which part of the cluster a process is."""
    line = " ".join(argv)
    for mark, kind in (
        ("controlplane.cli node", "node"),
        ("agent.main", "agent"),
        ("postgres", "postgres"),
        ("etcd", "etcd"),
    ):
        if mark in line:
            return kind
    return "other"


@contextlib.contextmanager
def cluster(
    *flags: str, env: dict[str, str] | None = None, port: int = 17_070
) -> Iterator[Cluster]:
    """Boots a cluster on an empty folder and stops it at the end."""
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        data = Path(folder) / "data"
        argv = [sys.executable, "-P", "-m", "controlplane.cli", "up", "--data", str(data)]
        argv += ["--port", str(port), *flags]
        log_path = Path(folder) / "up.log"
        with log_path.open("wb") as log:
            begun = time.perf_counter()
            process = subprocess.Popen(
                argv, stdout=log, stderr=log, env={**os.environ, **(env or {})}
            )
            try:
                client = wait_ready(process, data, log_path)
                ready_s = time.perf_counter() - begun
                token = Path(client["token_file"]).read_text(encoding="ascii").strip()
                addresses = client.get("addresses") or [client["address"]]
                yield Cluster(process, data, addresses, token, ready_s)
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(STOP_DEADLINE_S)


def wait_ready(process: subprocess.Popen[bytes], data: Path, log: Path) -> dict[str, str]:
    """Waits until `up` has announced the cluster; raises RuntimeError with its log."""
    limit = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        if b"ready" in log.read_bytes() and (data / "client.json").exists():
            answer: dict[str, str] = json.loads((data / "client.json").read_text())
            return answer
        time.sleep(0.01)
    raise RuntimeError(f"the cluster did not become ready:\n{log.read_text()}")
