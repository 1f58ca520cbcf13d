"""The measurements: each boots what it needs, measures, and returns figures by name."""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from mainspring.internal.v1 import node_pb2
from mainspring.internal.v1.node_pb2_grpc import NodeServiceStub
from mainspring.v1 import dag_pb2, run_pb2
from mainspring.v1.dag_pb2_grpc import DagServiceStub
from mainspring.v1.run_pb2_grpc import RunServiceStub

from loadtest import shapes
from loadtest.agents import SimulatedFleet
from loadtest.cluster import Cluster, cluster

ROOT = Path(__file__).resolve().parent.parent
DERIVED = ROOT.parent / "shared" / "data" / "wf" / "derived-union-parallel-10k.json.gz"
FINAL = frozenset(
    {run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED}
)
LARGE = [("grpc.max_send_message_length", 64 << 20), ("grpc.max_receive_message_length", 64 << 20)]


@dataclass
class Figure:
    """One figure of one run."""

    value: float
    unit: str
    target: str = ""


Figures = dict[str, Figure]


class Api:
    """The public API of one node, with the admin's credential."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._dags = DagServiceStub(channel)
        self._runs = RunServiceStub(channel)
        self._node = NodeServiceStub(channel)

    async def apply(self, spec: dag_pb2.DagSpec) -> int:
        """Applies a definition and returns the shard of its DAG."""
        request = dag_pb2.ApplyDagRequest(spec=spec, request_id=uuid.uuid4().hex)
        answer = await self._dags.ApplyDag(request, metadata=self._metadata, timeout=60)
        return answer.dag.shard

    async def trigger(self, dag: str) -> str:
        """Triggers a run and returns its resource name."""
        request = run_pb2.TriggerRunRequest(parent=f"dags/{dag}", request_id=uuid.uuid4().hex)
        run = await self._runs.TriggerRun(request, metadata=self._metadata, timeout=30)
        return run.name

    async def wait(self, run: str, deadline_s: float = 120.0) -> run_pb2.Run:
        """Waits until a run is final."""
        limit = time.monotonic() + deadline_s
        while time.monotonic() < limit:
            request = run_pb2.WaitRunRequest(name=run, wait_ms=30_000)
            answer = await self._runs.WaitRun(request, metadata=self._metadata, timeout=60)
            if answer.state in FINAL:
                return answer
        raise TimeoutError(run)

    async def attempts(self, run: str) -> list[run_pb2.Attempt]:
        """All attempts of a run."""
        request = run_pb2.ListAttemptsRequest(parent=run, page_size=10_000)
        answer = await self._runs.ListAttempts(request, metadata=self._metadata, timeout=60)
        return list(answer.attempts)

    async def stats(self, *, reset: bool = False) -> node_pb2.GetNodeStatsResponse:
        """Counters and times of the node."""
        request = node_pb2.GetNodeStatsRequest(reset=reset)
        return await self._node.GetNodeStats(request, metadata=self._metadata, timeout=10)


def with_api(place: Cluster, use: Callable[[Api], Awaitable[Figures]]) -> Figures:
    """Runs a measurement against the first node of a cluster."""

    async def run() -> Figures:
        async with grpc.aio.insecure_channel(place.addresses[0], options=LARGE) as channel:
            return await use(Api(channel, place.token))

    return asyncio.run(run())


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def boot() -> Figures:
    """`mainspring up` on an empty folder until it is ready."""
    with cluster() as place:
        return {"up on an empty folder to ready": Figure(place.ready_s, "s", "< 5")}


def command_line() -> Figures:
    """`mainspring --help`, warm."""
    program = Path(sys.executable).with_name("mainspring")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(11):
        begun = time.perf_counter()
        subprocess.run([program, "--help"], env=env, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - begun) * 1_000)
    return {"mainspring --help, warm": Figure(statistics.median(times[1:]), "ms", "< 300")}


async def open_loop(call: Callable[[int], Awaitable[object]], rate: int, count: int) -> list[float]:
    """Starts `count` calls at a fixed rate, answered or not, and returns their times in ms.

    A call is timed from the moment at which it was due, so that a stall shows in all calls that it
    delayed.
    """
    times: list[float] = []
    begun = time.perf_counter()

    async def one(number: int) -> None:
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await call(number)
        times.append((time.perf_counter() - due) * 1_000)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
    return times


def api_latency() -> Figures:
    """`dag apply` and `run trigger` at 50 calls a second each, one after the other."""

    async def use(api: Api) -> Figures:
        async def apply(number: int) -> None:
            await api.apply(shapes.chain(f"bench-{number}", 5))

        async def trigger(number: int) -> None:
            await api.trigger(f"bench-{number % 50}")

        await open_loop(apply, 50, 50)
        applied = await open_loop(lambda number: apply(number + 1_000), 50, 500)
        await open_loop(trigger, 50, 50)
        triggered = await open_loop(trigger, 50, 500)
        return {
            "dag apply p99 at 50/s": Figure(percentile(applied, 0.99), "ms", "< 50"),
            "dag apply p50 at 50/s": Figure(percentile(applied, 0.50), "ms"),
            "run trigger p99 at 50/s": Figure(percentile(triggered, 0.99), "ms", "< 50"),
            "run trigger p50 at 50/s": Figure(percentile(triggered, 0.50), "ms"),
        }

    with cluster("--agents", "0") as place:
        return with_api(place, use)


def clear(ledger: Path) -> None:
    """Empties the file that the tasks write."""
    ledger.write_text("", encoding="ascii")


def stamps_of(ledger: Path) -> list[float]:
    """The moments that the tasks wrote, in order, in seconds since the epoch."""
    lines = ledger.read_text(encoding="ascii").splitlines()
    return sorted(float(line.split()[1]) for line in lines)


STAMP = 'echo "$MAINSPRING_TASK $EPOCHREALTIME" >> "$MAINSPRING_LEDGER"'


def hops() -> Figures:
    """Chains of 20 no-op processes: from the end of the parent to the spawn of the child."""

    async def use(api: Api) -> Figures:
        await api.apply(shapes.chain("chain", 20))
        for _ in range(3):
            await api.wait(await api.trigger("chain"))
        await api.stats(reset=True)
        gaps: list[float] = []
        for _ in range(20):
            run = await api.trigger("chain")
            await api.wait(run)
            attempts = sorted(await api.attempts(run), key=lambda item: item.name)
            for parent, child in itertools.pairwise(attempts):
                gap = child.start_time.ToNanoseconds() - parent.end_time.ToNanoseconds()
                gaps.append(gap / 1e6)
        share = (await api.stats()).times["result_to_assign"]
        return {
            "hop p50 (exit seen → user's program spawned)": Figure(
                percentile(gaps, 0.5), "ms", "< 8"
            ),
            "hop p99": Figure(percentile(gaps, 0.99), "ms"),
            "control plane's share p50 (result → assign)": Figure(
                share.p50_us / 1_000, "ms", "< 2"
            ),
            "control plane's share p99": Figure(share.p99_us / 1_000, "ms"),
        }

    async def stamps(api: Api, ledger: Path) -> Figures:
        await api.apply(shapes.chain("stamps", 20, ("bash", "-c", STAMP)))
        gaps: list[float] = []
        for _ in range(10):
            clear(ledger)
            await api.wait(await api.trigger("stamps"))
            moments = stamps_of(ledger)
            pairs = itertools.pairwise(moments)
            gaps += [(after - before) * 1_000 for before, after in pairs]
        name = "task's own stamp → next task's own stamp, p50 (bash)"
        return {name: Figure(percentile(gaps, 0.5), "ms")}

    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger"
        flags = ("--capacity", "64,64GiB", "--task-env", f"MAINSPRING_LEDGER={ledger}")
        with cluster(*flags) as place:
            figures = with_api(place, use)
            return figures | with_api(place, lambda api: stamps(api, ledger))


THROUGHPUT_AGENTS = 20
THROUGHPUT_DAGS = 40
THROUGHPUT_RUNS = 1_200
IN_FLIGHT = 200


def throughput() -> Figures:
    """Durable no-op tasks a second: DAGs of 50 tasks over 20 simulated agents."""

    async def use(api: Api, place: Cluster) -> Figures:
        for number in range(THROUGHPUT_DAGS):
            await api.apply(shapes.layers(f"layers-{number}", 5, 10))
        async with SimulatedFleet(THROUGHPUT_AGENTS, place.addresses, place.token) as fleet:
            await drive(api, 100)
            before, own = place.cpu_s(), time.process_time()
            done, begun = fleet.tally.acknowledged, time.perf_counter()
            await drive(api, THROUGHPUT_RUNS)
            wall = time.perf_counter() - begun
            tasks = fleet.tally.acknowledged - done
            after, own_spent = place.cpu_s(), time.process_time() - own
            if tasks != THROUGHPUT_RUNS * 50 or fleet.tally.twice:
                raise RuntimeError(f"{tasks} tasks recorded, {fleet.tally.twice} started twice")
        figures = {"throughput, durable tasks": Figure(tasks / wall, "tasks/s", "≥ 5,000")}
        for kind in ("node", "postgres"):
            spent = (after[kind] - before[kind]) / tasks * 1e6
            figures[f"throughput, CPU of {kind}"] = Figure(spent, "µs/task")
        figures["throughput, CPU of the driver"] = Figure(own_spent / tasks * 1e6, "µs/task")
        return figures

    with cluster("--agents", "0") as place:
        return with_api(place, lambda api: use(api, place))


async def drive(api: Api, runs: int) -> None:
    """Keeps a number of runs in flight until `runs` have succeeded."""
    left = iter(range(runs))

    async def one_after_the_other() -> None:
        for number in left:
            run = await api.wait(await api.trigger(f"layers-{number % THROUGHPUT_DAGS}"))
            if run.state != run_pb2.RUN_STATE_SUCCEEDED:
                raise RuntimeError(f"{run.name}: {run_pb2.RunState.Name(run.state)}")

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(one_after_the_other())


def ten_thousand() -> dag_pb2.DagSpec:
    """A DAG of 10,000 tasks: a union of real workflows where they are at hand, else layers."""
    if not DERIVED.exists():
        return shapes.layers("big", 50, 200)
    from mainspring.definition.wfformat import import_workflow

    spec = import_workflow(DERIVED, time_scale=0.0, dag_id="big").spec
    for task in spec.tasks:
        task.resources.cpu = 0.01
        task.resources.memory_bytes = 0
    return spec


def big() -> Figures:
    """A DAG of 10,000 tasks: applied, triggered, run by simulated agents."""

    async def use(api: Api, place: Cluster) -> Figures:
        spec = ten_thousand()
        begun = time.perf_counter()
        await api.apply(spec)
        applied = time.perf_counter()
        async with SimulatedFleet(THROUGHPUT_AGENTS, place.addresses, place.token):
            triggering = time.perf_counter()
            run = await api.trigger("big")
            triggered = time.perf_counter()
            waiting = asyncio.create_task(api.wait(run))
            memory = 0.0
            while not waiting.done():
                memory = max(memory, place.memory_mb("node"))
                await asyncio.wait([waiting], timeout=0.1)
            finished = time.perf_counter()
            if waiting.result().state != run_pb2.RUN_STATE_SUCCEEDED:
                raise RuntimeError(str(waiting.result()))
        size = f"{len(spec.tasks):,} tasks"
        return {
            f"{size}: validated and applied": Figure(applied - begun, "s", "< 2"),
            f"{size}: triggered": Figure((triggered - triggering) * 1_000, "ms", "< 100"),
            f"{size}: run by simulated agents": Figure(finished - triggering, "s"),
            f"{size}: node memory while it runs": Figure(memory, "MB", "< 300"),
        }

    with cluster("--agents", "0") as place:
        return with_api(place, lambda api: use(api, place))


ALL: dict[str, Callable[[], Figures]] = {
    "up": boot,
    "cli": command_line,
    "api": api_latency,
    "hop": hops,
    "throughput": throughput,
    "big": big,
}
