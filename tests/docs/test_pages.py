"""Every command that a page shows is run as it stands, and every definition is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mainspring.definition import load

from tests.docs.pages import ROOT, Block, blocks, commands
from tests.system.clusters import Cluster

PAGES = ("README.md", "docs/quickstart.md", "docs/wfformat.md", "docs/agent.md", "docs/verify.md")
DEFINITIONS = ("README.md", "ARCHITECTURE.md", "docs/quickstart.md", "docs/schedules.md")
# Starting a cluster is what `tests/system` does; the documentation's own is running already.
STARTS = {"up"}
WORKFLOW = {
    "name": "two-steps",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "first", "id": "first", "parents": [], "children": ["second"]},
                {"name": "second", "id": "second", "parents": ["first"], "children": []},
            ]
        },
        "execution": {
            "makespanInSeconds": 2,
            "executedAt": "2026-01-01T00:00:00Z",
            "tasks": [
                {"id": "first", "runtimeInSeconds": 1},
                {"id": "second", "runtimeInSeconds": 1},
            ],
        },
    },
}
MISTAKES = (
    "dag: mistakes\ntasks:\n  - task: one\n    depends_on: [two]\n    proces: {argv: [true]}\n"
)
REFUSED = 3


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds what the pages take for granted."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW), encoding="utf-8")
    (tmp_path / "mistakes.yaml").write_text(MISTAKES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_for_reader(cluster: Cluster) -> dict[str, str]:
    """What a reader puts in the place of words in capitals."""
    cluster.mainspring("dag", "apply", "examples/hello.yaml")
    run = cluster.client.runs.wait(cluster.client.runs.trigger("hello").name, timeout_s=30)
    task = cluster.client.runs.task_instances(run.name).task_instances[0]
    return {
        "RUN": run.name.rpartition("/")[2],
        "TASK": task.name.rpartition("/")[2],
        "WORKFLOW": "workflow",
    }


def shell_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page, "sh") if commands(block)]


@pytest.mark.parametrize("page", sorted({block.page for block in shell_blocks()}))
def test_every_command_of_a_page_works(page: str, cluster: Cluster, place: Path):
    words = words_for_reader(cluster)
    cluster.mainspring("dag", "apply", "examples/montage.yaml")
    for block in blocks(page, "sh"):
        for command in commands(block):
            if command[0] in STARTS:
                continue
            done = cluster.mainspring(*[words.get(word, word) for word in command])
            expected = REFUSED if "mistakes.yaml" in command else 0
            assert done.returncode == expected, f"{block}: {command}: {done.stderr}"
            words["WORKFLOW"] = imported_id(place) or words["WORKFLOW"]


def imported_id(place: Path) -> str | None:
    """The id of the DAG that an import wrote, once it has."""
    written = place / "workflow.yaml"
    return load(written).documents[0].spec.dag if written.exists() else None


@pytest.mark.parametrize(
    "block", [block for page in DEFINITIONS for block in blocks(page, "yaml")], ids=str
)
def test_every_definition_of_a_page_loads(block: Block):
    text = block.text
    if not text.startswith("dag:"):
        # A part of a file: what comes before it is the smallest DAG there is.
        text = f"dag: part\ntasks:\n  - task: one\n    process: {{argv: [echo]}}\n{text}"
    [document] = load(text, filename=str(block)).documents
    assert document.problems == []
    assert document.spec.tasks
