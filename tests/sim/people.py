"""The people around a simulated cluster: what they ask for goes into the inbox of the store.

Promises that what was acknowledged to them is told to the invariants. Does not know who answers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from mainspring.v1 import dag_pb2 as pb

from controlplane.codec import commands
from controlplane.codec.dag import canonical, compile_version
from controlplane.core.effects import WaitKind
from controlplane.core.types import DagKey, DagVersion, bucket_of, uuid7
from tests.sim.memory_store import MemoryDatabase
from tests.sim.workload import random_dag

TENANT = "default"


class People:
    """Those who use one cluster. `runs`: what they triggered, by DAG and id."""

    def __init__(self, random: Random, database: MemoryDatabase, now_us: Callable[[], int]) -> None:
        self._random = random
        self._database = database
        self._now_us = now_us
        self.versions: dict[bytes, DagVersion] = {}
        self.dags: list[str] = []
        self.runs: list[tuple[str, bytes]] = []

    def apply(self, spec: pb.DagSpec) -> None:
        """Makes a version of a DAG the current one."""
        stored, digest = canonical(spec)
        self.versions[digest] = compile_version(TENANT, stored, digest)
        body = commands.apply_dag(spec.dag, digest, "")
        self._command(spec.dag, body, version=(digest, stored))
        if spec.dag not in self.dags:
            self.dags.append(spec.dag)

    def trigger(self, dag: str) -> bytes:
        """Asks for a run; its id."""
        run_id = uuid7(self._now_us(), self._random.randbytes(16))
        self._command(dag, commands.trigger_run(dag, run_id, self._now_us()), run_id=run_id)
        self.runs.append((dag, run_id))
        return run_id

    def cancel(self, dag: str, run_id: bytes) -> None:
        """Has a run stopped."""
        self._command(dag, commands.cancel_run(dag, run_id, "a change of mind"))

    def pause(self, dag: str, *, paused: bool) -> None:
        """Pauses or resumes the schedules of a DAG."""
        self._command(dag, commands.pause_dag(dag, "perhaps", paused=paused))

    def waits(self) -> list[dict[str, Any]]:
        """The task instances that wait for a decision."""
        rows = self._database.tables["task_wait"].values()
        return [row for row in rows if row["kind"] == WaitKind.APPROVAL]

    def decide(self, wait: dict[str, Any], *, approved: bool) -> None:
        """Says what shall become of a task instance that waits."""
        runs = self._database.tables["run"].values()
        run = next(row for row in runs if row["run"] == wait["run"])
        task = self.versions[run["digest"]].tasks[wait["task"]].task
        dag, run_id = run["dag"], run["run_id"]
        body = commands.decide_approval(dag, run_id, task, "a look at it", approved=approved)
        self._command(dag, body)

    def decide_some(self, share: float) -> None:
        """Somebody has an opinion on some of what waits."""
        for row in self.waits():
            if self._random.random() < share:
                self.decide(row, approved=self._random.random() < 0.6)

    def act(self) -> None:
        """One random wish."""
        random = self._random
        chance, dag = random.random(), random.choice(self.dags)
        if chance < 0.76:
            self.trigger(dag)
        elif chance < 0.86 and self.runs:
            self.cancel(*random.choice(self.runs))
        elif chance < 0.94:
            self.pause(dag, paused=random.random() < 0.5)
        else:
            self.apply(random_dag(random, dag))

    def _command(
        self,
        dag: str,
        body: bytes,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
    ) -> None:
        bucket = bucket_of(DagKey(TENANT, dag))
        self._database.append_command(TENANT, bucket, body, run_id=run_id, version=version)
