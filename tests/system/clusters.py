"""A cluster as tests see it: its process, a client, and the ledger that its tasks write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainspring.client.client import Client
from mainspring.ledger import LedgerEntry, read_ledger

from tests.system import up as up_process
from tests.system.up import Up

FLAGS = ("--nodes=2", "--shards=4", "--agents=2", "--capacity=64,1TiB")


@dataclass(frozen=True)
class Cluster:
    """A running cluster, a client of it, and the file that its tasks write."""

    up: Up
    client: Client
    ledger: Path

    def mainspring(self, *arguments: str, text: str | None = None):
        return up_process.mainspring(self.up.data, *arguments, text=text)

    def entries(self, run: str) -> list[LedgerEntry]:
        """What the tasks of one run wrote."""
        wanted = run.rpartition("/")[2]
        if not self.ledger.exists():
            return []
        return [entry for entry in read_ledger(self.ledger) if entry.run == wanted]


@contextmanager
def booted(place: Path) -> Iterator[Cluster]:
    """2 nodes, 4 shards and 2 agents that offer 64 cores each, whatever the machine has."""
    ledger = place / "ledger"
    task_env = f"--task-env=MAINSPRING_LEDGER={ledger}"
    with up_process.running(place / "data", *FLAGS, task_env) as up, up.client() as client:
        yield Cluster(up, client, ledger)
