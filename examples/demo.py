"""The main job in one command: a cluster, a real workflow shape, two deaths, a count of what ran.

`make demo`, or `python -P examples/demo.py [DAG-FILE]`. Boots 2 nodes, 4 shards and 2 agents with
`mainspring up` in a temporary folder, applies examples/montage.yaml and runs it with live progress.
When half of its tasks have ended, it kills (SIGKILL) the node that leads the run's shard and the
agent that has most of the running attempts; `up` starts both again. Then it prints what happened.

What tasks did is read from the ledger that they wrote themselves, not from what the scheduler says.
The exit status is 0 only if the run succeeded, every attempt that ran on the killed agent ended as
the process that it was, nothing was started twice, lost or out of order, and no process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from google.protobuf.timestamp_pb2 import Timestamp
from mainspring.cli.progress import progress
from mainspring.client import MainspringError
from mainspring.client.client import Client
from mainspring.client.names import last_segment
from mainspring.client.states import FINAL_RUN_STATES, FINAL_TASK_STATES
from mainspring.definition import load
from mainspring.ledger import (
    LedgerEntry,
    LedgerReport,
    check_ledger,
    ended_as_started,
    makespan_ns,
    read_ledger,
    running_at,
)
from mainspring.v1 import dag_pb2, run_pb2

MONTAGE = Path(__file__).with_name("montage.yaml")
UP_FLAGS = ("--nodes=2", "--shards=4", "--agents=2", "--capacity=8")
STOP_DEADLINE_S = 15.0
# Shards move to a new node 3 s after it came: the failover to measure shall be no such move.
SPREAD_S = 4.0
POLL_S = 0.01
FAILOVER_DEADLINE_S = 60.0
LIVE_ATTEMPT_STATES = (run_pb2.ATTEMPT_STATE_ASSIGNED, run_pb2.ATTEMPT_STATE_RUNNING)


@dataclass(frozen=True, slots=True)
class Deaths:
    """Who was killed, after how many tasks, when; the epoch of the run's shard then, and later."""

    node: str
    agent: str
    shard: int
    done: int
    wall_ns: int
    old_epoch: int
    new_epoch: int
    failover_s: float


@dataclass(frozen=True, slots=True)
class Survival:
    """What came after the deaths: attempts that ran on the killed agent, those of them that ended
    as the same process, and the time from the kill to the first assignment after the failover.
    """

    deaths: Deaths
    orphaned: int
    adopted: int
    next_assignment_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: its final state, what the ledger proves, and how fast it went."""

    state: run_pb2.RunState.ValueType
    report: LedgerReport
    makespan_s: float
    critical_path_s: float
    hops_ms: list[float]
    assigns_ms: list[float]
    survival: Survival | None

    @property
    def good(self) -> bool:
        kept = self.survival is None or self.survival.adopted == self.survival.orphaned
        return self.state == run_pb2.RUN_STATE_SUCCEEDED and self.report.clean and kept


@dataclass
class Cluster:
    """A running `up`, a client of it, and every process of it that was ever seen."""

    data: Path
    up: psutil.Process
    client: Client
    seen: set[psutil.Process] = field(default_factory=set)

    def look(self) -> set[psutil.Process]:
        """What lives now. Supervisors are nobody's children: they are found by their pid files."""
        found = {self.up}
        for file in self.data.glob("work/*/supervisor/pid"):
            with contextlib.suppress(OSError, ValueError, psutil.Error):
                found.add(psutil.Process(int(file.read_text("ascii").partition(" ")[0])))
        for root in tuple(found):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update(root.children(recursive=True))
        self.seen |= found
        return found

    def named(self) -> dict[str, psutil.Process]:
        """The nodes and the agents by their names."""
        found = {}
        for each in self.up.children():
            argv = each.cmdline()
            for flag in {"--node", "--name"}.intersection(argv):
                found[argv[argv.index(flag) + 1]] = each
        return found

    def left(self) -> list[int]:
        return [each.pid for each in self.seen if lives(each)]


class Killer:
    """Kills, half-way through a run, its leader and its busiest agent; measures the failover.

    A thread asks a node that survives, every 10 ms, which epoch the run's shard is in.
    """

    def __init__(self, cluster: Cluster, run: str) -> None:
        self._cluster = cluster
        self._run = run
        self._victims = cluster.named()  # looked up now: half-way through it takes a while
        self._dead: Deaths | None = None
        self._watcher = threading.Thread(target=self._watch)
        self._over = threading.Event()

    def look(self, step: run_pb2.WatchRunResponse) -> None:
        """Called with every step of the run's watch; strikes once."""
        counts = step.run.task_counts
        done = sum(each.count for each in counts if each.state in FINAL_TASK_STATES)
        half = 0 < 2 * done >= sum(each.count for each in counts)
        if self._dead is None and half and step.run.state == run_pb2.RUN_STATE_RUNNING:
            self._dead = self._strike(step.run.shard, done)
            self._watcher.start()

    def deaths(self) -> Deaths | None:
        """Returns when the failover has been seen, or never will be."""
        if self._dead is not None:
            self._watcher.join(FAILOVER_DEADLINE_S)
            self._over.set()
            self._watcher.join()
        return self._dead

    def _strike(self, number: int, done: int) -> Deaths:
        client = self._cluster.client
        attempts = client.runs.attempts(self._run).attempts
        live = (each for each in attempts if each.state in LIVE_ATTEMPT_STATES)
        busy = Counter(last_segment(each.agent) for each in live)
        agent = max(sorted(busy) or ["agent-1"], key=lambda name: busy[name])
        shard = client.admin.shards().shards[number]
        wall_ns = time.time_ns()
        for name in (shard.node, agent):
            self._victims[name].kill()
        return Deaths(shard.node, agent, number, done, wall_ns, shard.epoch, shard.epoch, 0.0)

    def _watch(self) -> None:
        dead = self._dead
        assert dead is not None
        with Client.open(data=self._cluster.data, environment={}, patience_s=0.1) as client:
            while not self._over.wait(POLL_S):
                with contextlib.suppress(MainspringError):
                    epoch = client.admin.shards().shards[dead.shard].epoch
                    if epoch != dead.old_epoch:
                        took_s = (time.time_ns() - dead.wall_ns) / 1e9
                        self._dead = replace(dead, new_epoch=epoch, failover_s=took_s)
                        return


def main(arguments: Sequence[str]) -> int:
    """Runs the demonstration; 0 if everything holds."""
    parser = argparse.ArgumentParser(description="Run a workflow on a fresh local cluster.")
    parser.add_argument("dag_file", nargs="?", type=Path, default=MONTAGE)
    spec = definition(parser.parse_args(arguments).dag_file)
    with tempfile.TemporaryDirectory(prefix="mainspring-demo-") as place:
        ledger = Path(place, "ledger")
        with booted(Path(place, "data"), ledger) as cluster:
            outcome = run(cluster, spec, ledger)
            cluster.look()
        left = cluster.left()
    print_outcome(spec, outcome, left)
    return 0 if outcome.good and not left else 1


def definition(file: Path) -> dag_pb2.DagSpec:
    """The first DAG of a file, which must be without problems."""
    loaded = load(file)
    if loaded.problems:
        sys.exit("\n".join(str(problem) for problem in loaded.problems))
    return loaded.documents[0].spec


@contextlib.contextmanager
def booted(data: Path, ledger: Path) -> Iterator[Cluster]:
    """A new cluster; it is stopped at the end."""
    argv = [sys.executable, "-P", "-m", "mainspring.cli.main", "up", f"--data={data}", *UP_FLAGS]
    argv += [f"--port={free_port()}", f"--task-env=MAINSPRING_LEDGER={ledger}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as up:
        try:
            wait_until_ready(up)
            with Client.open(data=data, environment={}) as client:
                cluster = Cluster(data, psutil.Process(up.pid), client)
                cluster.look()
                yield cluster
        finally:
            stop(up)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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


def run(cluster: Cluster, spec: dag_pb2.DagSpec, ledger: Path) -> Outcome:
    """Applies the DAG, runs it once, and reads what its tasks wrote."""
    client = cluster.client
    client.dags.apply(spec)
    wait_until_spread(client)
    name = client.runs.trigger(spec.dag).name
    killer = Killer(cluster, name)
    state = run_pb2.RUN_STATE_UNSPECIFIED
    with progress() as shown:
        for step in client.runs.watch(name):
            shown.update(step)
            killer.look(step)
            state = step.run.state
    assert state in FINAL_RUN_STATES
    attempts = client.runs.attempts(name).attempts
    entries = read_ledger(ledger)
    edges = [(parent, task.task) for task in spec.tasks for parent in task.depends_on]
    deaths = killer.deaths()
    return Outcome(
        state,
        check_ledger(entries, edges, tasks=[task.task for task in spec.tasks]),
        makespan_ns(entries) / 1e9,
        critical_path_s(spec),
        since_parents_ms(attempts, edges, lambda child: child.start_time),
        since_parents_ms(attempts, edges, lambda child: child.assign_time),
        None if deaths is None else survival(deaths, attempts, entries),
    )


def survival(
    deaths: Deaths, attempts: Sequence[run_pb2.Attempt], entries: Sequence[LedgerEntry]
) -> Survival:
    """Attempts are matched by their ids, moments by the one clock of this machine."""
    agents = {last_segment(each.name): last_segment(each.agent) for each in attempts}
    running = running_at(entries, deaths.wall_ns).values()
    orphaned = [each for each in running if agents[each.attempt_id] == deaths.agent]
    assigned_ns = [each.assign_time.ToNanoseconds() for each in attempts]
    later_ns = [each for each in assigned_ns if each > deaths.wall_ns]
    return Survival(
        deaths,
        len(orphaned),
        len(ended_as_started(entries, orphaned)),
        (min(later_ns) - deaths.wall_ns) / 1e9 if later_ns else None,
    )


def wait_until_spread(client: Client) -> None:
    """Returns when no shard is about to move because a node is new."""
    youngest_s = max(node.start_time.ToNanoseconds() / 1e9 for node in client.admin.nodes().nodes)
    time.sleep(max(0.0, youngest_s + SPREAD_S - time.time()))


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
        *survival_rows(outcome.survival),
        ("started twice", str(len(report.started_twice))),
        ("lost", str(len(report.lost))),
        ("out of order", str(len(report.out_of_order))),
        ("processes left", str(len(left))),
    )
    print()
    for name, figure in rows:
        print(f"  {name:14} {figure}")


def survival_rows(survival: Survival | None) -> Iterator[tuple[str, str]]:
    """What was killed, and what that cost."""
    if survival is None:
        yield "killed", "nobody: no task ran any more when half of them had ended"
        return
    dead = survival.deaths
    yield "killed", f"{dead.node}, leader of shard {dead.shard}, and {dead.agent}, both by SIGKILL"
    yield "", f"when {dead.done} tasks had ended"
    failover = "not seen"
    if dead.new_epoch != dead.old_epoch:
        epochs = f"{dead.old_epoch} to {dead.new_epoch}"
        failover = f"{dead.failover_s:.2f} s from the kill to the next epoch ({epochs};"
        failover += " asked every 10 ms)"
    yield "failover", failover
    if survival.next_assignment_s is not None:
        yield "", f"{survival.next_assignment_s:.2f} s from the kill to the next assignment"
    among = f"{survival.orphaned} that ran on {dead.agent} at the kill"
    yield "re-adopted", f"{survival.adopted} of {among}: the same process ended them"


if __name__ == "__main__":
    begun_s = time.monotonic()
    status = main(sys.argv[1:])
    print(f"  {'all of it':14} {time.monotonic() - begun_s:.1f} s", flush=True)
    sys.exit(status)
