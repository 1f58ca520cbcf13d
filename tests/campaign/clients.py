"""The clients of a campaign, in a process of their own: they ask, and note what they are told.

    python -m tests.campaign.clients SETTINGS.json

Decides who asks what and when. Runs are triggered at times drawn beforehand, whether earlier calls
were answered or not (an open loop); some are cancelled; DAGs get other versions; what waits for a
person is decided. A call whose outcome is unknown is made again with the same request id, as a
careful client would, and some that were answered as well: neither may have a second effect.

Commands come as lines of standard input, and each is answered by one line when it is done: `load`
(go on with everything), `drain` (no new runs, schedules paused, all calls answered; what waits for
a person is still decided), `stop`.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mainspring.client.client import Client
from mainspring.client.errors import MainspringError, ServerError, UnavailableError
from mainspring.client.settings import Asked, resolve
from mainspring.v1 import run_pb2

from tests.campaign.evidence import Evidence, Lines, boot_ns
from tests.campaign.shapes import (
    ALL_SHAPES,
    COPIES,
    ENDURING,
    SCHEDULED,
    WEIGHTS,
    Shapes,
    dag_id,
)

THREADS = 24
DEADLINE_S = 4.0
PATIENCE_S = 2.0
# Of a hundred runs so many are cancelled, and triggers answered so many are repeated.
CANCELLED, REPEATED = 4, 4
APPROVED = 75
APPLY_PERIOD_S = 2.0
APPROVAL_PERIOD_S = 0.5
REPETITIONS = 3
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients are told: where to call, and how much; `enduring_runs` begin with it."""

    folder: Path
    addresses: str
    token_file: str
    runs_per_s: float
    enduring_runs: int
    seed: int


class Clients:
    """Calls of many threads; each has its own connections."""

    def __init__(self, load: Load) -> None:
        evidence = Evidence(load.folder)
        self._load = load
        self._log = Lines(evidence.clients)
        self._shapes = Shapes(evidence.ledger)
        self._dice = random.Random(f"clients {load.seed}")
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="client")
        self._pending: set[Future[None]] = set()
        self._opened: list[Client] = []
        self._revision = 0
        self._over = threading.Event()

    # Calls. Each of them is logged, and raises nothing.

    def trigger(self, shape: str, copy: int, plan: random.Random) -> None:
        """A run, and what becomes of it by the hand of its user."""
        key, dag = str(uuid.UUID(int=plan.getrandbits(128), version=4)), dag_id(shape, copy)
        answered = 0
        wanted = 2 if plan.randrange(100) < REPEATED else 1
        run: run_pb2.Run | None = None
        for _ in range(wanted + REPETITIONS):
            run = self._call(
                "trigger",
                key,
                lambda client: client.runs.trigger(dag, request_id=key),
                lambda run: {"run": _uuid(run.name), "dag": dag},
            )
            answered += run is not None
            if answered >= wanted:
                break
        if run is not None and plan.randrange(100) < CANCELLED:
            self._over.wait(plan.uniform(0.0, 2.0))
            self.cancel(run.name)

    def cancel(self, run: str) -> None:
        """Cancels a run, and asks for it until it is cancelled, for a while."""
        key = _uuid(run)
        told = self._call(
            "cancel", key, lambda client: client.runs.cancel(run), lambda _: {"run": key}
        )
        for _ in range(5 if told is not None else 0):
            self._over.wait(0.3)
            seen = self._call("get", key, lambda client: client.runs.get(run), _seen)
            if seen is not None and seen.state == run_pb2.RUN_STATE_CANCELLED:
                break

    def apply(self, shape: str, copy: int, revision: int) -> bool:
        """Gives a DAG another version; whether that was answered."""
        spec = self._shapes.spec(shape, copy, revision)
        done = self._call(
            "apply",
            f"{spec.dag}@{revision}",
            lambda client: client.dags.apply(spec),
            lambda _: {"dag": spec.dag, "revision": revision},
        )
        return done is not None

    def decide_all(self, dice: random.Random) -> None:
        """A person looks at what waits, and decides."""
        answer = self._call("approvals", "", lambda client: client.approvals.list(limit=50))
        for approval in answer.approvals if answer is not None else ():
            run, _, rest = approval.name.partition("/tasks/")
            task = rest.removesuffix("/approval")
            self.decide(run, task, approved=dice.randrange(100) < APPROVED)

    def decide(self, run: str, task: str, *, approved: bool) -> None:
        self._call(
            "approve" if approved else "reject",
            f"{_uuid(run)}/{task}",
            lambda client: client.approvals.decide(
                run, task, approved=approved, reason="decided in a campaign"
            ),
            lambda _: {"run": _uuid(run)},
        )

    def schedule(self, copy: int, *, paused: bool) -> bool:
        """Pauses or resumes the schedule of one DAG; whether that was answered."""
        dag = dag_id(SCHEDULED, copy)
        name = "pause" if paused else "resume"
        call = self._call(
            name,
            dag,
            lambda client: client.dags.pause(dag) if paused else client.dags.resume(dag),
        )
        return call is not None

    def _call(
        self,
        call: str,
        key: str,
        ask: Callable[[Client], Answer],
        told: Callable[[Answer], dict[str, Any]] = lambda _: {},
    ) -> Answer | None:
        self._log.write(at_ns=boot_ns(), call=call, key=key, outcome="invoke")
        try:
            answer = ask(self._client())
        except MainspringError as error:
            unknown = isinstance(error, UnavailableError | ServerError)
            self._log.write(
                at_ns=boot_ns(),
                call=call,
                key=key,
                outcome="unknown" if unknown else "fail",
                error=f"{type(error).__name__}: {error.message}",
            )
            return None
        self._log.write(at_ns=boot_ns(), call=call, key=key, outcome="ok", **told(answer))
        return answer

    def _client(self) -> Client:
        if not hasattr(self._local, "client"):
            environment = {
                "MAINSPRING_ADDRESS": self._load.addresses,
                "MAINSPRING_TOKEN_FILE": self._load.token_file,
            }
            settings = resolve(Asked(), environment)
            client = Client(settings, deadline_s=DEADLINE_S, patience_s=PATIENCE_S)
            self._local.client = client
            self._opened.append(client)
        client_of_thread: Client = self._local.client
        return client_of_thread

    # The load.

    def prepare(self) -> None:
        """Every DAG is there when this returns."""
        for shape in ALL_SHAPES:
            for copy in range(COPIES):
                while not self.apply(shape, copy, 0):
                    self._over.wait(0.2)

    def pause_schedules(self, *, paused: bool) -> None:
        for copy in range(COPIES):
            while not self.schedule(copy, paused=paused):
                self._over.wait(0.2)

    def run(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Has a call made by a thread of the pool; one that raises is our own mistake."""
        done = {each for each in self._pending if each.done()}
        for each in done:
            each.result()
        self._pending -= done
        self._pending.add(self._pool.submit(work, *arguments))

    def load(self, over: threading.Event) -> None:
        """Triggers and applies until it is over."""
        shapes, weights = list(WEIGHTS), list(WEIGHTS.values())
        for number in range(self._load.enduring_runs):
            plan = random.Random(self._dice.random())
            self.run(self.trigger, ENDURING, number % COPIES, plan)
        next_run_s = next_apply_s = time.monotonic()
        while not over.is_set():
            now_s = time.monotonic()
            if now_s >= next_run_s:
                next_run_s += self._dice.expovariate(self._load.runs_per_s)
                shape = self._dice.choices(shapes, weights)[0]
                copy, plan = self._dice.randrange(COPIES), random.Random(self._dice.random())
                self.run(self.trigger, shape, copy, plan)
            if now_s >= next_apply_s:
                next_apply_s += APPLY_PERIOD_S
                self._revision += 1
                self.run(
                    self.apply,
                    self._dice.choice(shapes),
                    self._dice.randrange(COPIES),
                    self._revision,
                )
            over.wait(max(0.0, min(next_run_s, next_apply_s) - time.monotonic()))

    def settle(self) -> None:
        """Returns when every call was answered or given up."""
        for each in wait(self._pending).done:
            each.result()
        self._pending.clear()

    def decide_until(self, over: threading.Event) -> None:
        """Decides what waits for a person until it is over."""
        dice = random.Random(f"approvals {self._load.seed}")
        while not over.wait(APPROVAL_PERIOD_S):
            self.decide_all(dice)

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._opened:
            client.close()
        self._log.close()


def _seen(run: run_pb2.Run) -> dict[str, Any]:
    state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    return {"run": _uuid(run.name), "state": state}


def _uuid(name: str) -> str:
    """The id of a run in a name of it."""
    return name.partition("/runs/")[2].partition("/")[0]


class Phases:
    """Carries out the commands; `load` runs on threads of its own until something else is said."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._loaded = threading.Event()
        self._loading: threading.Thread | None = None

    def load(self) -> None:
        self._clients.pause_schedules(paused=False)
        self._loaded.clear()
        self._loading = threading.Thread(target=self._clients.load, args=(self._loaded,))
        self._loading.start()

    def drain(self) -> None:
        self._loaded.set()
        if self._loading is not None:
            self._loading.join()
        self._clients.settle()
        self._clients.pause_schedules(paused=True)

    def stop(self) -> None:
        self._loaded.set()
        if self._loading is not None:
            self._loading.join()
        self._clients.settle()


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    load = Load(**{**settings, "folder": Path(settings["folder"])})
    clients = Clients(load)
    over = threading.Event()
    deciding = threading.Thread(target=clients.decide_until, args=(over,))
    phases = Phases(clients)
    try:
        clients.prepare()
        deciding.start()
        print("prepare", flush=True)
        for line in sys.stdin:
            command = line.strip()
            getattr(phases, command)()
            print(command, flush=True)
            if command == "stop":
                break
    finally:
        over.set()
        phases.stop()
        if deciding.ident is not None:
            deciding.join()
        with contextlib.suppress(OSError):
            clients.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
