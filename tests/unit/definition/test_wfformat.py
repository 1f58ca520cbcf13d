"""Import of workflows: what becomes of a task, which orders are refused, and all real files."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from mainspring.definition import dump_yaml, load
from mainspring.definition.wfformat import ImportedWorkflow, import_workflow, original_id
from mainspring.definition.wfgraph import WorkflowError
from mainspring.ledger import LEDGER_SCRIPT

DATA = Path(__file__).parents[4] / "shared" / "data" / "wf"
INDEX = DATA / "index.csv"
# Optional: executions of real workflows; where they are absent there is nothing to compare.
REAL = list(csv.DictReader(INDEX.read_text("utf-8").splitlines())) if INDEX.exists() else []
# Its lists are empty in the file; its twin in the later schema has this many edges.
DERIVED_EDGES = {"open/wf14-sarek-dirt02-001.json": 50}


def task(name: str, /, **keys: Any) -> dict[str, Any]:
    return {"id": name, "name": name.upper(), "parents": [], "children": []} | keys


def pair(**second: Any) -> list[dict[str, Any]]:
    return [task("a", children=["b"]), task("b", parents=["a"]) | second]


def workflow(tasks: list[Any], measured: list[Any] | None = None, schema: str = "1.5") -> bytes:
    body: dict[str, Any] = {"specification": {"tasks": tasks}}
    if measured is not None:
        body["execution"] = {"tasks": measured}
    if schema == "1.4":
        body = {"tasks": tasks}
    return json.dumps({"name": "w", "schemaVersion": schema, "workflow": body}).encode()


def edges(imported: ImportedWorkflow) -> list[tuple[str, str]]:
    return [(parent, task.task) for task in imported.spec.tasks for parent in task.depends_on]


@pytest.mark.parametrize("schema", ["1.5", "1.6"])
def test_task_takes_over_all_but_the_command(schema: str) -> None:
    measured = {
        "id": "b",
        "runtimeInSeconds": 120.4,
        "coreCount": 4,
        "avgCPU": 380.0,
        "memoryInBytes": 2**20,
        "priority": 20,
        "command": {"program": "rm", "arguments": ["-rf", "/"]},
    }
    imported = import_workflow(workflow(pair(), [measured], schema), ledger="/tmp/ledger")
    assert imported.spec.dag == "w"
    assert edges(imported) == [("a", "b")]
    second = imported.spec.tasks[1]
    assert (second.label, second.priority) == ("B", 20)
    assert (second.resources.cpu, second.resources.memory_bytes) == (4, 2**20)
    assert list(second.process.argv) == ["sh", "-c", LEDGER_SCRIPT, "sh", "1.204"]
    assert dict(second.process.env) == {"MAINSPRING_LEDGER": "/tmp/ledger"}
    assert imported.warnings == ["1 task(s): no runtime, taken as 0"]
    assert imported.spec.tasks[0].process.argv[4] == "0"
    assert imported.spec.tasks[0].resources.cpu == 1


def test_limits_and_ranges_are_applied_with_a_warning() -> None:
    values = {"runtimeInSeconds": 1, "coreCount": 8, "memoryInBytes": 2**60, "priority": 10**6}
    measured = [{"id": name} | values for name in "ab"]
    imported = import_workflow(workflow(pair(), measured), cpu_limit=2, memory_limit_bytes=1024)
    first = imported.spec.tasks[0]
    assert (first.resources.cpu, first.resources.memory_bytes, first.priority) == (2, 1_024, 1_000)
    assert imported.warnings == [
        "2 task(s): cpu lowered to 2",
        "2 task(s): memory lowered to 1,024",
        "2 task(s): priority outside -1,000 to 1,000, clamped",
    ]


@pytest.mark.parametrize(
    ("runtime", "scale", "argument"),
    [(0, 1, "0"), (1e-9, 1, "0"), (90_061, 1, "90061"), (1e7, 1, "10000000"), (5, 0, "0")],
)
def test_duration_is_written_for_sleep(runtime: float, scale: float, argument: str) -> None:
    measured = [{"id": name, "runtimeInSeconds": runtime} for name in "ab"]
    imported = import_workflow(workflow(pair(), measured), time_scale=scale)
    assert imported.spec.tasks[0].process.argv[4] == argument


def test_odd_ids_are_mapped_uniquely_and_back() -> None:
    names = ["a b", "a/b", "x-a", "é" * 300, "-", "xh-a", "ok"]
    tasks = [
        task(name, parents=names[place - 1 : place] if place else [])
        for place, name in enumerate(names)
    ]
    for place, each in enumerate(tasks[:-1]):
        each["children"] = [names[place + 1]]
    imported = import_workflow(workflow(tasks))
    ids = [each.task for each in imported.spec.tasks]
    assert ids[:3] == ["x-a-20b", "x-a-2Fb", "x-x-2Da"]
    assert imported.ids == dict(zip(names[:-1], ids[:-1], strict=True))
    assert [original_id(each) for each in ids] == [*names[:3], None, "-", "xh-a", "ok"]
    assert load(dump_yaml(imported.spec)).problems == []


def test_references_by_name_in_the_flat_layout() -> None:
    tasks = [
        {"id": "1", "name": "split", "children": ["work"], "parents": []},
        {"id": "2", "name": "work", "children": [], "parents": ["split"], "cores": 2},
    ]
    imported = import_workflow(workflow(tasks, schema="1.4"))
    assert edges(imported) == [("split", "work")]
    assert imported.spec.tasks[1].resources.cpu == 2


@pytest.mark.parametrize("key", ["parents", "children"])
def test_one_side_of_the_references_is_enough_when_the_other_is_unknown(key: str) -> None:
    tasks = pair()
    for each in tasks:
        del each[key]
    assert edges(import_workflow(workflow(tasks))) == [("a", "b")]


def test_order_follows_from_files_of_several_producers() -> None:
    def files(**links: str) -> list[dict[str, str]]:
        return [{"link": link, "path": "/p/", "name": name} for link, name in links.items()]

    tasks = [
        task("1", files=files(output="x")),
        task("2", files=files(output="x")),
        task("3", files=[*files(input="x"), *files(output="x"), {"link": "input"}]),
        task("4", files=[{"link": "input", "path": "/other/", "name": "x"}]),
    ]
    imported = import_workflow(workflow(tasks, schema="1.4"))
    assert edges(imported) == [("1", "3"), ("2", "3")]
    assert imported.warnings[0].endswith("the order follows from their files")


def test_lists_of_file_ids_give_an_order_too() -> None:
    tasks = [task("a", outputFiles=["f"]), task("b", inputFiles=["f"])]
    assert edges(import_workflow(workflow(tasks))) == [("a", "b")]


def test_independent_tasks_are_said_to_be_so() -> None:
    imported = import_workflow(workflow([task("a"), task("b")]))
    assert imported.warnings[0].endswith("all tasks are independent")


BAD = {
    "[]": "expected a JSON object",
    "{": "not a WfFormat file",
    '{"schemaVersion": NaN}': "NaN is not a number of JSON",
    '{"schemaVersion": "1.3"}': "schema version '1.3' is not one of 1.4, 1.5, 1.6",
    '{"schemaVersion": "1.5"}': "no workflow",
    '{"schemaVersion": "1.5", "workflow": {}}': "no workflow.specification",
    '{"schemaVersion": "1.4", "workflow": {}}': "workflow.tasks is not a list of objects",
    '{"schemaVersion": "1.4", "workflow": {"tasks": []}}': "workflow.tasks is empty",
    "[" * 100_000: "not a WfFormat file",
    "\x1f\x8b": "damaged gzip file",
    workflow([{}] * 100_001).decode(): "100,001 tasks, at most 100,000",
    workflow(pair(parents="a")).decode(): "parents of task 1 is not a list of texts",
    workflow(pair(parents=[])).decode(): "'a' names 'b' as a child, which does not name it",
    workflow(pair(parents=["a", "b"])).decode(): "'b' names 'b' as a parent, which does not",
    workflow(pair(parents=["z"])).decode(): "references to unknown tasks: z",
    workflow([task("a"), task("a", name="B")], schema="1.4").decode(): "same id: a",
    workflow([{"parents": []}]).decode(): "neither an id nor a name",
    workflow([task("a"), task("b")], schema="1.4").decode(): "the order of the tasks is missing",
    workflow([task("a", parents=["a"], children=["a"])]).decode(): "form a cycle: a → a",
    workflow(
        [
            task("r", children=["a"]),
            task("a", parents=["r", "b"], children=["b"]),
            task("b", parents=["a"], children=["a"]),
        ]
    ).decode(): "form a cycle: a → b → a",
    workflow(pair(), [{"id": "a", "runtimeInSeconds": "1"}]).decode(): "'a' is not a number: '1'",
    workflow(pair(), [{"id": "a", "coreCount": -1}]).decode(): "must be at least 0, found -1",
    workflow(
        [task("r"), *(task(f"t{n}", parents=["r"]) for n in range(9))]
    ).decode(): "; .* and 4 more",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD.values())
def test_bad_workflow_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        import_workflow(text.encode("latin-1" if text.startswith("\x1f") else "utf-8"))


@pytest.mark.parametrize("scale", [-1, float("nan"), float("inf")])
def test_bad_time_scale_is_refused(scale: float) -> None:
    with pytest.raises(WorkflowError, match="time scale"):
        import_workflow(workflow(pair()), time_scale=scale)


def test_compressed_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainspring.definition.wfformat.MAX_BYTES", 1024**2)
    with pytest.raises(WorkflowError, match="larger than 1 MiB unpacked"):
        import_workflow(gzip.compress(b" " * (1024**2 + 1)))


def test_real_workflows_keep_their_tasks_and_edges() -> None:
    expected, found = {}, {}
    for row in REAL:
        imported = import_workflow(DATA / row["file"].removeprefix("open/"))
        found[row["file"]] = (len(imported.spec.tasks), len(edges(imported)))
        expected_edges = DERIVED_EDGES.get(row["file"], int(row["edges"]))
        expected[row["file"]] = (int(row["tasks"]), expected_edges)
    assert found == expected


def test_real_workflows_are_read_back_from_their_files() -> None:
    for row in REAL:
        if int(row["tasks"]) < 1_000:
            spec = import_workflow(DATA / row["file"].removeprefix("open/")).spec
            loaded = load(dump_yaml(spec))
            assert loaded.problems == []
            assert loaded.documents[0].spec == spec
