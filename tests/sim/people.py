"""The people around a simulated cluster: what they ask for goes into the inbox of the store.

They also ask for what is not there, is over, or cannot be read. Promises that what they asked for
is told to the invariants. Does not know who answers.
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
from tests.sim.rows import Asked
from tests.sim.workload import random_dag

TENANT = "default"
Note = Callable[..., None]


class People:
    """Those who use one cluster. `runs`: what they triggered, by DAG and id; `asked`: all commands.

    `mix`: which DAGs they like; `poison`: how many of their wishes nobody can fulfil.
    """

    def __init__(
        self, random: Random, database: MemoryDatabase, now_us: Callable[[], int], note: Note
    ) -> None:
        self._random = random
        self._database = database
        self._now_us = now_us
        self._note = note
        self.mix = "mixed"
        self.poison = 0.0
        self.versions: dict[bytes, DagVersion] = {}
        self.dags: list[str] = []
        self.runs: list[tuple[str, bytes]] = []
        self.asked: dict[int, Asked] = {}
        self._wishes = (
            (76, lambda: self.trigger(self._any_dag())),
            (10, self._cancel_some),
            (8, lambda: self.pause(self._any_dag(), paused=random.random() < 0.5)),
            (4, lambda: self.apply(random_dag(random, self._any_dag(), self.mix))),
            (2, self._ask_in_vain),
        )

    def _any_dag(self) -> str:
        return self._random.choice(self.dags)

    def apply(self, spec: pb.DagSpec, etag: str = "") -> None:
        """Makes a version of a DAG the current one."""
        stored, digest = canonical(spec)
        self.versions[digest] = compile_version(TENANT, stored, digest)
        body = commands.apply_dag(spec.dag, digest, etag)
        self._command(Asked("apply", spec.dag, digest=digest), body, version=(digest, stored))
        if spec.dag not in self.dags:
            self.dags.append(spec.dag)

    def trigger(self, dag: str) -> bytes:
        """Asks for a run; its id."""
        run_id = self._new_run_id()
        body = commands.trigger_run(dag, run_id, self._now_us())
        self._command(Asked("trigger", dag, run_id), body, run_id=run_id)
        self.runs.append((dag, run_id))
        return run_id

    def _new_run_id(self) -> bytes:
        return uuid7(self._now_us(), self._random.randbytes(16))

    def cancel(self, dag: str, run_id: bytes) -> None:
        """Has a run stopped."""
        body = commands.cancel_run(dag, run_id, "a change of mind")
        self._command(Asked("cancel", dag, run_id), body)

    def pause(self, dag: str, *, paused: bool) -> None:
        """Pauses or resumes the schedules of a DAG."""
        asked = Asked("pause" if paused else "resume", dag)
        self._command(asked, commands.pause_dag(dag, "perhaps", paused=paused))

    def waits(self) -> list[dict[str, Any]]:
        """The task instances that wait for a decision."""
        rows = self._database.tables["task_wait"].values()
        return [row for row in rows if row["kind"] == WaitKind.APPROVAL]

    def decide(self, wait: dict[str, Any], *, approved: bool) -> None:
        """Says what shall become of a task instance that waits."""
        run = self._database.tables["run"][wait["day"], wait["run"]]
        task = self.versions[run["digest"]].tasks[wait["task"]].task
        dag, run_id = run["dag"], run["run_id"]
        body = commands.decide_approval(dag, run_id, task, "a look at it", approved=approved)
        self._command(Asked("approve" if approved else "reject", dag, run_id), body)

    def decide_some(self, share: float) -> None:
        """Somebody has an opinion on some of what waits."""
        for row in self.waits():
            if self._random.random() < share:
                self.decide(row, approved=self._random.random() < 0.6)

    def act(self) -> None:
        """One random wish."""
        if self._random.random() < self.poison:
            self._poison()
            return
        (wish,) = self._random.choices(
            [wish for _, wish in self._wishes], [weight for weight, _ in self._wishes]
        )
        wish()

    def _cancel_some(self) -> None:
        """One of the last runs, mostly; an old one is over."""
        if self.runs:
            recent = self.runs[-12:] if self._random.random() < 0.8 else self.runs
            self.cancel(*self._random.choice(recent))

    def _ask_in_vain(self) -> None:
        """For what is not there, or was changed meanwhile."""
        dag, run_id = self._any_dag(), self._new_run_id()
        chance = self._random.random()
        if chance < 0.3:
            missing = f"no-{dag}"
            body = commands.trigger_run(missing, run_id, self._now_us())
            self._command(Asked("trigger", missing, run_id), body, run_id=run_id)
        elif chance < 0.6:
            self.apply(random_dag(self._random, dag, self.mix), etag="0")
        elif self.runs:
            dag, run_id = self._random.choice(self.runs)
            body = commands.decide_approval(dag, run_id, "t0", "nobody asked", approved=True)
            self._command(Asked("approve", dag, run_id), body)

    def _poison(self) -> None:
        """What no shard can do: a body that is none, texts that the store refuses."""
        chance, dag = self._random.random(), self._any_dag()
        if chance < 0.4:
            self._command(Asked("garbage", dag, bad=True), b"\xff" * 8)
        elif chance < 0.6:
            body = commands.apply_dag(dag, b"\0" * 32, "")
            self._command(Asked("garbage", dag, bad=True), body)
        elif chance < 0.8 or not self.runs:
            body = commands.pause_dag(dag, "a \0 in it", paused=self._random.random() < 0.5)
            self._command(Asked("pause", dag, bad=True), body)
        else:
            dag, run_id = self.runs[-1]
            body = commands.cancel_run(dag, run_id, "a \0 in it")
            self._command(Asked("cancel", dag, run_id, bad=True), body)

    def _command(
        self,
        asked: Asked,
        body: bytes,
        *,
        run_id: bytes | None = None,
        version: tuple[bytes, bytes] | None = None,
    ) -> None:
        bucket = bucket_of(DagKey(TENANT, asked.dag))
        appended = self._database.append_command(
            TENANT, bucket, body, run_id=run_id, version=version
        )
        self.asked[appended.command] = asked
        name = asked.run_id.hex()[-6:]
        bad = "which cannot be read" if asked.bad else ""
        self._note("C", appended.command, asked.kind, asked.dag, name, bad)
