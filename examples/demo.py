"""The main job in one command: a cluster, a real workflow shape, and a count of what ran.

`make demo`, or `python -P examples/demo.py [DAG-FILE]`. Boots 2 nodes, 4 shards and 2 agents with
`mainspring up` in a temporary folder, applies examples/montage.yaml, runs it with live progress,
and prints what happened. Attempts started twice or lost are counted from the ledger, which the
tasks themselves wrote, not from what the scheduler says. The exit status is 0 only if the run
succeeded, nothing was started twice, lost or out of order, and no process is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from mainspring.cli.progress import progress
from mainspring.client.client import Client
from mainspring.client.states import FINAL_RUN_STATES
from mainspring.definition import load
from mainspring.ledger import LedgerReport, check_ledger, makespan_ns, read_ledger
from mainspring.v1 import dag_pb2, run_pb2

MONTAGE = Path(__file__).with_name("montage.yaml")
UP_FLAGS = ("--nodes=2", "--shards=4", "--agents=2", "--capacity=8")
STOP_DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: its final state, what the ledger proves, and how fast it went."""

    state: run_pb2.RunState.ValueType
    report: LedgerReport
    makespan_s: float
    critical_path_s: float
    hops_ms: list[float]
    assigns_ms: list[float]

    @property
    def good(self) -> bool:
        return self.state == run_pb2.RUN_STATE_SUCCEEDED and self.report.clean


def main(arguments: Sequence[str]) -> int:
    """Runs the demonstration; 0 if everything holds."""
    parser = argparse.ArgumentParser(description="Run a workflow on a fresh local cluster.")
    parser.add_argument("dag_file", nargs="?", type=Path, default=MONTAGE)
    spec = definition(parser.parse_args(arguments).dag_file)
    with tempfile.TemporaryDirectory(prefix="mainspring-demo-") as place:
        ledger = Path(place, "ledger")
        with cluster(Path(place, "data"), ledger) as (client, processes):
            outcome = run(client, spec, ledger)
        left = [each.pid for each in processes if each.is_running()]
    print_outcome(spec, outcome, left)
    return 0 if outcome.good and not left else 1


def definition(file: Path) -> dag_pb2.DagSpec:
    """The first DAG of a file, which must be without problems."""
    loaded = load(file)
    if loaded.problems:
        sys.exit("\n".join(str(problem) for problem in loaded.problems))
    return loaded.documents[0].spec


@contextlib.contextmanager
def cluster(data: Path, ledger: Path) -> Iterator[tuple[Client, list[psutil.Process]]]:
    """A client of a new cluster, and all processes of it; it is stopped at the end."""
    argv = [sys.executable, "-P", "-m", "mainspring.cli.main", "up", f"--data={data}", *UP_FLAGS]
    argv += [f"--port={free_port()}", f"--task-env=MAINSPRING_LEDGER={ledger}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as up:
        try:
            wait_until_ready(up)
            whole = psutil.Process(up.pid)
            processes = [whole, *whole.children(recursive=True)]
            with Client.open(data=data, environment={}) as client:
                yield client, processes
        finally:
            stop(up)


def free_port() -> int:
    """A port that nobody listens on, out of the range of outgoing connections."""
    for port in range(7070, 32_000, 10):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    sys.exit("error: no free port")


def wait_until_ready(up: subprocess.Popen[str]) -> None:
    """Shows what `up` prints until it is ready."""
    assert up.stdout is not None
    for line in up.stdout:
        print(line, end="", flush=True)
        if line.startswith("ready "):
            return
    sys.exit(f"error: `mainspring up` ended with status {up.wait()}")


def stop(up: subprocess.Popen[str]) -> None:
    up.send_signal(signal.SIGINT)
    try:
        up.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        up.kill()


def run(client: Client, spec: dag_pb2.DagSpec, ledger: Path) -> Outcome:
    """Applies the DAG, runs it once, and reads what its tasks wrote."""
    client.dags.apply(spec)
    name = client.runs.trigger(spec.dag).name.removeprefix("dags/").replace("/runs/", "/")
    state = run_pb2.RUN_STATE_UNSPECIFIED
    with progress() as shown:
        for step in client.runs.watch(name):
            shown.update(step)
            state = step.run.state
    assert state in FINAL_RUN_STATES
    attempts = client.runs.attempts(name).attempts
    entries = read_ledger(ledger)
    edges = [(parent, task.task) for task in spec.tasks for parent in task.depends_on]
    return Outcome(
        state,
        check_ledger(entries, edges, tasks=[task.task for task in spec.tasks]),
        makespan_ns(entries) / 1e9,
        critical_path_s(spec),
        since_parents_ms(attempts, edges, lambda child: child.start_time),
        since_parents_ms(attempts, edges, lambda child: child.assign_time),
    )


def critical_path_s(spec: dag_pb2.DagSpec) -> float:
    """The longest path through the seconds that the tasks sleep, their last argument."""
    ends: dict[str, float] = {}
    waiting = {task.task: task for task in spec.tasks}
    while waiting:
        ready = [task for task in waiting.values() if not waiting.keys() & set(task.depends_on)]
        for task in ready:
            begin = max((ends[parent] for parent in task.depends_on), default=0.0)
            ends[task.task] = begin + float(task.process.argv[-1])
            del waiting[task.task]
    return max(ends.values())


def since_parents_ms(
    attempts: Sequence[run_pb2.Attempt],
    edges: list[tuple[str, str]],
    moment: Callable[[run_pb2.Attempt], Timestamp],
) -> list[float]:
    """A moment of each child minus the latest end of its parents, in order of size."""
    by_task = {attempt.name.split("/")[5]: attempt for attempt in attempts}
    parents: dict[str, list[str]] = {}
    for parent, child in edges:
        parents.setdefault(child, []).append(parent)
    return sorted(
        (
            moment(by_task[child]).ToNanoseconds()
            - max(by_task[name].end_time.ToNanoseconds() for name in names)
        )
        / 1e6
        for child, names in parents.items()
        if child in by_task and all(name in by_task for name in names)
    )


def quantiles(ordered: list[float]) -> str:
    """The median and the 99th percentile."""
    if not ordered:
        return "none"
    p50, p99 = (ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f} ms"


def print_outcome(spec: dag_pb2.DagSpec, outcome: Outcome, left: list[int]) -> None:
    """The figures, one a line."""
    report = outcome.report
    over = outcome.makespan_s / outcome.critical_path_s if outcome.critical_path_s else 1.0
    rows = (
        ("run", run_pb2.RunState.Name(outcome.state).removeprefix("RUN_STATE_").lower()),
        ("tasks run", f"{report.finished} of {len(spec.tasks)}"),
        ("makespan", f"{outcome.makespan_s:.2f} s"),
        ("critical path", f"{outcome.critical_path_s:.2f} s (the makespan is {over:.2f} of it)"),
        ("hop p50 / p99", f"{quantiles(outcome.hops_ms)}, parent ended to child started"),
        ("of that", f"{quantiles(outcome.assigns_ms)}, parent ended to child assigned"),
        ("started twice", str(len(report.started_twice))),
        ("lost", str(len(report.lost))),
        ("out of order", str(len(report.out_of_order))),
        ("processes left", str(len(left))),
    )
    print()
    for name, figure in rows:
        print(f"  {name:14} {figure}")


if __name__ == "__main__":
    begun_s = time.monotonic()
    status = main(sys.argv[1:])
    print(f"  {'all of it':14} {time.monotonic() - begun_s:.1f} s", flush=True)
    sys.exit(status)
