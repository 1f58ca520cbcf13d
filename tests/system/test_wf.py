"""Real workflows of up to 2,000 tasks run to success, in an order that their tasks prove.

The data set is optional: without it the shape that Mainspring brings itself stands for it.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from mainspring.definition import load

from tests.system.wf import imported, run_workflow, workflow_files

MOST_TASKS = 2_000
# The tasks of all workflows of a run of the tests: real processes, three for each task.
MOST_TASKS_TOGETHER = 3_500


def task_count(file: Path) -> int:
    content = file.read_bytes()
    text = gzip.decompress(content) if file.suffix == ".gz" else content
    workflow = json.loads(text)["workflow"]
    return len(workflow.get("specification", workflow)["tasks"])


def chosen() -> list[Path]:
    """Whole workflows, the smallest first, as many as fit; one of the largest is always there."""
    counts = {file: task_count(file) for file in workflow_files()}
    fitting = sorted(
        (file for file in counts if counts[file] <= MOST_TASKS), key=counts.__getitem__
    )
    taken, sum_of_tasks = fitting[-1:], sum(counts[file] for file in fitting[-1:])
    for file in fitting[:-1]:
        if sum_of_tasks + counts[file] <= MOST_TASKS_TOGETHER:
            taken.append(file)
            sum_of_tasks += counts[file]
    return taken


@pytest.mark.parametrize("file", chosen(), ids=lambda file: file.name.partition(".json")[0])
def test_a_workflow_runs_in_its_order(cluster, file):
    outcome = run_workflow(cluster, imported(file))
    assert outcome.good, outcome


def test_the_example_runs_in_its_order(cluster):
    loaded = load(Path("examples/montage.yaml"))
    assert not loaded.problems
    outcome = run_workflow(cluster, loaded.documents[0].spec)
    assert outcome.good, outcome
