"""Runs real scientific workflows to their end: `python -m tests.system.wf [FILE …]`.

Each file of `../shared/data/wf` is imported, written as a DAG file, read back, checked and applied
through the SDK, and run on a cluster of its own. Promises that the order of tasks is proven from
what the tasks themselves wrote, and exit status 1 unless every workflow succeeded. The tests run
a part of the files through the same function.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mainspring.client.client import Client
from mainspring.definition import dump_yaml, load
from mainspring.definition.wfformat import import_workflow
from mainspring.ledger import LedgerReport, check_ledger
from mainspring.v1 import dag_pb2, run_pb2

from tests.system.clusters import Cluster, booted

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "wf"
TIME_SCALE = 0.001
CPU_LIMIT = 64.0
MEMORY_LIMIT_BYTES = 2**40
RUN_DEADLINE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """One workflow: what it was, how its run ended, what its tasks prove."""

    name: str
    tasks: int
    edges: int
    state: str
    report: LedgerReport
    applied_s: float
    ran_s: float

    @property
    def good(self) -> bool:
        whole = self.report.started == self.report.finished == self.tasks
        return self.state == "succeeded" and self.report.clean and whole


def workflow_files() -> list[Path]:
    """All workflows, the smallest first; none where the data set is not there."""
    files = [file for file in FOLDER.glob("*.json*") if file.is_file()]
    return sorted(files, key=lambda file: (file.suffix == ".gz", file.stat().st_size))


def imported(file: Path) -> dag_pb2.DagSpec:
    """The definition of a workflow, written as a DAG file and read back."""
    name = file.name.partition(".json")[0]
    spec = import_workflow(
        file,
        time_scale=TIME_SCALE,
        dag_id=name,
        cpu_limit=CPU_LIMIT,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
    ).spec
    loaded = load(dump_yaml(spec), filename=f"{name}.yaml")
    assert not loaded.problems, loaded.problems
    assert loaded.documents[0].spec == spec
    return spec


def run_workflow(cluster: Cluster, spec: dag_pb2.DagSpec) -> Outcome:
    """Applies and runs a workflow, and judges what its tasks wrote."""
    client: Client = cluster.client
    begun = time.monotonic()
    client.dags.apply(spec, validate_only=True)
    client.dags.apply(spec)
    applied = time.monotonic()
    run = client.runs.wait(client.runs.trigger(spec.dag).name, timeout_s=RUN_DEADLINE_S)
    ended = time.monotonic()
    edges = [(parent, task.task) for task in spec.tasks for parent in task.depends_on]
    tasks = [task.task for task in spec.tasks]
    return Outcome(
        spec.dag,
        len(tasks),
        len(edges),
        run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower(),
        check_ledger(cluster.entries(run.name), edges, tasks=tasks),
        applied - begun,
        ended - applied,
    )


def line(outcome: Outcome) -> str:
    report = outcome.report
    faults = f"{len(report.started_twice)}/{len(report.lost)}/{len(report.out_of_order)}"
    return (
        f"{outcome.name:45} {outcome.tasks:>6} {outcome.edges:>7} {outcome.state:>10} {faults:>14}"
        f" {outcome.applied_s:>8.2f} {outcome.ran_s:>8.2f}"
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the named files, or all of them; 1 if any of them is not good."""
    parser = argparse.ArgumentParser(description="Run real workflows on a fresh cluster.")
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args(arguments).files or workflow_files()
    if not files:
        print(f"no workflows: {FOLDER} is not there", file=sys.stderr)
        return 1
    head = f"{'WORKFLOW':45} {'TASKS':>6} {'EDGES':>7} {'RUN':>10} {'2x/LOST/ORDER':>14}"
    print(f"{head} {'APPLY s':>8} {'RUN s':>8}", flush=True)
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="mainspring-wf-") as place,
        booted(Path(place)) as cluster,
    ):
        for file in files:
            outcome = run_workflow(cluster, imported(file))
            bad += not outcome.good
            print(line(outcome), flush=True)
    print(f"{len(files) - bad} of {len(files)} workflows good", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
