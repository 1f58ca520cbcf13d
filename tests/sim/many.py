"""Many seeds on all cores, and what they add up to.

Promises: a seed that fails, crashes its process or hangs counts as a violation, and the others go
on. Each worker is a process of its own that gets one seed at a time. Does not know what is done.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from tests.sim.swarm import Options, drawn
from tests.sim.world import Report, SeedFailedError, simulate

# A seed that takes more of a processor does not end: the longest takes some seconds.
CPU_LIMIT_S = 120
# Nor does one that takes so long on a loaded machine.
SEED_LIMIT_S = 1_800.0
_NOT_COUNTED = ("seed", "virtual_s", "faults", "digest")
COUNTED = tuple(item.name for item in fields(Report) if item.name not in _NOT_COUNTED)
Serve = Callable[[Connection], None]


class Outcome(NamedTuple):
    """Of one seed. `kind`: the invariant that was violated; empty: none."""

    seed: int
    options: str
    report: Report | None
    cpu_s: float
    kind: str = ""
    violation: str = ""


class Job(NamedTuple):
    """A seed and its world."""

    seed: int
    options: Options


@dataclass
class Totals:
    """What many seeds add up to. `counts`: the fields of Report, summed."""

    seeds: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.cpu_s += outcome.cpu_s
        if outcome.report is None:
            self.violations.append((outcome.seed, outcome.kind))
            return
        self.virtual_s += outcome.report.virtual_s
        self.faults += outcome.report.faults
        self.counts.update({name: getattr(outcome.report, name) for name in COUNTED})

    @property
    def speed(self) -> float:
        """Virtual seconds a second of one core."""
        return self.virtual_s / self.cpu_s if self.cpu_s else 0.0

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        counts = ", ".join(f"{self.counts[name]} {name}" for name in COUNTED)
        return (
            f"{self.seeds} seeds, {self.virtual_s:.0f} virtual seconds"
            f" ({self.speed:.0f} a second of one core)\n{counts}\n"
            f"{self.faults.total()} faults: {kinds}\n{len(self.violations)} violations"
        )

    def json(self) -> str:
        """All of it in one line."""
        told: dict[str, Any] = {
            "kind": "simulation",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "seeds": self.seeds,
            "virtual_s": round(self.virtual_s),
            "cpu_s": round(self.cpu_s, 1),
            "virtual_s_per_core_s": round(self.speed, 1),
            **{name: self.counts[name] for name in COUNTED},
            "faults": self.faults.total(),
            "faults_by_kind": dict(sorted(self.faults.items())),
            "violations": len(self.violations),
            "violated": [{"seed": seed, "kind": kind} for seed, kind in sorted(self.violations)],
        }
        return json.dumps(told)


def _commit() -> str:
    """What was run, if it is a commit and nothing besides; else empty."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    found = asked.stdout.strip()
    return "" if found.endswith("-dirty") else found


def run_seed(job: Job) -> Outcome:
    """Runs one seed here."""
    begun_s = time.process_time()
    text = str(job.options)
    try:
        report = simulate(job.seed, job.options)
    except SeedFailedError as failed:
        spent_s = time.process_time() - begun_s
        return Outcome(job.seed, text, None, spent_s, failed.kind, failed.violation)
    return Outcome(job.seed, text, report, time.process_time() - begun_s)


def serve(pipe: Connection) -> None:
    """The life of a worker: a seed after another, until there are no more."""
    settle_memory()
    while (job := pipe.recv()) is not None:
        end_after(CPU_LIMIT_S)
        pipe.send(run_seed(job))


def end_after(cpu_s: int) -> None:
    """This process dies (of SIGXCPU) when it has used so much more of a processor."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (round(time.process_time()) + cpu_s, most))


def settle_memory() -> None:
    """What is there by now stays for ever: it need not be looked at by every collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Worker:
    """A process that runs seeds. `job`: the one that it is at."""

    def __init__(self, life: Serve) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=life, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self._begun_s = 0.0

    def give(self, job: Job | None) -> None:
        """The next seed, or None: no more."""
        self.job, self._begun_s = job, time.monotonic()
        self.pipe.send(job)

    def left_s(self, limit_s: float) -> float:
        """How long the seed may still take."""
        return self._begun_s + limit_s - time.monotonic()

    def outcome(self, job: Job, limit_s: float) -> Outcome | None:
        """What came of the seed; None: it goes on."""
        died = ""
        try:
            if self.pipe.poll():
                told = self.pipe.recv()
                assert isinstance(told, Outcome)
                return told
        except (EOFError, OSError):
            self.process.join()
            died = f"its process died: exit code {self.process.exitcode}"
        if not died and self.left_s(limit_s) > 0:
            return None
        kind, why = ("crash", died) if died else ("hang", f"no end after {limit_s:g} s")
        self.end()
        return Outcome(job.seed, str(job.options), None, 0.0, kind, why)

    def dismiss(self) -> None:
        """There is nothing more to do."""
        if self.process.is_alive():
            self.give(None)
            self.process.join()
            self.pipe.close()

    def end(self) -> None:
        """No more of it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run_many(
    jobs: Iterable[Job], workers: int, limit_s: float = SEED_LIMIT_S, life: Serve = serve
) -> Iterator[Outcome]:
    """Runs seeds side by side, in processes that live like `serve`; their outcomes as they come."""
    waiting, crew = deque(jobs), list[Worker]()
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                crew.append(Worker(life))
                crew[-1].give(waiting.popleft())
            soonest_s = min(worker.left_s(limit_s) for worker in crew)
            wait([worker.pipe for worker in crew], timeout=max(0.0, soonest_s))
            for worker in list(crew):
                assert worker.job is not None, "only who has a job is in the crew"
                outcome = worker.outcome(worker.job, limit_s)
                if outcome is None:
                    continue
                if waiting and worker.process.is_alive():
                    worker.give(waiting.popleft())
                else:
                    crew.remove(worker)
                    worker.dismiss()
                yield outcome
    finally:
        for worker in crew:
            worker.end()


def jobs_of(seeds: Iterable[int], base: Options, *, sizes: bool | None) -> Iterator[Job]:
    """The worlds that the seeds draw."""
    for seed in seeds:
        yield Job(seed, drawn(seed, base, sizes=sizes))


def cores() -> int:
    """How many seeds may run side by side."""
    return len(os.sched_getaffinity(0))
